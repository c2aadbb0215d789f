//! The probe in the sandbox of the units.

use super::*;

on_each_release! {
    the_probe_reaches_the_socket_of_postgres: with_agent,
}

/// What answers as a postmaster does, where Debian's has its socket.
const POSTGRES: [(&str, &str); 2] = [
    ("postgres.socket", "[Socket]\nListenStream=/run/postgresql/.s.PGSQL.5432\nAccept=yes\n"),
    (
        "postgres@.service",
        "[Service]\nExecStart=/bin/sh -c 'head -c 8 >/dev/null; printf N'\nStandardInput=socket\nStandardOutput=socket\n",
    ),
];

fn the_probe_reaches_the_socket_of_postgres(machine: &Machine) {
    for (unit, text) in POSTGRES {
        fs::write(machine.path(&format!("/etc/systemd/system/{unit}")), text).unwrap();
    }
    machine.sh("systemctl daemon-reload; systemctl start postgres.socket");
    set(machine, "PATRONI_CHECK_DEADLINE=5s\nPATRONI_CHECK_PROBE=/var/run/postgresql:5432\n");
    machine.sh("systemctl try-restart patroni-check.service");
    let _patroni = patroni(machine, primary());
    let is_followed = || {
        await_that("READY", || check(PORT) == READY);
        machine.sh("systemctl stop postgres.socket; rm -f /run/postgresql/.s.PGSQL.5432");
        let gone = "MAINT DOWN # postgres: no socket at /var/run/postgresql:5432\n";
        await_that("MAINT", || check(PORT) == gone);
        machine.sh("systemctl start postgres.socket");
        await_that("READY again", || check(PORT) == READY);
    };
    machine.inside(is_followed);
    accept_yes(machine);
    machine.inside(is_followed);
    let text = machine.sh("patroni-check explain /primary");
    assert!(text.contains("READY UP"), "{text}");
}
