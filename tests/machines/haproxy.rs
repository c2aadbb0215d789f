//! The configuration that `haproxy-config` writes, in a HAProxy that starts and reloads.

use super::*;

on_each_release! {
    no_replica_is_written_to_at_a_start_or_a_reload_of_haproxy: boot,
}

/// Takes connections and says which server it is.
fn postgres(address: &str, name: &'static str) {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(|mut client| _ = client.write_all(name.as_bytes())));
}

fn no_replica_is_written_to_at_a_start_or_a_reload_of_haproxy(machine: &Machine) {
    let built = std::path::Path::new(env!("CARGO_BIN_EXE_patroni-check"));
    fs::copy(built, machine.path("/usr/bin/patroni-check")).unwrap();
    fs::set_permissions(machine.path("/usr/bin/patroni-check"), fs::Permissions::from_mode(0o755)).unwrap();
    let names = ["primary", "replica-a", "replica-b"];
    let member =
        |n: usize| format!(r#"{{"name":"{}","role":"","state":"","host":"127.0.0.{}","port":5432}}"#, names[n], n + 1);
    let members = (0..3).map(member).collect::<Vec<_>>().join(",");
    let patronis: Vec<FakePatroni> = machine.inside(|| {
        let hosts = names.iter().zip(1..);
        hosts.for_each(|(name, n)| postgres(&format!("127.0.0.{n}:5432"), name));
        let behaviours = [primary(), replica(), replica()].into_iter().zip(1..);
        behaviours.map(|(behaviour, n)| FakePatroni::at(&format!("127.0.0.{n}:8008"), behaviour)).collect()
    });
    let cluster =
        machine.inside(|| FakePatroni::at("127.0.0.9:8008", answer(200, &format!(r#"{{"members":[{members}]}}"#))));
    for n in 1..=3 {
        machine.sh(&format!(
            "systemd-run --quiet patroni-check --patroni http://127.0.0.{n}:8008 \
             --listen 127.0.0.{n}:5555=/primary --listen 127.0.0.{n}:5556=/replica"
        ));
    }
    machine.sh("patroni-check haproxy-config --patroni http://127.0.0.9:8008 >/root/haproxy.cfg");
    machine.sh("mkdir -p /run/haproxy; haproxy -c -q -f /root/haproxy.cfg");
    drop(cluster);
    let done = AtomicBool::new(false);
    let mut reached = machine.inside(|| {
        thread::scope(|scope| {
            let client = || {
                let mut reached: HashMap<String, usize> = HashMap::new();
                while !done.load(Ordering::Relaxed) {
                    let reply = match try_check(([127, 0, 0, 1], 5000).into()) {
                        Outcome::Answered(name) => name,
                        Outcome::Refused | Outcome::Unanswered => String::new(),
                    };
                    *reached.entry(reply).or_default() += 1;
                    thread::sleep(Duration::from_millis(1));
                }
                reached
            };
            let client = scope.spawn(client);
            machine.sh("systemd-run --quiet --unit=lb haproxy -W -f /root/haproxy.cfg");
            for _ in 0..10 {
                thread::sleep(Duration::from_millis(700));
                machine.sh("systemctl kill --kill-who=main -s USR2 lb.service");
            }
            thread::sleep(Duration::from_secs(1));
            done.store(true, Ordering::Relaxed);
            client.join().unwrap()
        })
    });
    println!("{}: {reached:?}", machine.sh("haproxy -v | head -n 1"));
    // While no server is UP yet.
    reached.remove("");
    assert_eq!(reached.keys().collect::<Vec<_>>(), ["primary"]);
    drop(patronis);
}
