//! What there is to see.

use std::error::Error;
use std::fmt::Write as _;

use lab::cluster::Says;

use crate::event::{EVENTS, Event};
use crate::{BACKENDS, Demo, Happened, say};

/// A line of the table.
pub struct Line {
    pub server: String,
    pub patroni: Option<Says>,
    pub usual: String,
    pub ours: String,
    said: String,
}

impl Demo<'_> {
    /// Prints what there is to see, if that is something else than last time: over that where there
    /// is a terminal.
    pub fn show(&self, title: &str) -> Result<(), Box<dyn Error>> {
        let is_terminal = self.keys.is_some();
        let screen = self.screen(title, is_terminal)?;
        // Where lines follow each other, times that go on are no reason for more of them.
        let news: Vec<_> = screen.lines().filter(|line| is_terminal || !line.ends_with(" s")).collect();
        let news = news.join("\n");
        if news != *self.shown.borrow() {
            // Home, and clear to the end of the screen.
            say(&if is_terminal { format!("\x1b[H\x1b[J{screen}") } else { format!("\n{screen}") })?;
            self.shown.replace(news);
        }
        Ok(())
    }

    fn screen(&self, title: &str, is_terminal: bool) -> Result<String, Box<dyn Error>> {
        let has_colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let paint = |status: &str, width: usize| {
            let code = match status.split(' ').next() {
                _ if !has_colour => "",
                Some("UP") => "\x1b[32m",
                Some("DOWN") => "\x1b[31m",
                Some("MAINT") => "\x1b[36m",
                _ => "\x1b[33m",
            };
            format!("{code}{status:width$}{}", if code.is_empty() { "" } else { "\x1b[0m" })
        };
        let mut text = format!("{title}\n\n");
        let mut row =
            |a: &str, b: &str, c: &str, d: &str| writeln!(text, "{}", format!("  {a:<9} {b:<19} {c} {d}").trim_end());
        row("server", "Patroni says", "usual check ", "patroni-check")?;
        for line in self.lines()? {
            let says = line.patroni.as_ref().map_or("no answer".into(), |says| format!("{} {}", says.role, says.state));
            let ours = format!("{} {}", paint(&line.ours, 6), line.said);
            row(&line.server, &says, &paint(&line.usual, 12), &ours)?;
        }
        if let Some(Happened { began, outages, .. }) = self.history.borrow_mut().last_mut() {
            for (outage, writer) in outages.iter_mut().zip(&self.writers) {
                *outage = writer.longest_outage_since(*began, self.sampling.now());
            }
        }
        if !self.history.borrow().is_empty() {
            writeln!(text, "\n  A client writes each 20 ms through HAProxy; its longest outage at each event:")?;
        }
        for Happened { title, outages: [usual, ours], .. } in self.history.borrow().iter().rev().take(6) {
            let [usual, ours] = [usual, ours].map(|outage| format!("{:.1} s", outage.as_secs_f64()));
            writeln!(text, "  {title:<39} {usual:<9} {ours}")?;
        }
        let port = self.stats.trim_end_matches('/').rsplit(':').next().unwrap_or_default();
        write!(text, "\n  HAProxy's stats page: {}", self.stats)?;
        write!(text, "\n  (from your own machine: ssh -L {port}:127.0.0.1:{port} this-host)")?;
        if is_terminal {
            let keys =
                EVENTS.map(Event::key).map(|(key, what)| format!("{key} {}", what.split(' ').next().unwrap_or(what)));
            write!(text, "\n  Keys: {}; Ctrl-C ends the demo", keys.join(", "))?;
        }
        Ok(text)
    }

    pub fn lines(&self) -> Result<Vec<Line>, Box<dyn Error>> {
        let mut lines = Vec::new();
        for member in &self.testbed.cluster.members {
            let ours = self.haproxy.server_between_checks(BACKENDS[1], &member.name)?;
            lines.push(Line {
                server: member.name.clone(),
                patroni: self.testbed.cluster.says(member),
                usual: self.haproxy.status(BACKENDS[0], &member.name)?,
                ours: ours["status"].clone(),
                said: ours["last_agt"].split_once('(').map_or("", |(_, why)| why.trim_end_matches(')')).to_owned(),
            });
        }
        Ok(lines)
    }
}
