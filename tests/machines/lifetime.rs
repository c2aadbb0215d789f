//! The persistent service: changes in the journal, restarts, upgrades, kills, crashes, the
//! watchdog.

use super::*;

on_each_release! {
    the_journal_has_an_entry_for_each_change_and_the_status_line_the_counts: with_agent,
    restarts_and_an_upgrade_lose_no_check: with_agent,
    an_upgrade_leaves_a_service_whose_settings_are_refused: with_agent,
    a_kill_loses_only_the_checks_in_hand: with_agent,
    a_program_that_crashes_at_once_does_not_cost_the_port: with_agent,
    the_watchdog_replaces_a_loop_that_stopped: with_agent,
}

fn the_journal_has_an_entry_for_each_change_and_the_status_line_the_counts(machine: &Machine) {
    set_patient(machine);
    let patroni = patroni(machine, primary());
    machine.inside(|| {
        for (behaviour, word) in [(primary(), "READY"), (replica(), "MAINT")] {
            patroni.now(behaviour);
            await_that(word, || check(PORT).starts_with(word));
            (0..5).for_each(|_| assert!(check(PORT).starts_with(word)));
        }
    });
    let entries = |filter: &str| machine.sh(&format!("journalctl -q --no-pager -o cat _COMM=patroni-check {filter}"));
    assert_eq!(entries(""), "/primary -> READY UP # primary timeline 3\n/primary -> MAINT UP # replica timeline 3");
    let fields = "PATRONI_CHECK_ENDPOINT=/primary PATRONI_CHECK_VERDICT=standby PATRONI_CHECK_STATUS=503 \
                  PATRONI_CHECK_ROLE=replica PATRONI_CHECK_STATE=running";
    assert_eq!(entries(fields), "/primary -> MAINT UP # replica timeline 3");
    let fields = "'PATRONI_CHECK_REPLY=MAINT UP # replica timeline 3' 'PATRONI_CHECK_REASON=replica timeline 3'";
    assert_eq!(entries(fields), "/primary -> MAINT UP # replica timeline 3");
    await_that("the counts in the status line", || {
        let status = machine.sh("systemctl show -P StatusText patroni-check.service");
        let (said, counts) = status.split_once(" (").unwrap();
        assert_eq!(said, "/primary: MAINT UP # replica timeline 3");
        counts.split(' ').next().unwrap().parse::<u32>().unwrap() >= 10
    });
}

fn restarts_and_an_upgrade_lose_no_check(machine: &Machine) {
    set_patient(machine);
    let _patroni = patroni(machine, primary());
    let outcomes = checking(machine, || {
        for _ in 0..200 {
            machine.sh("systemctl restart patroni-check.service");
        }
        machine.install(&packages().next);
    });
    report(machine, "200 restarts and an upgrade", &outcomes);
    assert!(outcomes.len() > 200);
    assert_eq!(count(&outcomes, &Outcome::Answered(READY.into())), outcomes.len());
    assert_eq!(machine.sh("dpkg-query -Wf '${Version}' patroni-check").rsplit('-').next(), Some("2"));
}

/// What the new program would not start with, the old one goes on with.
fn an_upgrade_leaves_a_service_whose_settings_are_refused(machine: &Machine) {
    set_patient(machine);
    let _patroni = patroni(machine, primary());
    machine.inside(|| assert_eq!(check(PORT), READY));
    let pid = || property(machine, "MainPID", "patroni-check.service");
    let before = pid();
    set(machine, "PATRONI_CHECK_DEADLINE=5s\nPATRONI_CHECK_MAX_AGE=5s\n");
    let mut said = String::new();
    let outcomes = checking(machine, || {
        said = machine.install(&packages().next);
        thread::sleep(Duration::from_secs(1));
    });
    report(machine, "an upgrade that refuses the settings", &outcomes);
    assert_eq!(count(&outcomes, &Outcome::Answered(READY.into())), outcomes.len());
    let refusal =
        "patroni-check: patroni-check.service: invalid value '5s' for '--max-age <DURATION>': out of range: 0s to 1s";
    let what_to_do = "patroni-check: patroni-check.service was not restarted";
    assert!(said.contains(refusal) && said.contains(what_to_do), "{said}");
    assert_eq!((pid(), property(machine, "NRestarts", "patroni-check.service")), (before.clone(), "0".into()));
    assert_eq!(
        machine.sh("readlink /proc/$(systemctl show -P MainPID patroni-check.service)/exe"),
        "/usr/bin/patroni-check (deleted)"
    );
    assert_eq!(
        machine.sh("dpkg-query -Wf '${Version} ${db:Status-Status}' patroni-check").rsplit('-').next(),
        Some("2 installed")
    );
    // Corrected, tried, and restarted.
    set(machine, "PATRONI_CHECK_DEADLINE=5s\nPATRONI_CHECK_MAX_AGE=1s\n");
    assert_eq!(machine.sh("patroni-check explain --settings"), "patroni-check.service: would start with its settings");
    let outcomes = checking(machine, || _ = machine.sh("systemctl restart patroni-check.service"));
    assert_eq!(count(&outcomes, &Outcome::Answered(READY.into())), outcomes.len());
    assert_ne!(pid(), before);
    // There is no old process: a check is not answered, and the next upgrade says why.
    accept_yes(machine);
    machine.inside(|| assert_eq!(check(PORT), READY));
    set(machine, "PATRONI_CHECK_DEADLINE=10s\n");
    let said = machine.install(&packages().first);
    assert!(said.contains("patroni-check: patroni-check@.service: invalid value '10s' for '--deadline"), "{said}");
    machine.inside(|| assert_eq!(try_check(PORT), Outcome::Unanswered));
    set(machine, "PATRONI_CHECK_DEADLINE=5s\n");
    machine.inside(|| assert_eq!(check(PORT), READY));
}

