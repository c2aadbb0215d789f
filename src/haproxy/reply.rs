//! The words that HAProxy reads (its configuration manual, `agent-check`).
//!
//! HAProxy keeps what is not said, and only the agent reverts what the agent said: `READY` alone
//! never reverts a `DOWN`, `DOWN` alone never leaves MAINT. So each full reply has one
//! administrative word, one operational word, the reason.

use std::fmt;
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::text::single_spaced;
use crate::verdict::{Sessions, Verdict};
use crate::view::{OnFailure, OnStandby, refuse_drain};

/// With its `\n`; HAProxy cuts a description at 127.
const LIMIT: usize = 120;

/// How a reply is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyFormat {
    /// An administrative and an operational word, and the reason: `MAINT UP # replica streaming`.
    Full,
    /// One word, as the Python daemon sent it: `READY` or `MAINT`.
    Plain,
}

/// How verdicts on one endpoint are replied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyPolicy {
    format: ReplyFormat,
    on_standby: OnStandby,
    on_failure: OnFailure,
}

/// What HAProxy is told: words that it obeys and, in the full format, a reason that it shows.
///
/// As text it is a line without its end: printable ASCII, at most 119 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    words: &'static str,
    reason: Option<String>,
}

impl ReplyPolicy {
    /// The policy for an endpoint. By default a broken node replies `maint` on an endpoint that
    /// only one node serves, like any other node there, and `down` on all others. In the plain
    /// format it is always `maint`.
    ///
    /// # Errors
    /// `plain` has no `UP` that could revert a `DOWN`, so it refuses `down`. What only one node serves
    /// refuses to drain the others.
    pub fn new(
        endpoint: &Endpoint,
        format: ReplyFormat,
        on_standby: Option<OnStandby>,
        on_failure: Option<OnFailure>,
    ) -> Result<Self, String> {
        let is_plain = format == ReplyFormat::Plain;
        if is_plain {
            let refuse = |option| Err(format!("--{option} down needs --words full: plain words can't undo a DOWN"));
            if on_standby == Some(OnStandby::Down) {
                return refuse("on-standby");
            }
            if on_failure == Some(OnFailure::Down) {
                return refuse("on-failure");
            }
        }
        refuse_drain(endpoint, on_standby)?;
        let default = if is_plain || endpoint.is_for_one() { OnFailure::Maint } else { OnFailure::Down };
        Ok(ReplyPolicy {
            format,
            on_standby: on_standby.unwrap_or(OnStandby::Maint),
            on_failure: on_failure.unwrap_or(default),
        })
    }

    fn standby_words(&self, sessions: Sessions) -> &'static str {
        match (self.on_standby, sessions) {
            (OnStandby::Drain, Sessions::MayStay) => "DRAIN UP",
            (OnStandby::Maint, _) | (OnStandby::Drain, Sessions::Cut) => "MAINT UP",
            (OnStandby::Down, _) => "READY DOWN",
        }
    }

    /// The reply to a check with this verdict; none where nothing is to be said.
    pub fn reply(&self, verdict: &Verdict) -> Option<Reply> {
        let words = match verdict {
            Verdict::Serve(_) => "READY UP",
            Verdict::StandBy(_, sessions) => self.standby_words(*sessions),
            Verdict::Calm(..) => self.standby_words(Sessions::MayStay),
            Verdict::Fail(_) => match self.on_failure {
                OnFailure::Maint => "MAINT DOWN",
                OnFailure::Down => "READY DOWN",
                OnFailure::Drain => "DRAIN UP",
                OnFailure::Silent => return None,
            },
            Verdict::Held(_, Sessions::Cut) => "MAINT UP",
            Verdict::Held(_, Sessions::MayStay) => "DRAIN UP",
        };
        Some(match self.format {
            ReplyFormat::Full => Reply { words, reason: Some(reason(verdict)) },
            ReplyFormat::Plain => Reply { words: words.split(' ').next().unwrap_or_default(), reason: None },
        })
    }
}

