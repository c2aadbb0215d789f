//! What HAProxy reads: the words of a reply, and a configuration for the members of a cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use patroni_check::cli::{Command, CommandLine};
use patroni_check::endpoint::Endpoint;
use patroni_check::haproxy::config_json::config_json;
use patroni_check::haproxy::config_text::{Choices, config_text};
use patroni_check::haproxy::membership::{Absent, Membership};
use patroni_check::haproxy::reply::{ReplyFormat, ReplyPolicy};
use patroni_check::patroni::body::Cluster;
use patroni_check::verdict::{Sessions, Verdict};
use patroni_check::view::{OnFailure, OnStandby};
use serde_json::Value;

/// Whatever a reason has in it, the line keeps its bounds, HAProxy hears two words of it, and the reason
/// that it shows is told alike again.
pub fn words(why: &str) {
    let endpoint: Endpoint = "/replica".parse().expect("a known endpoint");
    let why = || why.to_owned();
    let mut verdicts = vec![Verdict::Serve(why()), Verdict::Fail(why())];
    verdicts.extend([Sessions::Cut, Sessions::MayStay].map(|sessions| Verdict::StandBy(why(), sessions)));
    verdicts.extend([Sessions::Cut, Sessions::MayStay].map(|sessions| Verdict::held(&why(), sessions)));
    verdicts.extend(
        [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(3600), Duration::MAX]
            .map(|left| Verdict::Calm(why(), left)),
    );
    for on_standby in OnStandby::ALL.iter().map(|(_, _, word)| *word) {
        for on_failure in OnFailure::ALL.iter().map(|(_, _, word)| *word) {
            let policy = |format| ReplyPolicy::new(&endpoint, format, Some(on_standby), Some(on_failure));
            let full = policy(ReplyFormat::Full).expect("for reads all go together");
            let plain = policy(ReplyFormat::Plain);
            assert_eq!(plain.is_err(), on_standby == OnStandby::Down || on_failure == OnFailure::Down);
            for verdict in &verdicts {
                let is_silent = matches!(verdict, Verdict::Fail(_)) && on_failure == OnFailure::Silent;
                let Some(reply) = full.reply(verdict) else {
                    assert!(is_silent, "{verdict:?}");
                    continue;
                };
                let line = reply.line();
                let heard = bounded(&line);
                assert!(
                    !is_silent && heard.administrative == reply.words().split_once(' ').expect("two").0,
                    "{line:?}"
                );
                may_be_said(verdict, on_standby, on_failure, &heard);
                if let Ok(Some(word)) = plain.as_ref().map(|policy| policy.reply(verdict)) {
                    assert_eq!(word.line(), format!("{}\n", heard.administrative));
                }
                let again = full.reply(&Verdict::Serve(heard.reason.to_owned())).expect("never silent").line();
                let serves = matches!(verdict, Verdict::Serve(_));
                assert!(!serves || again == line, "{line:?} becomes {again:?}");
            }
        }
    }
}

/// What HAProxy hears.
struct Heard<'a> {
    administrative: &'a str,
    operational: &'a str,
    reason: &'a str,
}

/// What it hears of a line, which keeps the bounds of the full format.
pub(super) fn bounded_reply(line: &str) -> (&str, &str) {
    let heard = bounded(line);
    (heard.administrative, heard.operational)
}

/// Word by word as HAProxy does it (`tcpcheck.c`, `tcpcheck_agent_expect_check`), where the order does not
/// count; here it does.
fn bounded(line: &str) -> Heard<'_> {
    assert!(line.len() <= 120 && line.matches('\n').count() == 1, "{line:?}");
    let text = line.strip_suffix('\n').unwrap_or_else(|| panic!("{line:?} has no end"));
    assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
    assert!(!text.contains([',', '"']) && !text.ends_with(' ') && text.matches('#').count() == 1, "{line:?}");
    let (words, reason) = text.split_once(" #").unwrap_or_else(|| panic!("no sharp begins a word: {line:?}"));
    assert!(reason.is_empty() || reason.starts_with(' ') && !reason.starts_with("  "), "{line:?}");
    let (administrative, operational) = words.split_once(' ').unwrap_or_else(|| panic!("not two words: {line:?}"));
    assert!(["READY", "MAINT", "DRAIN"].contains(&administrative), "{line:?}");
    assert!(["UP", "DOWN"].contains(&operational), "{line:?}");
    Heard { administrative, operational, reason: reason.trim_start() }
}

/// The table of replies, by what it means for a client: only who serves gets new ones, and a session is
/// cut only where that was chosen.
fn may_be_said(verdict: &Verdict, on_standby: OnStandby, on_failure: OnFailure, heard: &Heard) {
    let takes_clients = (heard.administrative, heard.operational) == ("READY", "UP");
    assert_eq!(takes_clients, matches!(verdict, Verdict::Serve(_)), "{verdict:?}");
    let may_drain = match verdict {
        Verdict::Serve(_) => false,
        Verdict::StandBy(_, sessions) => on_standby == OnStandby::Drain && *sessions == Sessions::MayStay,
        Verdict::Calm(..) => on_standby == OnStandby::Drain,
        Verdict::Held(_, sessions) => *sessions == Sessions::MayStay,
        Verdict::Fail(_) => on_failure == OnFailure::Drain,
    };
    assert_eq!(heard.administrative == "DRAIN", may_drain, "{verdict:?}");
}

