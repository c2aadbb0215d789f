//! What holds for every input, whatever it is: for the property tests and the fuzz targets.

mod configuration;
mod haproxy;
mod settings;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use patroni_check::cli::CommandLine;
use patroni_check::clock::Moment;
use patroni_check::endpoint::Endpoint;
use patroni_check::haproxy::reply::{ReplyFormat, ReplyPolicy};
use patroni_check::hold::text::{Hold, Standing};
use patroni_check::memory::Memory;
use patroni_check::memory::file::Directory;
pub use patroni_check::memory::file::MemoryFile;
use patroni_check::patroni::Answer;
use patroni_check::patroni::body::Body;
use patroni_check::verdict::{Judgement, Sessions, Verdict, judge};
use patroni_check::view::{CALMS, OnFailure, OnStandby, View};
use serde_json::value::RawValue;

pub use configuration::configuration;
pub use haproxy::{members, words};
pub use settings::settings;

use crate::replay::replay;
use haproxy::bounded_reply;

/// A text that is taken for an endpoint is one that can be sent and read again, and asks for
/// nothing else.
pub fn endpoint(text: &str) {
    let Ok(endpoint) = text.parse::<Endpoint>() else { return };
    let sent = endpoint.to_string();
    assert!(sent.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{text:?} is sent as {sent:?}");
    let path = sent.split('?').next().unwrap_or_default();
    assert!(
        text.starts_with(path) && path[1..].bytes().all(|byte| byte.is_ascii_lowercase() || b"-_".contains(&byte)),
        "{sent:?}"
    );
    assert!(sent.matches('?').count() <= 1, "{sent:?}");
    let again: Endpoint = sent.parse().unwrap_or_else(|e| panic!("{text:?} is sent as {sent:?}: {e}"));
    assert_eq!((again.to_string(), again), (sent, endpoint));
}

const ENDPOINTS: [&str; 8] =
    ["/primary", "/leader", "/standby-leader", "/replica?lag=1MB", "/read-only", "/sync", "/health", "/readiness"];

/// Whatever bytes Patroni answers, HAProxy reads one bounded line, and READY only for a node that
/// may have the traffic.
pub fn reply(which: u8, bytes: &[u8]) {
    let name = ENDPOINTS[usize::from(which) % ENDPOINTS.len()];
    let endpoint: Endpoint = name.parse().expect("a known endpoint");
    let observation = replay(bytes);
    let verdict = judge(&endpoint, &observation).verdict;
    let line = |format, on_failure| {
        let policy = ReplyPolicy::new(&endpoint, format, None, on_failure).expect("settings that go together");
        policy.reply(&verdict).map(|reply| reply.line())
    };
    let full = line(ReplyFormat::Full, None).expect("only silent says nothing");
    bounded_reply(&full);
    let words = full.split(" #").next().expect("a part before the sharp");
    assert!(["READY UP", "MAINT UP", "MAINT DOWN", "READY DOWN"].contains(&words), "{full:?}");
    let plain = line(ReplyFormat::Plain, None).expect("only silent says nothing");
    assert_eq!(plain, if words == "READY UP" { "READY\n" } else { "MAINT\n" });
    if words == "READY UP" {
        assert!(may_serve(name, bytes), "{name}: {full:?} for {:?}", String::from_utf8_lossy(bytes));
    } else {
        assert_eq!(line(ReplyFormat::Full, Some(OnFailure::Silent)).is_none(), words.ends_with("DOWN"), "{full:?}");
    }
}

/// Read anew and otherwise than the program does it: a status 200, and in the plain body the state
/// and a role that fits.
fn may_serve(endpoint: &str, bytes: &[u8]) -> bool {
    // Empty lines before the status are passed over (RFC 9112, 2.2).
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(bytes.len());
    let bytes = &bytes[start..];
    let text = String::from_utf8_lossy(bytes);
    let is_200 = text.split('\n').any(|line| line.starts_with("HTTP/1.") && line[8..].starts_with(" 200"));
    let Some(end) = bytes.windows(3).position(|w| w.ends_with(b"\n\n") || w == b"\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    // Where the body is not just the rest only the status can be told from here, and the words must
    // be in it somewhere.
    if head.contains("content-length") || head.contains("transfer-encoding") || head.contains(" 10") {
        return is_200;
    }
    if endpoint == "/readiness" {
        return is_200 && bytes.len() == end + 3;
    }
    // Python writes numbers that no parser of JSON alone reads. And what is not looked at may be what
    // no `Value` can hold, such as 1e999.
    let Ok(body) = std::str::from_utf8(&bytes[end + 3..]) else { return false };
    let body = ["-Infinity", "Infinity", "NaN"].iter().fold(body.to_owned(), |body, number| body.replace(number, "0"));
    let Ok(body) = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(&body) else { return false };
    let text = |name: &str| body.get(name).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let (state, role) = (text("state").unwrap_or_default(), text("role").unwrap_or_default());
    let fits = match endpoint {
        "/primary" => matches!(role.as_str(), "primary" | "master"),
        "/leader" => matches!(role.as_str(), "primary" | "master" | "standby_leader"),
        "/standby-leader" => role == "standby_leader",
        _ => true,
    };
    is_200 && state == "running" && fits
}

/// A descriptor name is the default view, a view, one of three words, or a complaint of one
/// line; what a check sends by agent-send is a view by the same rules, or a failure.
pub fn name(name: &str) {
    use patroni_check::config::ListenerRole;
    let config = CommandLine::parse(&[]).expect("the defaults").config;
    let default = ListenerRole::View(config.view.clone());
    match config.role_named(name) {
        Ok(ListenerRole::View(view)) if name.starts_with('/') => {
            assert_eq!(Ok(&view), name.parse().as_ref());
            check_view(&view);
        }
        Ok(ListenerRole::AgentSend) => assert_eq!(name, "agent-send"),
        Ok(ListenerRole::Http) => assert_eq!(name, "http"),
        Ok(ListenerRole::Metrics) => assert_eq!(name, "metrics"),
        Ok(role) => assert_eq!(role, default),
        Err(complaint) => {
            assert!(name.starts_with('/'), "{name:?}");
            assert!(!complaint.to_string().is_empty());
        }
    }
    // Without its end a line may be the beginning of another endpoint.
    let line = name.split_once('\n').map(|(line, _)| line.trim());
    match (patroni_check::haproxy::agent_send::requested_view(name.as_bytes(), &config.view), line) {
        (Ok(view), Some("")) => assert_eq!(view, config.view),
        (Ok(view), Some(line)) => assert_eq!(Ok(&view), line.parse().as_ref()),
        (Err(verdict), Some(line)) => {
            assert_eq!((verdict.word(), line.parse::<View>().is_err()), ("fail", true), "{name:?}")
        }
        (Ok(_), None) => panic!("{name:?} has no end and is taken for an endpoint"),
        (Err(verdict), None) => assert_eq!(verdict.word(), "fail", "{name:?}"),
    }
}

/// As it is written it is one word, and is read again; Patroni gets its own parameters of it, in their
/// order.
fn check_view(view: &View) {
    let shown = view.to_string();
    assert!(shown.bytes().all(|byte| byte.is_ascii_graphic() && !b":#\"".contains(&byte)), "{shown:?}");
    assert_eq!(shown.parse().as_ref(), Ok(view));
    let all: Vec<_> = shown.split(['?', '&']).collect();
    let ours = ["on-standby=", "on-failure=", "calm=", "probe=", "replication_state="];
    let is_patronis = |word: &&&str| !ours.iter().any(|ours| word.starts_with(ours));
    let sent = view.endpoint.request_path();
    assert_eq!(sent.split(['?', '&']).collect::<Vec<_>>(), all.iter().filter(is_patronis).copied().collect::<Vec<_>>());
    assert!(view.calm.is_none_or(|calm| CALMS.contains(&calm)), "{shown}");
    assert!(view.on_standby != Some(OnStandby::Drain) || !view.endpoint.is_for_one(), "{shown}");
}

/// Whatever a client sends by HTTP, it is a request for one endpoint, or a 400 of one short response.
pub fn http_head(bytes: &[u8]) {
    use patroni_check::http::Request;
    let default: View = "/primary".parse().expect("a known endpoint");
    match Request::read(bytes).and_then(|request| request.view(&default)) {
        Ok(endpoint) => {
            let text = String::from_utf8_lossy(bytes);
            let line = text.trim_start_matches(['\r', '\n']).lines().next().unwrap_or_default();
            let is_one = ["GET ", "HEAD ", "OPTIONS "].iter().any(|method| line.starts_with(method));
            assert!(is_one && line.contains(" HTTP/1."), "{line:?} asks for {endpoint}");
        }
        Err(response) => {
            let sent = String::from_utf8(response.to_bytes()).expect("text");
            let (head, body) = sent.split_once("\r\n\r\n").expect("a head");
            assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head:?}");
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head:?}");
            assert!(body.len() < 1000 && body.ends_with('\n') && body.lines().count() == 1, "{body:?}");
        }
    }
}

