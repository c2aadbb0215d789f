//! The configuration that `haproxy-config` writes, in a HAProxy that starts and reloads.

use super::*;

on_each_release! {
    no_connection_is_refused_and_no_replica_written_to_at_a_reload_of_haproxy: boot,
    a_timer_keeps_the_members_in_haproxy: boot,
}

/// Takes connections and says which server it is.
fn postgres(address: &str, name: &'static str) {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(|mut client| _ = client.write_all(name.as_bytes())));
}

/// Who is reached at a port of HAProxy, and how often. Nobody is the empty name.
type Reached = HashMap<String, usize>;

fn connect(port: u16) -> String {
    match try_check(([127, 0, 0, 1], port).into()) {
        Outcome::Answered(name) => name,
        Outcome::Refused | Outcome::Unanswered => String::new(),
    }
}

/// Who is reached at the ports for writes and reads while something is done, and until there were so
/// many connections to each.
fn connecting(machine: &Machine, least: usize, work: impl FnOnce() + Send) -> [Reached; 2] {
    let done = AtomicBool::new(false);
    machine.inside(|| {
        thread::scope(|scope| {
            let clients = [5000, 5001].map(|port| {
                let done = &done;
                scope.spawn(move || {
                    let mut reached = Reached::new();
                    while !done.load(Ordering::Relaxed) || reached.values().sum::<usize>() < least {
                        *reached.entry(connect(port)).or_default() += 1;
                        thread::sleep(Duration::from_millis(1));
                    }
                    reached
                })
            });
            work();
            done.store(true, Ordering::Relaxed);
            clients.map(|client| client.join().unwrap())
        })
    })
}

