//! Views: endpoints with options of their own, over both ways to run.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use lab::agent::{Agent, binary, check, check_after_sending};
use lab::fake_patroni::{Behaviour, FakePatroni, answer};
use lab::{any_port, await_that, requires};

/// A Patroni that knows every parameter says this of a replica.
fn replica(status: u16, state: &str) -> Behaviour {
    answer(
        status,
        &format!(
            r#"{{"state": "running", "role": "replica", "replication_state": "{state}", "patroni": {{"version": "4.1.5"}}}}"#
        ),
    )
}
fn primary() -> Behaviour {
    answer(503, r#"{"state": "running", "role": "primary", "timeline": 3, "patroni": {"version": "4.1.5"}}"#)
}
fn stopping() -> Behaviour {
    answer(503, r#"{"state": "stopping", "role": "replica", "patroni": {"version": "4.1.5"}}"#)
}

const READY: &str = "READY UP # replica streaming\n";

/// One agent for each of these views, with a runtime directory: the service, or one process for each
/// check.
fn agents(patroni: &FakePatroni, directory: &TempDir, view: &str) -> [Agent; 2] {
    let options = ["--patroni", &patroni.url(), "--deadline", "5s", "--max-age", "0s", "--endpoint", view];
    [&["--accept"][..], &[]].map(|activate| {
        let path = directory.path().join(format!("mode{}", activate.len()));
        std::fs::create_dir_all(&path).unwrap();
        let variable = format!("RUNTIME_DIRECTORY={}", path.display());
        Agent::activated(&[&["-E", &variable], activate].concat(), &options)
    })
}

#[test]
fn a_replica_that_only_lags_may_keep_its_sessions_and_any_other_node_may_not() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(replica(200, "streaming"));
    let directory = tempfile::tempdir().unwrap();
    let view = "/replica?lag=16MB&replication_state=streaming&on-standby=drain";
    for agent in agents(&patroni, &directory, view) {
        let table = [
            (replica(200, "streaming"), READY),
            (replica(503, "streaming"), "DRAIN UP # replica streaming lag over 16MB\n"),
            (replica(200, "in archive recovery"), "DRAIN UP # replica in archive recovery not streaming\n"),
            (primary(), "MAINT UP # primary timeline 3\n"),
            (stopping(), "READY DOWN # postgres: stopping\n"),
            (replica(200, "streaming"), READY),
        ];
        for (behaviour, reply) in table {
            patroni.now(behaviour);
            assert_eq!(agent.check(), reply);
        }
    }
    let asked = patroni.requests();
    assert!(asked.iter().all(|request| request == "GET /replica?lag=16777216 HTTP/1.1"), "{asked:?}");
}

#[test]
fn an_old_patroni_that_does_not_say_whether_it_streams_is_a_failure() {
    let patroni = FakePatroni::new(answer(
        200,
        r#"{"state": "running", "role": "replica", "timeline": 3, "patroni": {"version": "3.0.3"}}"#,
    ));
    let output = binary()
        .args(["--patroni", &patroni.url(), "--deadline", "5s", "--endpoint", "/replica?replication_state=streaming"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "READY DOWN # patroni 3.0.3 is too old for /replica?replication_state=streaming: needs 3.0.4\n");
}

#[test]
fn views_of_one_endpoint_share_its_requests_and_each_has_its_words() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(replica(503, "streaming"));
    let ports: Vec<SocketAddr> = (0..4).map(|_| SocketAddr::from(([127, 0, 0, 1], any_port()))).collect();
    let names = "/replica:/replica?on-standby=drain:/replica?on-standby=down:http:agent-send";
    let name = format!("--fdname={names}");
    let mut activate: Vec<String> = Vec::new();
    for port in &ports {
        activate.extend(["-l".into(), port.to_string()]);
    }
    activate.push(name);
    let activate: Vec<&str> = activate.iter().map(String::as_str).collect();
    // In one request's time all of them ask.
    patroni.delay(Duration::from_millis(300));
    let options = ["--patroni", &patroni.url(), "--deadline", "5s", "--max-age", "1s", "--also", "/replica?calm=5s"];
    let agent = Agent::activated(&activate, &options);
    let addresses = [agent.address, ports[0], ports[1]];
    let replies: Vec<String> = thread::scope(|scope| {
        let checks: Vec<_> = addresses.iter().map(|address| scope.spawn(|| check(*address))).collect();
        checks.into_iter().map(|check| check.join().unwrap()).collect()
    });
    assert_eq!(
        replies,
        ["MAINT UP # replica streaming\n", "DRAIN UP # replica streaming\n", "READY DOWN # replica streaming\n"]
    );
    assert_eq!((patroni.requests().len(), patroni.most_in_flight()), (1, 1));
    // By HTTP and by agent-send a check names the view as it is on a list, in any order of its parts.
    let by_http = |target: &str| {
        let answer = check_after_sending(ports[2], format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes());
        (answer[9..12].to_owned(), answer.rsplit("\r\n\r\n").next().unwrap().to_owned())
    };
    assert_eq!(by_http("/replica?on-standby=drain"), ("503".into(), "DRAIN UP # replica streaming\n".into()));
    assert_eq!(by_http("/replica?calm=5000ms").0, "503");
    let (status, body) = by_http("/replica?calm=6s");
    assert!(status == "400" && body.contains("not in PATRONI_CHECK_ALSO: /replica?calm=6s"), "{body}");
    assert_eq!(check_after_sending(ports[3], b"/replica?on-standby=down\n"), "READY DOWN # replica streaming\n");
    // What is no view is refused, and ends nothing.
    for nonsense in
        ["/replica?calm=18446744073709551615s1000ms", "/replica?calm=584542046090y", "/replica?lag=99999999TB"]
    {
        assert_eq!(by_http(nonsense).0, "400", "{nonsense}");
        let reply = check_after_sending(ports[3], format!("{nonsense}\n").as_bytes());
        assert!(reply.starts_with("MAINT DOWN # agent-send: "), "{reply}");
    }
    assert_eq!(check(ports[0]), "DRAIN UP # replica streaming\n");
    assert_eq!(patroni.most_in_flight(), 1);
}

#[test]
fn endpoints_that_are_the_same_to_patroni_ask_it_one_after_the_other() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    for memory in [true, false] {
        let patroni = FakePatroni::new(replica(200, "streaming"));
        patroni.delay(Duration::from_millis(50));
        let directory = tempfile::tempdir().unwrap();
        let second = SocketAddr::from(([127, 0, 0, 1], any_port()));
        let variable = format!("RUNTIME_DIRECTORY={}", directory.path().display());
        let mut activate = vec!["-l".to_owned(), second.to_string()];
        activate.push("--fdname=/replica:/replica?replication_state=streaming".into());
        if memory {
            activate.extend(["-E".into(), variable]);
        }
        let activate: Vec<&str> = activate.iter().map(String::as_str).collect();
        let options = ["--patroni", &patroni.url(), "--deadline", "5s", "--max-age", "0s"];
        let agent = Agent::activated(&activate, &options);
        thread::scope(|scope| {
            for address in [agent.address, second] {
                scope.spawn(move || (0..10).for_each(|_| assert_eq!(check(address), READY)));
            }
        });
        assert_eq!(patroni.most_in_flight(), 1);
    }
}

