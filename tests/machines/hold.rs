//! `hold` and `explain`, by root beside the service.

use super::*;

on_each_release! {
    a_hold_by_root_and_explain: with_agent,
    settings_are_read_as_systemd_reads_them: boot,
}

fn a_hold_by_root_and_explain(machine: &Machine) {
    let _patroni = patroni(machine, primary());
    set(machine, "PATRONI_CHECK_PATRONI=http://127.0.0.1:8008\nPATRONI_CHECK_DEADLINE=5s\n");
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
    // Wherever the unit has them.
    machine.sh("patroni-check release");
    let drop_in = "[Service]\nEnvironment=PATRONI_CHECK_HOLD_FILE=/srv/hold 'PATRONI_CHECK_ON_STANDBY=down'\n";
    fs::create_dir_all(machine.path("/etc/systemd/system/patroni-check.service.d")).unwrap();
    fs::write(machine.path("/etc/systemd/system/patroni-check.service.d/hold.conf"), drop_in).unwrap();
    machine.sh("systemctl daemon-reload; systemctl restart patroni-check.service");
    machine.sh("patroni-check hold new disk; test -e /srv/hold");
    machine.inside(|| assert_eq!(check(PORT), held));
    machine.sh("patroni-check release");
    machine.inside(|| assert_eq!(check(PORT), ready));
    // One view alone, gently, for a time. The service's sandbox knows the boot.
    let id =
        machine.sh("patroni-check hold --on /replica --for 2h; sed -n 's/^boot \\([^ ]*\\).*/\\1/p' /srv/hold.replica");
    assert!(id.trim().lines().last().is_some_and(|id| id.len() == 32), "{id}");
    machine.inside(|| assert_eq!(check(PORT), ready));
    let list = machine.sh("patroni-check hold --list");
    assert!(list.contains("/replica  maint  20"), "{list}");
    let refused = machine.try_sh("patroni-check hold --drain 2>&1");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    machine.sh("patroni-check hold --drain --force --for 1h new disk; sed -i 's/^until .*/until 2020-01-01T00:00:00Z/' /srv/hold; \
        touch -d @1 /srv/hold");
    machine.inside(|| assert_eq!(check(PORT), "DRAIN UP # held until 2020-01-01T00:00:00Z (clock jumped): new disk\n"));
    machine.sh("patroni-check release");
    machine.inside(|| assert_eq!(check(PORT), ready));
    // Where it can't look nobody says that it is held.
    for hidden in ["/tmp/hold", "/var/tmp/hold", "/root/hold", "/run/user/0/hold"] {
        let output = machine.try_sh(&format!("PATRONI_CHECK_HOLD_FILE={hidden} patroni-check hold 2>&1"));
        assert!(output.status.success(), "a person's own word: {output:?}");
        fs::write(
            machine.path("/etc/systemd/system/patroni-check.service.d/hold.conf"),
            format!("[Service]\nEnvironment=PATRONI_CHECK_HOLD_FILE={hidden}\n"),
        )
        .unwrap();
        machine.sh("systemctl daemon-reload");
        let output = machine.try_sh("patroni-check hold 2>&1");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        machine.sh(&format!("rm {hidden}"));
    }
    machine.sh("rm /etc/systemd/system/patroni-check.service.d/hold.conf; systemctl daemon-reload");
    machine.sh("systemctl restart patroni-check.service; patroni-check hold new disk");
    accept_yes(machine);
    machine.inside(|| assert_eq!(check(PORT), held));
    machine.sh("patroni-check release");
    machine.inside(|| assert_eq!(check(PORT), ready));
    let text = machine.sh("patroni-check explain /primary");
    assert!(text.contains("[::]:5555  /primary     Accept=yes\n"), "{text}");
}

/// Files of what an environment file may have in it, at random, and the environment that a service
/// gets from each.
fn settings_are_read_as_systemd_reads_them(machine: &Machine) {
    const PIECES: [&[u8]; 22] = [
        b"A",
        b"B",
        b"=",
        b"=",
        b" ",
        b"\t",
        b"\n",
        b"\n",
        b"\r\n",
        b"\r",
        b"\"",
        b"'",
        b"\\",
        b"\\\n",
        b"#",
        b";",
        b"$",
        b"x",
        b"export ",
        "\u{e9}".as_bytes(),
        b"\xff",
        b"\xef\xbb\xbf",
    ];
    const FILES: usize = 200;
    let mut random = fastrand::Rng::with_seed(13);
    fs::create_dir(machine.path("/root/odd")).unwrap();
    for file in 0..FILES {
        let start = random.choice([&b"A="[..], b"B = ", b"# x"]).unwrap().to_vec();
        let pieces = (0..random.usize(1..24)).flat_map(|_| random.choice(PIECES).unwrap().to_vec());
        let text: Vec<u8> = start.into_iter().chain(pieces.collect::<Vec<_>>()).collect();
        fs::write(machine.path(&format!("/root/odd/{file}")), text).unwrap();
    }
    machine.sh("cd /root/odd; for file in *; do \
         systemd-run --quiet --wait --pipe -p EnvironmentFile=-/root/odd/$file env -0 >../environment.$file || exit 1; done");
    let version = machine.sh("systemctl --version").split_whitespace().nth(1).unwrap().parse::<u32>().unwrap();
    for file in 0..FILES {
        let text = fs::read(machine.path(&format!("/root/odd/{file}"))).unwrap();
        let given = fs::read(machine.path(&format!("/root/environment.{file}"))).unwrap();
        let given: BTreeMap<_, _> = given
            .split(|byte| *byte == 0)
            .filter_map(|assignment| std::str::from_utf8(assignment).unwrap().split_once('='))
            .filter(|(name, _)| name.bytes().all(|byte| b"ABexport".contains(&byte)))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let read = patroni_check::systemd::env_file::assignments(&text, version < 254).unwrap_or_default();
        assert_eq!(read, given, "{:?}", String::from_utf8_lossy(&text));
    }
}
