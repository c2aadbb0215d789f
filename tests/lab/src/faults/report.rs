//! What `make faults` prints.

use serde_json::{Value, json};

use super::list::Goals;
use super::recorder::Traffic;
use super::timeline::RULES;
use super::{READ_BACKENDS, WRITE_BACKENDS};

impl Goals {
    /// As they stand in the report, and which of them a result misses.
    pub fn judge(&self, by_hand: bool, result: &mut Value) {
        let stayed = result["primary before"] == result["primary after"];
        let goes_on = (self.primary_goes_on && stayed).then_some(0);
        let writes = result["endpoint"] == Traffic::Writes.endpoint();
        let most = [
            ("two READY ms", "patroni-check", self.two_ready_ms),
            ("READY though not fit ms", "patroni-check", self.ready_though_not_fit_ms),
            ("leader fit and not READY ms", "patroni-check", goes_on.filter(|_| writes)),
            ("sessions cut", "recommended", goes_on),
        ];
        let mut goals = serde_json::Map::new();
        let mut missed = Vec::new();
        for (what, of, most) in most {
            goals.insert(what.to_owned(), json!(most));
            let was = result[what][of].as_u64().unwrap_or_default();
            if most.is_some_and(|most| was > most) {
                missed.push(format!("{what}: {was}"));
            }
        }
        if self.primary_goes_on && !stayed && !by_hand {
            missed.push("the primary is another one".to_owned());
        }
        if let Some(word) = result["first word after promotion"].as_str().filter(|word| !word.starts_with("READY")) {
            missed.push(format!("first word after promotion: {word}"));
        }
        result["goals"] = goals.into();
        result["goals missed"] = json!(missed);
    }
}

/// The table for the README, the read clients, and the goals.
pub fn markdown(report: &Value) -> String {
    let cells = |value: &Value, keys: &[&str]| {
        let cells = keys.iter().map(|key| value[*key].to_string());
        cells.collect::<Vec<_>>().join(" / ")
    };
    let mut table = "| fault | nobody could | READY, but could not: role / status / patroni-check | could, but not READY: the same \
        | two READY | a client's longest outage: official / article / recommended | sessions cut, of 5 |
|---|---|---|---|---|---|---|
"
    .to_owned();
    let mut reads = String::new();
    let mut goals = String::new();
    for fault in report["faults"].as_array().into_iter().flatten() {
        let title = fault["title"].as_str().unwrap_or_default();
        let writes = fault["endpoint"] == Traffic::Writes.endpoint();
        let missed = &fault["leader fit and not READY ms"];
        let for_writes = |text: String| if writes { text } else { "–".to_owned() };
        table += &format!(
            "| {title} | {} | {} | {} | {} | {} | {} |\n",
            for_writes(fault["longest unfit ms"].to_string()),
            cells(&fault["READY though not fit ms"], &RULES),
            if missed.is_null() { "–".to_owned() } else { for_writes(cells(missed, &RULES)) },
            for_writes(cells(&fault["two READY ms"], &RULES)),
            cells(&fault["write outage ms"], &WRITE_BACKENDS),
            cells(&fault["sessions cut"], &WRITE_BACKENDS),
        );
        if fault["read outage ms"] != json!({}) {
            reads += &format!(
                "\nRead clients, {title}: longest outage {} ms, connections and queries that failed {} (official / \
                recommended).\n",
                cells(&fault["read outage ms"], &READ_BACKENDS),
                cells(&fault["reads failed"], &READ_BACKENDS),
            );
        }
        let goals_missed: Vec<_> =
            fault["goals missed"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let verdict =
            if goals_missed.is_empty() { "kept".to_owned() } else { format!("MISSED {}", goals_missed.join("; ")) };
        goals += &format!("- {title}: {verdict}\n");
    }
    let on: Vec<_> = report["on"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!("{table}\nMilliseconds, by `make faults` on {}.\n{reads}\nGOALS\n\n{goals}", on.join(", "))
}
