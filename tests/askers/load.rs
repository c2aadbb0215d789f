//! Many at once: `ab` beside HAProxy's agent, and two at one moment.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::agent::{Agent, connect, read_reply};
use lab::await_that;
use lab::fake_patroni::{Behaviour, FakePatroni, primary, replica};
use lab::requires;

const READY: &str = "READY UP # primary timeline 3\n";
const STANDBY: &str = "MAINT UP # replica timeline 3\n";

/// An agent with a port for HAProxy's and one for all others.
fn agent(patroni: &FakePatroni, options: &[&str]) -> (Agent, SocketAddr) {
    let http = SocketAddr::from(([127, 0, 0, 1], lab::any_port()));
    let listen = format!("{http}=http");
    // Deadline: one that no machine is too slow for.
    let ours = ["--patroni", &patroni.url(), "--deadline", "5s", "--listen", &listen];
    (Agent::listening(&[&ours[..], options].concat()), http)
}

fn ab(address: SocketAddr, options: &[&str], count: u32) -> Output {
    let mut command = Command::new("ab");
    command.args(["-q", "-n", &count.to_string(), "-c", "40"]).args(options);
    // -r is not set, so that it ends at the first reset.
    command.arg(format!("http://{address}/primary")).stdin(Stdio::null()).output().expect("ab runs")
}

/// A number of ab's report.
fn number(report: &str, name: &str) -> Option<u32> {
    report.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.split_whitespace().next()?.parse().ok())
}

#[test]
fn patroni_gets_at_most_ten_requests_a_second_however_many_ask_and_how() {
    if !requires(&["ab"]) {
        return;
    }
    let patroni = FakePatroni::new(primary());
    let (agent, http) = agent(&patroni, &[]);
    assert_eq!(agent.check(), READY);
    for (behaviour, line, refused) in [(primary as fn() -> Behaviour, READY, None), (replica, STANDBY, Some(2000))] {
        patroni.now(behaviour());
        await_that("the new word", || agent.check() == line);
        for options in [&[][..], &["-i"], &["-k"], &["-m", "OPTIONS"]] {
            let (before, start, done) = (patroni.requests().len(), Instant::now(), AtomicBool::new(false));
            let output = thread::scope(|scope| {
                let haproxys = scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        assert_eq!(agent.check(), line);
                    }
                });
                let output = ab(http, options, 2000);
                done.store(true, Ordering::Relaxed);
                haproxys.join().unwrap();
                output
            });
            let requests = patroni.requests().len() - before;
            let most = usize::try_from(start.elapsed().as_millis() / 100).unwrap() + 1;
            let report = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{options:?}: {output:?}");
            assert_eq!(number(&report, "Complete requests"), Some(2000), "{options:?}: {report}");
            assert_eq!(number(&report, "Failed requests"), Some(0), "{options:?}: {report}");
            assert_eq!(number(&report, "Non-2xx responses"), refused, "{options:?}: {report}");
            assert!(requests <= most, "{requests} requests of at most {most}");
        }
    }
    assert_eq!(patroni.most_in_flight(), 1);
}

#[test]
fn two_askers_at_one_moment_get_one_answer() {
    let patroni = FakePatroni::new(primary());
    // As long as it may be: nobody is too late for the other's request to Patroni.
    let age = Duration::from_secs(1);
    let (agent, http) = agent(&patroni, &["--max-age", "1s"]);
    for (behaviour, line, status) in [(primary as fn() -> Behaviour, READY, "200"), (replica, STANDBY, "503")] {
        patroni.now(Behaviour::Hang);
        let before = patroni.requests().len();
        let mut by_http = connect(http);
        by_http.write_all(b"GET /primary HTTP/1.1\r\nHost: db\r\n\r\n").unwrap();
        let by_agent = connect(agent.address);
        await_that("a request", || patroni.in_flight() == 1);
        // Long enough for the other to have come, and shorter than the age.
        thread::sleep(age / 4);
        patroni.now(behaviour());
        let (by_agent, by_http) = (read_reply(by_agent), read_reply(by_http));
        assert_eq!(by_agent, line);
        assert!(by_http.starts_with(&format!("HTTP/1.1 {status} ")), "{by_http}");
        assert!(by_http.ends_with(&format!("\r\n\r\n{line}")), "{by_http}");
        assert_eq!(patroni.requests().len(), before + 1, "each had a request of its own");
        thread::sleep(age);
    }
}
