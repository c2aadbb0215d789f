//! A witness of a fault: who could take the traffic, who said READY by which rule, and when clients' work went through.
//! Each is looked at every 20 ms or so, which is how exact the times are: what lasts for 40 ms may be nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::clients::{Work, Worker};
use super::cluster::Cluster;
use super::watches::{watch_agent, watch_lag, watch_patroni, watch_reads, watch_writes};

/// Between two looks at the same thing.
pub const PAUSE: Duration = Duration::from_millis(20);

/// What a node is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// `/primary`; the truth is a write.
    Writes,
    /// `/replica`; the truth is a read in recovery.
    Reads,
    /// `/replica?lag=1MB`; the truth is its distance from the primary.
    FreshReads,
}

impl Traffic {
    pub fn endpoint(self) -> &'static str {
        match self {
            Traffic::Writes => "/primary",
            Traffic::Reads => "/replica",
            Traffic::FreshReads => "/replica?lag=1048576",
        }
    }
}

/// Something that changes: from a moment on (since the witness's start) a value, which is 0 for no.
#[derive(Debug, Clone, Default)]
pub struct Track(Arc<Mutex<Vec<(Duration, u32)>>>);

impl Track {
    pub fn note(&self, at: Duration, value: u32) {
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
    /// Patroni's answer by the whole rule: 200, running, and the role.
    pub settled: Track,
    /// What patroni-check said, with the moment at which it was asked.
    pub words: Arc<Mutex<Vec<(Duration, String)>>>,
}

impl Seen {
    /// What patroni-check first said after Patroni had said yes for the first time since a moment.
    pub fn first_word(&self, since: Duration) -> Option<String> {
        let mut settled = self.settled.changes().into_iter();
        let (settled, _) = settled.find(|(at, value)| *at > since && *value > 0)?;
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        // For a while that of a replica may be from before.
        let is_of_after =
            |asked: Duration, word: &str| asked > settled + MAX_AGE || asked > settled && !word.starts_with("MAINT UP");
        words.iter().find(|(asked, word)| is_of_after(*asked, word)).map(|(_, word)| word.clone())
    }
}

/// So old may the answer of Patroni's be that patroni-check goes by (`--max-age`).
const MAX_AGE: Duration = Duration::from_millis(100);

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

pub struct Witness {
    start: Instant,
    stop: Arc<AtomicBool>,
    /// By the member's name.
    pub nodes: BTreeMap<String, Seen>,
    /// By the backend's name.
    pub writers: BTreeMap<String, Worker>,
    /// Some by the backend's name, where reads are the traffic.
    pub readers: BTreeMap<String, Vec<Worker>>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// Ports of HAProxy's, by the backend's name.
pub type Backends = BTreeMap<String, u16>;

/// Clients that read through each backend.
const READERS: usize = 4;

/// What the looking threads share.
#[derive(Clone)]
pub struct Look {
    start: Instant,
    stop: Arc<AtomicBool>,
    pause: Duration,
}

impl Look {
    /// Begins now, with so much time between two looks at the same thing.
    pub fn new(pause: Duration) -> Self {
        Look { start: Instant::now(), stop: Arc::default(), pause }
    }

    /// Waits for the next look.
    pub fn rest(&self) {
        thread::sleep(self.pause);
    }

    pub fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

impl Witness {
    /// Begins to look at a cluster whose agents answer on a port, and to work through HAProxy.
    pub fn new(cluster: &Cluster, traffic: Traffic, agent_port: u16, writes: &Backends, reads: &Backends) -> Self {
        let look = Look::new(PAUSE);
        let mut witness = Witness {
            start: look.start,
            stop: Arc::clone(&look.stop),
            nodes: BTreeMap::new(),
            writers: BTreeMap::new(),
            readers: BTreeMap::new(),
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
                    Traffic::Reads => watch_reads(&look, &home, port, &fit),
                    Traffic::FreshReads => watch_lag(&look, &home, &others, port, &fit),
                }
            }));
            let (of_patroni, of_agent) = (seen.clone(), seen.clone());
            let patroni = SocketAddr::new(member.ip, cluster.patroni_port);
            let agent = SocketAddr::new(member.ip, agent_port);
            // On the host itself: what a node says that is cut off from us counts as well.
            let threads = member.host.inside(|| {
                let (for_patroni, for_agent) = (look.clone(), look.clone());
                [
                    thread::spawn(move || watch_patroni(&for_patroni, patroni, traffic, &of_patroni)),
                    thread::spawn(move || watch_agent(&for_agent, agent, &of_agent)),
                ]
            });
            witness.threads.extend(threads);
            witness.nodes.insert(member.name.clone(), seen);
        }
        for (name, port) in writes {
            let writer = witness.work(&look, *port, Work::Write);
            witness.writers.insert(name.clone(), writer);
        }
        for (name, port) in reads.iter().filter(|_| traffic == Traffic::Reads) {
            let readers = (0..READERS).map(|_| witness.work(&look, *port, Work::Read)).collect();
            witness.readers.insert(name.clone(), readers);
        }
        witness
    }

    fn work(&mut self, look: &Look, port: u16, work: Work) -> Worker {
        let (worker, thread) = Worker::start(look.clone(), port, work);
        self.threads.push(thread);
        worker
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