/// Whatever bytes are in a hold's file, it is a hold, until the one time that it says, if it says one.
pub fn hold(bytes: &[u8]) {
    let hold = Hold::read(bytes, None);
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text.lines().skip(1).map(str::trim).collect();
    let times: Vec<_> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("until "))
        .filter_map(|time| humantime::parse_rfc3339(time.trim_start()).ok()?.duration_since(UNIX_EPOCH).ok())
        .collect();
    for (wall, boot) in [(0, 0), (1_795_874_400, 5), (253_402_300_800, u64::MAX / 2)] {
        let now = Moment { wall: Duration::from_secs(wall), boot: Duration::from_secs(boot) };
        for boot_id in [None, Some("0123456789abcdef0123456789abcdef")] {
            let standing = hold.standing(now, boot_id);
            let may_be_over = times.len() == 1 && times[0] <= now.wall;
            assert!(standing != Standing::Over || may_be_over, "{text:?} is over at {wall}");
            let verdict = Verdict::Held(hold.why(standing), hold.sessions);
            let policy = ReplyPolicy::new(&"/replica".parse().expect("known"), ReplyFormat::Full, None, None);
            let line = policy.expect("settings that go together").reply(&verdict).expect("a word").line();
            let word = if hold.sessions == Sessions::Cut { "MAINT UP # held" } else { "DRAIN UP # held" };
            assert!(line.starts_with(word) && line.len() <= 120, "{text:?} is told as {line:?}");
        }
    }
    assert!(hold.sessions == Sessions::Cut || lines.contains(&"drain"), "{text:?} drains");
    assert!(!hold.reason.contains(char::is_control) && hold.reason.len() < 200, "{text:?}");
    // What is understood is written so that it is understood again. Half a character at its end is
    // not.
    if hold.reason.ends_with(char::REPLACEMENT_CHARACTER) {
        return;
    }
    let again = Hold::new(&hold.reason, hold.sessions, hold.end.clone());
    assert_eq!(Hold::read(again.text().as_bytes(), None), again);
}

