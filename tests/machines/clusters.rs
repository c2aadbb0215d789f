//! Two real clusters on one host, made the Debian way, with an instance for each.

use super::*;

on_each_release! {
    two_clusters_on_one_host: boot,
}

/// Patroni listens at the host's own address, as Debian's pg_createconfig_patroni has it.
const ADDRESS: &str = "192.0.2.1";

/// Those of the second cluster: Postgres has 5433.
const SECOND: SocketAddr = at(5565);
const SECOND_REPLICA: SocketAddr = at(5566);

/// The lines that the guide has under a heading, for this instance.
fn guide(heading: &str, name: &str) -> String {
    let page = fs::read_to_string(lab::repository().join("docs/guide.md")).unwrap();
    let section = page.split_once(&format!("\n### {heading}\n")).unwrap().1;
    let lines = section.lines().skip_while(|line| !line.starts_with("    "));
    let lines: Vec<_> = lines.map_while(|line| line.strip_prefix("    ")).collect();
    lines.join("\n").replace("sudo ", "").replace("16-main", name)
}

fn orders(script: &str) -> Vec<&str> {
    script.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect()
}

/// Debian 12's Patroni says master.
fn is_ready(reply: &str) -> bool {
    ["READY UP # primary timeline 1\n", "READY UP # master timeline 1\n"].contains(&reply)
}

fn is_primary(address: SocketAddr) -> bool {
    matches!(try_check(address), Outcome::Answered(reply) if is_ready(&reply))
}

fn start_etcd(machine: &Machine) {
    machine.inside(|| {
        let mut ip = std::process::Command::new("ip");
        assert!(ip.args(["address", "add", &format!("{ADDRESS}/24"), "dev", "lo"]).status().unwrap().success());
    });
    machine.sh("systemctl start etcd.service");
    fs::write(machine.path("/etc/patroni/dcs.yml"), "etcd3:\n  host: 127.0.0.1:2379\n").unwrap();
    machine.sh("pg_lsclusters -h | while read -r version name rest; do pg_dropcluster --stop $version $name; done");
}

/// As Debian's README says.
fn create_cluster(machine: &Machine, version: &str, name: &str, port: u16) {
    machine.sh(&format!(
        "pg_createconfig_patroni --hostip={ADDRESS} --network=192.0.2.0/24 --port={port} {version} {name} && \
         systemctl start patroni@{version}-{name}.service"
    ));
}

fn two_clusters_on_one_host(machine: &Machine) {
    if !lab::requires(&["ip", "make", "dh", "target/release/patroni-check"]) {
        return;
    }
    machine.install(&packages().first);
    start_etcd(machine);
    let version = machine.sh("ls /usr/lib/postgresql | tail -n 1");
    let (main, test) = (format!("{version}-main"), format!("{version}-test"));
    assert!(machine.sh("patroni-check instances").contains("no configuration"));
    create_cluster(machine, &version, "main", 5432);
    // One that is alone has no need of an instance. Its settings are the administrator's.
    let alone = machine.sh("patroni-check instances");
    assert!(alone.ends_with(&format!("\n# PATRONI_CHECK_PATRONI=http://{ADDRESS}:8008")), "{alone}");
    assert!(orders(&alone).is_empty() && !alone.contains('@'), "{alone}");
    create_cluster(machine, &version, "test", 5433);

    let script = machine.sh("patroni-check instances");
    println!("{script}");
    assert!(script.contains(&format!("PATRONI_CHECK_PATRONI=http://{ADDRESS}:8009\n")), "{script}");
    machine.sh("patroni-check instances | sh");
    for port in [PORT, SECOND] {
        machine.inside(|| await_that("both primaries", || is_primary(port)));
    }
    for port in [REPLICA_PORT, SECOND_REPLICA] {
        let reply = machine.inside(|| check(port));
        assert!(reply.strip_prefix("MAINT").is_some_and(|rest| is_ready(&format!("READY{rest}"))), "{reply}");
    }
    let done = machine.sh("patroni-check instances");
    assert_eq!(orders(&done), [""; 0], "{done}");
    assert!(done.contains(&format!("patroni-check-cluster@{test}.socket at [::]:5565")), "{done}");

    each_has_its_own(machine, &main, &test);
    what_is_missing_is_told(machine, &test);
    one_process_for_each_check_of_an_instance(machine, &test);
    removing_one_leaves_the_other(machine, &main, &test);
    beside_one_that_is_no_instance(machine, &test);
    the_package_takes_them_along(machine, &test);
}

