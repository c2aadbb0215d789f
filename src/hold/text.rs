//! What the file of a hold says, and whether it stands at a given moment.
//!
//! Its first line is the reason, whoever wrote it. Lines below it may say `drain`, `until TIME` and
//! `boot ID SECONDS`; all others mean nothing. Whatever is wrong with these never ends a hold.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::Moment;
use crate::text::single_spaced;
use crate::verdict::Sessions;

/// The longest reason with its newline, in bytes. HAProxy is told less.
pub(super) const REASON_LIMIT: usize = 200;

/// The longest file whose further lines count, in bytes.
pub(super) const SIZE_LIMIT: usize = 4096;

/// What the two clocks may differ by without anybody having set one: a leap second, and whole
/// seconds that are cut. To slew the wall clock slews the one since the boot as well
/// (clock_gettime(2)).
const TOLERANCE: Duration = Duration::from_secs(2);

/// A hold, as its file says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Why, if anybody said so.
    pub reason: String,
    /// What may become of the open sessions.
    pub sessions: Sessions,
    /// When it ends; by itself it never does without it.
    pub end: Option<End>,
    /// What in the file does not count, in a few words each.
    faults: Vec<&'static str>,
}

/// The end of a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Unix time, in whole seconds.
    pub wall: Duration,
    /// The same by the clock since a boot, and which one.
    pub boot: Option<(String, Duration)>,
}

/// What has become of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It stands.
    Holds,
    /// It stands, because the clock that says that it is over was set ahead since.
    ClockJumped,
    /// It has ended by itself.
    Over,
}

impl End {
    /// So much later, by both clocks.
    pub fn after(now: Moment, time: Duration, boot_id: io::Result<String>) -> Self {
        let end = now + time;
        let whole =
            |time: Duration| Duration::from_secs(time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)));
        let boot_id = boot_id.ok().filter(|id| is_boot_id(id));
        End { wall: whole(end.wall), boot: boot_id.map(|id| (id, whole(end.boot))) }
    }

    /// How long until then, by the clock that says more.
    pub fn left(&self, now: Moment, boot_id: Option<&str>) -> Duration {
        let by_wall = self.wall.saturating_sub(now.wall);
        let boot = self.boot.as_ref().filter(|(id, _)| is_this_boot(id, boot_id));
        boot.map_or(by_wall, |(_, end)| by_wall.max(end.saturating_sub(now.boot)))
    }

    fn lines(&self) -> String {
        let boot = self.boot.as_ref().map(|(id, end)| format!("boot {id} {}\n", end.as_secs()));
        format!("until {}\n{}", format_time(self.wall), boot.unwrap_or_default())
    }
}

impl Hold {
    /// A hold that a person wants.
    pub fn new(reason: &str, sessions: Sessions, end: Option<End>) -> Self {
        Hold { reason: clean(reason), sessions, end, faults: Vec::new() }
    }

    /// One of which nothing is known but this.
    pub(super) fn without_text(reason: String) -> Self {
        Hold { reason, sessions: Sessions::Cut, end: None, faults: Vec::new() }
    }

