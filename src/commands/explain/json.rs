//! The explanation for programs.

use serde_json::{Value, json};

use super::explanation::Explanation;
use super::requests::Lag;
use crate::haproxy::reply::Reply;
use crate::hold::text::format_time;
use crate::text::ascii;

/// The explanation as JSON, over several lines.
pub(super) fn text(explanation: &Explanation) -> String {
    ascii(&format!("{:#}", json(explanation)))
}

fn json(explanation: &Explanation) -> Value {
    let node = explanation.node.as_ref().map(|node| {
        json!({
            "role": node.role,
            "state": node.state,
            "timeline": node.timeline,
            "replication_state": node.replication_state,
            "paused": node.pause,
            "nobody_holds_the_lock": node.cluster_unlocked,
            "failsafe": node.failsafe_mode_is_active,
            "version": node.patroni.version,
            "lag": explanation.lag.as_ref().map(|lag| match lag {
                Lag::Bytes(bytes) => json!(bytes),
                Lag::Unknown => json!("unknown"),
            }),
        })
    });
    let rows = explanation.rows.iter().map(|row| {
        json!({
            "endpoint": row.view.to_string(),
            "status": row.status,
            "verdict": row.verdict.word(),
            "why": row.why,
            "full": row.full.as_ref().map(Reply::to_string),
            "plain": row.plain.as_ref().map(Reply::to_string),
            "held_until": row.held.as_ref().and_then(|held| held.until).map(format_time),
        })
    });
    let sockets = explanation.sockets.iter().map(|socket| {
        json!({
            "unit": socket.unit,
            "state": socket.state,
            "listen": socket.listen,
            "answers_for": socket.role,
            "accept": socket.accept,
        })
    });
    let remembered = explanation.remembered.iter().map(|remembered| {
        let conclusive = remembered.conclusive.as_ref();
        json!({
            "endpoint": remembered.view.to_string(),
            "verdict": conclusive.map(|(verdict, _)| verdict.word()),
            "why": conclusive.map(|(verdict, _)| verdict.why()),
            "age_seconds": conclusive.map(|(_, age)| age.as_secs_f64()),
            "lock_was_here": remembered.lock_was_here,
        })
    });
    json!({
        "health": format!("{:?}", explanation.health).to_lowercase(),
        "summary": explanation.summary,
        "patroni": explanation.client.base().to_string(),
        "node": node,
        "endpoints": rows.collect::<Vec<_>>(),
        "hints": explanation.hints,
        "sockets": sockets.collect::<Vec<_>>(),
        "remembered": remembered.collect::<Vec<_>>(),
    })
}
