//! What `make faults` prints.

use serde_json::{Value, json};

use super::agents::{MODES, Mode};
use super::list::Goals;
use super::recorder::Traffic;
use super::sessions;
use super::timeline::RULES;
use super::{READ_BACKENDS, WRITE_BACKENDS};

impl Goals {
    /// As they stand in the report, and which of them a result misses.
    pub fn judge(&self, by_hand: bool, result: &mut Value) {
        let stayed = result["primary before"] == result["primary after"];
        let goes_on = (self.primary_goes_on && stayed).then_some(0);
        let writes = result["endpoint"] == Traffic::Writes.endpoint();
        let most = [
            ("two READY ms", self.two_ready_ms),
            ("READY though not fit ms", self.ready_though_not_fit_ms),
            ("leader fit and not READY ms", goes_on.filter(|_| writes)),
            ("sessions cut", goes_on),
        ];
        let mut goals = serde_json::Map::new();
        let mut missed = Vec::new();
        for (what, most) in most {
            goals.insert(what.to_owned(), json!(most));
            for mode in MODES {
                let was = figure(result, what, mode).unwrap_or_default();
                if most.is_some_and(|most| was > most) {
                    missed.push(format!("{what}, {}: {was}", mode.name()));
                }
            }
        }
        if self.primary_goes_on && !stayed && !by_hand {
            missed.push("the primary is another one".to_owned());
        }
        for mode in MODES {
            let word = result["first word after promotion"][mode.name()].as_str();
            if let Some(word) = word.filter(|word| !word.starts_with("READY")) {
                missed.push(format!("first word after promotion, {}: {word}", mode.name()));
            }
        }
        result["goals"] = goals.into();
        result["goals missed"] = json!(missed);
        result["modes differ"] = json!(differences(result));
    }
}

/// One result of those of which each has the figures of one mode, in the modes' order; the others
/// are those of the first.
pub fn merged(turns: &[Value]) -> Value {
    let mut result = turns.first().cloned().unwrap_or_default();
    for (mode, turn) in MODES.into_iter().zip(turns).skip(1) {
        for (what, figures) in turn.as_object().into_iter().flatten() {
            for key in [mode.name(), mode.backend()] {
                if let Some(figure) = figures.get(key) {
                    result[what][key] = figure.clone();
                }
            }
        }
        result[format!("{} alone", mode.name())] = turn.clone();
    }
    result
}

/// What HAProxy and the looks at the two modes may differ in, as they do not come at the same
/// moments: `agent-inter`, max-age, and a look of each.
const CHANCE_MS: u64 = 300;

/// What a result has of a mode: of its rule, or of its backend.
fn figure(result: &Value, what: &str, mode: Mode) -> Option<u64> {
    let of_mode = &result[what];
    of_mode[mode.name()].as_u64().or_else(|| of_mode[mode.backend()].as_u64())
}

/// In what the one process for each check is not as the service is.
fn differences(result: &Value) -> Vec<String> {
    let most = [
        ("READY though not fit ms", CHANCE_MS),
        ("leader fit and not READY ms", CHANCE_MS),
        ("two READY ms", CHANCE_MS),
        ("write outage ms", CHANCE_MS),
        ("sessions cut", 0),
    ];
    let differs = |(what, most): (&str, u64)| {
        let [service, each_check] = MODES.map(|mode| figure(result, what, mode));
        let (service, each_check) = (service?, each_check?);
        (service.abs_diff(each_check) > most).then(|| format!("{what}: {service} / {each_check}"))
    };
    most.into_iter().filter_map(differs).collect()
}

