//! A witness of a fault: who could take the traffic, who said READY by which rule, and when a client's writes went through.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

use super::cluster::Cluster;

/// Between two looks at the same thing.
const PAUSE: Duration = Duration::from_millis(20);

/// Patroni itself is asked less often: each look costs it a query, and it must not be the looking that makes it slow.
const PATRONI_PAUSE: Duration = Duration::from_millis(50);

/// What a node is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// `/primary`; the truth is a write.
    Writes,
    /// `/replica?lag=1MB`; the truth is its distance from the primary.
    FreshReads,
}

/// The most that a replica may lag, in bytes.
const LAG: i64 = 1 << 20;

impl Traffic {
    pub fn endpoint(self) -> &'static str {
        match self {
            Traffic::Writes => "/primary",
            Traffic::FreshReads => "/replica?lag=1048576",
        }
    }
}

/// Something that changes: from a moment on (since the witness's start) a value, which is 0 for no.
#[derive(Debug, Clone, Default)]
pub struct Track(Arc<Mutex<Vec<(Duration, u32)>>>);

impl Track {
    fn note(&self, at: Duration, value: u32) {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.last().map_or(0, |(_, last)| *last) != value {
            changes.push((at, value));
        }
    }

    pub fn changes(&self) -> Vec<(Duration, u32)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What was seen of one node.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Whether it could take the traffic; of a node that took a write, the timeline that it wrote on.
    pub fit: Track,
    /// READY by the rules: the role alone, the status alone, and what patroni-check said over its socket.
    pub ready: [Track; 3],
}

/// The names of the rules.
pub const RULES: [&str; 3] = ["role", "status", "patroni-check"];

/// Times in the course of a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// READY though not fit, of all nodes together.
    pub wrong: Duration,
    /// The leader was fit and not READY.
    pub missed: Duration,
    /// Two nodes READY at once.
    pub double: Duration,
}

/// A client's writes through one backend of HAProxy.
pub struct Writer {
    writes: Arc<Mutex<Vec<Duration>>>,
}