/// The reason, as it is at this moment.
fn reason(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Calm(why, left) => {
            let whole = Duration::from_secs(left.as_secs().saturating_add(u64::from(left.subsec_nanos() > 0)));
            clean(&format!("{why} in {}", humantime::format_duration(whole)))
        }
        other => clean(other.why()),
    }
}

impl Reply {
    /// The words that HAProxy obeys, such as `READY UP`.
    pub fn words(&self) -> &'static str {
        self.words
    }

    /// What is sent: the text and its `\n`, at most 120 bytes.
    pub fn line(&self) -> String {
        format!("{self}\n")
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(reason) = &self.reason else { return f.write_str(self.words) };
        let line = format!("{} # {reason}", self.words);
        f.write_str(line.get(..LIMIT - 1).unwrap_or(&line).trim_end())
    }
}

/// Words of printable ASCII with single spaces between them, and without what means something to
/// HAProxy's parser (`#`) or to those who cut `show stat`'s CSV at commas.
fn clean(text: &str) -> String {
    let printable: String = text
        .chars()
        .map(|c| match c {
            ',' | '"' | '#' => ' ',
            ' '..='~' => c,
            c if c.is_whitespace() => ' ',
            _ => '?',
        })
        .collect();
    single_spaced(&printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(policy: Result<ReplyPolicy, String>, verdict: &Verdict) -> String {
        let Some(reply) = policy.unwrap().reply(verdict) else { return "(silence)".into() };
        assert_eq!(reply.line().trim_end().split(" #").next(), Some(reply.words()));
        reply.line()
    }

    fn serve() -> Verdict {
        Verdict::Serve("primary timeline 3".into())
    }
    fn lags() -> Verdict {
        Verdict::StandBy("replica streaming".into(), Sessions::MayStay)
    }
    fn calm(left: u64) -> Verdict {
        Verdict::Calm("replica streaming, calm".into(), Duration::from_millis(left))
    }
    fn primary() -> Verdict {
        Verdict::stand_by("primary timeline 3")
    }
    fn held(sessions: Sessions) -> Verdict {
        Verdict::held("new disk", sessions)
    }
    fn fail() -> Verdict {
        Verdict::Fail("patroni: connection refused".into())
    }

    #[test]
    fn each_verdict_by_each_policy() {
        use {OnFailure as F, OnStandby as S, ReplyFormat::*};
        let replica = "/replica".parse().unwrap();
        let table = [
            (Full, None, None, serve(), "READY UP # primary timeline 3\n"),
            (Full, None, None, primary(), "MAINT UP # primary timeline 3\n"),
            (Full, None, None, lags(), "MAINT UP # replica streaming\n"),
            (Full, Some(S::Maint), None, lags(), "MAINT UP # replica streaming\n"),
            (Full, Some(S::Drain), None, lags(), "DRAIN UP # replica streaming\n"),
            (Full, None, None, calm(6_200), "MAINT UP # replica streaming calm in 7s\n"),
            (Full, Some(S::Drain), None, calm(90_000), "DRAIN UP # replica streaming calm in 1m 30s\n"),
            (Full, Some(S::Drain), None, primary(), "MAINT UP # primary timeline 3\n"),
            (Full, Some(S::Down), None, lags(), "READY DOWN # replica streaming\n"),
            (Full, Some(S::Down), None, primary(), "READY DOWN # primary timeline 3\n"),
            (Full, None, None, held(Sessions::Cut), "MAINT UP # held: new disk\n"),
            (Full, Some(S::Down), Some(F::Down), held(Sessions::MayStay), "DRAIN UP # held: new disk\n"),
            (Full, None, None, fail(), "READY DOWN # patroni: connection refused\n"),
            (Full, None, Some(F::Maint), fail(), "MAINT DOWN # patroni: connection refused\n"),
            (Full, None, Some(F::Down), fail(), "READY DOWN # patroni: connection refused\n"),
            (Full, None, Some(F::Drain), fail(), "DRAIN UP # patroni: connection refused\n"),
            (Full, None, Some(F::Silent), fail(), "(silence)"),
            (Plain, None, None, serve(), "READY\n"),
            (Plain, None, None, lags(), "MAINT\n"),
            (Plain, None, None, calm(1), "MAINT\n"),
            (Plain, Some(S::Drain), None, primary(), "MAINT\n"),
            (Plain, None, None, held(Sessions::Cut), "MAINT\n"),
            (Plain, None, None, held(Sessions::MayStay), "DRAIN\n"),
            (Plain, None, None, fail(), "MAINT\n"),
            (Plain, Some(S::Drain), None, lags(), "DRAIN\n"),
            (Plain, None, Some(F::Drain), fail(), "DRAIN\n"),
            (Plain, None, Some(F::Silent), fail(), "(silence)"),
        ];
        for (words, on_standby, on_failure, verdict, expected) in table {
            assert_eq!(line(ReplyPolicy::new(&replica, words, on_standby, on_failure), &verdict), expected);
        }
    }

    #[test]
    fn a_broken_node_is_maint_where_one_is_meant_and_down_where_it_is() {
        let table = [
            ("/primary", ReplyFormat::Full, "MAINT DOWN"),
            ("/master", ReplyFormat::Full, "MAINT DOWN"),
            ("/read-write", ReplyFormat::Full, "MAINT DOWN"),
            ("/leader", ReplyFormat::Full, "MAINT DOWN"),
            ("/standby-leader", ReplyFormat::Full, "MAINT DOWN"),
            ("/replica", ReplyFormat::Full, "READY DOWN"),
            ("/read-only", ReplyFormat::Full, "READY DOWN"),
            ("/health", ReplyFormat::Full, "READY DOWN"),
            ("/replica", ReplyFormat::Plain, "MAINT\n"),
        ];
        for (endpoint, words, expected) in table {
            let got = line(ReplyPolicy::new(&endpoint.parse().unwrap(), words, None, None), &fail());
            assert!(got.starts_with(expected), "{endpoint}: {got}");
        }
    }

    #[test]
    fn what_one_node_serves_refuses_to_drain_the_others() {
        for (endpoint, is_refused) in [
            ("/primary", true),
            ("/leader", true),
            ("/standby_leader", true),
            ("/read-only", false),
            ("/health", false),
        ] {
            let policy = |on_standby, on_failure| {
                ReplyPolicy::new(&endpoint.parse().unwrap(), ReplyFormat::Full, on_standby, on_failure)
            };
            assert_eq!(policy(Some(OnStandby::Drain), None).is_err(), is_refused, "{endpoint}");
            policy(None, Some(OnFailure::Drain)).unwrap();
        }
    }

    #[test]
    fn plain_words_refuse_down() {
        let replica = "/replica".parse().unwrap();
        ReplyPolicy::new(&replica, ReplyFormat::Plain, Some(OnStandby::Down), None).unwrap_err();
        ReplyPolicy::new(&replica, ReplyFormat::Plain, None, Some(OnFailure::Down)).unwrap_err();
    }

    #[test]
    fn whatever_patroni_said_the_line_is_one_that_haproxy_reads_rightly() {
        let primary = "/primary".parse().unwrap();
        let table = [
            ("a,b\"c\"#d", "READY UP # a b c d\n".to_owned()),
            ("up\r\nMAINT\0\u{1b}[31m\tx", "READY UP # up MAINT??[31m x\n".to_owned()),
            ("é\u{2028}中", "READY UP # ? ?\n".to_owned()),
            ("", "READY UP #\n".to_owned()),
            (&"x".repeat(500), format!("READY UP # {}\n", "x".repeat(LIMIT - 12))),
        ];
        for (why, expected) in table {
            let got = line(ReplyPolicy::new(&primary, ReplyFormat::Full, None, None), &Verdict::Serve(why.into()));
            assert_eq!(got, expected);
            assert!(got.len() <= LIMIT);
        }
        // Whatever a memory's file says of it.
        let calm = Verdict::Calm(" ".into(), Duration::MAX);
        let got = line(ReplyPolicy::new(&primary, ReplyFormat::Full, None, None), &calm);
        assert!(got.starts_with("MAINT UP # in 584542046090years "), "{got}");
    }
}
