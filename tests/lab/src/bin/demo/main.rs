//! `make demo`: a real Patroni cluster behind a real HAProxy, with the usual health check and with
//! patroni-check side by side, and a client that writes through either. `demo BINARY [SECONDS]`;
//! without seconds it goes on until Ctrl-C.
//!
//! In a terminal keys say what is to befall the cluster; elsewhere one thing follows the other.

mod event;
mod keys;
mod screen;

use std::cell::RefCell;
use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::clients::{Work, Worker};
use lab::cluster::{Cluster, Member};
use lab::haproxy::Haproxy;
use lab::host::Host;
use lab::process_guard::{self, Network};
use lab::sampling::Sampling;
use lab::testbed::Testbed;
use lab::{Process, free_port};

use event::{EVENTS, Event};
use keys::Keys;

/// How long the table is shown before something happens, and after it.
const PAUSE: Duration = Duration::from_secs(8);

/// Initial database, two base backups: a few seconds here, more on a slow disk.
const START: Duration = Duration::from_secs(180);

/// Between two writes of a client's.
const WRITE_PAUSE: Duration = Duration::from_millis(20);

/// The two read-write backends.
const BACKENDS: [&str; 2] = ["usual", "patroni-check_read_write"];

fn main() -> ExitCode {
    process_guard::run(Network::Ours, run)
}

struct Demo<'a> {
    stop: &'a AtomicBool,
    testbed: Testbed,
    haproxy: Haproxy,
    _agents: Vec<Process>,
    /// The clients' clock.
    sampling: Sampling,
    /// A client of either backend.
    writers: Vec<Worker>,
    keys: Option<Keys>,
    stats: String,
    history: RefCell<Vec<Happened>>,
    shown: RefCell<String>,
}

/// What has befallen the cluster.
struct Happened {
    title: String,
    /// By the clients' clock.
    began: Duration,
    /// The longest outage of a client of either backend.
    outages: [Duration; 2],
}

fn run(directory: &Path, arguments: &[OsString], stop: &AtomicBool) -> Result<(), Box<dyn Error>> {
    let (binary, seconds) = match arguments {
        [binary] => (binary, None),
        [binary, seconds] => (binary, Some(Duration::from_secs(seconds.to_string_lossy().parse()?))),
        _ => return Err("usage: demo BINARY [SECONDS]".into()),
    };

    say("Starting etcd, three Patroni members with PostgreSQL, three patroni-checks, HAProxy …")?;
    let hosts = Host::on_loopback(3);
    let mut testbed = Testbed::start(directory, Path::new(binary), Path::new("patroni"), hosts)?;
    let ports = [(testbed.port(5555), "/primary"), (testbed.port(5556), "/replica")];
    let agents = testbed.cluster.members.iter().map(|member| testbed.agent(member, &ports, &[]));
    let agents = agents.collect::<Result<_, _>>()?;
    let free = |wanted| free_port(&[Ipv4Addr::LOCALHOST.into()], wanted);
    let (usual, ours, reads, stats) = (free(5000), free(5001), free(5002), free(7000));
    await_cluster(&mut testbed.cluster, stop)?;
    if stop.load(Ordering::Relaxed) {
        return Ok(());
    }
    let mut config = Command::new(&testbed.program);
    config.args(["haproxy-config", "--section", "--name", "patroni-check"]);
    config.args(["--patroni", &testbed.cluster.url(&testbed.cluster.members[0], "")]);
    config.args(["--read-write", &format!("127.0.0.1:{ours}"), "--read-only", &format!("127.0.0.1:{reads}")]);
    let [(agent_port, _), (replica_port, _)] = ports;
    config.args(["--agent-port", &agent_port.to_string(), "--replica-port", &replica_port.to_string()]);
    let config = config.stdin(Stdio::null()).output()?;
    if !config.status.success() {
        return Err(String::from_utf8_lossy(&config.stderr).into());
    }
    let sections = sections(&testbed.cluster, usual, &String::from_utf8_lossy(&config.stdout), stats);
    let haproxy = testbed.haproxy(&sections)?;

    let stats = format!("http://127.0.0.1:{stats}/");
    let mut demo = Demo {
        stop,
        testbed,
        haproxy,
        _agents: agents,
        sampling: Sampling::new(WRITE_PAUSE),
        writers: Vec::new(),
        keys: Keys::new(),
        stats,
        history: RefCell::default(),
        shown: RefCell::default(),
    };
    lab::await_that("one server UP in each backend", || demo.is_stopped() || demo.check_steady().is_ok());
    if demo.is_stopped() {
        return Ok(());
    }
    demo.testbed.make_table()?;
    // They end with the demo.
    demo.writers = [usual, ours].map(|port| Worker::start(demo.sampling.clone(), port, Work::Write).0).into();
    demo.go_on(seconds)
}

