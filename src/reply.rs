//! The words that HAProxy reads (its configuration manual, `agent-check`).
//!
//! HAProxy keeps what is not said, and only the agent reverts what the agent said: `READY` alone never reverts a `DOWN`,
//! `DOWN` alone never leaves MAINT. So each full reply has one administrative word, one operational word, the reason.

use clap::ValueEnum;

use crate::endpoint::Endpoint;
use crate::verdict::Verdict;

/// With its `\n`; HAProxy cuts a description at 127.
const LIMIT: usize = 120;

/// Which words to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Words {
    /// An administrative and an operational word, and the reason: `MAINT UP # replica streaming`.
    Full,
    /// One word, as the Python daemon sent it: `READY` or `MAINT`.
    Plain,
}

/// What a node says that is healthy but not meant for the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnStandby {
    /// In maintenance, which no monitoring takes for a fault. Cuts sessions under `on-marked-down shutdown-sessions`.
    Maint,
    /// No new sessions; never cuts one.
    Drain,
    /// Down.
    Down,
}

/// What a node says where something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
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

/// How verdicts on one endpoint are put into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vocabulary {
    words: Words,
    on_standby: OnStandby,
    on_failure: OnFailure,
}

impl Vocabulary {
    /// The words for an endpoint. Unless told otherwise a broken node is, where one node of the cluster is meant, like a
    /// healthy standby not the one (`maint`), and where the node is meant to serve, DOWN.
    ///
    /// # Errors
    /// `plain` has no `UP` that could revert a `DOWN`, so it refuses `down`.
    pub fn new(
        endpoint: &Endpoint,
        words: Words,
        on_standby: Option<OnStandby>,
        on_failure: Option<OnFailure>,
    ) -> Result<Self, String> {
        if words == Words::Plain {
            let refuse = |option| Err(format!("--{option} down needs --words full: plain words can't undo a DOWN"));
            if on_standby == Some(OnStandby::Down) {
                return refuse("on-standby");
            }
            if on_failure == Some(OnFailure::Down) {
                return refuse("on-failure");
            }
        }
        let otherwise = if words == Words::Plain || endpoint.is_for_one() { OnFailure::Maint } else { OnFailure::Down };
        let on_standby = on_standby.unwrap_or(OnStandby::Maint);
        Ok(Vocabulary { words, on_standby, on_failure: on_failure.unwrap_or(otherwise) })
    }

    /// The line for a verdict, ended by `\n`, at most 120 bytes of printable ASCII; none where nothing is to be said.
    pub fn reply(&self, verdict: &Verdict) -> Option<String> {
        let (words, why) = match verdict {
            Verdict::Serve(why) => ("READY UP", why),
            Verdict::StandBy(why) => match self.on_standby {
                OnStandby::Maint => ("MAINT UP", why),
                OnStandby::Drain => ("DRAIN UP", why),
                OnStandby::Down => ("READY DOWN", why),
            },
            Verdict::Fail(why) => match self.on_failure {
                OnFailure::Maint => ("MAINT DOWN", why),
                OnFailure::Down => ("READY DOWN", why),
                OnFailure::Drain => ("DRAIN UP", why),
                OnFailure::Silent => return None,
            },
            Verdict::Held(why) => ("MAINT UP", why),
        };
        let line = match self.words {
            Words::Full => format!("{words} # {}", clean(why)),
            Words::Plain => words.split(' ').next().unwrap_or_default().to_owned(),
        };
        Some(format!("{}\n", line[..line.len().min(LIMIT - 1)].trim_end()))
    }
}

/// Words of printable ASCII with single spaces between them, and without what means something to HAProxy's parser
/// (`#`) or to those who cut `show stat`'s CSV at commas.
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
    printable.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Text for people, from those who need not be trusted: in one line, without what a terminal obeys or what nobody sees, such as C1