fn names(reached: &Reached) -> Vec<&str> {
    let mut names: Vec<_> = reached.keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

fn install_program(machine: &Machine) {
    let built = std::path::Path::new(env!("CARGO_BIN_EXE_patroni-check"));
    fs::copy(built, machine.path("/usr/bin/patroni-check")).unwrap();
    fs::set_permissions(machine.path("/usr/bin/patroni-check"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn no_connection_is_refused_and_no_replica_written_to_at_a_reload_of_haproxy(machine: &Machine) {
    install_program(machine);
    let drop_in = machine.path("/etc/systemd/system/haproxy.service.d/haproxy-reload.conf");
    fs::create_dir_all(drop_in.parent().unwrap()).unwrap();
    fs::copy(lab::repository().join("systemd/haproxy-reload.conf"), drop_in).unwrap();
    let servers = ["primary", "replica-a", "replica-b"];
    let member = |n: usize| {
        format!(r#"{{"name":"{}","role":"","state":"","host":"127.0.0.{}","port":5432}}"#, servers[n], n + 1)
    };
    let members = (0..3).map(member).collect::<Vec<_>>().join(",");
    let patronis: Vec<FakePatroni> = machine.inside(|| {
        let hosts = servers.iter().zip(1..);
        hosts.for_each(|(name, n)| postgres(&format!("127.0.0.{n}:5432"), name));
        postgres("127.0.0.1:6432", "bouncer");
        let roles = ["primary", "replica", "replica"].into_iter().zip(1..);
        roles.map(|(role, n)| FakePatroni::at(&format!("127.0.0.{n}:8008"), in_role(role))).collect()
    });
    let cluster =
        machine.inside(|| FakePatroni::at("127.0.0.9:8008", answer(200, &format!(r#"{{"members":[{members}]}}"#))));
    for n in 1..=3 {
        machine.sh(&format!(
            "systemd-run --quiet patroni-check --patroni http://127.0.0.{n}:8008 \
             --listen 127.0.0.{n}:5555=/primary --listen 127.0.0.{n}:5556=/replica \
             --listen 127.0.0.{n}:5655=/primary --listen 127.0.0.{n}:5656=/replica"
        ));
    }
    let config = |options: &str| {
        machine.sh(&format!(
            "patroni-check haproxy-config --patroni http://127.0.0.9:8008 {options} >/etc/haproxy/haproxy.cfg"
        ));
    };
    config("");
    machine.sh("haproxy -c -q -f /etc/haproxy/haproxy.cfg; systemctl daemon-reload");
    // What is left of another time is no news at a start.
    machine
        .sh("systemctl stop haproxy; install -d -o haproxy -g haproxy /run/haproxy; echo 1 >/run/haproxy/server-state");
    let [mut writes, _] = connecting(machine, 1000, || _ = machine.sh("systemctl start haproxy"));
    // While no server is UP yet.
    writes.remove("");
    assert_eq!(names(&writes), ["primary"]);
    assert!(!machine.path("/run/haproxy/server-state").exists());
    let version = machine.sh("haproxy -v | head -n 1");
    let (mut all_writes, mut all_reads) = (Reached::new(), Reached::new());
    for _ in 0..10 {
        let [writes, reads] = connecting(machine, 1000, || {
            machine.sh("systemctl reload haproxy");
            thread::sleep(Duration::from_millis(700));
        });
        for (all, some) in [(&mut all_writes, writes), (&mut all_reads, reads)] {
            some.into_iter().for_each(|(name, times)| *all.entry(name).or_default() += times);
        }
    }
    println!("{version}, ten reloads: {all_writes:?}, {all_reads:?}");
    assert_eq!((names(&all_writes), names(&all_reads)), (vec!["primary"], vec!["replica-a", "replica-b"]));
    // No replica is left, and one is back.
    let reads = || machine.inside(|| connect(5001));
    patronis[1..].iter().for_each(|patroni| patroni.now(answer(500, "{}")));
    await_that("reads on the primary", || reads() == "primary");
    patronis[1].now(in_role("replica"));
    await_that("reads on the replica", || reads() == "replica-a");
    // A port of the configuration counts, and not that of the state.
    let has_ports = |ports: [&str; 3]| {
        let state = machine.sh("echo show servers state | socat stdio /run/haproxy/admin.sock");
        let line = state.lines().find(|line| line.contains(" postgres_read_write 1 primary ")).unwrap();
        let fields: Vec<_> = line.split(' ').collect();
        // Of the server, its check and its agent.
        assert_eq!([18, 21, 24].map(|field| fields[field]), ports, "{line}");
    };
    has_ports(["5432", "5555", "5555"]);
    for (options, reached, ports) in [
        ("--agent-port 5655 --replica-port 5656", "primary", ["5432", "5655", "5655"]),
        ("--agent-port 5655 --replica-port 5656 --server-port 6432", "bouncer", ["6432", "5655", "5655"]),
    ] {
        config(options);
        machine.sh("systemctl reload haproxy");
        await_that(reached, || machine.inside(|| connect(5000)) == reached);
        thread::sleep(Duration::from_millis(500));
        has_ports(ports);
    }
    drop((patronis, cluster));
}

/// What `/cluster` lists: so many members.
fn list(count: usize) -> Behaviour {
    let member = |n| format!(r#"{{"name":"db{n}","role":"","state":"","host":"127.0.0.{n}","port":5432}}"#);
    answer(200, &format!(r#"{{"members":[{}]}}"#, (1..=count).map(member).collect::<Vec<_>>().join(",")))
}

fn a_timer_keeps_the_members_in_haproxy(machine: &Machine) {
    install_program(machine);
    let patroni = machine.inside(|| FakePatroni::at("127.0.0.9:8008", list(3)));
    let units = ["patroni-check-haproxy.service", "patroni-check-haproxy.timer"];
    for unit in units {
        let text = fs::read_to_string(lab::repository().join("systemd/examples").join(unit)).unwrap();
        // The first of the two is nobody.
        let text = text.replace("http://192.0.2.1:8008", "http://127.0.0.8:8008");
        let text =
            text.replace("http://192.0.2.2:8008", "http://127.0.0.9:8008").replace("InactiveSec=30", "InactiveSec=1");
        fs::write(machine.path(&format!("/etc/systemd/system/{unit}")), text.replace("DelaySec=5", "DelaySec=0"))
            .unwrap();
        assert_eq!(machine.sh(&format!("systemd-analyze verify --man=no /etc/systemd/system/{unit} 2>&1")), "");
    }
    machine.sh("systemctl daemon-reload; install -d -o haproxy -g haproxy /run/haproxy; systemctl start haproxy");
    let [service, timer] = units;
    let log =
        |what: &str| machine.sh(&format!("journalctl -q --no-pager -o cat -u {service} | grep -c '{what}' || true"));
    // A configuration that somebody wrote stays.
    assert!(!machine.try_sh(&format!("systemctl start {service}")).status.success());
    assert_eq!(log("WARNING: /etc/haproxy/haproxy.cfg is as it was: it was not written by"), "1");
    machine.sh("mv /etc/haproxy/haproxy.cfg /etc/haproxy/haproxy.cfg.before");
    machine.sh(&format!("systemctl start {service}"));
    let servers = || {
        let state = machine.try_sh("echo show servers state postgres_read_write | socat stdio /run/haproxy/admin.sock");
        String::from_utf8_lossy(&state.stdout).matches(" postgres_read_write ").count()
    };
    await_that("three servers", || servers() == 3);
    machine.sh(&format!("systemctl start {timer}"));
    patroni.now(list(4));
    await_that("four servers", || servers() == 4);
    patroni.now(Behaviour::Close);
    await_that("a Patroni that is away", || log("WARNING: .*cluster: ") != "0");
    patroni.now(list(3));
    await_that("an absent member", || log("OK: 4 members; db4 absent for [1-9]") != "0");
    machine.sh(&format!("systemctl stop {timer}"));
    assert_eq!((servers(), log("reloaded").as_str()), (4, "2"));
    assert_eq!(machine.sh("stat -c %a:%U /etc/haproxy/haproxy.cfg"), "644:root");
    println!("{}", machine.sh(&format!("systemd-analyze security --no-pager {service} | tail -n 1")));
}
