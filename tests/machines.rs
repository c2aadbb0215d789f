//! Whole Debian machines, booted with their own systemd, with the package installed: what the units promise. The Patroni
//! in them is the stand-in, because here it is systemd that is tried; the demo runs in them with real ones.
//!
//! A machine has a network of its own, so everything is on the ports that it really has.

mod lab;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use lab::agent::{check, check_after_sending};
use lab::certificates::Authority;
use lab::machine::{Machine, packages};
use lab::standin::{Behaviour, StandIn, answer, primary, replica};
use lab::{PATIENCE, await_that};

const READY: &str = "READY UP # primary timeline 3\n";
const PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5555);

/// Each test on each release, the releases next to each other in the order in which tests are run: a machine of the one
/// can be booted while the other is at work.
macro_rules! on_each_release {
    ($($test:ident: $boot:ident,)*) => {
        $(mod $test {
            use super::{Machine, $test as test};
            #[test] fn bookworm() { if let Some(machine) = Machine::$boot("bookworm") { test(&machine) } }
            #[test] fn trixie() { if let Some(machine) = Machine::$boot("trixie") { test(&machine) } }
        })*
    };
}

on_each_release! {
    the_package_comes_and_goes: boot,
    the_demo_runs_with_what_the_release_has: boot,
    the_units_are_hardened_and_all_works_under_it: with_agent,
    names_and_addresses: with_agent,
    the_journal_has_an_entry_for_each_change_and_the_status_line_the_counts: with_agent,
    restarts_and_an_upgrade_lose_no_check: with_agent,
    a_kill_loses_only_the_checks_in_hand: with_agent,
    a_program_that_crashes_at_once_does_not_cost_the_port: with_agent,
    the_watchdog_replaces_a_loop_that_stopped: with_agent,
    one_process_for_each_check: with_agent,
    a_second_view_joins_as_documented: with_agent,
    only_the_haproxies_are_let_in: with_agent,
    a_key_that_only_root_can_read_reaches_the_service: with_agent,
    a_hold_by_root_and_explain: with_agent,
    settings_are_read_as_systemd_reads_them: boot,
    no_replica_is_written_to_at_a_start_or_a_reload_of_haproxy: boot,
}

fn patroni(machine: &Machine, behaviour: Behaviour) -> StandIn {
    machine.inside(|| StandIn::at("127.0.0.1:8008", behaviour))
}

fn set(machine: &Machine, settings: &str) {
    fs::write(machine.path("/etc/default/patroni-check"), settings).unwrap();
}

/// A deadline that no machine is too slow for.
fn set_patient(machine: &Machine) {
    set(machine, "PATRONI_CHECK_DEADLINE=5s\n");
    machine.sh("systemctl try-restart patroni-check.service");
}

/// What one check came to.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Refused,
    Unanswered,
    Answered(String),
}

fn try_check(address: SocketAddr) -> Outcome {
    let Ok(mut stream) = TcpStream::connect(address) else { return Outcome::Refused };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reply = String::new();
    match stream.read_to_string(&mut reply) {
        Ok(_) if !reply.is_empty() => Outcome::Answered(reply),
        _ => Outcome::Unanswered,
    }
}

/// Four clients that check all the while that something is done. Gives what their checks came to.
fn checking(machine: &Machine, work: impl FnOnce() + Send) -> Vec<Outcome> {
    let done = AtomicBool::new(false);
    machine.inside(|| {
        thread::scope(|scope| {
            let client = || {
                let mut outcomes = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    outcomes.push(try_check(PORT));
                    thread::sleep(Duration::from_millis(10));
                }
                outcomes
            };
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            done.store(true, Ordering::Relaxed);
            let outcomes = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
            worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcomes
        })
    })
}

fn count(outcomes: &[Outcome], wanted: &Outcome) -> usize {
    outcomes.iter().filter(|outcome| *outcome == wanted).count()
}

fn report(machine: &Machine, what: &str, outcomes: &[Outcome]) {
    let (refused, unanswered) = (count(outcomes, &Outcome::Refused), count(outcomes, &Outcome::Unanswered));
    let version = machine.sh("systemctl --version | head -n 1");
    println!("{version}: {what}: {} checks, {refused} refused, {unanswered} unanswered", outcomes.len());
}