    /// What a file says whose first bytes are these. `written` is when, in Unix time.
    pub fn read(bytes: &[u8], written: Option<Duration>) -> Self {
        let first = String::from_utf8_lossy(&bytes[..bytes.len().min(REASON_LIMIT)]);
        // Half a character is no part of it.
        let reason = clean(first.lines().next().unwrap_or_default().trim_end_matches(char::REPLACEMENT_CHARACTER));
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SIZE_LIMIT + 1)]);
        let (mut drain, mut until, mut boot) = (Vec::new(), Vec::new(), Vec::new());
        for line in text.lines().skip(1).map(str::trim) {
            let lower = line.to_ascii_lowercase();
            match lower.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default() {
                "drain" => drain.push(line),
                "boot" => boot.push(line),
                // Wherever the word stands: somebody may have meant a later end.
                _ if lower.contains("until") => until.push(line),
                _ => {}
            }
        }
        let mut hold = Hold::without_text(reason);
        if bytes.len() > SIZE_LIMIT {
            // What follows may say something else.
            if [&drain, &until].iter().any(|lines| !lines.is_empty()) {
                hold.faults.push("file too long");
            }
            return hold;
        }
        match drain[..] {
            [] => {}
            ["drain"] => hold.sessions = Sessions::MayStay,
            [_] => hold.faults.push("drain unreadable"),
            _ => hold.faults.push("drain twice"),
        }
        hold.end = read_end(&until, &boot, written).unwrap_or_else(|fault| {
            hold.faults.push(fault);
            None
        });
        hold
    }

    /// Whether it stands. Before this boot's clock says so it is not over either: nobody sets that.
    /// Where nobody knows which boot this is, it may be that one.
    pub fn standing(&self, now: Moment, boot_id: Option<&str>) -> Standing {
        let Some(end) = &self.end else { return Standing::Holds };
        if now.wall < end.wall {
            return Standing::Holds;
        }
        match &end.boot {
            Some((id, by_boot)) if is_this_boot(id, boot_id) && now.boot + TOLERANCE < *by_boot => {
                Standing::ClockJumped
            }
            _ => Standing::Over,
        }
    }

    /// The reason as HAProxy is told it, in this standing.
    pub fn why(&self, standing: Standing) -> String {
        let mut why = "held".to_owned();
        if let Some(end) = &self.end {
            why += &format!(" until {}", format_time(end.wall));
        }
        let notes = self.notes(standing);
        if !notes.is_empty() {
            why += &format!(" ({notes})");
        }
        if self.reason.is_empty() { why } else { format!("{why}: {}", self.reason) }
    }

    /// What is odd about it, in a few words.
    pub fn notes(&self, standing: Standing) -> String {
        let jumped = (standing == Standing::ClockJumped).then_some("clock jumped");
        self.faults.iter().copied().chain(jumped).collect::<Vec<_>>().join("; ")
    }

    /// The text of its file.
    pub fn text(&self) -> String {
        let drain = if self.sessions == Sessions::MayStay { "drain\n" } else { "" };
        format!("{}\n{drain}{}", self.reason, self.end.as_ref().map(End::lines).unwrap_or_default())
    }
}

/// The end that these lines say; none where there are none.
fn read_end(until: &[&str], boot: &[&str], written: Option<Duration>) -> Result<Option<End>, &'static str> {
    let until = match until {
        [] => return Ok(None),
        [until] => until,
        _ => return Err("until twice"),
    };
    let wall = read_until(until).ok_or("until unreadable")?;
    // Somebody meant a hold by it, and took another time zone, or another year.
    if written.is_some_and(|written| wall <= written) {
        return Err("until was past already");
    }
    let boot = match boot {
        [] => None,
        [boot] => Some(read_boot(boot).ok_or("boot unreadable")?),
        _ => return Err("boot twice"),
    };
    Ok(Some(End { wall, boot }))
}

/// `until 2026-11-28T14:00:00Z`.
fn read_until(line: &str) -> Option<Duration> {
    let text = line.strip_prefix("until ")?.trim_start();
    let time = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    // humantime takes more than RFC 3339 has.
    (format_time(time) == text).then_some(time)
}

/// `boot ID SECONDS`.
fn read_boot(line: &str) -> Option<(String, Duration)> {
    let mut words = line.split_whitespace().skip(1);
    let (id, seconds, None) = (words.next()?, words.next()?, words.next()) else { return None };
    let is_number = seconds.bytes().all(|byte| byte.is_ascii_digit());
    if !line.starts_with("boot ") || !is_boot_id(id) || !is_number {
        return None;
    }
    Some((id.to_owned(), Duration::from_secs(seconds.parse().ok()?)))
}

/// As `boot_id` gives it.
fn is_boot_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_this_boot(id: &str, this: Option<&str>) -> bool {
    this.is_none_or(|this| this.eq_ignore_ascii_case(id))
}

/// Unix time as RFC 3339 has it. (humantime ends with the year 9999.)
pub fn format_time(time: Duration) -> String {
    let last = Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + time.min(last)).to_string()
}

/// One line of printable text, with its newline not longer than a reason may be.
fn clean(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut line = single_spaced(&text);
    while line.len() >= REASON_LIMIT {
        line.pop();
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests;
