//! Restarts, and switches from the one way to the other, while Patroni says nothing of use: what was
//! known stands.

use super::*;

on_each_release! {
    no_restart_while_patroni_is_silent_takes_a_primary_away: with_agent,
    no_restart_while_nobody_holds_the_lock_takes_a_primary_away: with_agent,
    each_process_reads_what_the_other_service_wrote: with_agent,
}

/// How long it lasts at the least.
const SILENCE: Duration = Duration::from_secs(3);

fn no_restart_while_patroni_is_silent_takes_a_primary_away(machine: &Machine) {
    no_restart_takes_a_primary_away(machine, Behaviour::Close);
}

/// The leader key was deleted, and the node has not taken it again.
fn no_restart_while_nobody_holds_the_lock_takes_a_primary_away(machine: &Machine) {
    let unlocked = r#"{"state": "running", "role": "primary", "timeline": 3, "cluster_unlocked": true}"#;
    no_restart_takes_a_primary_away(machine, answer(503, unlocked));
}

fn no_restart_takes_a_primary_away(machine: &Machine, silence: Behaviour) {
    // An upgrade takes its time.
    set(machine, "PATRONI_CHECK_GRACE=20s\n");
    let patroni = patroni(machine, primary());
    let main_pid = || machine.sh("systemctl show -P MainPID patroni-check.service");
    let kill = || {
        let before = main_pid();
        machine.sh("systemctl kill -s KILL --kill-who=main patroni-check.service");
        await_that("a new process", || !["0", &before].contains(&main_pid().as_str()));
    };
    let accept_no = || {
        machine.sh("systemctl stop patroni-check.socket; rm -r /etc/systemd/system/patroni-check.socket.d");
        machine.sh("systemctl daemon-reload; systemctl start patroni-check.socket");
    };
    let works: [(&str, &(dyn Fn() + Sync)); 5] = [
        ("a restart", &|| drop(machine.sh("systemctl restart patroni-check.service"))),
        ("a kill", &kill),
        ("an upgrade", &|| _ = machine.install(&packages().next)),
        ("a switch to Accept=yes", &|| accept_yes(machine)),
        ("and back", &accept_no),
    ];
    for (what, work) in works {
        patroni.now(primary());
        let before = patroni.requests().len();
        // By Patroni's word, and not by what is remembered.
        let is_asked = || patroni.requests().len() > before + 1;
        machine.inside(|| await_that("READY", || try_check(PORT) == Outcome::Answered(READY.into()) && is_asked()));
        let outcomes = checking(machine, || {
            patroni.now(silence.clone());
            let start = Instant::now();
            thread::sleep(SILENCE / 2);
            work();
            thread::sleep(SILENCE.saturating_sub(start.elapsed()).max(SILENCE / 4));
        });
        report(machine, what, &outcomes);
        let answered = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Answered(reply) => Some(reply),
            Outcome::Refused | Outcome::Unanswered => None,
        });
        let (ready, other): (Vec<_>, Vec<_>) = answered.partition(|reply| reply.starts_with("READY UP # primary"));
        assert_eq!(other, [""; 0], "{what}");
        assert!(ready.len() > 100, "{what}: {} answers", ready.len());
    }
}

/// They have one user, though it may be one that systemd makes up each time.
fn each_process_reads_what_the_other_service_wrote(machine: &Machine) {
    set(machine, "PATRONI_CHECK_DEADLINE=5s\nPATRONI_CHECK_GRACE=20s\n");
    let patroni = patroni(machine, primary());
    machine.inside(|| assert_eq!(check(PORT), READY));
    patroni.now(Behaviour::Close);
    accept_yes(machine);
    machine.inside(|| assert_eq!(check(PORT), READY, "by what the service wrote"));
    patroni.now(replica());
    machine.inside(|| await_that("Patroni's word", || check(PORT) == "MAINT UP # replica timeline 3\n"));
    let text = machine.sh("patroni-check explain /health");
    assert!(text.contains("/primary    standby  "), "{text}");
    let changes = machine.sh("journalctl -q --no-pager -o cat _COMM=patroni-check PATRONI_CHECK_VERDICT=standby");
    assert_eq!(changes, "/primary -> MAINT UP # replica timeline 3");
    // Nobody else can write it, and what is damaged is told of once.
    assert_eq!(machine.sh("stat -L -c %a /run/patroni-check/primary.json"), "600");
    machine.sh("echo '{' >/run/patroni-check/primary.json");
    machine.inside(|| assert_eq!(check(PORT), "MAINT UP # replica timeline 3\n"));
    let told = || machine.sh("journalctl -q --no-pager -o cat | grep -c 'primary.json: EOF' || :");
    await_that("a line", || told() != "0");
    machine.inside(|| assert_eq!(check(PORT), "MAINT UP # replica timeline 3\n"));
    assert_eq!(told(), "1");
    assert_eq!(machine.sh("systemctl --failed --no-legend"), "");
}