fn the_package_comes_and_goes(machine: &Machine) {
    let state = |unit: &str| {
        let output = machine.try_sh(&format!("systemctl is-enabled {unit}; systemctl is-active {unit}"));
        String::from_utf8_lossy(&output.stdout).trim().replace('\n', " ")
    };
    machine.install(&packages().first);
    assert_eq!(machine.sh("patroni-check"), "MAINT DOWN # patroni: connection refused");
    // Nothing is enabled by surprise.
    assert_eq!(state("patroni-check.socket"), "disabled inactive");
    for other in ["replica", "agent-send", "metrics"] {
        assert_eq!(state(&format!("patroni-check-{other}.socket")), "disabled inactive");
    }
    let lint = machine.sh("cd /root && lintian --allow-root --fail-on none --tag-display-limit 0 package.deb 2>&1");
    let lint: Vec<_> = lint.lines().filter(|line| line.starts_with("E:") || line.starts_with("W:")).collect();
    assert_eq!(lint, [""; 0]);
    for unit in machine.sh("cd /usr/lib/systemd/system; ls patroni-check* | sed 's/@/@x/'").lines() {
        assert_eq!(machine.sh(&format!("systemd-analyze verify --man=no --recursive-errors=no {unit} 2>&1")), "");
    }
    machine.sh("systemctl enable --now patroni-check.socket");
    let patroni = patroni(machine, primary());
    machine.inside(|| await_that("READY", || check(PORT) == READY));
    // Settings survive an upgrade.
    set(machine, "PATRONI_CHECK_WORDS=plain\n");
    machine.install(&packages().next);
    machine.inside(|| await_that("READY in plain words", || check(PORT) == "READY\n"));
    assert_eq!(state("patroni-check.socket"), "enabled active");
    machine.sh("apt-get remove -y -q patroni-check");
    machine.inside(|| assert_eq!(try_check(PORT), Outcome::Refused));
    machine.sh("test -e /etc/default/patroni-check");
    machine.sh("apt-get purge -y -q patroni-check");
    machine.sh("! test -e /etc/default/patroni-check");
    machine.sh("! find /etc/systemd /usr -name '*patroni-check*' | grep .");
    assert_eq!(machine.sh("systemctl --failed --no-legend"), "");
    drop(patroni);
}

fn the_demo_runs_with_what_the_release_has(machine: &Machine) {
    let built = std::path::Path::new(env!("CARGO_BIN_EXE_patroni-check"));
    for (file, to) in [(built.to_owned(), "patroni-check"), (built.parent().unwrap().join("examples/demo"), "demo")] {
        let to = machine.path(&format!("/root/{to}"));
        fs::copy(file, &to).unwrap();
        fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let output = machine.sh("/root/demo /root/patroni-check 30 2>&1");
    assert!(output.contains("after the switchover"), "{output}");
}

/// What a name server knows: of each first label, how long it takes, and the address, if it has one.
type Names = Arc<Mutex<HashMap<&'static str, (Duration, Option<Ipv4Addr>)>>>;

/// It says that there is nothing to questions for other than A records (RFC 1035, 4.1).
fn name_server(names: &Names) {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:53").unwrap());
    let names = Arc::clone(names);
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let name_length = buffer[12..length].iter().position(|byte| *byte == 0).unwrap();
            let first_label = &buffer[13..13 + usize::from(buffer[12])];
            let (pause, address) = names.lock().unwrap()[std::str::from_utf8(first_label).unwrap()];
            let question_end = 12 + name_length + 5;
            let is_a = buffer[question_end - 3] == 1;
            let address = address.filter(|_| is_a);
            let mut answer = buffer[..question_end].to_vec();
            // A response without error; one question, one answer or none, nothing else.
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
            if let Some(address) = address {
                // The name of the question, A, IN, a minute, four bytes.
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(address.octets());
            }
            let socket = Arc::clone(&socket);
            thread::spawn(move || {
                thread::sleep(pause);
                socket.send_to(&answer, client).unwrap();
            });
        }
    });
}