impl Writer {
    pub fn last_write(&self) -> Option<Duration> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner).last().copied()
    }

    /// The longest time from one write to the next.
    pub fn longest_outage(&self) -> Duration {
        let writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        writes.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

pub struct Witness {
    start: Instant,
    stop: Arc<AtomicBool>,
    /// By the member's name.
    pub nodes: BTreeMap<String, Seen>,
    /// By the backend's name.
    pub writers: BTreeMap<String, Writer>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// What the looking threads share.
#[derive(Clone)]
struct Look {
    start: Instant,
    stop: Arc<AtomicBool>,
}

impl Look {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

impl Witness {
    /// Begins to look at a cluster whose agents answer on a port, and to write through the ports of HAProxy's backends.
    pub fn new(cluster: &Cluster, traffic: Traffic, agent_port: u16, backends: &BTreeMap<String, u16>) -> Self {
        let look = Look { start: Instant::now(), stop: Arc::default() };
        let mut witness = Witness {
            start: look.start,
            stop: Arc::clone(&look.stop),
            nodes: BTreeMap::new(),
            writers: BTreeMap::new(),
            threads: Vec::new(),
        };
        let port = cluster.postgres_port;
        let homes: Vec<PathBuf> = cluster.members.iter().map(|member| member.home.clone()).collect();
        for member in &cluster.members {
            let seen = Seen::default();
            let (home, look, fit) = (member.home.clone(), look.clone(), seen.fit.clone());
            let others: Vec<_> = homes.iter().filter(|other| **other != home).cloned().collect();
            witness.threads.push(thread::spawn({
                let look = look.clone();
                move || match traffic {
                    Traffic::Writes => watch_writes(&look, &home, port, &fit),
                    Traffic::FreshReads => watch_lag(&look, &home, &others, port, &fit),
                }
            }));
            let [role, status, word] = seen.ready.clone();
            let patroni = SocketAddr::new(member.ip, cluster.patroni_port);
            let agent = SocketAddr::new(member.ip, agent_port);
            // On the host itself: what a node says that is cut off from us counts as well.
            let threads = member.host.inside(|| {
                let (for_patroni, for_agent) = (look.clone(), look.clone());
                [
                    thread::spawn(move || watch_patroni(&for_patroni, patroni, traffic, &role, &status)),
                    thread::spawn(move || watch_agent(&for_agent, agent, &word)),
                ]
            });
            witness.threads.extend(threads);
            witness.nodes.insert(member.name.clone(), seen);
        }
        for (name, port) in backends {
            let writes = Arc::<Mutex<Vec<_>>>::default();
            witness.writers.insert(name.clone(), Writer { writes: Arc::clone(&writes) });
            let (look, port) = (look.clone(), *port);
            witness.threads.push(thread::spawn(move || write(&look, port, &writes)));
        }
        witness
    }

    /// Since it began to look.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Ends the looking.
    pub fn finish(&mut self) -> Duration {
        let end = self.elapsed();
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        end
    }

    /// The sums for a rule, up to a moment.
    pub fn sums(&self, rule: usize, end: Duration) -> Sums {
        let mut sums = Sums::default();
        for (length, nodes) in self.slices(end, |seen| vec![seen.fit.clone(), seen.ready[rule].clone()]) {
            let is_ready = |node: &&Vec<u32>| node[1] > 0;
            let wrong = nodes.iter().filter(is_ready).filter(|node| node[0] == 0).count();
            sums.wrong += length * u32::try_from(wrong).unwrap_or(u32::MAX);
            // After a failover an old primary may take writes for a while; the leader is the one on the newest timeline.
            let leader = nodes.iter().filter(|node| node[0] > 0).max_by_key(|node| node[0]);
            if leader.is_some_and(|leader| leader[1] == 0) {
                sums.missed += length;
            }
            if nodes.iter().filter(is_ready).count() > 1 {
                sums.double += length;
            }
        }
        sums
    }

    /// The longest time in which no node was fit.
    pub fn longest_unfit(&self, end: Duration) -> Duration {
        let mut longest = Duration::ZERO;
        let mut lasting = Duration::ZERO;
        for (length, nodes) in self.slices(end, |seen| vec![seen.fit.clone()]) {
            let is_unfit = nodes.iter().all(|node| node[0] == 0);
            lasting = if is_unfit { lasting + length } else { Duration::ZERO };
            longest = longest.max(lasting);
        }
        longest
    }

    /// Cuts the time where something changed, and gives for each slice its length and each node's values. The first
    /// second does not count, as nothing was looked at before.
    fn slices(&self, end: Duration, tracks: impl Fn(&Seen) -> Vec<Track>) -> Vec<(Duration, Vec<Vec<u32>>)> {
        let begin = Duration::from_secs(1);
        let nodes: Vec<Vec<Vec<(Duration, u32)>>> =
            self.nodes.values().map(|seen| tracks(seen).iter().map(Track::changes).collect()).collect();
        let times = nodes.iter().flatten().flatten().map(|(at, _)| *at);
        let mut cuts: Vec<Duration> = times.filter(|at| *at > begin && *at < end).chain([begin, end]).collect();
        cuts.sort_unstable();
        let value = |changes: &Vec<(Duration, u32)>, at: Duration| {
            changes.iter().rev().find(|(since, _)| *since <= at).map_or(0, |(_, value)| *value)
        };
        let slice = |pair: &[Duration]| {
            let values = |node: &Vec<Vec<_>>| node.iter().map(|changes| value(changes, pair[0])).collect();
            (pair[1] - pair[0], nodes.iter().map(values).collect())
        };
        cuts.windows(2).map(slice).collect()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Connects over the socket file, and again when the connection is lost, and looks.
fn keep_looking(
    look: &Look,
    home: &std::path::Path,
    port: u16,
    track: &Track,
    ask: impl Fn(&mut Client) -> Option<u32>,
) {
    let mut config = postgres::Config::new();
    config.host_path(home).port(port).user("postgres").dbname("postgres").options("-c statement_timeout=1s");
    let mut client: Option<Client> = None;
    while look.on() {
        client = client.filter(|client| !client.is_closed()).or_else(|| config.connect(NoTls).ok());
        let value = client.as_mut().and_then(&ask);
        if value.is_none() {
            client = None;
        }
        track.note(look.now(), value.unwrap_or(0));
        thread::sleep(PAUSE);
    }
}

/// Writes to the node itself.
fn watch_writes(look: &Look, home: &std::path::Path, port: u16, fit: &Track) {
    keep_looking(look, home, port, fit, |client| {
        // The first eight digits of a WAL file's name are its timeline.
        let timeline = "SELECT CASE WHEN NOT pg_is_in_recovery() \
            THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END";
        let timeline: Option<String> = client.query_one(timeline, &[]).ok()?.get(0);
        match timeline.and_then(|digits| u32::from_str_radix(&digits, 16).ok()) {
            Some(timeline) => client.batch_execute("INSERT INTO witness VALUES ('node')").ok().map(|()| timeline),
            None => Some(0),
        }
    });
}

/// Compares a replica with the primary, whichever that is.
fn watch_lag(look: &Look, home: &std::path::Path, others: &[PathBuf], port: u16, fit: &Track) {
    let config = |home: &PathBuf| {
        let mut config = postgres::Config::new();
        config.host_path(home).port(port).user("postgres").dbname("postgres");
        config.connect(NoTls).ok()
    };
    let others = Mutex::new(others.iter().filter_map(config).collect::<Vec<_>>());
    keep_looking(look, home, port, fit, |client| {
        let received = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() - '0/0' END::int8";
        let received: Option<i64> = client.query_one(received, &[]).ok()?.get(0);
        let Some(received) = received else { return Some(0) };
        let written = others.lock().unwrap_or_else(PoisonError::into_inner).iter_mut().find_map(|other| {
            let written = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn() - '0/0' END::int8";
            other.query_one(written, &[]).ok()?.get::<_, Option<i64>>(0)
        })?;
        Some(u32::from(written - received <= LAG))
    });
}

/// Asks Patroni, as HAProxy's usual check does, and reads the body for the role.
fn watch_patroni(look: &Look, patroni: SocketAddr, traffic: Traffic, role: &Track, status: &Track) {
    let wanted: &[&str] = match traffic {
        Traffic::Writes => &["primary", "master"],
        Traffic::FreshReads => &["replica"],
    };
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&patroni, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        write!(stream, "GET {} HTTP/1.0\r\n\r\n", traffic.endpoint()).ok()?;
        let mut answer = Vec::new();
        let begin = Instant::now();
        loop {
            let mut buffer = [0; 16 * 1024];
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => answer.extend_from_slice(&buffer[..length]),
                // Not given up, as Patroni would have to work for each new one; but it is no yes.
                Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    role.note(look.now(), 0);
                    status.note(look.now(), 0);
                    if begin.elapsed() > Duration::from_secs(30) || !look.on() {
                        return None;
                    }
                }
                Err(_) => return None,
            }
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let body: serde_json::Value = serde_json::from_str(body).ok()?;
        let is_200 = head.lines().next()?.contains(" 200 ");
        Some((body["role"].as_str().is_some_and(|role| wanted.contains(&role)), is_200))
    };
    while look.on() {
        let (by_role, by_status) = ask().unwrap_or_default();
        let now = look.now();
        role.note(now, by_role.into());
        status.note(now, by_status.into());
        thread::sleep(PATRONI_PAUSE);
    }
}

/// Reads the agent's word, as HAProxy does.
fn watch_agent(look: &Look, agent: SocketAddr, word: &Track) {
    while look.on() {
        let mut reply = String::new();
        let read = TcpStream::connect_timeout(&agent, Duration::from_secs(1)).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.read_to_string(&mut reply)
        });
        // No answer changes nothing in HAProxy.
        if read.is_ok() && !reply.is_empty() {
            word.note(look.now(), u32::from(reply.starts_with("READY UP")));
        }
        thread::sleep(PAUSE);
    }
}

/// A client of HAProxy's.
pub fn client(port: u16) -> Result<Client, postgres::Error> {
    let mut config = postgres::Config::new();
    config.host("127.0.0.1").port(port).user("postgres").password("demo").dbname("postgres");
    config.connect_timeout(Duration::from_secs(1)).connect(NoTls)
}

/// Writes and writes; a session that is lost is begun anew.
fn write(look: &Look, port: u16, writes: &Mutex<Vec<Duration>>) {
    while look.on() {
        if let Ok(mut client) = client(port) {
            while look.on() && client.batch_execute("INSERT INTO witness VALUES ('client')").is_ok() {
                writes.lock().unwrap_or_else(PoisonError::into_inner).push(look.now());
                thread::sleep(PAUSE);
            }
        }
        thread::sleep(PAUSE);
    }
}
