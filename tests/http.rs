//! Checks by HTTP: statuses and bodies, the same answers and the same rate as for the agent-check, and
//! clients that no load balancer is.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::Duration;

use lab::agent::{Agent, MOMENT, check, check_after_sending, connect, read_reply};
use lab::fake_patroni::{Behaviour, FakePatroni, answer, node, primary, replica};
use lab::{any_port, await_that, requires};
use rustix::process::Signal;

const READY: &str = "READY UP # primary timeline 3\n";

/// A whole response with this status and body.
fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
    )
}

fn ok(body: &str) -> String {
    response("200 OK", body)
}

fn unavailable(body: &str) -> String {
    response("503 Service Unavailable", body)
}

fn ask(address: SocketAddr, request: &str) -> String {
    check_after_sending(address, request.as_bytes())
}

fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: db1:5559\r\n\r\n"))
}

/// An agent with an http socket, and one of the agent-check beside it.
fn agent_and_http(patroni: &FakePatroni, options: &[&str]) -> (Agent, SocketAddr) {
    let http = SocketAddr::from(([127, 0, 0, 1], any_port()));
    let listen = format!("{http}=http");
    let url = patroni.url();
    let all = [&["--patroni", &url, "--listen", &listen], options].concat();
    (Agent::listening(&all), http)
}

#[test]
fn each_verdict_is_200_or_503_with_the_line_of_the_agent() {
    let patroni = FakePatroni::new(primary());
    let directory = tempfile::tempdir().unwrap();
    let hold = directory.path().join("hold");
    let hold_file = hold.to_str().unwrap();
    let options = ["--deadline", "5s", "--max-age", "0s", "--grace", "0s", "--hold-file", hold_file];
    let (agent, http) = agent_and_http(&patroni, &options);
    assert_eq!(get(http, "/primary"), ok(READY));
    patroni.now(replica());
    assert_eq!(get(http, "/primary"), unavailable("MAINT UP # replica timeline 3\n"));
    patroni.now(node(503, "stopping", "primary"));
    assert_eq!(get(http, "/primary"), unavailable("MAINT DOWN # postgres: stopping\n"));
    patroni.now(Behaviour::Close);
    assert!(get(http, "/primary").starts_with("HTTP/1.1 503 "));
    patroni.now(primary());
    std::fs::write(&hold, "new disk\n").unwrap();
    assert_eq!(get(http, "/primary"), unavailable("MAINT UP # held: new disk\n"));
    assert_eq!(agent.check(), "MAINT UP # held: new disk\n");
}

#[test]
fn on_failure_changes_the_line_and_never_the_status() {
    let patroni = FakePatroni::new(node(503, "stopping", "primary"));
    let table = [
        (["--on-failure", "down"], "READY DOWN # postgres: stopping\n"),
        (["--on-failure", "silent"], ""),
        (["--words", "plain"], "MAINT\n"),
    ];
    for (option, body) in table {
        let (_agent, http) = agent_and_http(&patroni, &[&["--deadline", "5s"], &option[..]].concat());
        assert_eq!(get(http, "/primary"), unavailable(body), "{option:?}");
    }
}

#[test]
fn the_list_is_that_of_agent_send_and_all_else_is_400() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    // One that knows every parameter.
    let new = r#"{"state": "running", "role": "primary", "timeline": 3, "patroni": {"version": "4.1.5"}}"#;
    let patroni = FakePatroni::new(answer(200, new));
    let url = patroni.url();
    let options = ["--patroni", &url, "--deadline", "5s", "--max-age", "0s", "--also", "/health /replica?lag=1kB"];
    for activate in [&["--fdname=http"][..], &["--accept", "--fdname=http"]] {
        let agent = Agent::activated(activate, &options);
        for path in ["/", "/primary", "/health", "/replica?lag=1kB", "/replica?lag=1024", "http://db1:5559/health"] {
            assert!(get(agent.address, path).starts_with("HTTP/1.1 200 OK\r\n"), "{path}");
        }
        let table = [
            ("GET /replica HTTP/1.1\r\n\r\n", "not in PATRONI_CHECK_ALSO: /replica\n"),
            ("GET /replica?lag=2kB HTTP/1.1\r\n\r\n", "not in PATRONI_CHECK_ALSO: /replica?lag=2048\n"),
            ("GET /primary/ HTTP/1.1\r\n\r\n", "no such health check endpoint"),
            ("GET /%70rimary HTTP/1.1\r\n\r\n", "no such health check endpoint"),
            ("GET /patroni HTTP/1.1\r\n\r\n", "no such health check endpoint"),
            ("OPTIONS * HTTP/1.1\r\n\r\n", "no such health check endpoint"),
            ("POST /primary HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "the methods are GET"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "not HTTP"),
            ("GET /primary\r\n\r\n", "not HTTP"),
            ("\u{16}\u{3}\u{1}\u{2}", "not HTTP"),
            ("GET /primary HTTP/1.1\r\nHost", "the head has no end"),
        ];
        for (request, why) in table {
            let got = ask(agent.address, request);
            let is_right = got.starts_with("HTTP/1.1 400 Bad Request\r\n") && got.contains(why);
            assert!(is_right, "{request:?}: {got}");
        }
        assert_eq!(check(agent.address), "", "who says nothing is told nothing");
    }
}

