//! `patroni-check explain`: what this node answers on each endpoint, and why. For people and for monitoring checks.

mod asking;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::{Explain, Options};
use crate::endpoint::Endpoint;
use crate::node::{Body, Node};
use crate::patroni::{Observation, Patroni};
use crate::reply::{Vocabulary, Words, printable};
use crate::units::{Socket, sockets};
use crate::verdict::{Verdict, circumstances, is_being_promoted, judge, too_old};
use asking::{Asking, Lag};

/// Lines are not longer than this.
const WIDTH: usize = 80;

/// Why the service may say something else.
const UNLOCKED: &str = "Nobody holds the leader lock, as far as this Patroni knows. The service keeps its last verdict \
    for --grace, and in a paused cluster for as long as this lasts. explain remembers nothing. systemctl status \
    patroni-check shows what the service says.";

/// What a monitoring check makes of it (Monitoring Plugins' development guidelines, "Plugin Return Codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Ok,
    Warning,
    Critical,
}

/// What there is to say of an endpoint.
struct Row {
    endpoint: Endpoint,
    status: Option<u16>,
    verdict: Verdict,
    is_being_promoted: bool,
    full: Option<String>,
    plain: Option<String>,
    why: String,
}

struct Explanation {
    patroni: Patroni,
    health: Health,
    summary: String,
    node: Option<Node>,
    lag: Option<Lag>,
    rows: Vec<Row>,
    hints: Vec<String>,
    sockets: Vec<Socket>,
}

/// Asks Patroni, one request after the other and for some ten seconds at most, and prints what came of it.
///
/// # Errors
/// Wrong configuration, or a standard output that takes no more.
pub fn explain(options: &Options, what: &Explain) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let explanation = Explanation::new(options, what)?;
    let mut out = io::stdout().lock();
    if what.json {
        writeln!(out, "{}", ascii(&format!("{:#}", explanation.json())))?;
    } else {
        let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        out.write_all(explanation.text(colour).as_bytes())?;
    }
    Ok(ExitCode::from(explanation.health as u8))
}

impl Explanation {
    fn new(options: &Options, what: &Explain) -> Result<Self, Box<dyn std::error::Error>> {
        let patroni = options.patroni()?;
        let health: Endpoint = "/health".parse()?;
        let mut asking = Asking::of(&patroni);
        let first = asking.observe(&health);
        let named = !what.endpoints.is_empty();
        let endpoints = if named { what.endpoints.clone() } else { Endpoint::all().collect() };
        let mut rows = Vec::new();
        for endpoint in endpoints {
            let observation = if first.is_err() { first.clone() } else { asking.observe(&endpoint) };
            rows.push(Row::new(options, endpoint, &observation)?);
        }
        let node = match &first {
            Ok(answer) => match &answer.body {
                Body::Node(node) => Some(node.clone()),
                _ => None,
            },
            Err(_) => None,
        };
        let node_verdict = judge(&health, &first).verdict;
        let (health, summary) = sum_up(options, &node_verdict, node.as_ref(), &rows, named);
        let lag = node.as_ref().and_then(|node| asking.lag(node));
        let mut hints = asking.hints(first.as_ref().err());
        if node.as_ref().is_some_and(|node| node.cluster_unlocked && !node.failsafe_mode_is_active) {
            hints.push(UNLOCKED.into());
        }
        let sockets = sockets(options).unwrap_or_else(|why| {
            hints.push(why);
            Vec::new()
        });
        Ok(Explanation { patroni, health, summary, node, lag, rows, hints, sockets })
    }

