//! The rule's table, written anew: what one answer of Patroni to `GET /primary` means. Nothing of it
//! is taken from `src/`, so that a fault there is not believed here.

use serde_json::Value;

/// What a check is told, but for a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Serve,
    StandBy,
    Fail,
}

impl Word {
    pub fn text(self) -> &'static str {
        match self {
            Word::Serve => "READY UP",
            Word::StandBy => "MAINT UP",
            Word::Fail => "MAINT DOWN",
        }
    }
}

/// How much an answer settles, and what of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// All. `lock`: whether this node has the lock, where the answer tells.
    Conclusive { word: Word, lock: Option<bool> },
    /// Nothing: no answer.
    Silence,
    /// Nothing but that Patroni is there.
    StateUnknown,
    /// Another node has the lock. Conclusive, unless Patroni was started anew just now.
    WithoutLock(Word),
    /// The same in a paused cluster, where Patroni may only have failed to renew its own.
    WithoutLockInPause,
    /// Nobody has the lock: the last verdict stands for the grace.
    Unlocked,
    /// The same in a paused cluster, for as long as that lasts. `granted`: by the role alone.
    UnlockedInPause { granted: bool },
}

/// What is said, and what of it the reply repeats.
#[derive(Debug, Clone)]
pub struct Said {
    pub meaning: Meaning,
    /// In a reply that follows from it.
    pub mark: String,
}

impl Said {
    pub fn silence() -> Self {
        Said { meaning: Meaning::Silence, mark: "patroni: ".into() }
    }

    /// What no Patroni sends.
    pub fn garbage() -> Self {
        Said { meaning: Meaning::Conclusive { word: Word::Fail, lock: None }, mark: "patroni: ".into() }
    }

    /// An answer as Patroni sends it: the table.
    pub fn by(answer: &[u8]) -> Self {
        let answer = String::from_utf8_lossy(answer);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let is_200 = head.starts_with("HTTP/1.0 200");
        assert!(is_200 || head.starts_with("HTTP/1.0 503"), "{head}");
        let body: Value = serde_json::from_str(body).expect("JSON");
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let flag = |name: &str| body[name].as_bool().unwrap_or_default();
        let (state, role, pause) = (text("state"), text("role"), flag("pause"));
        let is_primary = role == "primary" || role == "master";
        let unlocked = flag("cluster_unlocked");
        let free = unlocked && (pause || looked_just_now(head, &body));
        let conclusive = |word, lock| Meaning::Conclusive { word, lock };
        let lock = (!(pause && (is_200 || is_primary) || unlocked && is_primary && !is_200)).then_some(is_200);
        let meaning = match (state.as_str(), is_200, is_primary) {
            ("running", granted, true) if pause && unlocked => Meaning::UnlockedInPause { granted },
            ("running", true, true) => conclusive(Word::Serve, Some(true)),
            ("running", true, false) => conclusive(Word::StandBy, lock),
            ("running", false, true) if free => Meaning::Unlocked,
            ("running", false, true) if pause => Meaning::WithoutLockInPause,
            ("running", false, true) if unlocked => conclusive(Word::StandBy, Some(false)),
            ("running", false, true) => Meaning::WithoutLock(Word::StandBy),
            ("running", false, false) => conclusive(Word::StandBy, lock),
            ("unknown", true, true) => Meaning::StateUnknown,
            ("unknown", true, false) => conclusive(Word::Fail, lock),
            ("unknown", false, true) if free || pause => Meaning::StateUnknown,
            ("unknown", false, _) => Meaning::WithoutLock(Word::Fail),
            _ => conclusive(Word::Fail, lock),
        };
        let is_without = matches!(meaning, Meaning::WithoutLock(Word::StandBy) | Meaning::WithoutLockInPause)
            || meaning == conclusive(Word::StandBy, Some(false)) && is_primary;
        let mark = if state != "running" && state != "unknown" {
            format!("postgres: {state}")
        } else if state == "unknown" {
            "postgres: state unknown".into()
        } else if is_without {
            "without the leader lock".into()
        } else if let Some(streams) = body["replication_state"].as_str() {
            streams.to_owned()
        } else {
            body["timeline"].as_u64().map_or(role, |timeline| format!("timeline {timeline}"))
        };
        Said { meaning, mark }
    }
}

/// Whether Patroni has looked at the store within two seconds, where it says when.
fn looked_just_now(head: &str, body: &Value) -> bool {
    let date = head.lines().find_map(|line| line.strip_prefix("Date: ")).and_then(unix_time);
    let seen = body["dcs_last_seen"].as_u64().filter(|seen| *seen > 0);
    date.zip(seen).is_none_or(|(date, seen)| date < seen + 2)
}

fn unix_time(date: &str) -> Option<u64> {
    Some(httpdate::parse_http_date(date).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs())
}
