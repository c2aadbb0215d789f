//! Jobs that run where the primary is, by cron and by a timer, with the lines of docs/clients.md.

use super::*;

use lab::page;

on_each_release! {
    jobs_run_on_the_primary_alone: with_agent,
}

/// What both run: it notes that it ran.
const REPORTS: &str = "/usr/local/bin/reports";
const HOME: &str = "/var/lib/postgresql";

fn jobs_run_on_the_primary_alone(machine: &Machine) {
    let patroni = patroni(machine, primary());
    fs::write(machine.path(REPORTS), format!("#!/bin/sh\necho ran >>{HOME}/ran\n")).unwrap();
    fs::set_permissions(machine.path(REPORTS), fs::Permissions::from_mode(0o755)).unwrap();
    by_cron(machine, &patroni);
    by_a_timer(machine, &patroni);
}

/// How often the job has run.
fn runs(machine: &Machine) -> usize {
    machine.sh(&format!("cat {HOME}/ran 2>/dev/null | wc -l")).parse().unwrap()
}

/// As no test waits for a minute, the line is for cron's start; cron notes in /run that it had one.
fn by_cron(machine: &Machine, patroni: &FakePatroni) {
    let line = page::lines("cron");
    assert!(line.starts_with("*/5 * * * * postgres ") && line.contains(REPORTS), "{line}");
    let line = line.trim_end().replace("*/5 * * * *", "@reboot");
    fs::write(machine.path("/etc/cron.d/reports"), format!("{line}; touch {HOME}/asked\n")).unwrap();
    let runs_now = || {
        let before = runs(machine);
        machine
            .sh(&format!("rm -f {HOME}/asked /run/crond.reboot; systemctl reset-failed cron; systemctl restart cron"));
        await_that("cron", || machine.try_sh(&format!("test -e {HOME}/asked")).status.success());
        runs(machine) - before
    };
    for (behaviour, wanted) in [(primary(), 1), (replica(), 0), (Behaviour::Close, 0), (primary(), 1)] {
        let said = format!("{behaviour:?}");
        patroni.now(behaviour);
        assert_eq!(runs_now(), wanted, "{said}");
    }
    machine.sh("patroni-check hold new disk");
    assert_eq!(runs_now(), 0, "held");
    machine.sh("patroni-check release; systemctl stop cron");
}

fn by_a_timer(machine: &Machine, patroni: &FakePatroni) {
    let service = page::lines("A systemd timer");
    assert!(service.contains("\nExecCondition=/usr/bin/patroni-check is --strict /primary\n"), "{service}");
    let write = |name: &str, text: &str| fs::write(machine.path(&format!("/etc/systemd/system/{name}")), text).unwrap();
    // More often than a unit may be started by default.
    write("reports.service", &format!("{service}\n[Unit]\nStartLimitIntervalSec=0\n"));
    write("reports.timer", "[Timer]\nOnActiveSec=0\nOnUnitInactiveSec=300ms\nAccuracySec=1ms\n");
    patroni.now(primary());
    let before = runs(machine);
    machine.sh("systemctl daemon-reload; systemctl start reports.timer");
    await_that("two runs on the primary", || runs(machine) >= before + 2);

    let result = || property(machine, "Result", "reports.service");
    // What the service came to, and that the timer went on with it and the job did not run.
    let await_result = |wanted: &str| {
        await_that(wanted, || result() == wanted);
        let (before, mut last) = (runs(machine), String::new());
        for _ in 0..3 {
            await_that("another start", || {
                let id = property(machine, "InvocationID", "reports.service");
                result() == wanted && std::mem::replace(&mut last, id.clone()) != id
            });
        }
        assert_eq!(runs(machine), before, "{wanted}");
    };
    patroni.now(replica());
    await_result("exec-condition");
    // Nobody can tell, so it has failed.
    patroni.now(Behaviour::Close);
    await_result("exit-code");
    patroni.now(primary());
    machine.sh("patroni-check hold new disk");
    await_result("exec-condition");
    machine.sh("patroni-check release");
    let before = runs(machine);
    await_that("runs on the primary again", || runs(machine) >= before + 2);
    machine.sh("systemctl stop reports.timer");
}
