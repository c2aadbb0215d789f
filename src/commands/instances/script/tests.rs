use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;
use crate::config::PATRONI;

fn cluster(file: &str, text: &str) -> Cluster {
    let configuration = Configuration::read(text).unwrap().unwrap();
    let instance = Instance::of_file(file.as_ref());
    Cluster { file: file.into(), instance, configuration, answered: Vec::new(), plain: None, asks_another: None }
}

fn debians(name: &str, address: &str, postgres: u16) -> Found {
    let text = format!(
        "scope: {name}\nrestapi: {{listen: '{address}:{}'}}\npostgresql: {{listen: '*:{postgres}'}}\n",
        postgres + 2576
    );
    Found::Cluster(cluster(&format!("/etc/patroni/{name}.yml"), &text))
}

/// What it is, if a shell takes it.
fn checked(found: &[Found], taken: &[u16], is_alone: bool) -> String {
    let taken: Vec<_> = taken.iter().map(|port| (*port, "")).collect();
    checked_with(found, &taken, is_alone)
}

/// The same with ports that socket units have.
fn checked_with(found: &[Found], taken: &[(u16, &str)], is_alone: bool) -> String {
    let mut ports = Ports::default();
    taken.iter().for_each(|(port, unit)| ports.take(*port, unit));
    let text = script(found, ports, is_alone);
    let mut shell = Command::new("sh").arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}\n{text}");
    text
}

/// The lines that do something.
fn orders(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect()
}

#[test]
fn each_cluster_gets_the_ports_that_follow_from_its_postgres() {
    let text = checked(&[debians("15-main", "10.0.0.1", 5432), debians("15-test", "127.0.0.1", 5433)], &[8008], false);
    for block in [
        "put /etc/patroni-check/15-main.env <<'END'\n# Settings of patroni-check-cluster@15-main.service. /etc/default/patroni-check \
         shows what there is.\nPATRONI_CHECK_PATRONI=http://10.0.0.1:8008\nEND\n",
        "put /etc/systemd/system/patroni-check-cluster@15-main.socket.d/port.conf <<'END'\n[Socket]\nListenStream=5555\nEND\n",
        "put /etc/systemd/system/patroni-check-cluster-replica@15-main.socket.d/port.conf <<'END'\n[Socket]\nListenStream=5556\nEND\n",
        "put /etc/systemd/system/patroni-check-cluster@15-main.service.d/patroni.conf <<'END'\n[Service]\nIPAddressAllow=10.0.0.1\nEND\n",
        "systemctl enable --now patroni-check-cluster@15-main.socket patroni-check-cluster-replica@15-main.socket\n",
        "PATRONI_CHECK_PATRONI=http://127.0.0.1:8009\n",
        "put /etc/systemd/system/patroni-check-cluster@15-test.socket.d/port.conf <<'END'\n[Socket]\nListenStream=5565\nEND\n",
        "ListenStream=5566\n",
    ] {
        assert!(text.contains(block), "{block}\n{text}");
    }
    assert!(!text.contains("@15-test.service.d"), "localhost needs no leave: {text}");
}

#[test]
fn a_port_that_is_taken_or_does_not_follow_is_left_to_the_reader() {
    for (postgres, taken) in [(5432, &[5555][..]), (5432, &[5556]), (6432, &[]), (5500, &[]), (1, &[])] {
        let text = checked(&[debians("a", "127.0.0.1", postgres), debians("b", "127.0.0.1", 5440)], taken, false);
        assert!(text.contains("# ListenStream=PORT\n") && text.contains("# ListenStream=PORT2\n"), "{text}");
        assert!(orders(&text).iter().all(|line| !line.contains("@a.")), "{text}");
        assert!(orders(&text).contains(&"ListenStream=5635"), "{text}");
    }
    // Two Postgreses with one port, at two addresses.
    let text = checked(&[debians("a", "10.0.0.1", 5432), debians("b", "10.0.0.2", 5432)], &[], false);
    assert_eq!(text.matches("\nListenStream=").count(), 2, "{text}");
}

