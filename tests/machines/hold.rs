//! `hold` and `explain`, by root beside the service.

use super::*;

on_each_release! {
    a_hold_by_root_and_explain: with_agent,
}

fn a_hold_by_root_and_explain(machine: &Machine) {
    let _patroni = patroni(machine, primary());
    set(machine, "PATRONI_CHECK_PATRONI=http://127.0.0.1:8008\nPATRONI_CHECK_DEADLINE=30s\n");
    machine.sh("systemctl restart patroni-check.service");
    let (ready, held) = (READY, "MAINT UP # held: new disk\n");
    machine.inside(|| assert_eq!(check(PORT), ready));
    // Whatever root's umask, the service can read it.
    machine.sh("umask 077; patroni-check hold new disk");
    machine.inside(|| assert_eq!(check(PORT), held));
    machine.sh("systemctl restart patroni-check.service");
    machine.inside(|| assert_eq!(check(PORT), held));
    let status = machine.sh("systemctl show -P StatusText patroni-check.service");
    assert!(status.contains("held: new disk"), "{status}");
    let explained = machine.try_sh("patroni-check explain /primary");
    let text = String::from_utf8_lossy(&explained.stdout);
    assert_eq!(explained.status.code(), Some(1));
    // The settings are the service's.
    assert!(text.contains("at http://127.0.0.1:8008\n"), "{text}");
    assert!(text.contains("patroni-check.socket          active    [::]:5555  /primary\n"), "{text}");
    assert!(text.contains("patroni-check-replica.socket  inactive  [::]:5556  /replica\n"), "{text}");
    accept_yes(machine);
    machine.inside(|| assert_eq!(check(PORT), held));
    machine.sh("patroni-check release");
    machine.inside(|| assert_eq!(check(PORT), ready));
    let text = machine.sh("patroni-check explain /primary");
    assert!(text.contains("[::]:5555  /primary     Accept=yes\n"), "{text}");
}
