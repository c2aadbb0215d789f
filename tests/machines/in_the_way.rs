//! What else goes wrong on a host: the journal stopped or full, the manager's socket gone. The
//! answer at the switchover that falls into such a time is the one that counts.

use super::*;

on_each_release! {
    a_journal_that_reads_no_more: with_agent,
    a_journal_that_was_stopped: with_agent,
    a_full_journal_disk: with_agent,
    the_managers_socket_is_gone: with_agent,
}

/// The service says READY; then something happens, then a switchover, and back. Each check is
/// answered.
fn switchover_after(machine: &Machine, what: impl FnOnce()) {
    set_patient(machine);
    let patroni = patroni(machine, primary());
    machine.inside(|| assert_eq!(check(PORT), READY));
    what();
    let process = || property(machine, "MainPID", "patroni-check.service");
    let before = process();
    machine.inside(|| {
        for _ in 0..3 {
            for (behaviour, word) in [(replica(), "MAINT"), (primary(), "READY")] {
                patroni.now(behaviour);
                await_that(word, || match try_check(PORT) {
                    Outcome::Answered(reply) => reply.starts_with(word),
                    other => panic!("a check was {other:?} when it should become {word}"),
                });
            }
        }
    });
    assert_eq!(process(), before, "it is the same process");
}

/// Alive and hanging, as behind a disk that stalls, with a queue that is full.
fn a_journal_that_reads_no_more(machine: &Machine) {
    switchover_after(machine, || {
        machine.sh("systemctl kill -s STOP --kill-who=main systemd-journald.service");
        // One sender's own buffer is full before the queue is.
        machine.sh("python3 -c '
import socket
for _ in range(64):
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(\"/run/systemd/journal/socket\")
    sender.setblocking(False)
    try:
        while True: sender.send(b\"MESSAGE=x\")
    except BlockingIOError: pass'");
    });
    machine.sh("systemctl kill -s CONT --kill-who=main systemd-journald.service");
}

fn a_journal_that_was_stopped(machine: &Machine) {
    switchover_after(machine, || {
        machine.sh("systemctl stop 'systemd-journald*.socket' systemd-journald.service");
    });
    // Nor does a start need it.
    machine.sh("systemctl restart patroni-check.service");
    machine.inside(|| assert_eq!(check(PORT), READY));
    machine.sh("systemctl start systemd-journald.socket systemd-journald.service");
}

fn a_full_journal_disk(machine: &Machine) {
    switchover_after(machine, || {
        machine.sh("mkdir -p /var/log/journal && mount -t tmpfs -o size=64k full /var/log/journal; \
             systemctl restart systemd-journald.service; journalctl --flush; \
             dd if=/dev/zero of=/var/log/journal/full bs=1k 2>/dev/null || true");
    });
}

/// What the program says to the manager is lost then; what it says to HAProxy is not.
fn the_managers_socket_is_gone(machine: &Machine) {
    switchover_after(machine, || _ = machine.sh("mv /run/systemd/notify /run/systemd/away"));
    machine.sh("mv /run/systemd/away /run/systemd/notify");
    machine.sh("systemctl restart patroni-check.service");
    machine.inside(|| assert_eq!(check(PORT), READY));
}
