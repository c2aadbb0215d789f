//! The arithmetic behind the table: what two tracks of each node, fit and READY, come to.

use std::time::Duration;

use crate::sampling::Change;

/// The names of the rules; the last two are patroni-check's modes.
pub const RULES: [&str; 4] = ["role", "status", "service", "each check"];

/// So old may the answer of Patroni's be that patroni-check goes by (`--max-age`).
const MAX_AGE: Duration = Duration::from_millis(100);

/// Until then not everything was looked at, and it does not count.
const BEGIN: Duration = Duration::from_secs(1);

/// What was seen of a node.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Whether it could take the traffic; of a node that took a write, the timeline that it wrote
    /// on.
    pub fit: Vec<Change>,
    /// READY by one of the rules.
    pub ready: Vec<Change>,
}

/// Times in the course of a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// READY though not fit, of all nodes together.
    pub wrong: Duration,
    /// The leader was fit and not READY.
    pub missed: Duration,
    /// Two nodes READY at once.
    pub double: Duration,
}

impl Sums {
    /// Up to a moment.
    pub fn of(nodes: &[Node], end: Duration) -> Self {
        let mut sums = Sums::default();
        for Slice { length, values } in slices(nodes, end) {
            let ready = || values.iter().filter(|node| node.ready > 0);
            let wrong = ready().filter(|node| node.fit == 0).count();
            sums.wrong += length * u32::try_from(wrong).unwrap_or(u32::MAX);
            // After a failover an old primary may take writes for a while; the leader is the one on
            // the newest timeline.
            let leader = values.iter().filter(|node| node.fit > 0).max_by_key(|node| node.fit);
            if leader.is_some_and(|leader| leader.ready == 0) {
                sums.missed += length;
            }
            if ready().count() > 1 {
                sums.double += length;
            }
        }
        sums
    }
}

/// The longest time in which no node was fit.
pub fn longest_unfit(nodes: &[Node], end: Duration) -> Duration {
    let mut longest = Duration::ZERO;
    let mut lasting = Duration::ZERO;
    for Slice { length, values } in slices(nodes, end) {
        let is_unfit = values.iter().all(|node| node.fit == 0);
        lasting = if is_unfit { lasting + length } else { Duration::ZERO };
        longest = longest.max(lasting);
    }
    longest
}

/// A time in which nothing changed, and what each node was.
struct Slice {
    length: Duration,
    values: Vec<Value>,
}

struct Value {
    fit: u32,
    ready: u32,
}

/// Cuts the time where something changed.
fn slices(nodes: &[Node], end: Duration) -> Vec<Slice> {
    let times = nodes.iter().flat_map(|node| node.fit.iter().chain(&node.ready)).map(|(at, _)| *at);
    let mut cuts: Vec<Duration> = times.filter(|at| *at > BEGIN && *at < end).chain([BEGIN, end]).collect();
    cuts.sort_unstable();
    let value = |changes: &[Change], at: Duration| {
        changes.iter().rev().find(|(since, _)| *since <= at).map_or(0, |(_, value)| *value)
    };
    let slice = |from: Duration, to: Duration| {
        let values = nodes.iter().map(|node| Value { fit: value(&node.fit, from), ready: value(&node.ready, from) });
        Slice { length: to - from, values: values.collect() }
    };
    cuts.windows(2).map(|pair| slice(pair[0], pair[1])).collect()
}