/// A file that a memory is left in, and what is in it once something was learnt.
pub fn memory_file(directory: &Path) -> (MemoryFile, Vec<u8>) {
    let mut config = CommandLine::parse(&[]).expect("the defaults").config;
    config.runtime_directory = Some(directory.to_owned());
    let directory = Directory::of(&config).expect("a boot with an id").expect("a directory");
    let file = directory.file(&config.subject(&config.view));
    let mut memory = Memory::new(config.limits);
    let judge = |status, flags: &str| {
        let body = format!(r#"{{"state": "running", "role": "primary", "timeline": 3{flags}}}"#);
        let body = Body::read(body.as_bytes()).expect("a whole body");
        judge(&config.view.endpoint, &Ok(Answer { status, body, date: None }))
    };
    let now = Moment::now();
    memory.learn(now, now, judge(200, ""));
    memory.learn(now, now, judge(503, r#", "cluster_unlocked": true"#));
    memory.learn(now, now, Judgement::silence("patroni: connection refused".into()));
    let lock = file.try_lock().expect("a lock").expect("nobody has it");
    file.save(&memory, &lock).expect("a directory that takes it");
    let bytes = std::fs::read(file.path()).expect("what was written");
    (file, bytes)
}

/// Whatever bytes are in a memory's file, they are no memory, or one that grants nothing and of which
/// HAProxy is told one bounded line; and whatever bytes were told last, a verdict is told once.
pub fn memory(file: &MemoryFile, bytes: &[u8]) {
    std::fs::write(file.path(), bytes).expect("a directory that takes it");
    let now = Moment::now();
    match file.load() {
        Ok(None) => panic!("something was there"),
        Ok(Some(mut memory)) => {
            let says_serve = String::from_utf8_lossy(bytes).contains(r#""Serve""#);
            let policy = ReplyPolicy::new(&"/primary".parse().expect("known"), ReplyFormat::Full, None, None);
            let policy = policy.expect("settings that go together");
            let judgement = memory.learn(now, now, Judgement::silence("patroni: connection refused".into()));
            for verdict in memory.fresh_verdict(now).into_iter().chain([memory.verdict(now, &judgement)]) {
                assert!(says_serve || !matches!(verdict, Verdict::Serve(_)), "{bytes:?}");
                bounded_reply(&policy.reply(&verdict).expect("only silent says nothing").line());
            }
            let lock = file.try_lock().expect("a lock").expect("nobody has it");
            file.save(&memory, &lock).expect("a directory that takes it");
            assert_eq!(file.load(), Ok(Some(memory)));
        }
        Err(why) => assert!(!why.contains('\n') && why.ends_with("; it is not used"), "{why:?}"),
    }
    std::fs::write(file.path().with_extension("told"), bytes).expect("a directory that takes it");
    let view: View = "/primary".parse().expect("a known endpoint");
    let verdict = Verdict::Serve("primary timeline 3".into());
    let noted = file.note_told(&view, now, &verdict);
    assert!(noted.is_none_or(|noted| noted.before.as_ref() != Some(&verdict)), "{bytes:?}");
    assert!(file.note_told(&view, now, &verdict).is_none(), "{bytes:?}");
}
