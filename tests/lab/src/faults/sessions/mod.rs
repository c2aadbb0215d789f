//! What becomes of readers' open sessions. Each scenario has backends that differ in the view or in
//! one line alone, on the same cluster, so that it shows what that is good for.

mod list;
mod stage;

use std::error::Error;

use serde_json::{Value, json};

use crate::testbed::Testbed;
pub use list::SCENARIOS;

/// Open sessions of each replica through each backend.
const SESSIONS: usize = 5;

/// Sessions that are tried through a backend while it lasts.
const NEW: usize = 20;

/// What was seen through each backend.
type Outcome = Result<Vec<Seen>, Box<dyn Error>>;

pub struct Scenario {
    pub name: &'static str,
    pub title: &'static str,
    happens: fn(&Testbed) -> Outcome,
}

/// What came of it through one backend, for the replica that it happens to and for the others.
#[derive(Default)]
struct Seen {
    /// What is special about this backend.
    with: String,
    /// How HAProxy's status of the replica went, from UP to UP or to the end.
    statuses: Vec<String>,
    /// Its open sessions that were still there afterwards, and how many there were.
    kept: (usize, usize),
    kept_elsewhere: (usize, usize),
    /// Of those that were tried meanwhile.
    new: Option<u64>,
    /// What went wrong for clients that go on all the time.
    errors: Option<usize>,
}

impl Scenario {
    pub fn run(&self, testbed: &Testbed) -> Result<Value, Box<dyn Error>> {
        eprintln!("{}: {}", self.name, self.title);
        testbed.cluster.heal();
        let rows: Vec<Value> = (self.happens)(testbed)?.iter().map(Seen::json).collect();
        Ok(json!({"name": self.name, "title": self.title, "backends": rows}))
    }
}

impl Seen {
    fn json(&self) -> Value {
        json!({
            "with": self.with,
            "statuses": self.statuses,
            "kept": self.kept.0,
            "of": self.kept.1,
            "kept elsewhere": self.kept_elsewhere.0,
            "of elsewhere": self.kept_elsewhere.1,
            "new": self.new,
            "errors": self.errors,
        })
    }
}

/// The rows of the table, without its head where there are none.
pub fn markdown(results: &[Value]) -> String {
    if results.is_empty() {
        return String::new();
    }
    let mut table = "| what happens to a replica | through | its status in HAProxy: changes, and other than UP \
        | its sessions kept | those of the other replica | new ones it got | clients' errors |
|---|---|---|---|---|---|---|
"
    .to_owned();
    let number = |value: &Value| value.as_u64().map_or("–".to_owned(), |number| number.to_string());
    for result in results {
        for (n, row) in result["backends"].as_array().into_iter().flatten().enumerate() {
            let statuses: Vec<_> = row["statuses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let mut others: Vec<_> = statuses.iter().filter(|status| **status != "UP").copied().collect();
            others.sort_unstable();
            others.dedup();
            table += &format!(
                "| {} | {} | {}{} | {} of {} | {} of {} | {} | {} |\n",
                if n == 0 { result["title"].as_str().unwrap_or_default() } else { "" },
                row["with"].as_str().unwrap_or_default(),
                statuses.len().saturating_sub(1),
                if others.is_empty() { String::new() } else { format!(": {}", others.join(", ")) },
                row["kept"],
                row["of"],
                row["kept elsewhere"],
                row["of elsewhere"],
                number(&row["new"]),
                number(&row["errors"]),
            );
        }
    }
    table
}
