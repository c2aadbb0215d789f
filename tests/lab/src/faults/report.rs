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

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Goals = Goals { two_ready_ms: Some(0), ready_though_not_fit_ms: Some(100), primary_goes_on: true };
    const LOOSE: Goals = Goals { two_ready_ms: None, ready_though_not_fit_ms: None, primary_goes_on: false };

    /// A fault in which all went well.
    fn result() -> Value {
        json!({
            "title": "a fault",
            "endpoint": "/primary",
            "primary before": "a",
            "primary after": "a",
            "longest unfit ms": 0,
            "READY though not fit ms": {"role": 5, "status": 6, "patroni-check": 0},
            "leader fit and not READY ms": {"role": 7, "status": 8, "patroni-check": 0},
            "two READY ms": {"role": 9, "status": 10, "patroni-check": 0},
            "write outage ms": {"official": 30, "article": 40, "recommended": 20},
            "read outage ms": {},
            "reads failed": {},
            "first word after promotion": null,
            "sessions cut": {"official": 5, "article": 5, "recommended": 0},
        })
    }

    fn judged(goals: &Goals, by_hand: bool, change: &[(&str, Value)]) -> Value {
        let mut result = result();
        for (pointer, value) in change {
            *result.pointer_mut(pointer).unwrap() = value.clone();
        }
        goals.judge(by_hand, &mut result);
        result
    }

    struct Case<'a> {
        what: &'a str,
        goals: &'a Goals,
        by_hand: bool,
        /// What is otherwise, by JSON pointer.
        change: &'a [(&'a str, Value)],
        missed: &'a [&'a str],
    }

    const GOOD: Case = Case { what: "", goals: &STRICT, by_hand: false, change: &[], missed: &[] };

    #[test]
    fn which_goals_are_missed() {
        let another = || ("/primary after", json!("b"));
        let not_ready = || ("/leader fit and not READY ms/patroni-check", json!(1));
        let cut = || ("/sessions cut/recommended", json!(2));
        let table = [
            Case { what: "all went well", ..GOOD },
            Case {
                what: "two READY",
                change: &[("/two READY ms/patroni-check", json!(1))],
                missed: &["two READY ms: 1"],
                ..GOOD
            },
            Case { what: "by another rule", change: &[("/two READY ms/status", json!(1))], ..GOOD },
            Case { what: "at the limit", change: &[("/READY though not fit ms/patroni-check", json!(100))], ..GOOD },
            Case {
                what: "beyond it",
                change: &[("/READY though not fit ms/patroni-check", json!(101))],
                missed: &["READY though not fit ms: 101"],
                ..GOOD
            },
            Case {
                what: "no limit",
                goals: &LOOSE,
                change: &[("/READY though not fit ms/patroni-check", json!(9999))],
                ..GOOD
            },
            Case { what: "not READY", change: &[not_ready()], missed: &["leader fit and not READY ms: 1"], ..GOOD },
            Case {
                what: "another primary: its sessions are cut, whatever we say",
                change: &[another(), not_ready(), cut()],
                missed: &["the primary is another one"],
                ..GOOD
            },
            Case { what: "by hand that may be", by_hand: true, change: &[another()], ..GOOD },
            Case { what: "a session is cut", change: &[cut()], missed: &["sessions cut: 2"], ..GOOD },
            Case { what: "of reads it is no goal", change: &[("/endpoint", json!("/replica")), not_ready()], ..GOOD },
            Case {
                what: "the first word",
                goals: &LOOSE,
                change: &[("/first word after promotion", json!("MAINT UP # replica")), cut()],
                missed: &["first word after promotion: MAINT UP # replica"],
                ..GOOD
            },
        ];
        for Case { what, goals, by_hand, change, missed } in table {
            assert_eq!(judged(goals, by_hand, change)["goals missed"], json!(missed), "{what}");
        }
        let goals = &judged(&STRICT, false, &[])["goals"];
        assert_eq!((&goals["two READY ms"], &goals["READY though not fit ms"]), (&json!(0), &json!(100)));
    }

    #[test]
    fn the_table_shows_what_there_is() {
        let good = judged(&STRICT, false, &[]);
        let by_hand = judged(&LOOSE, true, &[("/leader fit and not READY ms", Value::Null)]);
        let reads = [
            ("/endpoint", json!("/replica")),
            ("/read outage ms", json!({"official_reads": 50, "recommended_reads": 60})),
            ("/reads failed", json!({"official_reads": 1, "recommended_reads": 0})),
        ];
        let reads = judged(&STRICT, false, &reads);
        let bad = judged(&STRICT, false, &[("/two READY ms/patroni-check", json!(3))]);
        let table = markdown(&json!({"on": ["patroni 4", "2 cores"], "faults": [good, by_hand, reads, bad]}));
        let lines: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(
            lines[..4],
            [
                "| a fault | 0 | 5 / 6 / 0 | 7 / 8 / 0 | 9 / 10 / 0 | 30 / 40 / 20 | 5 / 5 / 0 |",
                "| a fault | 0 | 5 / 6 / 0 | – | 9 / 10 / 0 | 30 / 40 / 20 | 5 / 5 / 0 |",
                "| a fault | – | 5 / 6 / 0 | – | – | 30 / 40 / 20 | 5 / 5 / 0 |",
                "| a fault | 0 | 5 / 6 / 0 | 7 / 8 / 0 | 9 / 10 / 3 | 30 / 40 / 20 | 5 / 5 / 0 |",
            ]
        );
        assert!(table.contains("by `make faults` on patroni 4, 2 cores."), "{table}");
        assert_eq!(table.matches("Read clients, ").count(), 1, "{table}");
        assert!(table.contains("longest outage 50 / 60 ms"), "{table}");
        assert!(table.contains("queries that failed 1 / 0 (official"), "{table}");
        assert!(
            table.ends_with("- a fault: kept\n- a fault: kept\n- a fault: kept\n- a fault: MISSED two READY ms: 3\n")
        );
    }
}