    fn text(&self, colour: bool) -> String {
        let paint =
            |code: &str, text: &str| if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
        let (word, code) = match self.health {
            Health::Ok => ("OK", "32"),
            Health::Warning => ("WARNING", "33"),
            Health::Critical => ("CRITICAL", "31"),
        };
        let mut text = format!("{}: {}\n", paint(code, word), printable(&self.summary));
        let asked = match self.node.as_ref().and_then(|node| node.patroni.version.as_ref()) {
            Some(version) => format!("Patroni {version} at {}", self.patroni.base()),
            None => format!("Patroni at {}", self.patroni.base()),
        };
        let lag = match &self.lag {
            Some(Lag::Bytes(bytes)) => format!("; {bytes} bytes behind the leader"),
            Some(Lag::Unknown) => "; lag unknown".to_owned(),
            None => String::new(),
        };
        text += &format!("{}\n\n", printable(&(asked + &lag)));
        let mut table = vec![["ENDPOINT", "HTTP", "VERDICT", "HAPROXY", "PLAIN", "WHY"].map(str::to_owned)];
        table.extend(self.rows.iter().map(Row::cells));
        for (index, line) in aligned(&table).iter().enumerate() {
            let verdict = index.checked_sub(1).map(|row| &self.rows[row].verdict);
            let code = match verdict {
                None => "1",
                Some(Verdict::Serve(_)) => "32",
                Some(Verdict::StandBy(_)) => "0",
                Some(Verdict::Fail(_)) => "31",
                Some(Verdict::Held(_)) => "33",
            };
            text += &format!("{}\n", paint(code, line));
        }
        for hint in &self.hints {
            text += &format!("\n{}\n", textwrap::fill(&printable(hint), WIDTH));
        }
        if !self.sockets.is_empty() {
            let mut table = vec![["SOCKET", "STATE", "PORT", "ANSWERS FOR", ""].map(str::to_owned)];
            table.extend(self.sockets.iter().map(|socket| {
                let accept = if socket.accept { "Accept=yes" } else { "" };
                [&socket.unit, &socket.state, &socket.listen, &socket.purpose, accept].map(Into::into)
            }));
            text += "\n";
            for line in aligned(&table) {
                text += &format!("{line}\n");
            }
        }
        text
    }

    fn json(&self) -> Value {
        let node = self.node.as_ref().map(|node| {
            json!({
                "role": node.role,
                "state": node.state,
                "timeline": node.timeline,
                "replication_state": node.replication_state,
                "paused": node.pause,
                "nobody_holds_the_lock": node.cluster_unlocked,
                "failsafe": node.failsafe_mode_is_active,
                "version": node.patroni.version,
                "lag": self.lag.as_ref().map(|lag| match lag {
                    Lag::Bytes(bytes) => json!(bytes),
                    Lag::Unknown => json!("unknown"),
                }),
            })
        });
        let rows = self.rows.iter().map(|row| {
            json!({
                "endpoint": row.endpoint.to_string(),
                "status": row.status,
                "verdict": row.verdict.word(),
                "why": row.why,
                "full": row.full,
                "plain": row.plain,
            })
        });
        let sockets = self.sockets.iter().map(|socket| {
            json!({
                "unit": socket.unit,
                "state": socket.state,
                "listen": socket.listen,
                "answers_for": socket.purpose,
                "accept": socket.accept,
            })
        });
        json!({
            "health": format!("{:?}", self.health).to_lowercase(),
            "summary": self.summary,
            "patroni": self.patroni.base().to_string(),
            "node": node,
            "endpoints": rows.collect::<Vec<_>>(),
            "hints": self.hints,
            "sockets": sockets.collect::<Vec<_>>(),
        })
    }
}

impl Row {
    fn new(
        options: &Options,
        endpoint: Endpoint,
        observation: &Observation,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let status = observation.as_ref().ok().map(|answer| answer.status);
        let is_being_promoted = observation.as_ref().is_ok_and(
            |answer| matches!(&answer.body, Body::Node(node) if is_being_promoted(&endpoint, answer.status, node)),
        );
        let judged = judge(&endpoint, observation).verdict;
        let vetoed = status == Some(200) && !matches!(judged, Verdict::Serve(_));
        let verdict = options.hold().over(judged);
        let is_held = matches!(verdict, Verdict::Held(_));
        let why = if vetoed && !is_held { format!("200 vetoed: {}", verdict.why()) } else { verdict.why().to_owned() };
        let line = |vocabulary: Vocabulary| vocabulary.reply(&verdict).map(|line| line.trim_end().to_owned());
        let full = line(options.vocabulary_of(&endpoint, Words::Full)?);
        // Options that plain words refuse are no reason not to show the full ones.
        let plain = options.vocabulary_of(&endpoint, Words::Plain).ok().and_then(line);
        Ok(Row { endpoint, status, verdict, is_being_promoted, full, plain, why })
    }