/// The table for the README, the read clients, and the goals.
pub fn markdown(report: &Value) -> String {
    let cells = |value: &Value, keys: &[&str]| {
        let cells = keys.iter().map(|key| value[*key].to_string());
        cells.collect::<Vec<_>>().join(" / ")
    };
    let mut table = "| fault | nobody could | READY, but could not: role / status / service / each check \
        | could, but not READY: the same | two READY \
        | a client's longest outage: official / article / recommended / each check | sessions cut, of 5 |
|---|---|---|---|---|---|---|
"
    .to_owned();
    let mut reads = String::new();
    let mut goals = String::new();
    let mut modes = String::new();
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
        let differ: Vec<_> = fault["modes differ"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !differ.is_empty() {
            modes += &format!("- {title}: {}\n", differ.join("; "));
        }
    }
    let on: Vec<_> = report["on"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!(
        "{table}\nMilliseconds, by `make faults` on {}.\n{reads}\nGOALS\n\n{goals}\n\
        WHERE THE MODES DIFFER: service / each check\n\n{}",
        on.join(", "),
        if modes.is_empty() { "nowhere\n" } else { &modes }
    ) + &sessions::markdown(report["sessions"].as_array().map_or(&[], Vec::as_slice))
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
            "READY though not fit ms": {"role": 5, "status": 6, "service": 0, "each check": 1},
            "leader fit and not READY ms": {"role": 7, "status": 8, "service": 0, "each check": 0},
            "two READY ms": {"role": 9, "status": 10, "service": 0, "each check": 0},
            "write outage ms": {"official": 30, "article": 40, "recommended": 20, "each_check": 25},
            "read outage ms": {},
            "reads failed": {},
            "first word after promotion": null,
            "sessions cut": {"official": 5, "article": 5, "recommended": 0, "each_check": 0},
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
        let not_ready = || ("/leader fit and not READY ms/service", json!(1));
        let cut = || ("/sessions cut/recommended", json!(2));
        let words = json!({"service": "READY UP", "each check": "MAINT UP # replica"});
        let first_words = || ("/first word after promotion", words.clone());
        let table = [
            Case { what: "all went well", ..GOOD },
            Case {
                what: "two READY",
                change: &[("/two READY ms/service", json!(1))],
                missed: &["two READY ms, service: 1"],
                ..GOOD
            },
            Case {
                what: "in the other mode",
                change: &[("/two READY ms/each check", json!(1)), ("/sessions cut/each_check", json!(2))],
                missed: &["two READY ms, each check: 1", "sessions cut, each check: 2"],
                ..GOOD
            },
            Case { what: "by another rule", change: &[("/two READY ms/status", json!(1))], ..GOOD },
            Case { what: "at the limit", change: &[("/READY though not fit ms/service", json!(100))], ..GOOD },
            Case {
                what: "beyond it",
                change: &[("/READY though not fit ms/service", json!(101))],
                missed: &["READY though not fit ms, service: 101"],
                ..GOOD
            },
            Case {
                what: "no limit",
                goals: &LOOSE,
                change: &[("/READY though not fit ms/service", json!(9999))],
                ..GOOD
            },
            Case {
                what: "not READY",
                change: &[not_ready()],
                missed: &["leader fit and not READY ms, service: 1"],
                ..GOOD
            },
            Case {
                what: "another primary: its sessions are cut, whatever we say",
                change: &[another(), not_ready(), cut()],
                missed: &["the primary is another one"],
                ..GOOD
            },
            Case { what: "by hand that may be", by_hand: true, change: &[another()], ..GOOD },
            Case { what: "a session is cut", change: &[cut()], missed: &["sessions cut, service: 2"], ..GOOD },
            Case { what: "of reads it is no goal", change: &[("/endpoint", json!("/replica")), not_ready()], ..GOOD },
            Case {
                what: "the first word",
                goals: &LOOSE,
                change: &[first_words(), cut()],
                missed: &["first word after promotion, each check: MAINT UP # replica"],
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
        let bad = [("/two READY ms/service", json!(3)), ("/sessions cut/each_check", json!(2))];
        let bad = judged(&STRICT, false, &bad);
        let table = markdown(&json!({"on": ["patroni 4", "2 cores"], "faults": [good, by_hand, reads, bad]}));
        let lines: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(
            lines[..4],
            [
                "| a fault | 0 | 5 / 6 / 0 / 1 | 7 / 8 / 0 / 0 | 9 / 10 / 0 / 0 | 30 / 40 / 20 / 25 | 5 / 5 / 0 / 0 |",
                "| a fault | 0 | 5 / 6 / 0 / 1 | – | 9 / 10 / 0 / 0 | 30 / 40 / 20 / 25 | 5 / 5 / 0 / 0 |",
                "| a fault | – | 5 / 6 / 0 / 1 | – | – | 30 / 40 / 20 / 25 | 5 / 5 / 0 / 0 |",
                "| a fault | 0 | 5 / 6 / 0 / 1 | 7 / 8 / 0 / 0 | 9 / 10 / 3 / 0 | 30 / 40 / 20 / 25 | 5 / 5 / 0 / 2 |",
            ]
        );
        assert!(table.contains("by `make faults` on patroni 4, 2 cores."), "{table}");
        assert_eq!(table.matches("Read clients, ").count(), 1, "{table}");
        assert!(table.contains("longest outage 50 / 60 ms"), "{table}");
        assert!(table.contains("queries that failed 1 / 0 (official"), "{table}");
        assert!(
            table.ends_with(
                "- a fault: kept\n- a fault: kept\n- a fault: kept\n\
                - a fault: MISSED two READY ms, service: 3; sessions cut, each check: 2\n\n\
                WHERE THE MODES DIFFER: service / each check\n\n- a fault: sessions cut: 0 / 2\n"
            ),
            "{table}"
        );
    }

    #[test]
    fn where_the_modes_differ() {
        type Change<'a> = &'a [(&'a str, Value)];
        let table: [(Change, &[&str]); 5] = [
            (&[], &[]),
            (&[("/write outage ms/each_check", json!(320))], &[]),
            (&[("/write outage ms/each_check", json!(321))], &["write outage ms: 20 / 321"]),
            (&[("/two READY ms/service", json!(301))], &["two READY ms: 301 / 0"]),
            (&[("/sessions cut/each_check", json!(1))], &["sessions cut: 0 / 1"]),
        ];
        for (change, differ) in table {
            assert_eq!(judged(&LOOSE, false, change)["modes differ"], json!(differ), "{change:?}");
        }
    }

    #[test]
    fn of_two_turns_each_mode_has_its_own() {
        let turn = |service: u64, each_check: u64| {
            let figures = json!({"role": service, "service": service, "each check": each_check});
            let cut = json!({"official": service, "recommended": service, "each_check": each_check});
            json!({"title": "a fault", "two READY ms": figures, "sessions cut": cut})
        };
        let result = merged(&[turn(1, 2), turn(3, 4)]);
        assert_eq!(result["two READY ms"], json!({"role": 1, "service": 1, "each check": 4}));
        assert_eq!(result["sessions cut"], json!({"official": 1, "recommended": 1, "each_check": 4}));
        assert_eq!(result["each check alone"], turn(3, 4));
    }
}
