//! What `make intervals` prints.

use serde_json::Value;

/// The most that a client's outage may be, as a multiple of the time in which nobody could write.
const GOAL: f64 = 1.08;

/// Both tables.
pub fn markdown(report: &Value) -> String {
    let mut outages = "| agent-inter | max-age | nobody could write | a client's outage | outage / nobody could \
        | over 1.08 | client stopped earlier by | READY said after | UP after | client wrote after |
|---|---|---|---|---|---|---|---|---|---|
"
    .to_owned();
    let mut costs =
        "| agent-inter | max-age | HAProxy | three agents | three Patronis | their PostgreSQL | requests/s |
|---|---|---|---|---|---|---|
"
        .to_owned();
    let mean = |costs: &Value, key: &str| {
        let values = numbers(costs, key);
        values.iter().sum::<f64>() / values.len() as f64
    };
    let unasked = |key: &str| mean(&report["unasked"], key);
    for interval in report["intervals"].as_array().into_iter().flatten() {
        let names = format!("| {} ms | {} ms |", interval["agent-inter ms"], interval["max-age ms"]);
        let spread = |key: &str, digits: usize| {
            let mut values = numbers(&interval["switchovers"], key);
            values.sort_unstable_by(f64::total_cmp);
            match (values.first(), values.last()) {
                (Some(low), Some(high)) => {
                    format!("{:.digits$} ({low:.digits$} to {high:.digits$})", median(&values))
                }
                _ => "–".to_owned(),
            }
        };
        let cells = [
            spread("nobody could ms", 0),
            spread("client outage ms", 0),
            spread("ratio", 2),
            numbers(&interval["switchovers"], "ratio").iter().filter(|ratio| **ratio > GOAL).count().to_string(),
            spread("client lost it earlier by ms", 0),
            spread("READY after ms", 0),
            spread("UP after ms", 0),
            spread("client wrote after ms", 0),
        ];
        outages += &format!("{names} {} |\n", cells.join(" | "));
        let more = |key: &str| format!("{:.1}", mean(&interval["costs"], key) - unasked(key));
        let cells = ["haproxy ms/s", "agents ms/s", "patronis ms/s", "postgres ms/s", "requests/s"].map(more);
        costs += &format!("{names} {} |\n", cells.join(" | "));
    }
    let on: Vec<_> = report["on"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let switchovers = report["intervals"][0]["switchovers"].as_array().map_or(0, Vec::len);
    format!(
        "{outages}
Milliseconds, the median and the range of {switchovers} switchovers. READY, UP and the client's write: after the first write
that the new primary took. Each node and the client wrote every 5 ms.

{costs}
Milliseconds of processor time a second while nothing happens, beyond what is used where no agent is asked (Patronis {:.1},
PostgreSQL {:.1}); requests to the three Patronis together.

By `make intervals` on {}.
",
        unasked("patronis ms/s"),
        unasked("postgres ms/s"),
        on.join(", ")
    )
}

fn numbers(list: &Value, key: &str) -> Vec<f64> {
    list.as_array().into_iter().flatten().filter_map(|entry| entry[key].as_f64()).collect()
}

/// Of sorted values.
fn median(values: &[f64]) -> f64 {
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn medians() {
        for (values, middle) in
            [(&[3.0][..], 3.0), (&[1.0, 2.0], 1.5), (&[1.0, 2.0, 9.0], 2.0), (&[0.0, 1.0, 3.0, 9.0], 2.0)]
        {
            assert!((median(values) - middle).abs() < 1e-9, "{values:?}");
        }
    }

    #[test]
    fn both_tables() {
        let switchover = |outage: u32, ratio: f64| {
            json!({
                "nobody could ms": 1000,
                "client outage ms": outage,
                "ratio": ratio,
                "client lost it earlier by ms": -1,
                "READY after ms": 40,
                "UP after ms": null,
                "client wrote after ms": 60,
            })
        };
        let costs = |haproxy: u32, patronis: u32| json!({"haproxy ms/s": haproxy, "agents ms/s": 8, "patronis ms/s": patronis, "postgres ms/s": 20, "requests/s": 29});
        let table = markdown(&json!({
            "on": ["patroni 4", "2 cores"],
            "unasked": [
                {"haproxy ms/s": 1, "agents ms/s": 0, "patronis ms/s": 10, "postgres ms/s": 5, "requests/s": 0},
                {"haproxy ms/s": 2, "agents ms/s": 0, "patronis ms/s": 20, "postgres ms/s": 5, "requests/s": 0},
            ],
            "intervals": [{
                "agent-inter ms": 100,
                "max-age ms": 50,
                // Exactly at the goal is not above it.
                "switchovers": [switchover(1300, 1.3), switchover(1040, 1.04), switchover(1080, 1.08)],
                "costs": [costs(5, 40), costs(8, 44)],
            }],
        }));
        let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| 100 ms | 50 ms |")).collect();
        assert_eq!(
            rows,
            [
                "| 100 ms | 50 ms | 1000 (1000 to 1000) | 1080 (1040 to 1300) | 1.08 (1.04 to 1.30) | 1 | -1 (-1 to -1) \
                | 40 (40 to 40) | – | 60 (60 to 60) |",
                "| 100 ms | 50 ms | 5.0 | 8.0 | 27.0 | 15.0 | 29.0 |",
            ]
        );
        assert!(table.contains("range of 3 switchovers"), "{table}");
        assert!(table.contains("(Patronis 15.0,\nPostgreSQL 5.0)"), "{table}");
    }
}
