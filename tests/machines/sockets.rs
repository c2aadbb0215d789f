//! The socket units: more of them, and what stands in their way. No port brings in another one, or
//! takes another one with it.

use super::*;

on_each_release! {
    a_second_view_joins_as_documented: with_agent,
    any_one_socket_is_restarted_alone: with_agent,
    a_stopped_socket_stays_stopped: with_agent,
    a_masked_socket_takes_no_other_with_it: with_agent,
    a_port_that_something_else_has: with_agent,
    a_bad_setting_is_tried_now_and_then_and_loses_no_check: with_agent,
}

const SOCKETS: [&str; 5] = [
    "patroni-check",
    "patroni-check-replica",
    "patroni-check-agent-send",
    "patroni-check-http",
    "patroni-check-metrics",
];

fn is_active(machine: &Machine, unit: &str) -> bool {
    property(machine, "ActiveState", unit) == "active"
}

/// How often systemd has started the service again because it had ended.
fn restarts(machine: &Machine) -> u32 {
    property(machine, "NRestarts", "patroni-check.service").parse().unwrap()
}

/// Each of the two ports answers; the fake Patroni says 200 to both.
fn both_answer() {
    assert_eq!(check(PORT), READY);
    assert_eq!(check(REPLICA_PORT), READY);
}

fn patroni_of_a_primary(machine: &Machine) -> FakePatroni {
    set_patient(machine);
    patroni(machine, primary())
}

fn a_second_view_joins_as_documented(machine: &Machine) {
    set(machine, "PATRONI_CHECK_DEADLINE=5s\nPATRONI_CHECK_ALSO=/health\n");
    let patroni = patroni(machine, primary());
    machine.inside(|| assert_eq!(check(PORT), READY));
    // A running service takes them up, and nobody who asks on its port meanwhile goes without an
    // answer.
    machine
        .sh("systemctl enable patroni-check-replica.socket patroni-check-agent-send.socket patroni-check-http.socket \
         patroni-check-metrics.socket");
    let outcomes = checking(machine, || {
        for socket in &SOCKETS[1..] {
            machine.sh(&format!("systemctl restart {socket}.socket"));
        }
    });
    report(machine, "four sockets more", &outcomes);
    assert_eq!(count(&outcomes, &Outcome::Answered(READY.into())), outcomes.len());
    machine.inside(|| {
        assert_eq!(check(PORT), READY);
        check(REPLICA_PORT);
        assert_eq!(patroni.requests().last().map(String::as_str), Some("GET /replica HTTP/1.1"));
        check_after_sending(at(5557), b"/health\n");
        assert_eq!(patroni.requests().last().map(String::as_str), Some("GET /health HTTP/1.1"));
        let by_http = check_after_sending(at(5559), b"GET /health HTTP/1.0\r\n\r\n");
        assert!(by_http.starts_with("HTTP/1.1 200 OK\r\n") && by_http.ends_with(READY), "{by_http}");
        let metrics = check_after_sending(at(5558), b"GET /metrics HTTP/1.0\r\n\r\n");
        assert!(metrics.contains("patroni_check_verdict{endpoint=\"/health\",verdict=\"serve\"} 1\n"), "{metrics}");
    });
    assert_eq!(machine.sh("pgrep -c patroni-check"), "1");
    assert_eq!(restarts(machine), 0);
}

fn any_one_socket_is_restarted_alone(machine: &Machine) {
    let _patroni = patroni_of_a_primary(machine);
    for socket in SOCKETS {
        machine.sh(&format!("systemctl start {socket}.socket"));
    }
    machine.inside(both_answer);
    for restarted in SOCKETS {
        let asked = if restarted == SOCKETS[0] { REPLICA_PORT } else { PORT };
        let outcomes = checking_at(asked, machine, || {
            (0..10).for_each(|_| _ = machine.sh(&format!("systemctl restart {restarted}.socket")));
        });
        report(machine, &format!("ten restarts of {restarted}.socket, {asked} asked"), &outcomes);
        let answered = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Answered(_))).count();
        assert_eq!(answered, outcomes.len(), "{restarted}");
        assert!(SOCKETS.iter().all(|socket| is_active(machine, &format!("{socket}.socket"))), "{restarted}");
        machine.inside(both_answer);
    }
    assert_eq!(restarts(machine), 0);
}

