//! The persistent service, as a binary, against a fake Patroni: every kind of answer, many clients,
//! silence, SIGTERM.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use lab::agent::{Agent, MOMENT, Manager, Port, check, check_after_sending, connect, read_reply};
use lab::fake_patroni::{Behaviour, FakePatroni, answer, node, primary, replica};
use lab::{any_port, await_that};

/// An agent of this Patroni that answers each check from an observation of its own, and waits
/// patiently for it.
fn agent(patroni: &FakePatroni, options: &[&str]) -> Agent {
    let url = patroni.url();
    let options: Vec<&str> =
        ["--patroni", &url, "--max-age", "0s"].into_iter().chain(options.iter().copied()).collect();
    Agent::listening(&options)
}

#[test]
fn each_answer_of_patroni_gives_the_reply_of_the_rule() {
    let redirect = b"HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:1/primary\r\n\r\n".to_vec();
    let table = [
        (node(200, "running", "primary"), "READY UP # primary timeline 3\n"),
        (node(200, "running", "master"), "READY UP # master timeline 3\n"),
        (node(503, "running", "replica"), "MAINT UP # replica timeline 3\n"),
        (node(200, "stopping", "primary"), "MAINT DOWN # postgres: stopping\n"),
        (node(200, "starting", "primary"), "MAINT DOWN # postgres: starting\n"),
        (node(200, "crashed", "primary"), "MAINT DOWN # postgres: crashed\n"),
        (node(200, "unknown", "primary"), "MAINT DOWN # postgres: state unknown\n"),
        (node(200, "running", "replica"), "MAINT UP # replica timeline 3 being promoted\n"),
        (node(503, "running", "primary"), "MAINT UP # primary without the leader lock\n"),
        (Behaviour::Close, "MAINT DOWN # patroni: answer cut short\n"),
        (answer(200, ""), "MAINT DOWN # patroni: answer cut short\n"),
        (answer(200, r#"{"state": "running", "ro"#), "MAINT DOWN # patroni: answer cut short\n"),
        (answer(200, "<html>READY</html>"), "MAINT DOWN # patroni: not JSON\n"),
        (answer(200, r#"["running"]"#), "MAINT DOWN # patroni: not a health check's JSON\n"),
        (Behaviour::Send(b"READY UP\n\n".to_vec()), "MAINT DOWN # patroni: not HTTP\n"),
        (Behaviour::Send(redirect), "MAINT DOWN # patroni: status 302\n"),
        (answer(404, "{}"), "MAINT DOWN # patroni: status 404\n"),
    ];
    let patroni = FakePatroni::new(primary());
    // A deadline that no machine is too slow for, and no grace, so that each answer counts.
    let agent = agent(&patroni, &["--deadline", "5s", "--grace", "0s"]);
    for (behaviour, reply) in table {
        patroni.now(behaviour.clone());
        assert_eq!(agent.check(), reply, "{behaviour:?}");
    }
    assert!(patroni.requests().iter().all(|line| line == "GET /primary HTTP/1.1"), "{:?}", patroni.requests());
}

#[test]
fn a_probe_with_parameters_is_asked_of_a_patroni_that_heeds_them() {
    let of = |version: &str| {
        let body = format!(r#"{{"state": "running", "role": "replica", "patroni": {{"version": "{version}"}}}}"#);
        format!("HTTP/1.0 200 OK\r\n\r\n{body}").into_bytes()
    };
    let sent = "/readiness?lag=1024&mode=write";
    let patroni = FakePatroni::new(Behaviour::Hang);
    let agent = agent(&patroni, &["--deadline", "5s", "--endpoint", "/readiness?mode=write&lag=1kB"]);
    for (status, health, reply) in [
        ("200 OK", of("4.1.5"), format!("READY UP # patroni says yes to {sent}\n")),
        ("200 OK", of("4.0.11"), format!("READY DOWN # patroni 4.0.11 is too old for {sent}: needs 4.1.0\n")),
        ("200 OK", b"HTTP/1.0 200 OK\r\n\r\n{}".to_vec(), "READY DOWN # patroni: not a health check's JSON\n".into()),
        ("503 Service Unavailable", of("4.1.5"), format!("READY DOWN # patroni says no to {sent}\n")),
    ] {
        patroni.now(Behaviour::Only(vec![
            ("/health", health),
            ("/readiness?lag=1024&mode=write", format!("HTTP/1.0 {status}\r\n\r\n").into_bytes()),
        ]));
        assert_eq!(agent.check(), reply);
    }
    assert_eq!(patroni.most_in_flight(), 1, "one request at a time");
    let asked = patroni.requests();
    assert_eq!(asked.iter().filter(|line| line.contains("/health")).count(), 3, "{asked:?}");
}

#[test]
fn a_patroni_that_is_not_there_or_hangs_is_a_failure_within_the_deadline() {
    let nobody = format!("http://127.0.0.1:{}", any_port());
    let agent = Agent::listening(&["--patroni", &nobody]);
    assert_eq!(agent.check(), "MAINT DOWN # patroni: connection refused\n");

    let patroni = FakePatroni::new(Behaviour::Hang);
    let agent = Agent::listening(&["--patroni", &patroni.url(), "--deadline", "300ms"]);
    let start = Instant::now();
    assert_eq!(agent.check(), "MAINT DOWN # patroni: no answer within 300ms\n");
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn proxy_variables_are_not_heeded() {
    let proxy = FakePatroni::new(primary());
    let patroni = FakePatroni::new(replica());
    let mut command = lab::agent::binary();
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, proxy.url());
    }
    let output = command.args(["--patroni", &patroni.url(), "--deadline", "5s"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "MAINT UP # replica timeline 3\n");
    assert_eq!(proxy.requests().len(), 0);
}

#[test]
fn many_clients_are_answered_from_few_requests_and_one_at_a_time() {
    const CLIENTS: usize = 64;
    const CHECKS: usize = 10;
    let patroni = FakePatroni::new(primary());
    patroni.delay(MOMENT);
    let agent = Agent::listening(&["--patroni", &patroni.url(), "--deadline", "5s"]);
    let address = agent.address;
    let start = Instant::now();
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| thread::spawn(move || (0..CHECKS).map(|_| check(address)).collect::<Vec<_>>())).collect();
    let replies: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(replies.len(), CLIENTS * CHECKS);
    assert!(replies.iter().all(|reply| reply == "READY UP # primary timeline 3\n"));
    assert_eq!(patroni.most_in_flight(), 1);
    // One begins at most each max-age, 100 ms.
    let most = (seconds * 10.0).ceil() as usize + 1;
    assert!(patroni.requests().len() <= most, "{} requests in {seconds} s", patroni.requests().len());
}

#[test]
fn two_sockets_for_one_endpoint_ask_once_and_other_endpoints_for_themselves() {
    let patroni = FakePatroni::new(primary());
    let second = format!("127.0.0.1:{}=/primary", any_port());
    let third = format!("127.0.0.1:{}=/replica?lag=1kB", any_port());
    let options = ["--patroni", &patroni.url(), "--deadline", "5s", "--grace", "20s", "--listen", &second];
    let agent = Agent::listening(&[&options[..], &["--listen", &third]].concat());
    let address = |text: &str| text.split('=').next().unwrap().parse().unwrap();
    assert_eq!(agent.check(), "READY UP # primary timeline 3\n");
    // What the one was told stands for the other.
    patroni.now(Behaviour::Close);
    assert_eq!(check(address(&second)), "READY UP # primary timeline 3\n");
    let asked = patroni.requests().len();
    assert!(check(address(&third)).starts_with("READY DOWN # patroni: "));
    assert_eq!(patroni.requests()[asked..], ["GET /replica?lag=1024 HTTP/1.1"]);
}

#[test]
fn a_patroni_that_freezes_keeps_its_word_for_the_grace_and_one_request_waits() {
    let patroni = FakePatroni::new(primary());
    let agent = agent(&patroni, &["--deadline", "100ms", "--grace", "2s"]);
    let asked = Instant::now();
    // The first may be late on a slow machine, and there is nothing earlier that could stand.
    await_that("READY", || agent.check() == "READY UP # primary timeline 3\n");
    patroni.now(Behaviour::Hang);
    await_that("a request that hangs", || {
        agent.check();
        patroni.in_flight() == 1
    });
    let outstanding = patroni.requests().len();
    let mut replies = vec![agent.check()];
    while replies.last().is_some_and(|reply| reply.starts_with("READY")) {
        replies.push(agent.check());
    }
    // The grace counts from an observation that began after `asked`.
    assert!(asked.elapsed() >= Duration::from_secs(2), "READY was taken back after {:?}", asked.elapsed());
    assert_eq!(replies.last().unwrap(), "MAINT DOWN # patroni: no answer within 100ms\n");
    assert_eq!(patroni.requests().len(), outstanding, "no second request while one hangs");
    patroni.now(primary());
    await_that("READY again", || agent.check() == "READY UP # primary timeline 3\n");
    assert_eq!(patroni.most_in_flight(), 1);
}

#[test]
fn news_counts_at_once_whatever_the_grace() {
    let patroni = FakePatroni::new(primary());
    let agent = agent(&patroni, &["--deadline", "5s", "--grace", "20s"]);
    assert_eq!(agent.check(), "READY UP # primary timeline 3\n");
    patroni.now(Behaviour::Close);
    assert_eq!(agent.check(), "READY UP # primary timeline 3\n", "silence is no news");
    patroni.now(node(200, "unknown", "primary"));
    assert_eq!(agent.check(), "READY UP # primary timeline 3\n", "nor is a query that failed");
    patroni.now(node(200, "stopping", "primary"));
    assert_eq!(agent.check(), "MAINT DOWN # postgres: stopping\n");
    patroni.now(primary());
    assert_eq!(agent.check(), "READY UP # primary timeline 3\n");
    patroni.now(answer(500, "{}"));
    assert_eq!(agent.check(), "MAINT DOWN # patroni: status 500\n");
}

#[test]
fn a_client_that_sends_much_before_it_reads_gets_its_answer_and_no_reset() {
    let patroni = FakePatroni::new(primary());
    let agent = Agent::listening(&["--patroni", &patroni.url(), "--deadline", "5s", "--max-age", "1s"]);
    // The first waits for Patroni, the others are answered before their input is there.
    for _ in 0..50 {
        assert_eq!(check_after_sending(agent.address, &[b'x'; 10_000]), "READY UP # primary timeline 3\n");
    }
}

#[test]
fn clients_that_leave_or_stay_silent_harm_nobody() {
    let patroni = FakePatroni::new(primary());
    let agent = Agent::listening(&["--patroni", &patroni.url(), "--deadline", "5s"]);
    let silent: Vec<_> = (0..50).map(|_| connect(agent.address)).collect();
    for _ in 0..50 {
        drop(connect(agent.address));
        let mut hasty = connect(agent.address);
        hasty.write_all(b"x").unwrap();
        hasty.shutdown(Shutdown::Write).unwrap();
    }
    assert_eq!(agent.check(), "READY UP # primary timeline 3\n");
    drop(silent);
}

#[test]
fn sigterm_answers_what_was_accepted_and_leaves_the_rest_to_the_next_process() {
    let patroni = FakePatroni::new(Behaviour::Hang);
    let url = patroni.url();
    let options = ["--patroni", &url, "--deadline", "5s"];
    let port = Port::bind();
    let manager = Manager::bind();
    let mut agent = port.agent(&manager, &options);
    manager.await_message("READY=1");
    manager.await_message("STATUS=/primary: nothing said yet (0 checks)");
    let clients: Vec<_> = (0..8).map(|_| connect(port.address)).collect();
    await_that("all eight accepted", || port.backlog() == 0);
    agent.process.signal(Signal::TERM);
    manager.await_message("STOPPING=1");
    let late = connect(port.address);
    patroni.now(primary());
    for client in clients {
        assert_eq!(read_reply(client), "READY UP # primary timeline 3\n");
    }
    assert_eq!(agent.process.wait().code(), Some(0));
    assert_eq!(port.backlog(), 1);
    let _next = port.agent(&manager, &options);
    assert_eq!(read_reply(late), "READY UP # primary timeline 3\n");
}

#[test]
fn a_burst_of_checks_finds_room_in_the_backlog() {
    let patroni = FakePatroni::new(primary());
    let agent = agent(&patroni, &["--deadline", "5s"]);
    agent.process.signal(Signal::STOP);
    // More than the 128 that the standard library asks for.
    let clients: Vec<_> = (0..300).map(|_| TcpStream::connect_timeout(&agent.address, MOMENT * 10).unwrap()).collect();
    agent.process.signal(Signal::CONT);
    for client in clients {
        assert_eq!(read_reply(client), "READY UP # primary timeline 3\n");
    }
}

#[test]
fn restarts_lose_no_check() {
    let patroni = FakePatroni::new(primary());
    let url = patroni.url();
    let port = Port::bind();
    let manager = Manager::bind();
    let (address, done) = (port.address, Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let done = Arc::clone(&done);
            thread::spawn(move || {
                let mut next = || {
                    thread::sleep(Duration::from_millis(5));
                    (!done.load(Ordering::Relaxed)).then(|| check(address))
                };
                let replies = std::iter::from_fn(&mut next);
                replies.map(|reply| assert_eq!(reply, "READY UP # primary timeline 3\n")).count()
            })
        })
        .collect();
    for _ in 0..20 {
        let mut agent = port.agent(&manager, &["--patroni", &url, "--deadline", "5s"]);
        manager.await_message("READY=1");
        // It has answered somebody, or will have by the time it ends.
        thread::sleep(MOMENT);
        agent.process.signal(Signal::TERM);
        assert_eq!(agent.process.wait().code(), Some(0));
    }
    let _last = port.agent(&manager, &["--patroni", &url, "--deadline", "5s"]);
    done.store(true, Ordering::Relaxed);
    let checks: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(checks > 20, "{checks} checks");
}

#[test]
fn systemd_is_told_what_was_said_last_and_that_the_loop_turns() {
    let patroni = FakePatroni::new(primary());
    let url = patroni.url();
    let port = Port::bind();
    let manager = Manager::bind();
    let mut command = port.command(&manager, &["--patroni", &url, "--deadline", "5s", "--max-age", "0s"]);
    let agent = Agent::start(command.env("WATCHDOG_USEC", "100000"), port.address);
    manager.await_message("READY=1");
    agent.check();
    manager.await_message("WATCHDOG=1");
    manager.await_message("STATUS=/primary: READY UP # primary timeline 3 (1 checks)");
    // A stopped loop gives no sign of life.
    agent.process.signal(Signal::STOP);
    manager.await_silence(Duration::from_millis(500));
    agent.process.signal(Signal::CONT);
    manager.await_message("WATCHDOG=1");
    patroni.now(replica());
    agent.check();
    manager.await_message("STATUS=/primary: MAINT UP # replica timeline 3 (2 checks)");
}

#[test]
fn a_change_of_verdict_is_logged_once_and_a_check_is_not() {
    let patroni = FakePatroni::new(primary());
    let agent = agent(&patroni, &["--deadline", "5s"]);
    (0..5).for_each(|_| drop(agent.check()));
    patroni.now(replica());
    (0..5).for_each(|_| drop(agent.check()));
    let log = "patroni-check: /primary -> READY UP # primary timeline 3\n\
               patroni-check: /primary -> MAINT UP # replica timeline 3\n";
    assert_eq!(agent.process.output(), log);
}
