//! Views: an endpoint, and how this view of it is answered. The options stand with the endpoint, as
//! parameters that Patroni never gets: `/replica?lag=16MB&on-standby=drain&calm=10s`.

use std::fmt;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::endpoint::{Endpoint, Kind};
use crate::text::duration;

/// A calm that is longer than this is a hold.
pub const CALMS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// As long as a descriptor's name may be (systemd.socket(5), `FileDescriptorName=`).
const LENGTH_LIMIT: usize = 255;

/// Words by their names, each with what it means.
pub type Words<T> = &'static [(&'static str, &'static str, T)];

/// What a node says that is healthy but not meant for the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStandby {
    /// In maintenance, which no monitoring takes for a fault. Cuts sessions under `on-marked-down
    /// shutdown-sessions`.
    Maint,
    /// No new sessions, and none is cut, where they may stay: on a replica that only lags behind, say.
    /// Elsewhere it is `Maint`.
    Drain,
    /// Down.
    Down,
}

/// What a node says where something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// In maintenance.
    Maint,
    /// Down, which alarms.
    Down,
    /// No new sessions; never cuts one.
    Drain,
    /// Nothing: HAProxy keeps the last state, for as long as it lasts.
    Silent,
}

impl OnStandby {
    /// All of them.
    pub const ALL: Words<OnStandby> = &[
        ("maint", "In maintenance, which no monitoring takes for a fault", OnStandby::Maint),
        ("drain", "A replica gets no new sessions and keeps its old ones", OnStandby::Drain),
        ("down", "Down", OnStandby::Down),
    ];
}

impl OnFailure {
    /// All of them.
    pub const ALL: Words<OnFailure> = &[
        ("maint", "In maintenance", OnFailure::Maint),
        ("down", "Down, which alarms", OnFailure::Down),
        ("drain", "No new sessions, and none is cut", OnFailure::Drain),
        ("silent", "Nothing: HAProxy keeps the last state", OnFailure::Silent),
    ];
}

/// A view: one line in the settings, one name of a socket. An option that it does not say is as for
/// the whole program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// What Patroni is asked.
    pub endpoint: Endpoint,
    /// The reply of a healthy node that does not serve the endpoint.
    pub on_standby: Option<OnStandby>,
    /// The reply of a broken node.
    pub on_failure: Option<OnFailure>,
    /// How long a node that was away has to be good before it is back.
    pub calm: Option<Duration>,
    /// The port that is probed, in the directory of Unix sockets; or that there is no probe.
    pub probe: Option<Probing>,
}

/// What a view says of its probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probing {
    /// There is none.
    No,
    /// This port.
    Port(NonZeroU16),
}

impl From<Endpoint> for View {
    fn from(endpoint: Endpoint) -> Self {
        View { endpoint, on_standby: None, on_failure: None, calm: None, probe: None }
    }
}

impl View {
    /// Takes note of a parameter that is an option. Says whether it is one.
    fn set(&mut self, parameter: &str) -> Result<bool, String> {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let was_there = match name {
            "on-standby" => self.on_standby.replace(word(name, value, OnStandby::ALL)?).is_some(),
            "on-failure" => self.on_failure.replace(word(name, value, OnFailure::ALL)?).is_some(),
            "calm" => {
                if self.endpoint.kind() != Kind::Reads {
                    return Err(format!(
                        "{} takes no calm; the endpoints for reads do, such as /replica",
                        self.endpoint
                    ));
                }
                if value.contains(char::is_whitespace) {
                    return Err(format!("{parameter}: write it without blanks"));
                }
                self.calm.replace(calm(value).map_err(|why| format!("{parameter}: {why}"))?).is_some()
            }
            "probe" => self.probe.replace(probing(value)?).is_some(),
            _ => return Ok(false),
        };
        if was_there { Err(format!("{name} is given twice")) } else { Ok(true) }
    }
}

/// What one node serves takes no `drain` for the others.
///
/// # Errors
/// Why not, for such an endpoint.
pub fn refuse_drain(endpoint: &Endpoint, on_standby: Option<OnStandby>) -> Result<(), String> {
    if on_standby == Some(OnStandby::Drain) && endpoint.is_for_one() {
        return Err(format!(
            "on-standby drain: a former primary would keep the sessions of {endpoint}, and nothing in them would be \
             written; give it to the views for reads alone, as in /replica?on-standby=drain"
        ));
    }
    Ok(())
}

/// A time of good answers.
///
/// # Errors
/// What is no duration, or out of range.
pub fn calm(text: &str) -> Result<Duration, String> {
    let calm = duration(text)?;
    if CALMS.contains(&calm) { Ok(calm) } else { Err("out of range: 0s to 1h".into()) }
}

fn probing(text: &str) -> Result<Probing, String> {
    match (text, text.parse()) {
        ("none", _) => Ok(Probing::No),
        (_, Ok(port)) => Ok(Probing::Port(port)),
        _ => Err(format!("probe={text}: write a port, such as 5432 or 6432, or none")),
    }
}

fn word<T: Copy>(name: &str, value: &str, words: Words<T>) -> Result<T, String> {
    let found = words.iter().find(|(word, _, _)| *word == value);
    found.map(|(_, _, word)| *word).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _, _)| *word).collect();
        format!("{name}={value}: write one of {}", words.join(", "))
    })
}

fn name_of<T: PartialEq>(value: &T, words: Words<T>) -> &'static str {
    words.iter().find(|(_, _, word)| word == value).map_or("", |(name, _, _)| name)
}

impl FromStr for View {
    type Err = String;

