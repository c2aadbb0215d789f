//! The package: what its installation, upgrade, removal and purge do, and that the demo runs on the
//! release.

use super::*;

on_each_release! {
    the_package_comes_and_goes: boot,
    the_demo_runs_with_what_the_release_has: boot,
}

fn the_package_comes_and_goes(machine: &Machine) {
    let state = |unit: &str| {
        let output = machine.try_sh(&format!("systemctl is-enabled {unit}; systemctl is-active {unit}"));
        String::from_utf8_lossy(&output.stdout).trim().replace('\n', " ")
    };
    machine.install(&packages().first);
    assert_eq!(machine.sh("patroni-check"), "MAINT DOWN # patroni: connection refused");
    // Nothing is enabled by surprise.
    assert_eq!(state("patroni-check.socket"), "disabled inactive");
    for other in ["replica", "agent-send", "metrics"] {
        assert_eq!(state(&format!("patroni-check-{other}.socket")), "disabled inactive");
    }
    let lint = machine.sh("cd /root && lintian --allow-root --fail-on none --tag-display-limit 0 package.deb 2>&1");
    let lint: Vec<_> = lint.lines().filter(|line| line.starts_with("E:") || line.starts_with("W:")).collect();
    assert_eq!(lint, [""; 0]);
    for unit in machine.sh("cd /usr/lib/systemd/system; ls patroni-check* | sed 's/@/@x/'").lines() {
        assert_eq!(machine.sh(&format!("systemd-analyze verify --man=no --recursive-errors=no {unit} 2>&1")), "");
    }
    machine.sh("systemctl enable --now patroni-check.socket");
    let patroni = patroni(machine, primary());
    machine.inside(|| await_that("READY", || check(PORT) == READY));
    // Settings survive an upgrade.
    set(machine, "PATRONI_CHECK_WORDS=plain\n");
    machine.install(&packages().next);
    machine.inside(|| await_that("READY in plain words", || check(PORT) == "READY\n"));
    assert_eq!(state("patroni-check.socket"), "enabled active");
    // A removal is no release; a purge leaves nothing for the next installation to begin with.
    machine.sh("patroni-check hold new disk; patroni-check hold --on /replica");
    machine.sh("apt-get remove -y -q patroni-check");
    machine.inside(|| assert_eq!(try_check(PORT), Outcome::Refused));
    machine.sh("test -e /etc/default/patroni-check && test -e /etc/patroni-check/hold");
    machine.sh("apt-get purge -y -q patroni-check");
    machine.sh("! test -e /etc/default/patroni-check");
    machine.sh("! find /etc /usr -name '*patroni-check*' | grep .");
    assert_eq!(machine.sh("systemctl --failed --no-legend"), "");
    drop(patroni);
}

fn the_demo_runs_with_what_the_release_has(machine: &Machine) {
    if !lab::requires(&["target/release/demo"]) {
        return;
    }
    for (file, to) in [(binary_path(), "patroni-check"), (lab::repository().join("target/release/demo"), "demo")] {
        let to = machine.path(&format!("/root/{to}"));
        fs::copy(file, &to).unwrap();
        fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let output = machine.sh("/root/demo /root/patroni-check 30 2>&1");
    assert!(output.contains("after the switchover"), "{output}");
}