#[test]
fn a_replica_that_comes_and_goes_is_away_once_and_back_once() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(replica(200, "streaming"));
    let directory = tempfile::tempdir().unwrap();
    for agent in agents(&patroni, &directory, "/replica?on-standby=drain&calm=2s") {
        patroni.now(replica(200, "streaming"));
        assert_eq!(agent.check(), READY, "the first answer is believed");
        let mut replies = vec![READY.to_owned()];
        let mut good_since = Instant::now();
        for step in 0..10 {
            patroni.now(replica(if step % 2 == 0 { 503 } else { 200 }, "streaming"));
            good_since = Instant::now();
            replies.push(agent.check());
        }
        await_that("an end of the calm", || {
            replies.push(agent.check());
            replies.last().unwrap() == READY
        });
        assert!(good_since.elapsed() >= Duration::from_secs(2), "{replies:?}");
        let words: Vec<_> = replies.iter().map(|reply| &reply[..5]).collect();
        assert_eq!(words.windows(2).filter(|pair| pair[0] != pair[1]).count(), 2, "{replies:?}");
        assert!(replies.iter().any(|reply| reply == "DRAIN UP # replica streaming calm in 2s\n"), "{replies:?}");
        assert!(replies.iter().any(|reply| reply == "DRAIN UP # replica streaming calm in 1s\n"), "{replies:?}");
        // Told once, not once a second.
        let log = agent.process.output();
        let told = log.lines().filter(|line| line.contains("-> ") && line.contains(" calm")).count();
        assert!(told <= 5, "each return is told once: {log}");
    }
}