#[test]
fn the_name_is_said_by_the_settings_where_systemd_does_not_pass_it() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(primary());
    let url = patroni.url();
    for activate in [&["--accept", "--fdname=connection"][..], &["--inetd", "--accept"]] {
        let options = ["--patroni", &url, "--deadline", "5s", "--connection", "http"];
        let agent = Agent::activated(activate, &options);
        assert_eq!(get(agent.address, "/primary"), ok(READY), "{activate:?}");
        let agent = Agent::activated(activate, &["--patroni", &url, "--deadline", "5s", "--connection", "/health"]);
        assert_eq!(agent.check(), READY, "{activate:?}");
    }
    assert!(patroni.requests().contains(&"GET /health HTTP/1.1".to_owned()));
}

#[test]
fn methods_and_versions_of_load_balancers() {
    let patroni = FakePatroni::new(primary());
    let (_agent, http) = agent_and_http(&patroni, &["--deadline", "5s"]);
    let head = ok(READY).replace(READY, "");
    let bad = get(http, "/nonsense");
    let bad_head = bad[..bad.find("\r\n\r\n").unwrap() + 4].to_owned();
    let table = [
        ("OPTIONS / HTTP/1.0\r\n\r\n", ok(READY)),
        ("OPTIONS /primary HTTP/1.1\r\nHost: x\r\n\r\n", ok(READY)),
        ("HEAD /primary HTTP/1.1\r\nHost: evil\r\nHost: worse\r\n\r\n", head),
        ("GET /primary HTTP/1.0\n\n", ok(READY)),
        ("HEAD /nonsense HTTP/1.1\r\n\r\n", bad_head.clone()),
        // A second request in the same packet, and a body, are read and not answered.
        ("GET /primary HTTP/1.1\r\n\r\nGET /primary HTTP/1.1\r\n\r\n", ok(READY)),
        ("GET /primary HTTP/1.1\r\nContent-Length: 100000\r\n\r\nx", ok(READY)),
        ("GET /primary HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", ok(READY)),
    ];
    for (request, expected) in table {
        assert_eq!(ask(http, request), expected, "{request:?}");
    }
}

#[test]
fn askers_of_both_kinds_share_one_answer_and_one_request() {
    let patroni = FakePatroni::new(primary());
    patroni.delay(Duration::from_millis(300));
    let (agent, http) = agent_and_http(&patroni, &["--deadline", "5s"]);
    thread::scope(|scope| {
        let by_http: Vec<_> = (0..10).map(|_| scope.spawn(|| get(http, "/primary"))).collect();
        let by_agent: Vec<_> = (0..10).map(|_| scope.spawn(|| agent.check())).collect();
        by_http.into_iter().for_each(|asker| assert_eq!(asker.join().unwrap(), ok(READY)));
        by_agent.into_iter().for_each(|asker| assert_eq!(asker.join().unwrap(), READY));
    });
    assert_eq!(patroni.most_in_flight(), 1);
    assert!(patroni.requests().len() <= 2, "{:?}", patroni.requests());
    // Silence: the grace is the same.
    patroni.now(Behaviour::Close);
    thread::sleep(Duration::from_millis(150));
    assert_eq!((get(http, "/primary"), agent.check()), (ok(READY), READY.to_owned()));
}

#[test]
fn a_slow_patroni_is_answered_for_at_the_deadline() {
    let patroni = FakePatroni::new(Behaviour::Hang);
    let (_agent, http) = agent_and_http(&patroni, &["--deadline", "50ms"]);
    assert_eq!(get(http, "/primary"), unavailable("MAINT DOWN # patroni: no answer within 50ms\n"));
}

