//! The explanation for people: a line like a monitoring check's, and tables.

use std::time::Duration;

use super::explanation::{Explanation, Health, Remembered, Row};
use super::requests::Lag;
use crate::haproxy::reply::Reply;
use crate::text::printable;
use crate::verdict::Verdict;

/// Lines are not longer than this.
const WIDTH: usize = 80;

/// The columns of a table are not wider than this: a view with options would leave no room for the
/// reason, and units have long names.
const VIEW_WIDTH: usize = 28;
const UNIT_WIDTH: usize = 40;

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
        text += &format!("\n{}\n", textwrap::fill(&printable(hint), WIDTH));
    }
    if !explanation.sockets.is_empty() {
        let mut table = vec![["SOCKET", "STATE", "PORT", "ANSWERS FOR"].map(str::to_owned)];
        let width = width(explanation.sockets.iter().map(|socket| socket.role.as_str()), VIEW_WIDTH);
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
    [&remembered.endpoint.to_string(), verdict, &age, lock, why].map(str::to_owned)
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

/// As wide as the widest of these, and no wider than a column may be.
fn width<'a>(cells: impl Iterator<Item = &'a str>, limit: usize) -> usize {
    cells.map(|cell| cell.chars().count()).filter(|width| *width <= limit).max().unwrap_or_default()
}

/// Columns as wide as their widest cell, with the last one wrapped. A first cell that is too wide, such
/// as a view with options, has a line of its own.
fn aligned<const N: usize>(table: &[[String; N]], limit: usize) -> Vec<String> {
    let table: Vec<_> = table.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let widths: [usize; N] = std::array::from_fn(|column| width(table.iter().map(|row| row[column].as_str()), limit));
    let options = || textwrap::Options::new(WIDTH).word_splitter(textwrap::WordSplitter::NoHyphenation);
    let lines = table.iter().map(|row| {
        let is_wide = row[0].chars().count() > limit;
        let first = if is_wide { textwrap::fill(&row[0], options()) + "\n" } else { String::new() };
        let cells = row.iter().zip(widths).enumerate().take(N - 1);
        let cell = |(column, (cell, width)): (usize, (&String, usize))| {
            let cell = if column == 0 && is_wide { "" } else { cell };
            format!("{cell:width$}  ")
        };
        let start = cells.map(cell).collect::<String>();
        let indent = " ".repeat(start.chars().count());
        let options = options().initial_indent(&start).subsequent_indent(&indent);
        first + textwrap::fill(&row[N - 1], options).trim_end()
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
        let lines = aligned(&table, VIEW_WIDTH);
        assert_eq!(lines[0], "A    BB  C");
        assert!(lines[1].starts_with("aaa  b   why why"));
        assert!(lines[1].lines().all(|line| line.len() <= WIDTH), "{}", lines[1]);
        assert!(lines[1].lines().nth(1).unwrap().starts_with("         why"));
        let wide = format!("/replica?lag=16777216&{}", "tag_a=b&".repeat(20));
        let table =
            [["A", "BB", "C"], [&wide, "b", long.trim()], ["/sync", "b", "c"]].map(|row| row.map(str::to_owned));
        let lines = aligned(&table, VIEW_WIDTH);
        assert!(lines[1].lines().count() > 4 && lines[1].lines().all(|line| line.len() <= WIDTH), "{}", lines[1]);
        assert_eq!(lines[1].lines().take(3).collect::<String>(), wide, "whole, and by itself");
        assert_eq!(lines[2], "/sync  b   c");
    }
}
