//! The release archive (`make dist`): its `install.sh` on a machine without the package, and its
//! program, which has its C library in it, among the release's own.

use super::*;

on_each_release! {
    the_archive_installs_a_service_that_answers_and_takes_it_away: boot,
}

fn the_archive_installs_a_service_that_answers_and_takes_it_away(machine: &Machine) {
    if !lab::requires(&[lab::archive::NEEDS]) {
        return;
    }
    fs::copy(lab::archive::path(), machine.path("/root/archive.tar.gz")).unwrap();
    machine.sh("cd /root && tar xf archive.tar.gz && mv patroni-check-* new && cp -r new old");
    // An older one had a file and a unit that the newer one has not.
    machine.sh("cd /root/old/files/usr && touch share/doc/patroni-check/gone.md && \
         cp lib/systemd/system/patroni-check-replica.socket lib/systemd/system/patroni-check-gone.socket");
    let before = machine.sh("find /etc /usr /var/lib | sort");
    machine.sh("/root/old/install.sh");
    let state = |unit: &str| {
        let output = machine.try_sh(&format!("systemctl is-enabled {unit}; systemctl is-active {unit}"));
        String::from_utf8_lossy(&output.stdout).trim().replace('\n', " ")
    };
    assert_eq!(state("patroni-check.socket"), "disabled inactive");
    for unit in
        machine.sh("cd /usr/local/lib/systemd/system; ls patroni-check* | grep -v cluster | sed 's/@/@x/'").lines()
    {
        assert_eq!(machine.sh(&format!("systemd-analyze verify --man=no --recursive-errors=no {unit} 2>&1")), "");
    }

    // Patroni by a name, which the program looks up by its own C library on a Debian as it is installed.
    assert!(machine.sh("grep ^hosts: /etc/nsswitch.conf").ends_with(" files dns"));
    machine.sh("echo 127.0.0.1 db1.example >>/etc/hosts");
    set(machine, "PATRONI_CHECK_DEADLINE=5s\nPATRONI_CHECK_PATRONI=http://db1.example:8008\n");
    machine.sh("systemctl enable --now patroni-check.socket patroni-check-replica.socket");
    let _patroni = patroni(machine, in_role("primary"));
    machine.inside(|| await_that("READY", || check(PORT) == READY));
    assert_eq!(machine.sh("/usr/local/bin/patroni-check is /primary"), "/primary: serve, primary timeline 3");

    // An upgrade is a restart behind the open port.
    let outcomes = checking(machine, || {
        for _ in 0..5 {
            machine.sh("/root/new/install.sh");
        }
    });
    report(machine, "five upgrades by install.sh", &outcomes);
    assert_eq!(count(&outcomes, &Outcome::Answered(READY.into())), outcomes.len());
    machine.sh("! find /usr/local -name '*gone*' | grep .");

    // The same by the host's getent, whatever its modules are; and one process for each check.
    machine.sh("sed -i 's/^hosts:.*/hosts: files myhostname dns/' /etc/nsswitch.conf");
    machine.inside(|| assert_eq!(check(PORT), READY));
    machine.sh("systemctl stop patroni-check.socket patroni-check.service");
    machine.sh("install -D -m 644 /usr/local/share/doc/patroni-check/examples/accept-yes.conf \
         /etc/systemd/system/patroni-check.socket.d/accept-yes.conf");
    machine.sh("systemctl daemon-reload; systemctl start patroni-check.socket");
    machine.inside(|| assert_eq!(check(PORT), READY));
    machine.sh("sed -i 's/^hosts:.*/hosts: files dns/' /etc/nsswitch.conf");
    machine.inside(|| assert_eq!(check(PORT), READY));
    machine.sh("rm -r /etc/systemd/system/patroni-check.socket.d");

    // A removal is no release; a purge leaves nothing.
    machine.sh("/usr/local/bin/patroni-check hold new disk");
    machine.sh("/root/new/install.sh --uninstall");
    machine.inside(|| [PORT, REPLICA_PORT].map(|port| assert_eq!(try_check(port), Outcome::Refused)));
    let left = machine.sh("find /etc /usr /run -name '*patroni-check*' | sort");
    assert_eq!(left, "/etc/default/patroni-check\n/etc/patroni-check\n/run/patroni-check\n/run/private/patroni-check");
    machine.sh("/root/new/install.sh --purge && /root/new/install.sh --purge");
    assert_eq!(machine.sh("find /etc /usr /var/lib | sort"), before);
    assert_eq!(machine.sh("find /run -name '*patroni-check*'; systemctl --failed --no-legend"), "");
}