#[test]
fn a_head_that_comes_byte_by_byte_is_answered_and_one_that_never_ends_is_bounded() {
    let patroni = FakePatroni::new(primary());
    let (_agent, http) = agent_and_http(&patroni, &["--deadline", "5s"]);
    let mut slow = connect(http);
    for byte in b"GET /primary HTTP/1.1\r\n\r\n" {
        slow.write_all(&[*byte]).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(read_reply(slow), ok(READY));
    let endless = format!("GET /primary HTTP/1.1\r\n{}", "X-Header: abcdefgh\r\n".repeat(2000));
    let got = ask(http, &endless);
    assert!(got.starts_with("HTTP/1.1 400 "), "{got}");
    let half = connect(http);
    (&half).write_all(b"GET /primary HTTP/1.1\r\n").unwrap();
    // Its time is up after 2 s.
    assert!(read_reply(half).contains("the head has no end"));
}

#[test]
fn who_asked_in_time_while_the_program_stood_still_is_answered() {
    if !requires(&["10000 descriptors"]) {
        return;
    }
    lab::raise_descriptors();
    let patroni = FakePatroni::new(primary());
    let (agent, http) = agent_and_http(&patroni, &["--deadline", "5s"]);
    // More than the loop is told of in one turn.
    let clients: Vec<_> = (0..1500).map(|_| connect(http)).collect();
    assert_eq!(get(http, "/primary"), ok(READY), "accepted behind them");
    agent.process.signal(Signal::STOP);
    for mut client in &clients {
        client.write_all(b"GET /primary HTTP/1.1\r\n\r\n").unwrap();
    }
    // A head's time limit is 2 s.
    thread::sleep(Duration::from_millis(2200));
    agent.process.signal(Signal::CONT);
    for client in clients {
        assert_eq!(read_reply(client), ok(READY));
    }
}

#[test]
fn who_was_accepted_and_asks_after_sigterm_hears_what_stands() {
    let patroni = FakePatroni::new(primary());
    let (mut agent, http) = agent_and_http(&patroni, &["--deadline", "2s", "--grace", "20s"]);
    let client = connect(http);
    assert_eq!(get(http, "/primary"), ok(READY), "accepted behind it");
    patroni.now(Behaviour::Hang);
    agent.process.signal(Signal::TERM);
    // Longer than an observation is fresh, so that it has to wait.
    thread::sleep(Duration::from_millis(500));
    (&client).write_all(b"GET /primary HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(read_reply(client), ok(READY));
    assert_eq!(agent.process.wait().code(), Some(0));
}

#[test]
fn five_thousand_silent_clients_and_resets_keep_nobody_from_an_answer() {
    if !requires(&["10000 descriptors"]) {
        return;
    }
    lab::raise_descriptors();
    let patroni = FakePatroni::new(primary());
    let (agent, http) = agent_and_http(&patroni, &["--deadline", "5s"]);
    let silent: Vec<_> = (0..5000).map(|_| connect(http)).collect();
    for (stage, bytes) in ["", "GET /pri", "GET /primary HTTP/1.1\r\n\r\n"].into_iter().enumerate() {
        for _ in 0..20 {
            let client = connect(http);
            (&client).write_all(bytes.as_bytes()).unwrap();
            // Closed with unread input or at once: a reset.
            let _ = client.shutdown(Shutdown::Both);
        }
        assert_eq!((get(http, "/primary"), agent.check()), (ok(READY), READY.to_owned()), "stage {stage}");
    }
    drop(silent);
    await_that("an answer", || get(http, "/primary") == ok(READY));
    thread::sleep(MOMENT);
    assert_eq!(patroni.most_in_flight(), 1);
}

#[test]
fn prometheus_is_told_of_both_kinds() {
    let patroni = FakePatroni::new(primary());
    let metrics = SocketAddr::from(([127, 0, 0, 1], any_port()));
    let listen = format!("{metrics}=metrics");
    let (agent, http) = agent_and_http(&patroni, &["--deadline", "5s", "--max-age", "0s", "--listen", &listen]);
    agent.check();
    get(http, "/primary");
    patroni.now(replica());
    get(http, "/primary");
    get(http, "/nonsense");
    let text = get(metrics, "/metrics");
    for line in [
        r#"patroni_check_answers_total{endpoint="/primary",reply="READY UP"} 1"#,
        r#"patroni_check_http_answers_total{endpoint="/primary",status="200"} 1"#,
        r#"patroni_check_http_answers_total{endpoint="/primary",status="503"} 1"#,
        "patroni_check_http_bad_requests_total 1",
    ] {
        assert!(text.lines().any(|candidate| candidate == line), "{line} is missing in:\n{text}");
    }
    assert!(ask(metrics, "POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert_eq!(ask(metrics, "HEAD /metrics HTTP/1.1\r\n\r\n").split("\r\n\r\n").nth(1), Some(""));
}