/// What patroni-check first said after Patroni had said yes (`settled`) for the first time since a
/// moment. `words` are patroni-check's, with the moment at which it was asked.
pub fn first_word(settled: &[Change], words: &[(Duration, String)], since: Duration) -> Option<String> {
    let (settled, _) = *settled.iter().find(|(at, value)| *at > since && *value > 0)?;
    // For a while that of a replica may be from before.
    let is_of_after =
        |asked: Duration, word: &str| asked > settled + MAX_AGE || asked > settled && !word.starts_with("MAINT UP");
    words.iter().find(|(asked, word)| is_of_after(*asked, word)).map(|(_, word)| word.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// In milliseconds from the start.
    type Changes = &'static [(u64, u32)];

    fn node((fit, ready): &(Changes, Changes)) -> Node {
        let changes = |list: &[(u64, u32)]| list.iter().map(|(at, value)| (ms(*at), *value)).collect();
        Node { fit: changes(fit), ready: changes(ready) }
    }

    struct Case {
        what: &'static str,
        nodes: &'static [(Changes, Changes)],
        /// READY though not fit, fit and not READY, two READY, nobody fit.
        sums: [u64; 4],
    }

    /// Each ends after five seconds.
    const CASES: [Case; 9] = [
        Case { what: "nobody at all", nodes: &[], sums: [0, 0, 0, 4000] },
        Case { what: "a primary, READY", nodes: &[(&[(0, 1)], &[(0, 1)]), (&[], &[])], sums: [0, 0, 0, 0] },
        Case {
            what: "the first second does not count",
            nodes: &[(&[(800, 1)], &[(0, 1), (200, 0), (900, 1)])],
            sums: [0, 0, 0, 0],
        },
        Case {
            what: "a switchover as it should be",
            nodes: &[(&[(0, 1), (2000, 0)], &[(0, 1), (1900, 0)]), (&[(3000, 2)], &[(3050, 1)])],
            sums: [0, 100 + 50, 0, 1000],
        },
        Case {
            what: "the old one is READY until after the new one is",
            nodes: &[(&[(0, 1), (2000, 0)], &[(0, 1), (3500, 0)]), (&[(3000, 2)], &[(3000, 1)])],
            sums: [1500, 0, 500, 1000],
        },
        Case {
            what: "two that can't are counted twice",
            nodes: &[(&[], &[(2000, 1), (2100, 0)]), (&[], &[(2000, 1), (2100, 0)])],
            sums: [200, 0, 100, 4000],
        },
        Case {
            what: "of two that take writes the one on the newer timeline should be READY",
            nodes: &[(&[(0, 1)], &[(0, 1), (2000, 0)]), (&[(2000, 2)], &[(2300, 1)])],
            sums: [0, 300, 0, 0],
        },
        Case {
            what: "from timeline to timeline is no outage",
            nodes: &[(&[(0, 1), (2000, 2)], &[(0, 1)])],
            sums: [0, 0, 0, 0],
        },
        Case {
            what: "the longest of two outages, though something else changes meanwhile",
            nodes: &[
                (&[(0, 1), (1500, 0), (1700, 1), (2000, 0), (2900, 1)], &[(0, 1)]),
                (&[], &[(2500, 1), (2600, 0)]),
            ],
            sums: [200 + 900 + 100, 0, 100, 900],
        },
    ];

    #[test]
    fn what_the_tracks_come_to() {
        for Case { what, nodes, sums: [wrong, missed, double, unfit] } in CASES {
            let nodes: Vec<Node> = nodes.iter().map(node).collect();
            let sums = Sums { wrong: ms(wrong), missed: ms(missed), double: ms(double) };
            assert_eq!(Sums::of(&nodes, ms(5000)), sums, "{what}");
            assert_eq!(longest_unfit(&nodes, ms(5000)), ms(unfit), "{what}");
        }
    }

    /// patroni-check's, in milliseconds from the start.
    type Words<'a> = &'a [(u64, &'a str)];

    #[test]
    fn the_first_word_after_patroni_said_yes() {
        let settled = [(ms(500), 1), (ms(700), 0), (ms(2000), 1)];
        let table: [(Words, Option<&str>); 6] = [
            (&[], None),
            // Asked before it; and at the same moment.
            (&[(1900, "READY UP"), (2000, "READY UP")], None),
            (&[(2050, "READY UP # primary")], Some("READY UP # primary")),
            // For as long as an observation is used again, a replica's word may be from before; a
            // failure's may not.
            (&[(2050, "MAINT UP # replica"), (2101, "READY UP")], Some("READY UP")),
            (&[(2050, "MAINT UP # replica"), (2101, "MAINT UP")], Some("MAINT UP")),
            (&[(2050, "MAINT DOWN # patroni"), (2101, "READY UP")], Some("MAINT DOWN # patroni")),
        ];
        for (words, first) in table {
            let words: Vec<_> = words.iter().map(|(at, word)| (ms(*at), (*word).to_owned())).collect();
            assert_eq!(first_word(&settled, &words, ms(1000)).as_deref(), first, "{words:?}");
        }
        assert_eq!(first_word(&settled[..2], &[(ms(3000), "READY UP".to_owned())], ms(1000)), None, "never again");
    }
}