    fn cells(&self) -> [String; 6] {
        let words = |line: &Option<String>| match line {
            Some(line) => line.split(" #").next().unwrap_or_default().to_owned(),
            None => "(nothing)".to_owned(),
        };
        [
            self.endpoint.to_string(),
            self.status.map_or("-".to_owned(), |status| status.to_string()),
            self.verdict.word().to_owned(),
            words(&self.full),
            words(&self.plain),
            self.why.clone(),
        ]
    }
}

/// The first line: the node in a few words.
fn sum_up(options: &Options, verdict: &Verdict, node: Option<&Node>, rows: &[Row], named: bool) -> (Health, String) {
    if let (Verdict::Fail(why), _) | (Verdict::StandBy(why) | Verdict::Held(why), None) = (verdict, node) {
        return (Health::Critical, why.clone() + &node.map_or_else(String::new, circumstances));
    }
    let node_says = node.map_or_else(String::new, |node| {
        let timeline = node.timeline.map_or_else(String::new, |timeline| format!(", timeline {timeline}"));
        format!("{} {}{timeline}{}", node.role.replace('_', " "), node.state, circumstances(node))
    });
    let is_too_old = |row: &&Row| node.is_some_and(|node| too_old(&row.endpoint, node).is_some());
    let failed: Vec<&Row> = rows.iter().filter(|row| matches!(row.verdict, Verdict::Fail(_))).collect();
    match failed.iter().find(|row| named || !is_too_old(row)) {
        Some(row) if named => (Health::Critical, format!("{}: {}", row.endpoint, row.why)),
        Some(row) => (Health::Warning, format!("{node_says}, but {}: {}", row.endpoint, row.why)),
        None => match options.hold().over(verdict.clone()) {
            Verdict::Held(why) => (Health::Warning, format!("{node_says}, {why}")),
            _ if node.is_some_and(|node| node.cluster_unlocked) => (Health::Warning, node_says),
            _ => match rows.iter().find(|row| row.is_being_promoted) {
                Some(row) => (Health::Warning, format!("{node_says}, but {}: {}", row.endpoint, row.why)),
                None => (Health::Ok, node_says),
            },
        },
    }
}

/// JSON in which a terminal finds nothing to obey, and a program what was there: only strings have more than ASCII in them.
fn ascii(json: &str) -> String {
    let mut units = [0; 2];
    json.chars().fold(String::with_capacity(json.len()), |mut text, c| {
        match c {
            '\n' | ' '..='~' => text.push(c),
            c => c.encode_utf16(&mut units).iter().for_each(|unit| text += &format!("\\u{unit:04x}")),
        }
        text
    })
}

/// Columns as wide as their widest cell, with the last one wrapped.
fn aligned<const N: usize>(table: &[[String; N]]) -> Vec<String> {
    let table: Vec<_> = table.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let lines = table.iter().map(|row| {
        let cells = row.iter().zip(widths).take(N - 1);
        let start = cells.map(|(cell, width)| format!("{cell:width$}  ")).collect::<String>();
        let indent = " ".repeat(start.chars().count());
        let options = textwrap::Options::new(WIDTH).word_splitter(textwrap::WordSplitter::NoHyphenation);
        let options = options.initial_indent(&start).subsequent_indent(&indent);
        textwrap::fill(&row[N - 1], options).trim_end().to_owned()
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_last_one_is_wrapped() {
        let long = "why ".repeat(30);
        let table = [["A", "BB", "C"], ["aaa", "b", long.trim()]].map(|row| row.map(str::to_owned));
        let lines = aligned(&table);
        assert_eq!(lines[0], "A    BB  C");
        assert!(lines[1].starts_with("aaa  b   why why"));
        assert!(lines[1].lines().all(|line| line.len() <= WIDTH), "{}", lines[1]);
        assert!(lines[1].lines().nth(1).unwrap().starts_with("         why"));
    }
}