fn a_stopped_socket_stays_stopped(machine: &Machine) {
    let _patroni = patroni_of_a_primary(machine);
    let stays = |stopped: &str, port: SocketAddr, other: SocketAddr| {
        machine.sh("systemctl restart patroni-check.socket; systemctl restart patroni-check-replica.socket");
        machine.inside(both_answer);
        machine.sh(&format!("systemctl stop {stopped}"));
        let is_closed = || {
            machine.inside(|| {
                assert_eq!(try_check(port), Outcome::Refused, "{stopped}");
                assert!(matches!(try_check(other), Outcome::Answered(_)), "{stopped}");
            });
            assert!(!is_active(machine, stopped), "{stopped}");
        };
        is_closed();
        machine.sh("systemctl restart patroni-check.service");
        is_closed();
        machine.sh("systemctl kill -s KILL --kill-who=main patroni-check.service");
        is_closed();
    };
    stays("patroni-check.socket", PORT, REPLICA_PORT);
    stays("patroni-check-replica.socket", REPLICA_PORT, PORT);

    // The service stopped: the next check starts it.
    machine.sh("systemctl stop patroni-check.service");
    machine.inside(|| assert_eq!(check(PORT), READY));
    // All of them: the service without any says so, once, and brings in none.
    machine.sh("systemctl stop patroni-check.socket");
    assert!(!is_active(machine, "patroni-check.service"));
    for verb in ["start", "restart"] {
        let before = entries(machine);
        assert!(!machine.try_sh(&format!("systemctl {verb} patroni-check.service")).status.success());
        assert_eq!(property(machine, "ExecMainStatus", "patroni-check.service"), "6");
        assert!(SOCKETS.iter().all(|socket| !is_active(machine, &format!("{socket}.socket"))));
        // Time for ten restarts.
        thread::sleep(Duration::from_secs(2));
        assert_eq!(property(machine, "ActiveState", "patroni-check.service"), "failed");
        assert_eq!(restarts(machine), 0);
        let entries = entries(machine) - before;
        assert!(entries < 10, "{entries}");
    }
    let said = machine.sh("journalctl -q --no-pager -o cat -u patroni-check.service");
    assert!(said.contains("no socket was passed to the service; start one of its sockets"), "{said}");
    // And that is not in the way of anything.
    machine.sh("systemctl start patroni-check.socket");
    machine.inside(|| assert_eq!(check(PORT), READY));
}

fn a_masked_socket_takes_no_other_with_it(machine: &Machine) {
    let _patroni = patroni_of_a_primary(machine);
    for (masked, port, other, other_port) in [
        ("patroni-check.socket", PORT, "patroni-check-replica.socket", REPLICA_PORT),
        ("patroni-check-replica.socket", REPLICA_PORT, "patroni-check.socket", PORT),
    ] {
        machine.sh(&format!("systemctl stop {masked}; systemctl mask {masked}; systemctl start {other}"));
        for _ in 0..2 {
            machine.inside(|| {
                assert!(matches!(try_check(other_port), Outcome::Answered(_)), "{masked}");
                assert_eq!(try_check(port), Outcome::Refused);
            });
            machine.sh(&format!("systemctl restart {other}"));
        }
        machine.sh("systemctl restart patroni-check.service");
        machine.inside(|| assert!(matches!(try_check(other_port), Outcome::Answered(_)), "{masked}"));
        assert_eq!(restarts(machine), 0);
        machine.sh(&format!("systemctl unmask {masked}; systemctl restart {masked}"));
        machine.inside(|| assert!(matches!(try_check(port), Outcome::Answered(_)), "{masked}"));
    }
}

fn a_port_that_something_else_has(machine: &Machine) {
    let _patroni = patroni_of_a_primary(machine);
    for (taken, port, other, other_port) in [
        ("patroni-check.socket", PORT, "patroni-check-replica.socket", REPLICA_PORT),
        ("patroni-check-replica.socket", REPLICA_PORT, "patroni-check.socket", PORT),
    ] {
        machine.sh("systemctl stop patroni-check.socket patroni-check-replica.socket");
        let script = machine.inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port.port())).unwrap());
        machine.sh(&format!("systemctl start {other}"));
        assert!(!machine.try_sh(&format!("systemctl start {taken}")).status.success());
        let before = entries(machine);
        machine.inside(|| {
            // One that does not wait for its answer either.
            drop(TcpStream::connect(other_port).unwrap());
            (0..20).for_each(|_| assert!(matches!(try_check(other_port), Outcome::Answered(_)), "{taken}"));
        });
        thread::sleep(Duration::from_secs(2));
        let entries = entries(machine) - before;
        assert!(entries < 10, "{entries} journal entries");
        assert_eq!(restarts(machine), 0);
        drop(script);
        machine.sh(&format!("systemctl restart {taken}"));
        machine.inside(both_answer);
    }
}

fn a_bad_setting_is_tried_now_and_then_and_loses_no_check(machine: &Machine) {
    let _patroni = patroni_of_a_primary(machine);
    machine.inside(|| assert_eq!(check(PORT), READY));
    set(machine, "PATRONI_CHECK_GRACE=1h\n");
    let start = Instant::now();
    assert!(!machine.try_sh("systemctl restart patroni-check.service").status.success());
    machine.inside(|| {
        thread::scope(|scope| {
            let clients: Vec<_> = (0..50).map(|_| scope.spawn(|| try_check(PORT))).collect();
            thread::sleep(Duration::from_secs(10));
            // Those who wait make it no more: it is RestartSec= that counts.
            let (restarts, longest) = (restarts(machine), start.elapsed());
            println!("{restarts} restarts in {longest:?}");
            assert!(u128::from(restarts) <= longest.as_millis() / 200 + 1, "{restarts} restarts in {longest:?}");
            set(machine, "PATRONI_CHECK_DEADLINE=5s\n");
            let outcomes: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
            assert_eq!(count(&outcomes, &Outcome::Answered(READY.into())), outcomes.len(), "{outcomes:?}");
        });
    });
    assert!(is_active(machine, "patroni-check.socket"));
}
