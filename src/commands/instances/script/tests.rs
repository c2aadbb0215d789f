use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;

fn cluster(file: &str, text: &str) -> Cluster {
    let configuration = Configuration::read(text).unwrap().unwrap();
    let instance = Instance::of_file(file.as_ref());
    Cluster { file: file.into(), instance, configuration, answered: Vec::new(), asks_another: None }
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
    let text = script(found, taken.iter().copied().collect(), is_alone);
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
fn one_that_is_alone_gets_no_instance() {
    let text = checked(&[debians("15-main", "10.0.0.1", 5432)], &[], true);
    assert!(text.contains("\nsystemctl enable --now patroni-check.socket patroni-check-replica.socket\n"), "{text}");
    assert!(text.contains("\nPATRONI_CHECK_PATRONI=http://10.0.0.1:8008\nEND\n") && !text.contains('@'), "{text}");
    assert!(
        text.contains("/patroni-check.service.d/patroni.conf <<'END'\n[Service]\nIPAddressAllow=10.0.0.1\n"),
        "{text}"
    );
    // Where all is as the service takes it for granted.
    let text = checked(&[debians("15-main", "0.0.0.0", 5432)], &[], true);
    assert!(!text.contains("PATRONI_CHECK_PATRONI") && !text.contains("IPAddressAllow"), "{text}");
}

#[test]
fn what_is_answered_or_can_not_be_read_gets_no_orders() {
    let Found::Cluster(answered) = debians("a", "127.0.0.1", 5432) else { unreachable!() };
    let answered = Cluster { answered: vec!["patroni-check.socket at [::]:5555".into()], ..answered };
    let Found::Cluster(other) = debians("b", "127.0.0.1", 5433) else { unreachable!() };
    let other = Cluster { asks_another: Some("http://x:1".into()), ..other };
    let unread = Found::Unread("/etc/patroni/\nreboot.yml".into(), "line 3: \u{1b}[0m\nreboot".into());
    let text = checked(&[Found::Cluster(answered), Found::Cluster(other), unread], &[], false);
    assert_eq!(orders(&text), [""; 0], "{text}");
    assert!(text.contains("answered by\n#   patroni-check.socket at [::]:5555\n"), "{text}");
    assert!(text.contains("/b.env has another Patroni, http://x:1."), "{text}");
    assert!(text.contains("# /etc/patroni/ reboot.yml: line 3: ?[0m reboot."), "{text}");
    assert!(checked(&[], &[], false).contains("no configuration"));
}

#[test]
fn names_are_resolved_when_the_script_runs_and_tls_needs_an_authority() {
    let of = |ctl: &str| {
        let text = format!(
            "scope: a\nrestapi: {{listen: '0.0.0.0:8008', connect_address: 'db1:8008', certfile: /c, verify_client: required}}\n\
             postgresql: {{}}\n{ctl}"
        );
        checked(&[Found::Cluster(cluster("/etc/patroni/a.yml", &text))], &[], false)
    };
    let text = of("ctl: {cacert: /etc/ssl/ca.crt}\n");
    assert!(
        text.contains("\nPATRONI_CHECK_PATRONI=https://db1:8008\nPATRONI_CHECK_CACERT=/etc/ssl/ca.crt\n# restapi"),
        "{text}"
    );
    assert!(text.contains("\n    getent ahosts db1 | "), "{text}");
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
        let text =
            format!("scope: \"{evil}\"\nrestapi: {{listen: '127.0.0.1:8008', x: \"{evil}\"}}\npostgresql: {{}}\n");
        let file = evil.replace("\\n", "\n");
        let text =
            checked(&[Found::Cluster(Cluster { file: printable(&file), ..cluster("/a.yml", &text) })], &[], false);
        assert!(orders(&text).iter().all(|line| !line.contains("reboot")), "{text}");
        let name = Instance::of_file(format!("/etc/patroni/{file}.yml").as_ref());
        assert!(
            name.is_none_or(|name| name.to_string().chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)))
        );
    }
}
