//! The explanation for people: a line like a monitoring check's, and tables.

use std::time::Duration;

use super::explanation::{Explanation, Health, Remembered, Row};
use super::requests::Lag;
use crate::commands::table::{UNIT_WIDTH, VIEW_WIDTH, WIDTH, aligned, width};
use crate::haproxy::reply::Reply;
use crate::text::printable;
use crate::verdict::Verdict;

/// The explanation as text, with colours if wanted.
pub(super) fn text(explanation: &Explanation, colour: bool) -> String {
    let paint = |code: &str, text: &str| if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let (word, code) = match explanation.health {
        Health::Ok => ("OK", "32"),
        Health::Warning => ("WARNING", "33"),
        Health::Critical => ("CRITICAL", "31"),
    };
    let mut text = format!("{}: {}\n", paint(code, word), printable(&explanation.summary));
    let asked = match explanation.node.as_ref().and_then(|node| node.patroni.version.as_ref()) {
        Some(version) => format!("Patroni {version} at {}", explanation.client.base()),
        None => format!("Patroni at {}", explanation.client.base()),
    };
    let lag = match &explanation.lag {
        Some(Lag::Bytes(bytes)) => format!("; {bytes} bytes behind the leader"),
        Some(Lag::Unknown) => "; lag unknown".to_owned(),
        None => String::new(),
    };
    text += &format!("{}\n\n", printable(&(asked + &lag)));
    let mut table = vec![["ENDPOINT", "HTTP", "VERDICT", "HAPROXY", "PLAIN", "WHY"].map(str::to_owned)];
    table.extend(explanation.rows.iter().map(cells));
    for (index, line) in aligned(&table, VIEW_WIDTH).iter().enumerate() {
        let verdict = index.checked_sub(1).map(|row| &explanation.rows[row].verdict);
        let code = match verdict {
            None => "1",
            Some(Verdict::Serve(_)) => "32",
            Some(Verdict::StandBy(..) | Verdict::Calm(..)) => "0",
            Some(Verdict::Fail(_)) => "31",
            Some(Verdict::Held(..)) => "33",
        };
        text += &format!("{}\n", paint(code, line));
    }
    for hint in &explanation.hints {
        // A time is one word.
        let options = textwrap::Options::new(WIDTH).word_splitter(textwrap::WordSplitter::NoHyphenation);
        text += &format!("\n{}\n", textwrap::fill(&printable(hint), options));
    }
    if !explanation.sockets.is_empty() {
        let titles = ["SOCKET", "STATE", "PORT", "ANSWERS FOR"];
        let mut table = vec![titles.map(str::to_owned)];
        let roles = explanation.sockets.iter().map(|socket| socket.role.as_str());
        let width = width(roles.chain([titles[3]]), VIEW_WIDTH);
        table.extend(explanation.sockets.iter().map(|socket| {
            let accept = if socket.accept { "Accept=yes" } else { "" };
            let role = format!("{:width$}  {accept}", socket.role);
            [socket.unit.clone(), socket.state.clone(), socket.listen.clone(), role.trim_end().to_owned()]
        }));
        text += "\n";
        for line in aligned(&table, UNIT_WIDTH) {
            text += &format!("{line}\n");
        }
    }
    if !explanation.remembered.is_empty() {
        let mut table = vec![["REMEMBERED", "VERDICT", "AGE", "LOCK", "WHY"].map(str::to_owned)];
        table.extend(explanation.remembered.iter().map(remembered_cells));
        text += "\n";
        for line in aligned(&table, VIEW_WIDTH) {
            text += &format!("{line}\n");
        }
    }
    text
}

fn remembered_cells(remembered: &Remembered) -> [String; 5] {
    let lock = match remembered.lock_was_here {
        Some(true) => "here",
        Some(false) => "not here",
        None => "-",
    };
    let (verdict, age, why) = match &remembered.conclusive {
        Some((verdict, age)) => (verdict.word(), format_age(*age), verdict.why()),
        None => ("-", "-".into(), "no answer yet that settles it"),
    };
    [&remembered.view.to_string(), verdict, &age, lock, why].map(str::to_owned)
}

/// Who is interested in milliseconds is not in hours.
fn format_age(age: Duration) -> String {
    let whole = if age < Duration::from_secs(10) {
        Duration::from_millis(age.as_millis() as u64)
    } else {
        Duration::from_secs(age.as_secs())
    };
    humantime::format_duration(whole).to_string()
}

fn cells(row: &Row) -> [String; 6] {
    let words = |reply: &Option<Reply>| reply.as_ref().map_or("(nothing)", Reply::words).to_owned();
    [
        row.view.to_string(),
        row.status.map_or("-".to_owned(), |status| status.to_string()),
        row.verdict.word().to_owned(),
        words(&row.full),
        words(&row.plain),
        row.why.clone(),
    ]
}
