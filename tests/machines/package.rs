//! The package: what its installation, upgrade, removal and purge do, and that the demo runs on the
//! release.

use super::*;

on_each_release! {
    the_package_comes_and_goes: boot,
    instances_are_restarted_by_an_upgrade_and_stopped_by_a_removal: with_agent,
    autopkgtest_follows_a_switchover: boot,
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
    // A socket of an instance is none without a port; tests/packaging.rs gives it one.
    for unit in
        machine.sh("cd /usr/lib/systemd/system; ls patroni-check* | grep -v '@.socket$' | sed 's/@/@x/'").lines()
    {
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

/// The maintainer scripts know instances, and ports of the administrator's own, by pattern. An
/// instance whose settings the new program refuses goes on with the old one.
fn instances_are_restarted_by_an_upgrade_and_stopped_by_a_removal(machine: &Machine) {
    set_patient(machine);
    let _patroni = patroni(machine, primary());
    let write = |path: &str, text: &str| {
        let path = machine.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let settings = |instance: &str, more: &str| {
        let text = format!("PATRONI_CHECK_PATRONI=http://localhost:8008\nPATRONI_CHECK_DEADLINE=5s\n{more}");
        write(&format!("/etc/patroni-check/{instance}.env"), &text);
    };
    let units = "/etc/systemd/system";
    let instances = [("16-main", at(5565)), ("17-test", at(5585))];
    for (instance, port) in instances {
        settings(instance, "");
        let drop_in = format!("{units}/patroni-check-cluster@{instance}.socket.d/port.conf");
        write(&drop_in, &format!("[Socket]\nListenStream={port}\n"));
    }
    // It has a port, and nobody has asked for it.
    write(
        &format!("{units}/patroni-check-cluster-replica@16-main.socket.d/port.conf"),
        "[Socket]\nListenStream=5566\n",
    );
    write(&format!("{units}/patroni-check-own.socket"), "[Socket]\nListenStream=5575\nService=patroni-check.service\n");
    machine.sh("systemctl daemon-reload; systemctl stop patroni-check.service");
    machine.sh("systemctl enable --now patroni-check-cluster@16-main.socket patroni-check-cluster@17-test.socket");
    machine.sh("systemctl start patroni-check-own.socket");
    let ports = [PORT, at(5565), at(5575), at(5585)];
    machine.inside(|| ports.iter().for_each(|port| assert_eq!(check(*port), READY)));
    settings("17-test", "PATRONI_CHECK_MAX_AGE=5s\n");
    let pids =
        || instances.map(|(name, _)| property(machine, "MainPID", &format!("patroni-check-cluster@{name}.service")));
    let (before, first) = (pids(), property(machine, "InvocationID", "patroni-check-cluster@16-main.socket"));
    let mut said = String::new();
    let outcomes = checking_at(at(5565), machine, || said = machine.install(&packages().next));
    assert_eq!(count(&outcomes, &Outcome::Answered(READY.into())), outcomes.len());
    let after = pids();
    assert!(!["0", &before[0]].contains(&after[0].as_str()) && before[1] == after[1], "{before:?} {after:?}");
    let refused = "patroni-check: patroni-check-cluster@17-test.service was not restarted";
    assert!(said.contains(refused) && said.matches("was not restarted").count() == 1, "{said}");
    assert!(said.contains("try them by: patroni-check --instance 17-test explain --settings;"), "{said}");
    machine.inside(|| ports.iter().for_each(|port| assert_eq!(check(*port), READY)));
    assert_eq!(property(machine, "InvocationID", "patroni-check-cluster@16-main.socket"), first);
    let active = machine.sh("systemctl list-units --no-legend --plain 'patroni-check*.socket' | cut -d ' ' -f 1");
    assert_eq!(
        active,
        "patroni-check-cluster@16-main.socket\npatroni-check-cluster@17-test.socket\npatroni-check-own.socket\n\
         patroni-check.socket"
    );
    machine.sh("patroni-check --instance 16-main hold new disk");
    machine.sh("apt-get remove -y -q patroni-check");
    machine.inside(|| ports.iter().for_each(|port| assert_eq!(try_check(*port), Outcome::Refused)));
    assert_eq!(machine.sh("systemctl list-units --no-legend 'patroni-check*'"), "");
    machine.sh("test -e /etc/patroni-check/16-main.env && test -e /etc/patroni-check/16-main/hold");
    machine.sh("ln -s nowhere /etc/patroni-check/hold.replica; mkdir /etc/patroni-check/backup.env");
    // What is the administrator's own stays; nothing that the next installation would begin with.
    machine.sh("apt-get purge -y -q patroni-check");
    let left = machine.sh("find /etc /run /usr /var/lib/systemd -path '*patroni-check*' -not -type d | sort");
    let own = [
        "cluster-replica@16-main.socket.d/port.conf",
        "cluster@16-main.socket.d/port.conf",
        "cluster@17-test.socket.d/port.conf",
        "own.socket",
    ];
    assert_eq!(left, own.map(|file| format!("{units}/patroni-check-{file}")).join("\n"));
}

/// `debian/tests`, as Debian runs it: with the release's own Patroni, HAProxy, PostgreSQL and etcd.
/// The container is the isolation that it asks for.
fn autopkgtest_follows_a_switchover(machine: &Machine) {
    fs::copy(&packages().first, machine.path("/root/package.deb")).unwrap();
    fs::create_dir(machine.path("/root/source")).unwrap();
    let debian = lab::repository().join("debian");
    let copied = std::process::Command::new("cp").arg("-r").arg(debian).arg(machine.path("/root/source")).status();
    assert!(copied.unwrap().success());
    let said = machine.sh(
        "cd /root && autopkgtest --ignore-restrictions=isolation-container --no-built-binaries package.deb source// \
         -- null 2>&1 </dev/null",
    );
    assert!(said.lines().any(|line| line.starts_with("switchover ") && line.ends_with(" PASS")), "{said}");
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
