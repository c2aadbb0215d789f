//! A Patroni that misbehaves.

use std::time::{Duration, Instant};

use lab::agent::Agent;

use lab::fake_patroni::Step::{Drip, Endless, Hang, Reset, Send};
use lab::fake_patroni::{Behaviour, FakePatroni, Step, answer, primary};
use lab::{PATIENCE, await_that};

use crate::footprint;

const HEAD: &str = "HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6\r\nContent-Type: application/json\r\n\r\n";
const GOOD: &str = r#"{"state": "running", "role": "primary", "timeline": 3}"#;

const NOT_JSON: &str = "patroni: not JSON";
const NOT_OURS: &str = "patroni: not a health check's JSON";
const NOT_HTTP: &str = "patroni: not HTTP";
const ODD: &str = "patroni: no state or role that a Patroni has";
const CUT: &str = "patroni: answer cut short";
const RESET: &str = "patroni: connection reset";
const LATE: &str = "patroni: no answer within";

/// What it does, and the reason that names it.
fn cases() -> Vec<(String, Behaviour, Vec<&'static str>)> {
    let mut cases = Vec::new();
    let mut add = |name: &str, behaviour: Behaviour, reasons: &[&'static str]| {
        cases.push((name.to_owned(), behaviour, reasons.to_vec()));
    };
    let script = |steps: &[Step]| Behaviour::Script(steps.to_vec());
    let text = |text: &str| Send(text.as_bytes().to_vec());
    let whole = || format!("{HEAD}{GOOD}");
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    let chunked = format!("{chunks}{:x}\r\n{GOOD}\r\n0\r\n", GOOD.len());

    // Slow, and without an end.
    add("a slow drip", script(&[Drip(whole().into_bytes(), Duration::from_millis(20))]), &[LATE]);
    add("an endless body", script(&[text(HEAD), Endless(vec![b' '; 8192])]), &["patroni: endless body"]);
    add(
        "an endless body of one string",
        script(&[text(HEAD), text("{\"state\":\""), Endless(vec![b'x'; 8192])]),
        &["patroni: endless body"],
    );
    add(
        "endless headers",
        script(&[text("HTTP/1.0 200 OK\r\n"), Endless(b"X-More: headers\r\n".to_vec())]),
        &[NOT_HTTP],
    );
    add("an endless header", script(&[text("HTTP/1.0 200 OK\r\nX: "), Endless(vec![b'x'; 8192])]), &[NOT_HTTP]);
    // Bounded by nobody but the whole.
    for (name, head, more) in [
        ("endless trailers", format!("{chunks}0\r\n"), "X-More: trailers\r\n"),
        ("endless trailers after a body", chunked.clone(), "X-More: trailers\r\n"),
        ("endless interim answers", String::new(), "HTTP/1.1 100 Continue\r\n\r\n"),
        ("endless early hints", String::new(), "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n"),
        ("endless chunks", chunks.clone(), "1;x=0123456789\r\n \r\n"),
    ] {
        add(name, script(&[text(&head), Endless(more.repeat(1000).into_bytes())]), &["patroni: endless", NOT_HTTP]);
    }
    add(
        "an endless trailer",
        script(&[text(&chunked), text("X: "), Endless(vec![b'x'; 8192])]),
        &["patroni: endless", CUT, NOT_HTTP],
    );
    add("an endless chunk's extension", script(&[text(&chunks), text("1;"), Endless(vec![b'x'; 8192])]), &[NOT_HTTP]);
    add("an endless status line", script(&[Endless(vec![b'x'; 8192])]), &[NOT_HTTP]);
    add("hangs before the headers", script(&[Hang]), &[LATE]);
    add("hangs in the headers", script(&[text("HTTP/1.0 200 OK\r\nServ"), Hang]), &[LATE]);
    add("hangs after the headers", script(&[text(HEAD), Hang]), &[LATE]);
    add("hangs in the body", script(&[text(HEAD), text(&GOOD[..20]), Hang]), &[LATE]);
    add("hangs after the body", script(&[text(HEAD), text(GOOD), Hang]), &[LATE]);

    // Cut off.
    for (stage, sent) in [
        ("at once", String::new()),
        ("in the status line", "HTTP/1.0 20".to_owned()),
        ("in the headers", "HTTP/1.0 200 OK\r\nServ".to_owned()),
        ("after the headers", HEAD.to_owned()),
        ("in the body", format!("{HEAD}{}", &GOOD[..20])),
        ("one byte before the end", format!("{HEAD}{}", &GOOD[..GOOD.len() - 1])),
    ] {
        add(&format!("closed {stage}"), script(&[text(&sent)]), &[CUT]);
        add(&format!("reset {stage}"), script(&[text(&sent), Reset]), &[CUT, RESET]);
    }

    // Not what Patroni sends.
    for (body, reason) in [
        ("<html><body>READY UP</body></html>", NOT_JSON),
        ("READY UP\n", NOT_JSON),
        ("\n\n", CUT),
        ("\0", NOT_JSON),
        ("\u{feff}{}", NOT_JSON),
        ("null", NOT_OURS),
        ("true", NOT_OURS),
        ("7", NOT_OURS),
        ("1e999", NOT_OURS),
        ("\"running\"", NOT_OURS),
        ("[]", NOT_OURS),
        ("[\"running\",\"primary\"]", NOT_OURS),
        ("{}", NOT_OURS),
        ("{\"state\":\"running\"}", NOT_OURS),
        ("{\"role\":\"primary\"}", NOT_OURS),
        ("{\"state\":\"running\",\"role\":\"primary\"", CUT),
        ("{\"state\":\"running\",\"role\":\"primary\",}", NOT_JSON),
        ("{\"state\":\"running\",\"role\":\"primary\"}}", NOT_JSON),
        ("{\"state\":\"running\",\"role\":\"primary\"}{\"state\":\"running\",\"role\":\"primary\"}", NOT_JSON),
        ("{\"state\":\"running\",\"role\":\"primary\"} READY", NOT_JSON),
        ("{'state':'running','role':'primary'}", NOT_JSON),
        ("{\"state\":\"running\",\"role\":\"replica\",\"role\":\"primary\"}", NOT_OURS),
        ("{\"state\":\"stopping\",\"state\":\"running\",\"role\":\"primary\"}", NOT_OURS),
        ("{\"State\":\"running\",\"Role\":\"primary\"}", NOT_OURS),
        ("{\"state\":\"Running\",\"role\":\"primary\"}", "postgres: Running"),
        ("{\"state\":\"running \",\"role\":\"primary\"}", "postgres: running"),
        ("{\"state\":\"running\\u0000\",\"role\":\"primary\"}", ODD),
        ("{\"state\":\"running\",\"role\":\"primary\\n\"}", ODD),
        ("{\"state\":\"running\",\"role\":\"pr\u{456}mary\"}", ODD),
    ] {
        add(&format!("the body {body:?}"), answer(200, body), &[reason]);
    }
    for value in ["null", "true", "7", "-1.5", "[\"running\"]", "{\"running\":true}"] {
        add(&format!("state {value}"), answer(200, &format!(r#"{{"state":{value},"role":"primary"}}"#)), &[NOT_OURS]);
        add(&format!("role {value}"), answer(200, &format!(r#"{{"state":"running","role":{value}}}"#)), &[NOT_OURS]);
    }
    for field in [r#""pause":null"#, r#""pause":"true""#, r#""cluster_unlocked":NaN"#] {
        add(field, answer(200, &format!(r#"{{"state":"running","role":"primary",{field}}}"#)), &[NOT_OURS]);
    }
    let deep = format!("{HEAD}{}{}", "[".repeat(100_000), "]".repeat(100_000));
    add("deep nesting", Behaviour::Send(deep.into_bytes()), &[NOT_OURS]);
    let utf16: Vec<u8> = GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect();
    add("UTF-16", Behaviour::Send([HEAD.as_bytes(), &utf16].concat()), &[NOT_JSON]);
    add(
        "not UTF-8",
        Behaviour::Send([HEAD.as_bytes(), b"{\"state\":\"running\",\"role\":\"\xff\"}"].concat()),
        &[NOT_JSON],
    );

    // Texts for those who read.
    for evil in ["\\nREADY UP", "\\r\\nREADY", "\\u001b]0;x\\u0007", "\\u0000", "\\u2028READY", &"x".repeat(100_000)] {
        add(
            &format!("state {}", &evil[..evil.len().min(20)]),
            answer(200, &format!(r#"{{"state":"{evil}","role":"primary"}}"#)),
            &[ODD],
        );
        add(
            &format!("role {}", &evil[..evil.len().min(20)]),
            answer(503, &format!(r#"{{"state":"running","role":"{evil}"}}"#)),
            &[ODD],
        );
    }
    for (evil, reason) in
        [("stopping # up ready", "postgres: stopping up ready"), ("a,up,\\\"ready\\\"", "postgres: a up ready")]
    {
        add(evil, answer(200, &format!(r#"{{"state":"{evil}","role":"primary"}}"#)), &[reason]);
    }

    // HTTP.
    for status in
        [201, 204, 206, 299, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 418, 429, 500, 501, 502, 504, 599]
    {
        let line = format!("HTTP/1.0 {status} X\r\nLocation: http://127.0.0.1:1/\r\n\r\n{GOOD}");
        let reason: &'static str = Box::leak(format!("patroni: status {status}").into_boxed_str());
        add(&format!("status {status}"), Behaviour::Send(line.into_bytes()), &[reason]);
    }
    for (name, bytes, reasons) in [
        ("status 100 alone", "HTTP/1.1 100 Continue\r\n\r\n".to_owned(), &[CUT, NOT_HTTP][..]),
        ("status 99", format!("HTTP/1.0 99 X\r\n\r\n{GOOD}"), &[NOT_HTTP]),
        ("status 2000", format!("HTTP/1.0 2000 X\r\n\r\n{GOOD}"), &[NOT_HTTP]),
        ("HTTP/0.9", GOOD.to_owned(), &[NOT_HTTP]),
        ("HTTP/2.0", format!("HTTP/2.0 200 OK\r\n\r\n{GOOD}"), &[NOT_HTTP]),
        ("another protocol", "220 mail ESMTP\r\n".to_owned(), &[NOT_HTTP]),
        ("a header without a colon", format!("HTTP/1.0 200 OK\r\nnonsense\r\n\r\n{GOOD}"), &[NOT_HTTP]),
        ("NUL in a header", format!("HTTP/1.0 200 OK\r\nX: a\0b\r\n\r\n{GOOD}"), &[NOT_HTTP]),
        ("too short a length", format!("HTTP/1.0 200 OK\r\nContent-Length: 20\r\n\r\n{GOOD}"), &[CUT]),
        ("too long a length", format!("HTTP/1.0 200 OK\r\nContent-Length: 2000\r\n\r\n{GOOD}"), &[CUT]),
        ("a length of no number", format!("HTTP/1.0 200 OK\r\nContent-Length: x\r\n\r\n{GOOD}"), &[NOT_HTTP]),
        (
            "two lengths",
            format!("HTTP/1.0 200 OK\r\nContent-Length: 54\r\nContent-Length: 5\r\n\r\n{GOOD}"),
            &[NOT_HTTP, CUT],
        ),
        ("chunks that are none", format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{GOOD}"), &[NOT_HTTP]),
        (
            "a chunk without an end",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n{GOOD}"),
            &[CUT],
        ),
        (
            "a huge chunk",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{GOOD}"),
            &[CUT, NOT_HTTP],
        ),
    ] {
        add(name, Behaviour::Send(bytes.into_bytes()), reasons);
    }
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3\x02\x00\x00\x00";
    for encoding in ["gzip", "deflate", "br"] {
        let head = format!("HTTP/1.0 200 OK\r\nContent-Encoding: {encoding}\r\n\r\n");
        add(&format!("compressed by {encoding}"), Behaviour::Send([head.as_bytes(), gzip].concat()), &[NOT_JSON]);
    }
    cases
}

/// What is wrong with a reply that should be a failure for one of these reasons, in a line that
/// HAProxy reads as such.
fn complaint(name: &str, reply: &str, reasons: &[&str]) -> Option<String> {
    let is_line = reply.len() <= 128 && reply.ends_with('\n') && reply.matches('\n').count() == 1;
    let is_printable = reply.trim_end().bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let reason = reply.strip_prefix("MAINT DOWN # ").unwrap_or("").trim_end();
    let is_named = reasons.iter().any(|wanted| reason.starts_with(wanted)) && !reason.contains(['#', ',', '"']);
    (!is_line || !is_printable || !is_named).then(|| format!("{name}: {reply:?}, wanted one of {reasons:?}"))
}

#[test]
fn the_persistent_service_names_each_and_keeps_nothing() {
    let patroni = FakePatroni::new(primary());
    let options = ["--patroni", &patroni.url(), "--max-age", "0s", "--grace", "0s", "--deadline", "1s"];
    let agent = Agent::listening(&options);
    let await_good = || {
        patroni.now(primary());
        // The request in flight ends, one answer is not enough, the next is.
        let replies: Vec<String> = (0..4).map(|_| agent.check()).collect();
        assert!(replies.iter().any(|reply| reply == "READY UP # primary timeline 3\n"), "{replies:?}");
    };
    await_good();
    let id = agent.process.id();
    let before = footprint(id);
    let cases = cases();
    let count = cases.len();
    let mut wrong = Vec::new();
    for (name, behaviour, reasons) in cases {
        patroni.now(behaviour);
        let start = Instant::now();
        let reply = agent.check();
        assert!(start.elapsed() < PATIENCE / 10, "{name}: {:?}", start.elapsed());
        wrong.extend(complaint(&name, &reply, &reasons));
        await_good();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    await_that("no more descriptors and threads than before", || {
        let now = footprint(id);
        now.0 <= before.0 && now.1 <= before.1
    });
    let after = footprint(id);
    println!("{count} cases; descriptors, threads, resident kB: {before:?} before, {after:?} after");
    // One body of a megabyte is read at a time.
    assert!(after.2 < before.2 + 4096, "{before:?} {after:?}");
}

#[test]
fn one_process_for_each_check_names_each() {
    let patroni = FakePatroni::new(primary());
    let url = patroni.url();
    let mut wrong = Vec::new();
    for (name, behaviour, reasons) in cases() {
        patroni.now(behaviour);
        let mut command = lab::agent::binary();
        let output = command.args(["--patroni", &url, "--deadline", "1s"]).output().unwrap();
        wrong.extend(complaint(&name, &String::from_utf8_lossy(&output.stdout), &reasons));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
        assert_eq!(output.status.code(), Some(0), "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    patroni.now(primary());
    let output = lab::agent::binary().args(["--patroni", &url, "--deadline", "5s"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "READY UP # primary timeline 3\n");
}

/// What else is good: HTTP and JSON allow it, and a Patroni of tomorrow or a proxy before it may
/// send it.
#[test]
fn what_is_odd_and_good_is_taken() {
    let patroni = FakePatroni::new(primary());
    let agent = Agent::listening(&["--patroni", &patroni.url(), "--max-age", "0s", "--deadline", "5s"]);
    let length = GOOD.len();
    let beside = |field: &str| format!("{HEAD}{}", GOOD.replace('{', &format!("{{{field}, ")));
    for answer in [
        format!("HTTP/1.0 200 OK\n\n{GOOD}"),
        format!("HTTP/1.0 200 \r\n\r\n{GOOD}"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nConnection: keep-alive\r\n\r\n{GOOD}"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{GOOD}\r\n0\r\n\r\n"),
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{GOOD}"),
        format!("{HEAD}  {}\n", GOOD.replace('{', "{ \"new\": {\"a\": [1e30, null]}, ")),
        // Tags are the operator's, and Python's JSON has more numbers than JSON.
        beside(r#""tags": {"a": Infinity, "b": -Infinity, "c": NaN, "d": "\"Infinity\\", "\ud800": 1e999}"#),
        beside(r#""tags": [true], "patroni": "4.0", "replication_state": "\u001b[31m", "dcs_last_seen": "now""#),
        beside(r#""patroni": {"version": 4, "name": "\udcff"}, "failsafe_mode_is_active": null"#),
        beside(&format!(r#""x": {}{}"#, "[".repeat(100_000), "]".repeat(100_000))),
    ] {
        patroni.now(Behaviour::Send(answer.clone().into_bytes()));
        assert_eq!(agent.check(), "READY UP # primary timeline 3\n", "{answer:.300}");
    }
}