fn names_and_addresses(machine: &Machine) {
    let patroni = patroni(machine, primary());
    let _sixth = machine.inside(|| StandIn::at("[::1]:8009", primary()));
    let _elsewhere = machine.inside(|| StandIn::at("127.0.0.2:8008", replica()));
    let set = |url: &str| {
        set(machine, &format!("PATRONI_CHECK_PATRONI={url}\n"));
        machine.sh("systemctl restart patroni-check.service");
    };
    let becomes = |what: &str, said: &str| machine.inside(|| await_that(what, || check(PORT).contains(said)));
    // One process that lives for one answer.
    let once = |url: &str| machine.sh(&format!("patroni-check --patroni {url}"));
    for hosts in ["127.0.0.1 localhost\n::1 localhost\n", "::1 localhost\n127.0.0.1 localhost\n", "::1 localhost\n", ""]
    {
        fs::write(machine.path("/etc/hosts"), hosts).unwrap();
        for url in ["http://localhost:8008", "http://localhost:8009", "http://[::1]:8009", "http://127.0.0.1:8008/a/b"]
        {
            set(url);
            becomes(&format!("{url} with {hosts:?}"), READY);
            machine.inside(|| await_that(url, || once(url) == READY.trim_end()));
        }
    }
    assert!(patroni.requests().contains(&"GET /a/b/primary HTTP/1.1".into()));

    let slow = Duration::from_millis(1500);
    let names =
        [("none", (Duration::ZERO, None)), ("silent", (PATIENCE, None)), ("slow", (slow, Some(Ipv4Addr::LOCALHOST)))];
    let names = Arc::new(Mutex::new(HashMap::from(names)));
    machine.inside(|| name_server(&names));
    fs::write(machine.path("/etc/resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    let (none, late) = ("patroni: host name has no address", "patroni: no answer within 80ms");
    set("http://none.example:8008");
    becomes("no address", none);
    machine.inside(|| await_that("no address", || once("http://none.example:8008").contains(none)));

    set("http://silent.example:8008");
    let tasks = || machine.sh("systemctl show -P TasksCurrent patroni-check.service");
    becomes("a name server that does not answer", late);
    let before = tasks();
    machine.inside(|| (0..20).for_each(|_| assert!(check(PORT).contains(late))));
    assert_eq!(tasks(), before, "lookups that hang do not pile up");
    assert!(once("http://silent.example:8008").contains(late));

    // What it finds out too late for one check is news for the next.
    set("http://slow.example:8008");
    assert!(machine.inside(|| check(PORT)).contains(late));
    becomes("a name that is looked up slowly", READY);
    assert!(once("http://slow.example:8008").contains(late));

    let now = Duration::ZERO;
    names.lock().unwrap().insert("moving", (now, Some(Ipv4Addr::LOCALHOST)));
    set("http://moving.example:8008");
    becomes("the first address", READY);
    names.lock().unwrap().insert("moving", (now, Some(Ipv4Addr::new(127, 0, 0, 2))));
    becomes("the next address", "MAINT UP # replica");
}

fn the_units_are_hardened_and_all_works_under_it(machine: &Machine) {
    for unit in ["patroni-check.service", "patroni-check@x.service"] {
        let score = machine.sh(&format!("systemd-analyze security --no-pager {unit} | tail -n 1"));
        println!("{}: {score}", machine.sh("systemctl --version | head -n 1"));
        let number = score.split("service: ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        assert!(number.parse::<f64>().unwrap() <= 1.0, "{score}");
    }
    let _patroni = patroni(machine, primary());
    let _sixth = machine.inside(|| StandIn::at("[::1]:8009", primary()));
    let url = |url: &str| {
        set(machine, &format!("PATRONI_CHECK_DEADLINE=5s\nPATRONI_CHECK_PATRONI={url}\n"));
        machine.sh("systemctl restart patroni-check.service");
        machine.inside(|| check(PORT))
    };
    fs::write(machine.path("/etc/hosts"), "127.0.0.1 patroni.example\n::1 six.example\n").unwrap();
    for good in ["http://localhost:8008", "http://localhost:8009", "http://[::1]:8009"] {
        assert_eq!(url(good), READY, "{good}");
    }
    for named in ["http://patroni.example:8008", "http://six.example:8009"] {
        assert_eq!(url(named), READY, "{named}");
    }
    let names = HashMap::from([("only-in-the-dns", (Duration::ZERO, Some(Ipv4Addr::LOCALHOST)))]);
    machine.inside(|| name_server(&Arc::new(Mutex::new(names))));
    fs::write(machine.path("/etc/resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    assert_eq!(url("http://only-in-the-dns.example:8008"), READY);
    machine.sh("mkdir /root/tls; cd /root/tls; printf 'HTTP/1.0 200 OK\\r\\n\\r\\n' >primary; \
         printf '{\"state\": \"running\", \"role\": \"primary\", \"timeline\": 3}' >>primary; \
         openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out /etc/patroni.pem -days 2 -subj /CN=patroni \
             -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:patroni.example; \
         systemd-run --working-directory=/root/tls \
             openssl s_server -accept 8443 -cert /etc/patroni.pem -key key.pem -HTTP");
    let https = "https://patroni.example:8443";
    machine.inside(|| await_that("a TLS server", || TcpStream::connect("127.0.0.1:8443").is_ok()));
    assert_eq!(url(&format!("{https}\nPATRONI_CHECK_CACERT=/etc/patroni.pem")), READY);
    assert!(url(https).starts_with("MAINT DOWN # patroni: TLS: "), "without the authority");
    // Nothing is reached from there but what is allowed.
    set(machine, "PATRONI_CHECK_PATRONI=http://127.0.0.1:8008\n");
    fs::create_dir_all(machine.path("/etc/systemd/system/patroni-check.service.d")).unwrap();
    let drop_in = machine.path("/etc/systemd/system/patroni-check.service.d/patroni.conf");
    for (allowed, reply) in [("::1", "MAINT DOWN # patroni: no "), ("127.0.0.1", READY)] {
        fs::write(&drop_in, format!("[Service]\nIPAddressAllow=\nIPAddressAllow={allowed}\n")).unwrap();
        machine.sh("systemctl daemon-reload; systemctl restart patroni-check.service");
        machine.inside(|| await_that(reply, || check(PORT).starts_with(reply)));
    }
}

fn the_journal_has_an_entry_for_each_change_and_the_status_line_the_counts(machine: &Machine) {
    set_patient(machine);
    let patroni = patroni(machine, primary());
    machine.inside(|| {
        for (behaviour, word) in [(primary(), "READY"), (replica(), "MAINT")] {
            patroni.now(behaviour);
            await_that(word, || check(PORT).starts_with(word));
            (0..5).for_each(|_| assert!(check(PORT).starts_with(word)));
        }
    });
    let entries = |filter: &str| machine.sh(&format!("journalctl -q --no-pager -o cat _COMM=patroni-check {filter}"));
    assert_eq!(entries(""), "/primary -> READY UP # primary timeline 3\n/primary -> MAINT UP # replica timeline 3");
    let fields = "PATRONI_CHECK_ENDPOINT=/primary PATRONI_CHECK_VERDICT=standby PATRONI_CHECK_STATUS=503 \
                  PATRONI_CHECK_ROLE=replica PATRONI_CHECK_STATE=running";
    assert_eq!(entries(fields), "/primary -> MAINT UP # replica timeline 3");
    let fields = "'PATRONI_CHECK_REPLY=MAINT UP # replica timeline 3' 'PATRONI_CHECK_REASON=replica timeline 3'";
    assert_eq!(entries(fields), "/primary -> MAINT UP # replica timeline 3");
    await_that("the counts in the status line", || {
        let status = machine.sh("systemctl show -P StatusText patroni-check.service");
        let (said, counts) = status.split_once(" (").unwrap();
        assert_eq!(said, "/primary: MAINT UP # replica timeline 3");
        counts.split(' ').next().unwrap().parse::<u32>().unwrap() >= 10
    });
}

fn restarts_and_an_upgrade_lose_no_check(machine: &Machine) {
    set_patient(machine);
    let _patroni = patroni(machine, primary());
    let outcomes = checking(machine, || {
        for _ in 0..200 {
            machine.sh("systemctl restart patroni-check.service");
        }
        machine.install(&packages().next);
    });
    report(machine, "200 restarts and an upgrade", &outcomes);
    assert!(outcomes.len() > 200);
    assert_eq!(count(&outcomes, &Outcome::Answered(READY.into())), outcomes.len());
    assert_eq!(machine.sh("dpkg-query -Wf '${Version}' patroni-check").rsplit('-').next(), Some("2"));
}

fn a_kill_loses_only_the_checks_in_hand(machine: &Machine) {
    set_patient(machine);
    let _patroni = patroni(machine, primary());
    let outcomes = checking(machine, || {
        for _ in 0..50 {
            let pid = || machine.sh("systemctl show -P MainPID patroni-check.service");
            await_that("a running service", || pid() != "0");
            let before = pid();
            machine.sh("systemctl kill -s KILL --kill-who=main patroni-check.service");
            await_that("a new process", || !["0", &before].contains(&pid().as_str()));
        }
    });
    report(machine, "50 kills", &outcomes);
    assert_eq!(count(&outcomes, &Outcome::Refused), 0);
    // Each of four clients had at most one check in hand.
    assert!(count(&outcomes, &Outcome::Unanswered) <= 4 * 50);
    let answered = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Answered(_))).count();
    assert_eq!(count(&outcomes, &Outcome::Answered(READY.into())), answered);
    machine.inside(|| assert_eq!(check(PORT), READY));
}

fn a_program_that_crashes_at_once_does_not_cost_the_port(machine: &Machine) {
    set_patient(machine);
    let _patroni = patroni(machine, primary());
    let units =
        || machine.sh("systemctl list-units --all --no-legend 'patroni-check*' | wc -l").parse::<usize>().unwrap();
    for accept in [false, true] {
        if accept {
            accept_yes(machine);
        }
        machine.sh("mv /usr/bin/patroni-check /root/good; cp /bin/false /usr/bin/patroni-check");
        machine.try_sh("systemctl kill -s KILL 'patroni-check.service'");
        let start = Instant::now();
        machine.inside(|| {
            while start.elapsed() < Duration::from_secs(120) {
                // Nobody answers, so nobody can be waited for.
                let stream = TcpStream::connect(PORT).expect("the port is open all the time");
                thread::sleep(Duration::from_millis(50));
                drop(stream);
            }
        });
        assert!(units() < 20, "{}", machine.sh("systemctl list-units --all 'patroni-check*'"));
        assert_eq!(machine.sh("systemctl is-active patroni-check.socket"), "active");
        machine.sh("mv /root/good /usr/bin/patroni-check");
        machine.inside(|| {
            await_that("READY, without anybody's help", || try_check(PORT) == Outcome::Answered(READY.into()))
        });
    }
}

fn the_watchdog_replaces_a_loop_that_stopped(machine: &Machine) {
    set_patient(machine);
    let _patroni = patroni(machine, primary());
    machine.inside(|| assert_eq!(check(PORT), READY));
    let outcomes = checking(machine, || {
        let pid = machine.sh("systemctl show -P MainPID patroni-check.service");
        machine.sh(&format!("kill -STOP {pid}"));
        await_that("another process", || {
            !["0", &pid].contains(&machine.sh("systemctl show -P MainPID patroni-check.service").as_str())
        });
    });
    report(machine, "a stopped loop", &outcomes);
    assert_eq!(count(&outcomes, &Outcome::Refused), 0);
    assert!(count(&outcomes, &Outcome::Unanswered) <= 4);
    machine.inside(|| assert_eq!(check(PORT), READY));
    machine.sh("journalctl -q --no-pager -u patroni-check.service | grep -qi watchdog");
}

/// As the README says.
fn accept_yes(machine: &Machine) {
    machine.sh("systemctl stop patroni-check.socket patroni-check.service");
    machine.sh("install -D -m 644 /usr/share/doc/patroni-check/examples/accept-yes.conf \
         /etc/systemd/system/patroni-check.socket.d/accept-yes.conf");
    machine.sh("systemctl daemon-reload; systemctl start patroni-check.socket");
}

fn one_process_for_each_check(machine: &Machine) {
    set_patient(machine);
    let patroni = patroni(machine, primary());
    accept_yes(machine);
    let entries = || machine.sh("journalctl -q --no-pager | wc -l").parse::<usize>().unwrap();
    let before = entries();
    // More at once than MaxConnections= closes some unanswered; what trips the trigger limit would close the port.
    let flood = |clients: usize, checks: usize| {
        let (answered, start) = (AtomicUsize::new(0), Instant::now());
        let client = || {
            for _ in 0..checks {
                match try_check(PORT) {
                    Outcome::Answered(reply) => {
                        assert_eq!(reply, READY);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    Outcome::Unanswered => {}
                    Outcome::Refused => panic!("refused"),
                }
            }
        };
        machine.inside(|| thread::scope(|scope| (0..clients).for_each(|_| drop(scope.spawn(client)))));
        let answered = answered.into_inner();
        println!("Accept=yes: {} checks in {:?}, {answered} answered", clients * checks, start.elapsed());
        answered
    };
    let answered = flood(20, 50);
    assert!(answered > 0);
    // Long enough for requests to meet there.
    patroni.delay(Duration::from_millis(300));
    flood(20, 5);
    assert!(patroni.most_in_flight() <= 3, "{} of our requests at once", patroni.most_in_flight());
    let written = entries() - before;
    println!("Accept=yes: {written} journal entries for {answered} answered checks");
    assert!(written < 20, "{written} journal entries");
    assert_eq!(machine.sh("systemctl is-active patroni-check.socket"), "active");
    machine.inside(|| await_that("an answer after it", || try_check(PORT) == Outcome::Answered(READY.into())));
    // And back.
    machine.sh("systemctl stop patroni-check.socket; rm /etc/systemd/system/patroni-check.socket.d/accept-yes.conf");
    machine.sh("systemctl daemon-reload; systemctl start patroni-check.socket");
    machine.inside(|| assert_eq!(check(PORT), READY));
    assert_eq!(machine.sh("systemctl is-active patroni-check.service"), "active");
}

fn a_second_view_joins_as_documented(machine: &Machine) {
    set_patient(machine);
    let patroni = patroni(machine, primary());
    machine.inside(|| assert_eq!(check(PORT), READY));
    machine.sh("systemctl stop patroni-check.socket patroni-check.service");
    machine.sh("systemctl enable --now patroni-check.socket patroni-check-replica.socket");
    machine.sh("systemctl enable --now patroni-check-agent-send.socket patroni-check-metrics.socket");
    let port = |port| SocketAddr::from(([127, 0, 0, 1], port));
    machine.inside(|| {
        assert_eq!(check(PORT), READY);
        check(port(5556));
        assert_eq!(patroni.requests().last().map(String::as_str), Some("GET /replica HTTP/1.1"));
        check_after_sending(port(5557), b"/health\n");
        assert_eq!(patroni.requests().last().map(String::as_str), Some("GET /health HTTP/1.1"));
        let metrics = check_after_sending(port(5558), b"GET /metrics HTTP/1.0\r\n\r\n");
        assert!(metrics.contains("patroni_check_verdict{endpoint=\"/health\",verdict=\"serve\"} 1\n"), "{metrics}");
    });
    assert_eq!(machine.sh("pgrep -c patroni-check"), "1");
}

fn only_the_haproxies_are_let_in(machine: &Machine) {
    set_patient(machine);
    let _patroni = patroni(machine, primary());
    fs::create_dir(machine.path("/etc/systemd/system/patroni-check.socket.d")).unwrap();
    let drop_in = "[Socket]\nIPAddressDeny=any\nIPAddressAllow=127.0.0.1\n";
    fs::write(machine.path("/etc/systemd/system/patroni-check.socket.d/haproxies.conf"), drop_in).unwrap();
    machine.sh("systemctl daemon-reload; systemctl restart patroni-check.socket");
    machine.inside(|| {
        assert_eq!(check(PORT), READY);
        let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        other.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
        other.connect_timeout(&PORT.into(), Duration::from_secs(2)).expect_err("another address is not let in");
    });
}

fn a_key_that_only_root_can_read_reaches_the_service(machine: &Machine) {
    let directory = machine.path("/etc/patroni");
    fs::create_dir_all(&directory).unwrap();
    let authority = Authority::new("an authority");
    authority.write(&directory.join("ca.crt"));
    authority.issue(&directory, "patroni", &["localhost"], false);
    authority.issue(&directory, "client", &["haproxy-agent"], false);
    machine.sh("chmod 600 /etc/patroni/*.key");
    // Says what a primary says to whoever has a certificate.
    let patroni = r#"
import http.server, ssl
class Patroni(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"state": "running", "role": "primary", "timeline": 3}')
tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile="/etc/patroni/ca.crt")
tls.load_cert_chain("/etc/patroni/patroni.crt", "/etc/patroni/patroni.key")
tls.verify_mode = ssl.CERT_REQUIRED
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8008), Patroni)
server.socket = tls.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;
    fs::write(machine.path("/root/patroni.py"), patroni).unwrap();
    machine.sh("systemd-run --unit=patroni-with-tls --quiet python3 /root/patroni.py");
    let settings = "PATRONI_CHECK_PATRONI=https://localhost:8008\nPATRONI_CHECK_DEADLINE=5s\n";

    // Its own user can't read the key, and says so at the start.
    let files = "PATRONI_CHECK_CACERT=/etc/patroni/ca.crt\nPATRONI_CHECK_CERT=/etc/patroni/client.crt\nPATRONI_CHECK_KEY=/etc/patroni/client.key\n";
    set(machine, &format!("{settings}{files}"));
    machine.try_sh("systemctl restart patroni-check.service");
    let said = "/etc/patroni/client.key: Permission denied";
    await_that("a complaint about the key", || {
        String::from_utf8_lossy(&machine.try_sh("journalctl -u patroni-check.service").stdout).contains(said)
    });

    set(machine, settings);
    for (unit, accept_yes) in [("patroni-check.service", false), ("patroni-check@.service", true)] {
        machine.sh(&format!(
            "install -D -m 644 /usr/share/doc/patroni-check/examples/tls.conf /etc/systemd/system/{unit}.d/tls.conf"
        ));
        if accept_yes {
            self::accept_yes(machine);
        } else {
            machine.sh("systemctl daemon-reload && systemctl restart patroni-check.service");
        }
        await_that("READY over TLS", || machine.inside(|| check(PORT)) == READY);
        // The files are there while a service runs, for root.
        let explained = machine.try_sh("patroni-check explain /primary");
        let told = String::from_utf8_lossy(&explained.stderr).contains("--key ${CREDENTIALS_DIRECTORY}/client.key");
        assert_eq!((explained.status.success(), told), (!accept_yes, accept_yes), "{explained:?}");
    }
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
    let drop_in = "[Service]\nEnvironment=PATRONI_CHECK_HOLD_FILE=/srv/hold 'PATRONI_CHECK_ON_STANDBY=drain'\n";
    fs::create_dir_all(machine.path("/etc/systemd/system/patroni-check.service.d")).unwrap();
    fs::write(machine.path("/etc/systemd/system/patroni-check.service.d/hold.conf"), drop_in).unwrap();
    machine.sh("systemctl daemon-reload; systemctl restart patroni-check.service");
    machine.sh("patroni-check hold new disk; test -e /srv/hold");
    machine.inside(|| assert_eq!(check(PORT), held));
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

/// Files of what an environment file may have in it, at random, and the environment that a service gets from each.
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
        let read = patroni_check::settings::assignments(&text, version < 254).unwrap_or_default();
        assert_eq!(read, given, "{:?}", String::from_utf8_lossy(&text));
    }
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
    let patronis: Vec<StandIn> = machine.inside(|| {
        let hosts = names.iter().zip(1..);
        hosts.for_each(|(name, n)| postgres(&format!("127.0.0.{n}:5432"), name));
        let behaviours = [primary(), replica(), replica()].into_iter().zip(1..);
        behaviours.map(|(behaviour, n)| StandIn::at(&format!("127.0.0.{n}:8008"), behaviour)).collect()
    });
    let cluster =
        machine.inside(|| StandIn::at("127.0.0.9:8008", answer(200, &format!(r#"{{"members":[{members}]}}"#))));
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