#[test]
fn one_that_is_alone_gets_no_instance_and_its_settings_are_the_operators() {
    let text = checked(&[debians("15-main", "10.0.0.1", 5432)], &[], true);
    assert!(orders(&text).is_empty() && !text.contains('@'), "{text}");
    assert!(text.contains("into /etc/default/patroni-check,"), "{text}");
    assert!(text.contains("\n# PATRONI_CHECK_PATRONI=http://10.0.0.1:8008\n"), "{text}");
    // Once they are there, or where all is as the service takes it for granted.
    let asked = |address: &str, base: &str| {
        let Found::Cluster(cluster) = debians("15-main", address, 5432) else { unreachable!() };
        [Found::Cluster(Cluster { plain: Some(base.parse().unwrap()), ..cluster })]
    };
    let enable = "\nsystemctl enable --now patroni-check.socket patroni-check-replica.socket\n";
    let text = checked(&asked("10.0.0.1", "http://10.0.0.1:8008"), &[], true);
    assert!(text.contains(enable) && !text.contains("PATRONI_CHECK_PATRONI") && !text.contains('@'), "{text}");
    let allowed = "/patroni-check.service.d/patroni.conf <<'END'\n[Service]\nIPAddressAllow=10.0.0.1\n";
    assert!(text.contains(allowed), "{text}");
    let text = checked(&asked("0.0.0.0", PATRONI), &[], true);
    assert!(text.contains(enable) && !text.contains("IPAddressAllow"), "{text}");
    // Its ports may be somebody's, or others.
    for taken in [5555, 5556] {
        let text = checked(&asked("0.0.0.0", PATRONI), &[taken], true);
        assert!(orders(&text).is_empty() && text.contains(&format!("port {taken} of patroni-check")), "{text}");
    }
    let own = [(5555, "patroni-check.socket"), (7777, "patroni-check-replica.socket"), (5556, "")];
    assert!(checked_with(&asked("0.0.0.0", PATRONI), &own, true).contains(enable));
}

#[test]
fn an_instance_keeps_the_ports_that_it_has() {
    let found = || [debians("a", "127.0.0.1", 5432), debians("b", "127.0.0.1", 5433)];
    let sockets = ["a", "b"].map(|name| format!("patroni-check-cluster@{name}.socket"));
    // Also one that another would get, and one that does not follow.
    for port in [5555, 5565, 7777] {
        let text = checked_with(&found(), &[(port, &sockets[0])], false);
        assert!(!text.contains("put /etc/systemd/system/patroni-check-cluster@a.socket.d"), "{text}");
        assert!(text.contains("\nsystemctl enable --now patroni-check-cluster@a.socket "), "{text}");
        assert_eq!(text.contains("\nListenStream=5565\n"), port != 5565, "{text}");
    }
    // Both have one.
    let text = checked_with(&found(), &[(7777, &sockets[0]), (7777, &sockets[1])], false);
    assert!(orders(&text).is_empty() && text.matches("But port 7777").count() == 2, "{text}");
}

#[test]
fn ports_in_configurations_are_taken_although_nobody_listens() {
    let text = "scope: b\nrestapi: {listen: '127.0.0.1:5556'}\npostgresql: {listen: '*:5565'}\n";
    let other = Found::Cluster(cluster("/etc/patroni/x.yml", text));
    let found = [debians("a", "127.0.0.1", 5432), debians("b", "127.0.0.1", 5433), other];
    let text = checked(&found, &[], false);
    assert!(orders(&text).is_empty() && text.matches("# ListenStream=PORT\n").count() == 3, "{text}");
}

#[test]
fn two_with_one_address_get_nothing() {
    let Found::Cluster(one) = debians("a", "0.0.0.0", 5432) else { unreachable!() };
    let copy = cluster("/etc/patroni/b.yml", "scope: b\nrestapi: {listen: '127.0.0.1:8008'}\npostgresql: {}\n");
    let copy = Cluster { answered: vec!["x.socket at [::]:1".into()], ..copy };
    let text = checked(&[Found::Cluster(one), Found::Cluster(copy), debians("c", "127.0.0.1", 5433)], &[], false);
    for other in ["/etc/patroni/a.yml", "/etc/patroni/b.yml"] {
        assert!(text.contains(&format!("# But {other} has the same address")), "{text}");
    }
    assert!(orders(&text).iter().all(|line| !line.contains("@a.") && !line.contains("@b.")), "{text}");
    assert!(text.contains("\nsystemctl enable --now patroni-check-cluster@c.socket "), "{text}");
}

#[test]
fn a_name_goes_to_the_file_that_has_just_this_one() {
    let named = |file: &str, port: u16| {
        let text = format!("scope: a\nrestapi: {{listen: '127.0.0.1:{port}'}}\npostgresql: {{listen: '*:{port}'}}\n");
        Found::Cluster(cluster(file, &text))
    };
    let text = checked(&[named("/etc/patroni/x y.yml", 5433), named("/etc/patroni/x-y.yml", 5432)], &[], false);
    assert!(text.contains("PATRONI_CHECK_PATRONI=http://127.0.0.1:5432\n"), "{text}");
    assert!(!text.contains("PATRONI_CHECK_PATRONI=http://127.0.0.1:5433\n") && text.contains("another one"), "{text}");
}