/// Holds, memory, user, journal, ports.
fn each_has_its_own(machine: &Machine, main: &str, test: &str) {
    let held = "MAINT UP # held: disk\n";
    let error = machine.try_sh("patroni-check hold disk");
    let error = (error.status.code(), String::from_utf8_lossy(&error.stderr).into_owned());
    assert!(error.0 == Some(2) && error.1.contains(&format!("--instance {main} or --instance {test}")), "{error:?}");
    machine.inside(|| assert!(is_primary(PORT) && is_primary(SECOND)));
    machine.sh(&format!("patroni-check hold --instance {test} disk"));
    machine.inside(|| {
        assert_eq!(check(SECOND), held);
        assert!(is_primary(PORT));
    });
    assert_eq!(machine.sh(&format!("cat /etc/patroni-check/{test}/hold | head -n 1")), "disk");
    let is = |name: &str| machine.try_sh(&format!("patroni-check --instance {name} is /primary")).status.code();
    assert_eq!((is(main), is(test)), (Some(0), Some(1)));
    machine.sh(&format!("patroni-check release --instance {test}"));
    machine.inside(|| await_that("the release", || is_primary(SECOND)));

    let of = |name: &str, property: &str| {
        machine.sh(&format!("systemctl show -P {property} patroni-check-cluster@{name}.service"))
    };
    let user = |name: &str| machine.sh(&format!("stat -c %u /proc/{}", of(name, "MainPID")));
    assert_ne!(user(main), user(test));
    for name in [main, test] {
        let other = if name == main { test } else { main };
        machine.sh(&format!("test -s /run/patroni-check-cluster/{name}/primary.json"));
        let explained = machine.sh(&format!("patroni-check explain /primary --instance {name}"));
        for text in ["OK: ", "running, timeline 1", &format!("patroni-check-cluster@{name}.socket"), "REMEMBERED"] {
            assert!(explained.contains(text), "{text}: {explained}");
        }
        assert!(!explained.contains(other), "{explained}");
        let told = machine.sh(&format!("journalctl -q -o verbose --no-pager -t patroni-check@{name}"));
        assert!(
            told.contains(&format!("PATRONI_CHECK_INSTANCE={name}\n")) && !told.contains(&format!("@{other}")),
            "{told}"
        );
    }
    let haproxy = machine.sh(&format!("patroni-check haproxy-config --section --instance {test}"));
    assert!(haproxy.contains("agent-port 5565") && haproxy.contains("agent-port 5566"), "{haproxy}");
    let haproxy = machine.sh(&format!("patroni-check haproxy-config --section --instance {test} --agent-port 7"));
    assert!(haproxy.contains("agent-port 7 ") && haproxy.contains("agent-port 5566"), "{haproxy}");

    // What was known outlives a process, while nobody could know it anew.
    let stop = |signal: &str| machine.sh(&format!("systemctl kill --kill-who=main -s {signal} patroni@{test}.service"));
    set_for(machine, test, "PATRONI_CHECK_GRACE=20s\n");
    machine.inside(|| await_that("a look with the new settings", || is_primary(SECOND)));
    stop("STOP");
    machine.sh(&format!("systemctl restart patroni-check-cluster@{test}.service"));
    let silent = machine.inside(|| [SECOND, PORT].map(check));
    stop("CONT");
    assert!(silent[0].starts_with("READY UP") && is_ready(&silent[1]), "{silent:?}");
}

fn set_for(machine: &Machine, name: &str, more: &str) {
    let file = machine.path(&format!("/etc/patroni-check/{name}.env"));
    let settings = fs::read_to_string(&file).unwrap() + more;
    fs::write(file, settings).unwrap();
    machine.sh(&format!("systemctl restart patroni-check-cluster@{name}.service"));
}

fn what_is_missing_is_told(machine: &Machine, test: &str) {
    // No port.
    let refused = machine.try_sh("systemctl start patroni-check-cluster@nobody.socket");
    assert!(!refused.status.success());
    assert!(machine.sh("journalctl -q --no-pager -o cat").contains("Unit has no Listen setting"));
    // No settings: nothing is answered, and least of all for another cluster.
    let settings = format!("/etc/patroni-check/{test}.env");
    for wrong in ["rm", "echo PATRONI_CHECK_GRACE=1s >"] {
        let why = format!("instance {test} has no PATRONI_CHECK_PATRONI");
        let told = || {
            let journal = format!("journalctl -q --no-pager -o cat -t patroni-check@{test}");
            machine.sh(&journal).matches(&why).count()
        };
        let before = told();
        machine.sh(&format!("cp {settings} /root/kept; {wrong} {settings}"));
        machine.try_sh(&format!("systemctl restart patroni-check-cluster@{test}.service"));
        await_that("the reason in the journal", || told() > before);
        assert_eq!(machine.try_sh(&format!("patroni-check hold --instance {test}")).status.code(), Some(2));
        machine.inside(|| assert!(is_primary(PORT)));
        // The port is open all the while, and answers once the settings are there.
        machine.sh(&format!("mv /root/kept {settings}"));
        machine.inside(|| await_that("the answer", || is_primary(SECOND)));
    }
}