#[test]
fn a_calm_outlives_the_process() {
    let patroni = FakePatroni::new(replica(503, "streaming"));
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        let address = SocketAddr::from(([127, 0, 0, 1], any_port()));
        let mut command = binary();
        command.args(["--patroni", &patroni.url(), "--deadline", "5s", "--max-age", "0s", "--calm", "1h"]);
        command.args(["--listen", &format!("{address}=/replica")]).env("RUNTIME_DIRECTORY", directory.path());
        Agent::start(&mut command, address)
    };
    let stop = |mut agent: Agent| {
        agent.process.signal(rustix::process::Signal::TERM);
        agent.process.wait();
    };
    let agent = start();
    assert_eq!(agent.check(), "MAINT UP # replica streaming\n");
    stop(agent);
    patroni.now(replica(200, "streaming"));
    for _ in 0..2 {
        let agent = start();
        let reply = agent.check();
        assert!(reply.starts_with("MAINT UP # replica streaming calm in "), "{reply}");
        stop(agent);
    }
}

#[test]
fn what_can_not_be_meant_stops_the_program_at_its_start() {
    let long = format!("/replica?calm=10s&tag_a={}", "x".repeat(300));
    let table: [(&[&str], &str); 13] = [
        (&["--endpoint", "/primary?on-standby=drain"], "a former primary would keep the sessions of /primary"),
        (&["--on-standby", "drain"], "a former primary would keep the sessions of /primary"),
        (&["--endpoint", "/primary?calm=10s"], "/primary takes no calm"),
        (&["--endpoint", "/replica?calm=2h"], "0s to 1h"),
        (&["--endpoint", "/replica?calm=10s&calm=20s"], "calm is given twice"),
        (&["--endpoint", "/replica?on-failure=down", "--words", "plain"], "plain words can't undo a DOWN"),
        (&["--endpoint", "/replica?clam=10s"], "a view has on-standby, on-failure, calm and probe"),
        (&["--calm", "99999999999999999999s"], "calm"),
        (&["--calm", "18446744073709551615s1000ms"], "too long for a duration"),
        (&["--grace", "18446744073709551615s1000ms"], "too long for a duration"),
        (&["--also", "/leader?on-standby=drain"], "a former primary would keep"),
        (&["--connection", "/leader?on-standby=drain"], "a former primary would keep"),
        (&["--endpoint", &long], "255 bytes"),
    ];
    for (arguments, complaint) in table {
        let output = binary().args(arguments).args(["--patroni", "http://127.0.0.1:1"]).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(complaint) && error.trim().lines().count() == 1, "{arguments:?}: {error}");
    }
}

#[test]
fn a_socket_that_would_drain_a_former_primary_stops_the_service() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let mut agent = Agent::activated(&["--fdname=/leader"], &["--on-standby", "drain", "--endpoint", "/replica"]);
    // It is started by the first connection, and gives no answer.
    drop(std::net::TcpStream::connect(agent.address));
    await_that("its end", || agent.process.try_wait().is_some());
    assert!(agent.process.output().contains("would keep the sessions of /leader"), "{}", agent.process.output());
}