/// controls, directions of writing and spaces of no width. Rust's `escape_debug` knows them all.
pub fn printable(text: &str) -> String {
    let printable = |c: char| match c {
        '"' | '\'' | '\\' => c,
        c if c.is_whitespace() => ' ',
        c if c.escape_debug().len() > 1 => '?',
        c => c,
    };
    text.chars().map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(vocabulary: Result<Vocabulary, String>, verdict: &Verdict) -> String {
        vocabulary.unwrap().reply(verdict).unwrap_or_else(|| "(silence)".into())
    }

    fn serve() -> Verdict {
        Verdict::Serve("primary timeline 3".into())
    }
    fn stand_by() -> Verdict {
        Verdict::StandBy("replica streaming".into())
    }
    fn fail() -> Verdict {
        Verdict::Fail("patroni: connection refused".into())
    }

    #[test]
    fn each_verdict_in_each_vocabulary() {
        use {OnFailure as F, OnStandby as S, Words::*};
        let primary = "/primary".parse().unwrap();
        let table = [
            (Full, None, None, serve(), "READY UP # primary timeline 3\n"),
            (Full, None, None, stand_by(), "MAINT UP # replica streaming\n"),
            (Full, Some(S::Maint), None, stand_by(), "MAINT UP # replica streaming\n"),
            (Full, Some(S::Drain), None, stand_by(), "DRAIN UP # replica streaming\n"),
            (Full, Some(S::Down), None, stand_by(), "READY DOWN # replica streaming\n"),
            (Full, None, None, fail(), "MAINT DOWN # patroni: connection refused\n"),
            (Full, None, Some(F::Maint), fail(), "MAINT DOWN # patroni: connection refused\n"),
            (Full, None, Some(F::Down), fail(), "READY DOWN # patroni: connection refused\n"),
            (Full, None, Some(F::Drain), fail(), "DRAIN UP # patroni: connection refused\n"),
            (Full, None, Some(F::Silent), fail(), "(silence)"),
            (Plain, None, None, serve(), "READY\n"),
            (Plain, None, None, stand_by(), "MAINT\n"),
            (Plain, None, None, fail(), "MAINT\n"),
            (Plain, Some(S::Drain), None, stand_by(), "DRAIN\n"),
            (Plain, None, Some(F::Drain), fail(), "DRAIN\n"),
            (Plain, None, Some(F::Silent), fail(), "(silence)"),
        ];
        for (words, on_standby, on_failure, verdict, expected) in table {
            assert_eq!(line(Vocabulary::new(&primary, words, on_standby, on_failure), &verdict), expected);
        }
    }

    #[test]
    fn a_broken_node_is_maint_where_one_is_meant_and_down_where_it_is() {
        let table = [
            ("/primary", Words::Full, "MAINT DOWN"),
            ("/master", Words::Full, "MAINT DOWN"),
            ("/read-write", Words::Full, "MAINT DOWN"),
            ("/leader", Words::Full, "MAINT DOWN"),
            ("/standby-leader", Words::Full, "MAINT DOWN"),
            ("/replica", Words::Full, "READY DOWN"),
            ("/read-only", Words::Full, "READY DOWN"),
            ("/health", Words::Full, "READY DOWN"),
            ("/replica", Words::Plain, "MAINT\n"),
        ];
        for (endpoint, words, expected) in table {
            let got = line(Vocabulary::new(&endpoint.parse().unwrap(), words, None, None), &fail());
            assert!(got.starts_with(expected), "{endpoint}: {got}");
        }
    }

    #[test]
    fn people_are_shown_what_they_can_read_and_nothing_that_a_terminal_obeys() {
        let table = [
            ("für \"new\" d'isk\\", "für \"new\" d'isk\\"),
            ("диск 中文 ✓", "диск 中文 ✓"),
            ("a\u{9b}31mb\u{1b}]0;c\u{7}\u{7f}\0", "a?31mb?]0;c???"),
            ("a\nOK: b\r\tc\u{2028}d\u{85}e", "a OK: b  c d e"),
            ("a\u{202e}b\u{2066}c\u{200b}d\u{feff}e\u{ad}f\u{e0041}g", "a?b?c?d?e?f?g"),
        ];
        for (text, shown) in table {
            assert_eq!(printable(text), shown, "{text:?}");
        }
    }

    #[test]
    fn plain_words_refuse_down() {
        let replica = "/replica".parse().unwrap();
        Vocabulary::new(&replica, Words::Plain, Some(OnStandby::Down), None).unwrap_err();
        Vocabulary::new(&replica, Words::Plain, None, Some(OnFailure::Down)).unwrap_err();
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
            let got = line(Vocabulary::new(&primary, Words::Full, None, None), &Verdict::Serve(why.into()));
            assert_eq!(got, expected);
            assert!(got.len() <= LIMIT);
        }
    }
}