/// By the guide's own lines.
fn one_process_for_each_check_of_an_instance(machine: &Machine, test: &str) {
    machine.sh(&guide("One process for each check of an instance", test));
    machine.inside(|| await_that("an answer by a process of its own", || is_primary(SECOND)));
    let service = format!("patroni-check-cluster@{test}.service");
    assert_eq!(property(machine, "ActiveState", &service), "inactive");
    machine.sh(&format!("patroni-check hold --instance {test} disk"));
    machine.inside(|| assert_eq!(check(SECOND), "MAINT UP # held: disk\n"));
    machine.sh(&format!("patroni-check release --instance {test}"));
    // And back.
    machine.sh(&format!(
        "systemctl disable --now patroni-check-{test}.socket; rm -r /etc/systemd/system/patroni-check-{test}*; \
         systemctl daemon-reload; systemctl enable --now patroni-check-cluster@{test}.socket"
    ));
    machine.inside(|| await_that("the service again", || is_primary(SECOND)));
}

/// By the guide's own lines.
fn removing_one_leaves_the_other(machine: &Machine, main: &str, test: &str) {
    let outcomes = checking_at(SECOND, machine, || {
        machine.sh(&guide("Removing an instance", main));
    });
    let is_answered = |outcome: &Outcome| matches!(outcome, Outcome::Answered(reply) if is_ready(reply));
    assert!(!outcomes.is_empty() && outcomes.iter().all(is_answered), "{outcomes:?}");
    machine.inside(|| assert_eq!([PORT, REPLICA_PORT].map(try_check), [Outcome::Refused, Outcome::Refused]));
    machine.sh(&format!("! find /etc -path '*patroni-check*' -name '*{main}*' | grep ."));
    let service = format!("patroni-check-cluster@{main}.service");
    assert_eq!(property(machine, "ActiveState", &service), "inactive");
    let script = machine.sh("patroni-check instances");
    assert!(script.contains(&format!("put /etc/patroni-check/{main}.env ")), "{script}");
    assert!(!script.contains(&format!("put /etc/patroni-check/{test}.env ")), "{script}");
}

/// A hold without a name is that of patroni-check.socket, and says so.
fn beside_one_that_is_no_instance(machine: &Machine, test: &str) {
    set(machine, &format!("PATRONI_CHECK_PATRONI=http://{ADDRESS}:8008\n"));
    machine.sh(&format!(
        "mkdir /etc/systemd/system/patroni-check.service.d; printf '[Service]\nIPAddressAllow={ADDRESS}\n' \
         >/etc/systemd/system/patroni-check.service.d/patroni.conf; systemctl daemon-reload; \
         systemctl enable --now patroni-check.socket"
    ));
    machine.inside(|| await_that("the one without a name", || is_primary(PORT)));
    let said = machine.sh("patroni-check hold disk 2>&1");
    assert!(said.contains(&format!("also has --instance {test}\n")) && said.contains("Held:"), "{said}");
    machine.inside(|| {
        assert_eq!(check(PORT), "MAINT UP # held: disk\n");
        assert!(is_primary(SECOND));
    });
    machine.sh("patroni-check release");
    let script = machine.sh("patroni-check instances");
    assert!(orders(&script).is_empty() && script.contains("patroni-check.socket at [::]:5555"), "{script}");
    machine.sh("systemctl disable --now patroni-check.socket; rm -r /etc/systemd/system/patroni-check.service.d");
}

/// An upgrade restarts the program behind the open port; what is removed answers no more.
fn the_package_takes_them_along(machine: &Machine, test: &str) {
    let service = format!("patroni-check-cluster@{test}.service");
    let before = property(machine, "MainPID", &service);
    let outcomes = checking_at(SECOND, machine, || _ = machine.install(&packages().next));
    assert_eq!(count(&outcomes, &Outcome::Refused), 0);
    machine.inside(|| await_that("the new one", || is_primary(SECOND)));
    assert_ne!(property(machine, "MainPID", &service), before);
    machine
        .sh(&format!("patroni-check hold --instance {test} disk; patroni-check hold --instance {test} --on /replica"));
    machine.sh("apt-get remove -y -q patroni-check");
    machine.inside(|| assert_eq!(try_check(SECOND), Outcome::Refused));
    machine.sh(&format!("test -e /etc/patroni-check/{test}/hold && test -e /etc/patroni-check/{test}.env"));
    machine.sh("apt-get purge -y -q patroni-check");
    machine.sh("! test -e /etc/patroni-check");
}
