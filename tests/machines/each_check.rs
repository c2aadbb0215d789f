//! One process for each check, `Accept=yes`.

use super::*;

on_each_release! {
    one_process_for_each_check: with_agent,
    each_port_answers_for_its_own_endpoint: with_agent,
    a_bad_setting_is_told_by_each_process: with_agent,
}

/// Although its unit lets nothing below a notice through, and the process is gone at once.
fn a_bad_setting_is_told_by_each_process(machine: &Machine) {
    let _patroni = patroni(machine, primary());
    accept_yes(machine);
    set(machine, "PATRONI_CHECK_GRACE=21s\n");
    for _ in 0..3 {
        machine.inside(|| assert_eq!(try_check(PORT), Outcome::Unanswered));
    }
    let told = || machine.sh("journalctl -o cat -p err -u 'patroni-check@*'").matches("0s to 20s").count();
    await_that("a line of each process", || told() == 3);
    set_patient(machine);
    machine.inside(|| assert_eq!(check(PORT), READY));
}

fn one_process_for_each_check(machine: &Machine) {
    set_patient(machine);
    let patroni = patroni(machine, primary());
    accept_yes(machine);
    let before = entries(machine);
    // Each client waits for its answer before it asks again. So they are never more at once than
    // MaxConnections=, and where the machine is slow they wait.
    let flood = |clients: usize, checks: usize| {
        let (answered, start) = (AtomicUsize::new(0), Instant::now());
        let client = || {
            for _ in 0..checks {
                match try_check(PORT) {
                    Outcome::Answered(reply) => {
                        assert_eq!(reply, READY);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    other => panic!("{other:?}"),
                }
            }
        };
        machine.inside(|| thread::scope(|scope| (0..clients).for_each(|_| drop(scope.spawn(client)))));
        let answered = answered.into_inner();
        println!("Accept=yes: {} checks in {:?}, {answered} answered", clients * checks, start.elapsed());
        answered
    };
    let answered = flood(20, 50);
    assert_eq!(answered, 1000);
    // Long enough for processes to meet there.
    patroni.delay(Duration::from_millis(300));
    assert_eq!(flood(24, 1), 24);
    assert_eq!(patroni.most_in_flight(), 1, "one request at a time, whatever the number of processes");
    assert_eq!(machine.sh("systemctl --failed --no-legend"), "");
    let written = entries(machine) - before;
    println!("Accept=yes: {written} journal entries for {answered} answered checks");
    assert!(written < 20, "{written} journal entries");
    assert_eq!(machine.sh("systemctl is-active patroni-check.socket"), "active");
    machine.inside(|| await_that("an answer after it", || try_check(PORT) == Outcome::Answered(READY.into())));
    // And back.
    machine.sh("systemctl stop patroni-check.socket; rm /etc/systemd/system/patroni-check.socket.d/accept-yes.conf");
    machine.sh("systemctl daemon-reload; systemctl start patroni-check.socket");
    machine.inside(|| assert_eq!(check(PORT), READY));
    assert_eq!(machine.sh("systemctl is-active patroni-check.service"), "active");
}

/// systemd tells a process for one check nothing of its socket's name.
fn each_port_answers_for_its_own_endpoint(machine: &Machine) {
    // In the settings it is about the default.
    set(machine, "PATRONI_CHECK_DEADLINE=5s\nPATRONI_CHECK_ENDPOINT=/master\n");
    let patroni = patroni(machine, primary());
    accept_yes(machine);
    // As the guide says.
    machine.sh("sed 's/^Service=.*/Accept=yes/' /usr/lib/systemd/system/patroni-check-replica.socket \
         >/etc/systemd/system/patroni-check-replica.socket");
    machine.sh("sed 's/^Service=.*/Accept=yes/' /usr/lib/systemd/system/patroni-check-http.socket \
         >/etc/systemd/system/patroni-check-http.socket");
    machine.sh("systemctl daemon-reload; systemctl start patroni-check-replica.socket patroni-check-http.socket");
    machine.inside(|| {
        for (port, asked) in [(PORT, "GET /master HTTP/1.1"), (REPLICA_PORT, "GET /replica HTTP/1.1")] {
            await_that("an answer", || matches!(try_check(port), Outcome::Answered(_)));
            assert_eq!(patroni.requests().last().map(String::as_str), Some(asked));
        }
        let by_http = check_after_sending(at(5559), b"GET /master HTTP/1.1\r\n\r\n");
        assert!(by_http.starts_with("HTTP/1.1 200 OK\r\n"), "{by_http}");
        patroni.now(replica());
        // What was said before is fresh for a moment.
        await_that("MAINT", || check(PORT) == "MAINT UP # replica timeline 3\n");
        await_that("a 503", || check(REPLICA_PORT) == "MAINT UP # replica timeline 3\n");
        patroni.now(node(200, "running", "replica"));
        await_that("READY", || check(REPLICA_PORT).starts_with("READY UP # replica"));
    });
    let text = machine.sh("patroni-check explain /health");
    assert!(text.contains("[::]:5555  /master      Accept=yes\n"), "{text}");
    assert!(text.contains("[::]:5556  /replica     Accept=yes"), "{text}");
    assert!(text.contains("[::]:5559  http         Accept=yes"), "{text}");
    // A name that is forgotten is not shown.
    machine.sh(
        "sed -i 's|^FileDescriptorName=.*|FileDescriptorName=/sync|' /etc/systemd/system/patroni-check-replica.socket; \
         systemctl daemon-reload",
    );
    let text = machine.sh("patroni-check explain /health");
    assert!(text.contains("[::]:5556  /replica     Accept=yes"), "{text}");
    // It counts lines. A root with nothing in it makes most of them moot: docs/performance.md.
    let units = "patroni-check@.service patroni-check-replica@.service patroni-check-http@.service";
    let scores = machine.sh(&format!(
        "for unit in {units}; do systemd-analyze security --no-pager $unit | tail -n 1 | \
         grep -o ': [0-9.]*'; done"
    ));
    assert_eq!(scores, ": 2.4\n: 2.4\n: 2.4");
}