    /// Reads an endpoint as Patroni's manual writes it, with the view's options among its
    /// parameters.
    ///
    /// # Errors
    /// One line that says what is wrong and what is known.
    fn from_str(text: &str) -> Result<Self, String> {
        let is_short = |text: &str| match text.len() {
            0..=LENGTH_LIMIT => Ok(()),
            _ => Err(format!("too long: {LENGTH_LIMIT} bytes at most")),
        };
        is_short(text)?;
        let Some((path, query)) = text.split_once('?') else { return Ok(text.parse::<Endpoint>()?.into()) };
        let mut view = View::from(path.parse::<Endpoint>()?);
        let mut parameters = Vec::new();
        for parameter in query.split('&') {
            if !view.set(parameter)? {
                parameters.push(parameter);
            }
        }
        if !parameters.is_empty() {
            view.endpoint = format!("{path}?{}", parameters.join("&")).parse()?;
        }
        refuse_drain(&view.endpoint, view.on_standby)?;
        // `lag=1TB` is longer in bytes.
        is_short(&view.to_string())?;
        Ok(view)
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.endpoint.to_string();
        let probe = self.probe.map(|probe| match probe {
            Probing::No => "probe=none".to_owned(),
            Probing::Port(port) => format!("probe={port}"),
        });
        let options = [
            probe,
            self.on_standby.map(|value| format!("on-standby={}", name_of(&value, OnStandby::ALL))),
            self.on_failure.map(|value| format!("on-failure={}", name_of(&value, OnFailure::ALL))),
            self.calm.map(|calm| format!("calm={}", humantime::format_duration(calm).to_string().replace(' ', ""))),
        ];
        f.write_str(&endpoint)?;
        let mut mark = if endpoint.contains('?') { '&' } else { '?' };
        for option in options.iter().flatten() {
            write!(f, "{mark}{option}")?;
            mark = '&';
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_one_line_and_patroni_gets_its_part_of_it() {
        let table = [
            ("/replica", "/replica", "/replica"),
            ("/replica?on-standby=drain", "/replica?on-standby=drain", "/replica"),
            (
                "/replica?calm=90s&lag=16MB&on-failure=maint&replication_state=streaming&on-standby=drain&tag_a=b",
                "/replica?lag=16777216&replication_state=streaming&tag_a=b&on-standby=drain&on-failure=maint&calm=1m30s",
                "/replica?lag=16777216&tag_a=b",
            ),
            ("/async?calm=1500ms", "/async?calm=1s500ms", "/async"),
            ("/replica?calm=0s", "/replica?calm=0s", "/replica"),
            ("/replica?calm=1s&probe=6432", "/replica?probe=6432&calm=1s", "/replica"),
            ("/primary?probe=none", "/primary?probe=none", "/primary"),
            ("/primary?on-failure=silent", "/primary?on-failure=silent", "/primary"),
            ("/read-only?calm=1h", "/read-only?calm=1h", "/read-only"),
        ];
        for (written, shown, sent) in table {
            let view: View = written.parse().unwrap();
            assert_eq!((view.to_string().as_str(), view.endpoint.request_path().as_str()), (shown, sent));
            assert_eq!(shown.parse::<View>().unwrap(), view);
            assert!(!shown.contains([':', ' ']), "systemd takes no such name: {shown}");
        }
    }

    #[test]
    fn what_is_no_view_is_refused() {
        let table = [
            ("/replica?", "no parameter"),
            ("/replica?calm=10s&", "no parameter"),
            ("/replica?calm=10s&&lag=1MB", "no parameter"),
            ("/replica?Calm=10s", "no parameter"),
            ("/replica?calm", "calm: "),
            ("/replica?calm=", "calm=: "),
            ("/replica?calm=10", "calm=10: "),
            ("/replica?calm=-10s", "calm=-10s: "),
            ("/replica?calm=2h", "0s to 1h"),
            ("/replica?calm=99999999999999999999s", "calm=9"),
            ("/replica?calm=584942417355y", "calm=5"),
            ("/replica?calm=18446744073709551615s1000ms", "too long"),
            ("/replica?calm=1m 30s", "without blanks"),
            ("/replica?calm=10s&calm=10s", "calm is given twice"),
            ("/primary?calm=10s", "/primary takes no calm"),
            ("/health?calm=10s", "/health takes no calm"),
            ("/replica?on-standby=", "one of maint, drain, down"),
            ("/replica?on-standby=Drain", "one of maint, drain, down"),
            ("/replica?on-standby=silent", "one of maint, drain, down"),
            ("/replica?on-standby=drain&on-standby=maint", "on-standby is given twice"),
            ("/replica?on-failure=fail", "one of maint, down, drain, silent"),
            ("/replica?on_standby=drain", "no parameter"),
            ("/primary?on-standby=drain", "a former primary would keep"),
            ("/standby_leader?on-standby=drain", "a former primary would keep"),
            ("/primary?probe=", "write a port"),
            ("/primary?probe=0", "write a port"),
            ("/primary?probe=65536", "write a port"),
            ("/primary?probe=/run:5432", "write a port"),
            ("/primary?probe=5432&probe=none", "probe is given twice"),
            ("/replicas?calm=10s", "no such"),
            ("?calm=10s", "no such"),
            ("/replica?lag=16mb&calm=10s", "case counts"),
        ];
        let long = format!("/replica?tag_a={}", "x".repeat(241));
        long.parse::<View>().unwrap_err();
        long[..255].parse::<View>().unwrap();
        // Within the limit as it is written, and not as it is shown.
        format!("/replica?lag=1TB&tag_a={}", &long[16..250]).parse::<View>().unwrap_err();
        for (written, complaint) in table {
            let error = written.parse::<View>().expect_err(written);
            assert!(error.contains(complaint) && !error.contains('\n'), "{written}: {error}");
        }
    }
}