/// Says how far it is until there is one primary and all others are replicas.
fn await_cluster(cluster: &mut Cluster, stop: &AtomicBool) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut before = String::new();
    while !stop.load(Ordering::Relaxed) && !cluster.is_whole() {
        let mut progress = String::new();
        for member in &cluster.members {
            let says = cluster.says(member);
            let says = says.map_or("not answering yet".into(), |says| format!("{} {}", says.role, says.state));
            write!(progress, "  {}: {says}", member.name)?;
        }
        if progress != before {
            say(&format!("{:4} s{progress}", start.elapsed().as_secs()))?;
            before = progress;
        }
        cluster.check_alive()?;
        if start.elapsed() > START {
            return Err(format!("the cluster did not come up within {START:?}").into());
        }
        thread::sleep(Duration::from_millis(250));
    }
    Ok(())
}

impl Demo<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Shows, and lets things happen, until the seconds are over and all is well again.
    fn go_on(&mut self, seconds: Option<Duration>) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        let mut steady_since = Instant::now();
        let mut title = "a cluster with one primary".to_owned();
        let mut plan = EVENTS.into_iter();
        while !self.is_stopped() {
            self.show(&title)?;
            self.testbed.cluster.check_alive()?;
            let steady = self.check_steady();
            let is_over = seconds.is_some_and(|seconds| start.elapsed() >= seconds);
            match &steady {
                Ok(()) if is_over && title.starts_with("after") => return Ok(()),
                Err(_) if seconds.is_some_and(|seconds| start.elapsed() >= seconds + lab::PATIENCE) => return steady,
                Ok(()) => {}
                Err(_) => steady_since = Instant::now(),
            }
            let event = match &self.keys {
                Some(keys) => keys.pressed(),
                None if steady_since.elapsed() >= PAUSE => plan.next(),
                None => None,
            };
            if let Some(event) = event {
                self.let_happen(event)?;
                title = format!("after the {}", event.key().1);
                steady_since = Instant::now();
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Whether both backends are as they should be: the primary UP in both, the replicas DOWN and
    /// MAINT.
    fn check_steady(&self) -> Result<(), Box<dyn Error>> {
        for line in self.lines()? {
            let wanted = match line.patroni {
                Some(says) if says.is_primary() => ("UP", "UP"),
                Some(says) if says.is_replica() => ("DOWN", "MAINT"),
                says => return Err(format!("{}: Patroni says {says:?}", line.server).into()),
            };
            if (line.usual.as_str(), line.ours.as_str()) != wanted {
                return Err(format!(
                    "{}: expected {wanted:?} in HAProxy, found {} {}",
                    line.server, line.usual, line.ours
                )
                .into());
            }
        }
        Ok(())
    }

    fn let_happen(&mut self, event: Event) -> Result<(), Box<dyn Error>> {
        let names = self.testbed.cluster.primary().map(|member| member.name.clone());
        let from = names.ok_or("no primary for something to befall")?;
        let member =
            |wanted: &dyn Fn(&Member) -> bool| self.testbed.cluster.members.iter().find(|member| wanted(member));
        let from = member(&|member| member.name == from).ok_or("no such member")?;
        let to = member(&|member| member.name != from.name).ok_or("no other member")?;
        let title = event.title(&from.name, &to.name);
        let (began, outages) = (self.sampling.now(), [Duration::ZERO; 2]);
        self.history.borrow_mut().push(Happened { title: title.clone(), began, outages });
        // What happens meanwhile is what the table is for.
        thread::scope(|scope| {
            let happening = scope.spawn(|| event.happen(&self.testbed.cluster, from, to));
            while !happening.is_finished() && !self.is_stopped() {
                self.show(&title)?;
                thread::sleep(Duration::from_millis(100));
            }
            if self.is_stopped() {
                // Nobody waits for it; all is ended by the process guard.
                self.keys.iter().for_each(Keys::give_back);
                std::process::exit(0);
            }
            happening.join().map_err(|_| "it panicked")??;
            Ok(())
        })
    }
}

/// Prints a line; the terminal may be gone, and then the demo ends.
fn say(text: &str) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// HAProxy's usual check of Patroni, what `patroni-check haproxy-config` prints, and the stats
/// page.
fn sections(cluster: &Cluster, usual: u16, ours: &str, stats: u16) -> String {
    let servers = cluster.members.iter().map(|member| {
        format!(
            "    server {} {}:{} maxconn 100 check inter 1s fall 2 rise 2 on-marked-down shutdown-sessions port {}\n",
            member.name, member.ip, cluster.postgres_port, cluster.patroni_port
        )
    });
    format!(
        "defaults
    mode tcp
    timeout connect 2s
    timeout client 30m
    timeout server 30m

listen usual
    bind 127.0.0.1:{usual}
    option httpchk OPTIONS /master
    http-check expect status 200
{}
{ours}
listen stats
    bind 127.0.0.1:{stats}
    mode http
    stats enable
    stats uri /
    stats refresh 1s
",
        servers.collect::<String>()
    )
}