#[test]
fn what_is_answered_or_can_not_be_read_gets_no_orders() {
    let Found::Cluster(answered) = debians("a", "127.0.0.1", 5432) else { unreachable!() };
    let answered = Cluster { answered: vec!["patroni-check.socket at [::]:5555".into()], ..answered };
    let Found::Cluster(other) = debians("b", "127.0.0.1", 5433) else { unreachable!() };
    let other = Cluster { asks_another: Some("has another Patroni, http://x:1".into()), ..other };
    let unread = Found::Unread("/etc/patroni/\nreboot.yml".into(), "line 3: \u{1b}[0m\nreboot".into());
    let text = checked(&[Found::Cluster(answered), Found::Cluster(other), unread], &[], false);
    assert_eq!(orders(&text), [""; 0], "{text}");
    assert!(text.contains("answered by\n#   patroni-check.socket at [::]:5555\n"), "{text}");
    assert!(text.contains("/b.env has another Patroni, http://x:1."), "{text}");
    assert!(text.contains("# /etc/patroni/ reboot.yml: line 3: ?[0m reboot."), "{text}");
    assert!(checked(&[], &[], false).contains("no configuration"));
}

/// Of two parts the one that fails ends alone, before it has written anything.
#[test]
fn a_name_without_an_address_ends_the_part_of_its_cluster() {
    let root = tempfile::TempDir::new().unwrap();
    for program in ["getent", "systemctl"] {
        let text = if program == "getent" { "exit 2" } else { "cat; echo \"systemctl $*\"" };
        let file = root.path().join(program);
        std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    // More than a shell reads at once.
    let more = (0..20).map(|n| debians(&format!("c{n}"), "127.0.0.1", 5440 + n));
    let mut found: Vec<_> =
        [debians("a", "db1", 5432), debians("b", "10.0.0.1", 5433)].into_iter().chain(more).collect();
    for is_turned in [false, true] {
        if is_turned {
            found.reverse();
        }
        let below = root.path().join(is_turned.to_string());
        let text = script(&found, Ports::default(), false).replace(" /etc/", &format!(" {}/", below.display()));
        let path = format!("{}:{}", root.path().display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.env("PATH", path).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = shell.wait_with_output().unwrap();
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(error, "no address of db1 is known now\nnot done: the instance a\n");
        assert!(
            out.matches("systemctl enable --now patroni-check-cluster@").count() == 21 && !out.contains("@a"),
            "{out}"
        );
        assert!(below.join("patroni-check/b.env").exists() && !below.join("patroni-check/a.env").exists());
        assert!(!below.join("systemd/system/patroni-check-cluster@a.service.d").exists());
    }
}

#[test]
fn names_are_resolved_when_the_script_runs_and_tls_needs_an_authority() {
    let of = |ctl: &str| {
        let text = format!(
            "scope: a\nrestapi: {{listen: '0.0.0.0:8008', connect_address: 'db1:443', certfile: /c, verify_client: required}}\n\
             postgresql: {{listen: '*:5432'}}\n{ctl}"
        );
        checked(&[Found::Cluster(cluster("/etc/patroni/a.yml", &text))], &[], false)
    };
    let text = of("ctl: {cacert: /etc/ssl/ca.crt}\n");
    assert!(
        text.contains("\nPATRONI_CHECK_PATRONI=https://db1:8008\nPATRONI_CHECK_CACERT=/etc/ssl/ca.crt\n# restapi"),
        "{text}"
    );
    assert!(text.contains("\nfound=$(getent ahosts db1) || ") && text.contains("It must be this host."), "{text}");
    for hidden in ["/root/ca.crt", "/home/x/ca.crt", "/tmp/ca.crt"] {
        let text = of(&format!("ctl: {{cacert: {hidden}}}\n"));
        assert!(text.contains(&format!("\n# ctl.cacert is {hidden}, ")) && !text.contains("CACERT=/"), "{text}");
    }
    for ctl in ["", "ctl: {cacert: ca.crt}\n", "ctl: {cacert: '/a b'}\n", "ctl: {cacert: \"/a\\nEND\\nreboot\"}\n"] {
        assert!(of(ctl).contains("\n# If the system does not know who signed"), "{ctl}");
    }
}

/// Whatever stands there, a shell sees no word of it.
#[test]
fn nothing_in_a_configuration_is_an_order() {
    for evil in
        ["\\nreboot #", "$(reboot)", "`reboot`", "'; reboot; '", "\\nEND\\nreboot\\n", "\\u2028reboot", "\\rreboot"]
    {
        let text = format!(
            "scope: \"{evil}\"\nrestapi: {{listen: '127.0.0.1:8008', x: \"{evil}\"}}\npostgresql: {{listen: '*:5432'}}\n"
        );
        let file = evil.replace("\\n", "\n");
        let text =
            checked(&[Found::Cluster(Cluster { file: file.clone().into(), ..cluster("/a.yml", &text) })], &[], false);
        assert!(orders(&text).iter().all(|line| !line.contains("reboot")), "{text}");
        let name = Instance::of_file(format!("/etc/patroni/{file}.yml").as_ref());
        assert!(
            name.is_none_or(|name| name.to_string().chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)))
        );
    }
}
