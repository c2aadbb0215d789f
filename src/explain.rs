//! `patroni-check explain`: what this node answers on each endpoint, and why. For people and for monitoring checks.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::{Explain, Options};
use crate::endpoint::Endpoint;
use crate::node::{Body, Node};
use crate::patroni::{Failure, Observation, Patroni};
use crate::reply::{Vocabulary, Words};
use crate::units::{Socket, sockets};
use crate::verdict::{Verdict, circumstances, judge, too_old};

/// A person has more patience than HAProxy.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lines are not longer than this.
const WIDTH: usize = 80;

/// Why the service may say something else.
const UNLOCKED: &str = "Nobody holds the leader lock, as far as this Patroni knows. The service goes by who held it last: for \
    --grace, in a paused cluster for as long as this lasts. explain remembers nothing; systemctl status patroni-check shows \
    what the service says.";

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
    full: Option<String>,
    plain: Option<String>,
    why: String,
}

struct Explanation {
    patroni: Patroni,
    health: Health,
    summary: String,
    node: Option<Node>,
    lag: Option<Value>,
    rows: Vec<Row>,
    hints: Vec<String>,
    sockets: Vec<Socket>,
}

/// Asks Patroni, one request after the other, and prints what came of it.
///
/// # Errors
/// Wrong configuration, or a standard output that takes no more.
pub fn explain(options: &Options, what: &Explain) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let explanation = Explanation::new(options, what)?;
    let mut out = io::stdout().lock();
    if what.json {
        writeln!(out, "{:#}", explanation.json())?;
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
        let first = patroni.get_within(&health, Instant::now(), PATIENCE);
        let named = !what.endpoints.is_empty();
        let endpoints = if named { what.endpoints.clone() } else { Endpoint::all().collect() };
        let mut rows = Vec::new();
        for endpoint in endpoints {
            // Who does not answer once is not asked again and again.
            let observation =
                if first.is_err() { first.clone() } else { patroni.get_within(&endpoint, Instant::now(), PATIENCE) };
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
        let mut hints = first.as_ref().err().map_or_else(Vec::new, |failure| hints(&patroni, failure));
        if node.as_ref().is_some_and(|node| node.cluster_unlocked && !node.failsafe_mode_is_active) {
            hints.push(UNLOCKED.into());
        }
        let lag = node.as_ref().and_then(|node| lag(&patroni, node));
        Ok(Explanation { patroni, health, summary, node, lag, rows, hints, sockets: sockets(options) })
    }

    fn text(&self, colour: bool) -> String {
        let paint =
            |code: &str, text: &str| if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
        let (word, code) = match self.health {
            Health::Ok => ("OK", "32"),
            Health::Warning => ("WARNING", "33"),
            Health::Critical => ("CRITICAL", "31"),
        };
        let mut text = format!("{}: {}\n", paint(code, word), self.summary);
        let asked = match self.node.as_ref().and_then(|node| node.patroni.version.as_ref()) {
            Some(version) => format!("Patroni {version} at {}", self.patroni.base()),
            None => format!("Patroni at {}", self.patroni.base()),
        };
        let lag = match &self.lag {
            Some(Value::Number(bytes)) => format!("; {bytes} bytes behind the leader"),
            Some(lag) => format!("; lag {lag}"),
            None => String::new(),
        };
        text += &format!("{asked}{lag}\n\n");
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
            text += &format!("\n{}\n", textwrap::fill(hint, WIDTH));
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
                "lag": self.lag,
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
        let judged = judge(&endpoint, observation).verdict;
        let vetoed = status == Some(200) && !matches!(judged, Verdict::Serve(_));
        let verdict = options.hold().over(judged);
        let is_held = matches!(verdict, Verdict::Held(_));
        let why = if vetoed && !is_held { format!("200 vetoed: {}", verdict.why()) } else { verdict.why().to_owned() };
        let line = |vocabulary: Vocabulary| vocabulary.reply(&verdict).map(|line| line.trim_end().to_owned());
        let full = line(options.vocabulary_of(&endpoint, Words::Full)?);
        // Options that plain words refuse are no reason not to show the full ones.
        let plain = options.vocabulary_of(&endpoint, Words::Plain).ok().and_then(line);
        Ok(Row { endpoint, status, verdict, full, plain, why })
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
            _ => (Health::Ok, node_says),
        },
    }
}

/// How far this member is behind the leader, in bytes, by its own name in the cluster.
fn lag(patroni: &Patroni, node: &Node) -> Option<Value> {
    let name = node.patroni.name.as_ref()?;
    let cluster = patroni.cluster().ok()?;
    let member = cluster.members.into_iter().find(|member| member.name == *name)?;
    (!member.lag.is_null()).then_some(member.lag)
}

/// Where to look when Patroni does not answer.
fn hints(patroni: &Patroni, failure: &Failure) -> Vec<String> {
    let base = patroni.base();
    let mut hints = Vec::new();
    let other = patroni.in_the_other_scheme();
    if let Ok(health) = "/liveness".parse::<Endpoint>() {
        if other.get_within(&health, Instant::now(), PATIENCE).is_ok() {
            hints.push(format!("Something answers at {}: set PATRONI_CHECK_PATRONI to that.", other.base()));
        }
    }
    let listeners = listeners(base.port());
    let what = match failure {
        Failure::NoAnswer(why) | Failure::NotHttp(why) => why,
    };
    if what.starts_with("TLS") {
        hints.push(
            "Patroni's certificate has to fit the host name and --cacert; where Patroni asks for ours \
             (restapi.verify_client), --cert and --key."
                .into(),
        );
    } else if what == "connection refused" && listeners.is_empty() {
        let port = base.port();
        hints.push(format!(
            "Nothing on this host listens at port {port}. Is Patroni running (systemctl status patroni)? Its address is \
             restapi.listen in its configuration (/etc/patroni); set PATRONI_CHECK_PATRONI where it is another one."
        ));
    } else if what == "connection refused" || what == "no connection in time" {
        let addresses: Vec<_> = listeners.iter().map(SocketAddr::to_string).collect();
        if !addresses.is_empty() {
            hints.push(format!(
                "On this host something listens at {}: set PATRONI_CHECK_PATRONI to that.",
                addresses.join(" and ")
            ));
        }
    } else if what.starts_with("no answer") {
        hints.push("Patroni took the connection and says nothing: see its log; Postgres may keep it waiting.".into());
    }
    hints
}

/// Who listens at this port of this host (proc(5), `/proc/net/tcp`).
fn listeners(port: u16) -> Vec<SocketAddr> {
    let tables = [procfs::net::tcp(), procfs::net::tcp6()].into_iter().flatten().flatten();
    let listen = tables.filter(|entry| entry.state == procfs::net::TcpState::Listen);
    listen.map(|entry| entry.local_address).filter(|address| address.port() == port).collect()
}

/// Columns as wide as their widest cell, with the last one wrapped.
fn aligned<const N: usize>(table: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| table.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let lines = table.iter().map(|row| {
        let cells = row.iter().zip(widths).take(N - 1);
        let start = cells.map(|(cell, width)| format!("{cell:width$}  ")).collect::<String>();
        let indent = " ".repeat(start.len());
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