/// A line of choices, and under it what Patroni lists: whatever it is, HAProxy gets servers and comments
/// of it and nothing else, each server with a name of its own; templates get all members; and a list
/// that was written is read again, and changes nothing when it comes again.
pub fn members(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (line, body) = (String::from_utf8_lossy(&bytes[..end]), &bytes[(end + 1).min(bytes.len())..]);
    let Some(choices) = choices(&line) else { return };
    if let Some(read) = Membership::read(&String::from_utf8_lossy(body)) {
        written_is_read(&read, &choices);
    }
    let Some(cluster) = Cluster::read(body) else { return };
    let one = Cluster::read(br#"{"members": [{"name": "x", "host": "192.0.2.1", "port": 1}]}"#).expect("a list");
    let of_one = config_text(&one, &choices).expect("one that is reached");
    let Ok(text) = config_text(&cluster, &choices) else {
        assert!(config_json(&cluster, &choices).is_err());
        return;
    };
    assert_eq!(without_members(&text), without_members(&of_one));
    check_servers(&text, cluster.members.len());
    let json = config_json(&cluster, &choices).expect("as the text");
    assert!(json.bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~')), "{json:?}");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let mut names: Vec<_> = ["members", "left_out"].iter().flat_map(|list| json[list].as_array()).flatten().collect();
    names.sort_by_key(|member| member["name"].as_str().map(str::to_owned));
    let mut expected: Vec<_> = cluster.members.iter().map(|member| member.name.as_str()).collect();
    expected.sort_unstable();
    assert_eq!(names.iter().filter_map(|member| member["name"].as_str()).collect::<Vec<_>>(), expected);
    let update = |known: &Membership, absent: &Absent| {
        known.update(&cluster, choices.server_port, absent, 1000, Duration::from_secs(60))
    };
    let Ok(first) = update(&Membership::default(), &Absent::new()) else { return };
    assert!(first.absent.is_empty() && first.gone.is_empty() && first.new.len() == first.membership.count());
    written_is_read(&first.membership, &choices);
    let second = update(&first.membership, &first.absent).expect("the same list");
    assert_eq!((&second.membership, second.absent.len()), (&first.membership, 0));
    assert!(second.new.is_empty() && second.gone.is_empty() && second.left_out == first.left_out, "{second:?}");
}

/// What these words choose, as far as it goes together.
fn choices(line: &str) -> Option<Choices> {
    const NAMES: [&str; 9] = [
        "name",
        "read-write",
        "read-only",
        "resolvers",
        "stats",
        "stats-socket",
        "server-port",
        "fallback",
        "http-port",
    ];
    let is_one = |word: &&str| {
        let name = word.strip_prefix("--").and_then(|word| word.split_once('=')).map(|(name, _)| name);
        matches!(*word, "--http" | "--section") || name.is_some_and(|name| NAMES.contains(&name))
    };
    let words: Vec<_> = ["haproxy-config"].into_iter().chain(line.split(' ').filter(is_one)).collect();
    let Some(Command::HaproxyConfig(order)) = CommandLine::parse(&words).ok()?.command else { return None };
    order.choices.check().ok()?;
    Some(order.choices)
}

/// What no list of members has any say in.
fn without_members(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with("    server ") && !is_comment(line)).collect()
}

fn is_comment(line: &str) -> bool {
    line.trim_start_matches(' ').starts_with('#')
}

fn check_servers(text: &str, count: usize) {
    for section in text.split("\nlisten ").skip(1) {
        let mut names = BTreeSet::new();
        for line in section.lines().filter(|line| !is_comment(line)) {
            let Some(server) = line.strip_prefix("    server ") else { continue };
            let words: Vec<_> = server.split(' ').collect();
            let is_known = matches!(words[..], [_, _]) || matches!(words[..], [_, _, "track", _]);
            assert!(is_known && server.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
            assert!(!words[0].is_empty() && words[0].chars().all(is_plain) && names.insert(words[0]), "{line:?}");
            let (host, port) = words[1].rsplit_once(':').expect("a port");
            assert!(port.parse::<u16>().is_ok_and(|port| port > 0), "{line:?}");
            assert!(host.chars().all(|c| is_plain(c) || "[]".contains(c)), "{line:?}");
        }
        assert!(names.len() <= 2 * count, "{section}");
    }
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
}

fn written_is_read(membership: &Membership, choices: &Choices) {
    if let Ok(text) = membership.config_text(choices) {
        assert_eq!(Membership::read(&text).as_ref(), Some(membership));
        check_servers(&text, membership.count());
    }
}