fn a_kill_loses_only_the_checks_in_hand(machine: &Machine) {
    set_patient(machine);
    let _patroni = patroni(machine, primary());
    let outcomes = checking(machine, || {
        for _ in 0..50 {
            let pid = || machine.sh("systemctl show -P MainPID patroni-check.service");
            await_that("a running service", || pid() != "0");
            let before = pid();
            machine.sh("systemctl kill -s KILL --kill-who=main patroni-check.service");
            await_that("a new process", || !["0", &before].contains(&pid().as_str()));
        }
    });
    report(machine, "50 kills", &outcomes);
    assert_eq!(count(&outcomes, &Outcome::Refused), 0);
    // Each of four clients had at most one check in hand.
    assert!(count(&outcomes, &Outcome::Unanswered) <= 4 * 50);
    let answered = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Answered(_))).count();
    assert_eq!(count(&outcomes, &Outcome::Answered(READY.into())), answered);
    machine.inside(|| assert_eq!(check(PORT), READY));
}

fn a_program_that_crashes_at_once_does_not_cost_the_port(machine: &Machine) {
    set_patient(machine);
    let _patroni = patroni(machine, primary());
    let units =
        || machine.sh("systemctl list-units --all --no-legend 'patroni-check*' | wc -l").parse::<usize>().unwrap();
    for accept in [false, true] {
        if accept {
            accept_yes(machine);
        }
        machine.sh("mv /usr/bin/patroni-check /root/good; cp /bin/false /usr/bin/patroni-check");
        machine.try_sh("systemctl kill -s KILL 'patroni-check.service'");
        let start = Instant::now();
        machine.inside(|| {
            while start.elapsed() < Duration::from_secs(120) {
                // Nobody answers, so nobody can be waited for.
                let stream = TcpStream::connect(PORT).expect("the port is open all the time");
                thread::sleep(Duration::from_millis(50));
                drop(stream);
            }
        });
        assert!(units() < 20, "{}", machine.sh("systemctl list-units --all 'patroni-check*'"));
        assert_eq!(machine.sh("systemctl is-active patroni-check.socket"), "active");
        machine.sh("mv /root/good /usr/bin/patroni-check");
        machine.inside(|| {
            await_that("READY, without anybody's help", || try_check(PORT) == Outcome::Answered(READY.into()))
        });
    }
}

fn the_watchdog_replaces_a_loop_that_stopped(machine: &Machine) {
    set_patient(machine);
    let _patroni = patroni(machine, primary());
    machine.inside(|| assert_eq!(check(PORT), READY));
    let outcomes = checking(machine, || {
        let pid = machine.sh("systemctl show -P MainPID patroni-check.service");
        machine.sh(&format!("kill -STOP {pid}"));
        await_that("another process", || {
            !["0", &pid].contains(&machine.sh("systemctl show -P MainPID patroni-check.service").as_str())
        });
    });
    report(machine, "a stopped loop", &outcomes);
    assert_eq!(count(&outcomes, &Outcome::Refused), 0);
    assert!(count(&outcomes, &Outcome::Unanswered) <= 4);
    machine.inside(|| assert_eq!(check(PORT), READY));
    machine.sh("journalctl -q --no-pager -u patroni-check.service | grep -qi watchdog");
}
