//! What is recorded of a fault: who could take the traffic, who said READY by which rule, and when
//! clients' work went through. Each is looked at every 20 ms or so, which is how exact the times
//! are: what lasts for 40 ms may be nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::clients::{Work, Worker};
use crate::cluster::Cluster;
use crate::faults::agents::{AgentPorts, MODES, Mode};
use crate::faults::timeline::{self, Node, RULES};
use crate::faults::watches::{watch_agent, watch_lag, watch_patroni, watch_reads, watch_writes};
use crate::sampling::{Sampling, Track};

/// Between two looks at the same thing.
const PAUSE: Duration = Duration::from_millis(20);

/// The same where each look is a process of its own: it must not be the looking that keeps the
/// machine busy.
const PROCESS_PAUSE: Duration = Duration::from_millis(50);

/// What a node is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// `/primary`; the truth is a write.
    Writes,
    /// `/replica?lag=1MB`; the truth is its distance from the primary.
    FreshReads,
    /// `/replica`; the truth is a read in recovery.
    Reads,
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

/// What was seen of one node.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Whether it could take the traffic; of a node that took a write, the timeline that it wrote
    /// on.
    pub fit: Track,
    /// READY by the rules: the role alone, the status alone, and what patroni-check said over its
    /// sockets, in each mode.
    pub ready: [Track; RULES.len()],
    /// Patroni's answer by the whole rule: 200, running, and the role.
    pub settled: Track,
    /// What patroni-check said, with the moment at which it was asked; by mode.
    pub words: [Words; MODES.len()],
}

/// What was said, and when it was asked for.
pub type Words = Arc<Mutex<Vec<(Duration, String)>>>;

impl Seen {
    /// What patroni-check first said after Patroni had said yes for the first time since a moment.
    pub fn first_word(&self, mode: Mode, since: Duration) -> Option<String> {
        let words = self.words[mode as usize].lock().unwrap_or_else(PoisonError::into_inner);
        timeline::first_word(&self.settled.changes(), &words, since)
    }

    /// What patroni-check said where it was something else than before.
    pub fn changes_of_word(&self, mode: Mode) -> Vec<(Duration, String)> {
        let mut words = self.words[mode as usize].lock().unwrap_or_else(PoisonError::into_inner).clone();
        words.dedup_by(|(_, later), (_, earlier)| later == earlier);
        words
    }
}

pub struct Recorder {
    sampling: Sampling,
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

impl Recorder {
    /// Begins to look at a cluster whose agents answer on these ports, of these modes, and to work
    /// through HAProxy.
    pub fn new(
        cluster: &Cluster,
        traffic: Traffic,
        (ports, modes): (&AgentPorts, &[Mode]),
        writes: &Backends,
        reads: &Backends,
    ) -> Self {
        let sampling = Sampling::new(PAUSE);
        let mut recorder = Recorder {
            sampling: sampling.clone(),
            nodes: BTreeMap::new(),
            writers: BTreeMap::new(),
            readers: BTreeMap::new(),
            threads: Vec::new(),
        };
        let port = cluster.postgres_port;
        let homes: Vec<PathBuf> = cluster.members.iter().map(|member| member.home.clone()).collect();
        for member in &cluster.members {
            let seen = Seen::default();
            let (home, sampling, fit) = (member.home.clone(), sampling.clone(), seen.fit.clone());
            let others: Vec<_> = homes.iter().filter(|other| **other != home).cloned().collect();
            recorder.threads.push(thread::spawn({
                let sampling = sampling.clone();
                move || match traffic {
                    Traffic::Writes => watch_writes(&sampling, &home, port, &fit),
                    Traffic::Reads => watch_reads(&sampling, &home, port, &fit),
                    Traffic::FreshReads => watch_lag(&sampling, &home, &others, port, &fit),
                }
            }));
            let of_patroni = seen.clone();
            let patroni = SocketAddr::new(member.ip, cluster.patroni_port);
            let watch = |mode: &Mode| {
                let mode = *mode;
                let pause = if mode == Mode::Service { PAUSE } else { PROCESS_PAUSE };
                let agent = SocketAddr::new(member.ip, ports.of(mode, traffic));
                let (sampling, seen) = (sampling.clone(), seen.clone());
                thread::spawn(move || watch_agent(&sampling, pause, agent, mode, &seen))
            };
            // On the host itself: what a node says that is cut off from us counts as well.
            let threads = member.host.inside(|| {
                let for_patroni = sampling.clone();
                let of_patroni = thread::spawn(move || watch_patroni(&for_patroni, patroni, traffic, &of_patroni));
                [vec![of_patroni], modes.iter().map(watch).collect()]
            });
            let threads = threads.into_iter().flatten();
            recorder.threads.extend(threads);
            recorder.nodes.insert(member.name.clone(), seen);
        }
        for (name, port) in writes {
            let writer = recorder.work(&sampling, *port, Work::Write);
            recorder.writers.insert(name.clone(), writer);
        }
        for (name, port) in reads.iter().filter(|_| traffic == Traffic::Reads) {
            let readers = (0..READERS).map(|_| recorder.work(&sampling, *port, Work::Read)).collect();
            recorder.readers.insert(name.clone(), readers);
        }
        recorder
    }

    fn work(&mut self, sampling: &Sampling, port: u16, work: Work) -> Worker {
        let (worker, thread) = Worker::start(sampling.clone(), port, work);
        self.threads.push(thread);
        worker
    }

    /// Since it began to look.
    pub fn elapsed(&self) -> Duration {
        self.sampling.now()
    }

    /// Ends the looking.
    pub fn finish(&mut self) -> Duration {
        let end = self.elapsed();
        self.sampling.end();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        end
    }

    /// What of it is for the arithmetic, for a rule.
    pub fn nodes_by(&self, rule: usize) -> Vec<Node> {
        let node = |seen: &Seen| Node { fit: seen.fit.changes(), ready: seen.ready[rule].changes() };
        self.nodes.values().map(node).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.sampling.end();
    }
}
