//! The endpoints that the service answers for: of each its cache, its fetch thread, which asks
//! Patroni, and what the operator is told of it.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::Waker;

use super::check::Check;
use super::metrics::{Meter, Metrics};
use crate::cache::Cache;
use crate::clock::Moment;
use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::haproxy::reply::ReplyPolicy;
use crate::http::Response;
use crate::memory::Memory;
use crate::memory::file::{Directory, MemoryFile};
use crate::patroni::{Client, GIVE_UP, Observation};
use crate::systemd::journal;
use crate::verdict::{Judgement, Verdict, judge};

/// One endpoint's state.
pub(super) struct EndpointState {
    pub(super) endpoint: Endpoint,
    pub(super) policy: ReplyPolicy,
    pub(super) cache: Cache<Check>,
    pub(super) last_observation: Option<Observation>,
    /// What HAProxy was told last.
    pub(super) last_verdict: Option<Verdict>,
    /// How many checks were answered.
    pub(super) answered: u64,
    pub(super) meter: Meter,
    worker: Worker,
}

/// What an endpoint's thread is to do, one after the other. All of it may block.
enum Work {
    Fetch,
    Save(Box<Memory>),
    Warn(String),
}

/// An endpoint's thread. It makes one request at a time, so as many are in flight as there are
/// endpoints, at most.
struct Worker {
    work_tx: Sender<Work>,
    thread: JoinHandle<()>,
}

/// What came of a fetch.
struct FetchResult {
    index: usize,
    observation: Observation,
    judgement: Judgement,
    took: Duration,
}

/// All endpoints, and what is needed to add another one. None is ever removed, so that an index
/// stays good: a fetch that ends late can't hit an endpoint for which it was not made.
pub(super) struct EndpointTable {
    states: Vec<EndpointState>,
    metrics: Metrics,
    config: Config,
    /// Where memory outlives this process, or why it does not.
    directory: Result<Option<Directory>, String>,
    client: Client,
    waker: Arc<Waker>,
    results_tx: Sender<FetchResult>,
    results_rx: Receiver<FetchResult>,
}

impl EndpointTable {
    /// None yet. `waker` is called when a fetch has ended.
    ///
    /// # Errors
    /// A configuration that does not lead to Patroni.
    pub(super) fn new(config: &Config, waker: Waker) -> Result<Self, Box<dyn Error>> {
        let (results_tx, results_rx) = channel();
        Ok(EndpointTable {
            states: Vec::new(),
            metrics: Metrics::new()?,
            config: config.clone(),
            directory: Directory::of(config),
            client: config.client()?,
            waker: Arc::new(waker),
            results_tx,
            results_rx,
        })
    }

    /// The index of an endpoint, which is added if it is new. Two sockets for one endpoint share
    /// its state: Patroni gets one request at a time for each endpoint.
    ///
    /// # Errors
    /// Settings that do not go together for it, or no thread to be had.
    pub(super) fn get_or_insert(&mut self, endpoint: &Endpoint) -> Result<usize, Box<dyn Error>> {
        if let Some(index) = self.find(endpoint) {
            return Ok(index);
        }
        let index = self.states.len();
        let policy = self.config.reply_policy(endpoint)?;
        let file = self.memory_file(endpoint);
        let worker = self.spawn_worker(index, endpoint, file.clone().ok().flatten())?;
        let remembered = file.and_then(|file| file.map_or(Ok(None), |file| file.load(Moment::now())));
        let memory = remembered.unwrap_or_else(|why| {
            worker.begin(Work::Warn(why));
            None
        });
        self.states.push(EndpointState {
            endpoint: endpoint.clone(),
            policy,
            cache: Cache::remembering(memory.unwrap_or_else(|| Memory::new(self.config.limits))),
            last_observation: None,
            last_verdict: None,
            answered: 0,
            meter: self.metrics.meter(endpoint)?,
            worker,
        });
        Ok(index)
    }

    /// The index of an endpoint, if it is on the list.
    pub(super) fn find(&self, endpoint: &Endpoint) -> Option<usize> {
        self.states.iter().position(|state| state.endpoint == *endpoint)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut EndpointState {
        &mut self.states[index]
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    /// The number of checks that wait.
    pub(super) fn waiting(&self) -> usize {
        self.states.iter().map(|state| state.cache.waiting()).sum()
    }

    /// How long until the deadline of the next check.
    pub(super) fn time_left(&self, now: Moment) -> Option<Duration> {
        self.states.iter().filter_map(|state| state.cache.time_left(now)).min()
    }

    /// Takes note of a fetch that has ended since the last time. Gives its endpoint and the checks
    /// that it answers.
    pub(super) fn take_result(&mut self, now: Moment) -> Option<(usize, Vec<(Check, Verdict)>)> {
        let FetchResult { index, observation, judgement, took } = self.results_rx.try_recv().ok()?;
        let state = &mut self.states[index];
        state.meter.fetched(took, &observation, &judgement);
        state.last_observation = Some(observation);
        let answered = state.cache.fetch_completed(now, judgement);
        state.worker.begin(Work::Save(Box::new(state.cache.memory().clone())));
        Some((index, answered))
    }

    /// Asks Patroni where a check waits and no request is in flight.
    pub(super) fn begin_fetches(&mut self, now: Moment) {
        for state in &mut self.states {
            if state.cache.begin_fetch(now) {
                state.worker.begin(Work::Fetch);
            }
        }
    }

    /// The line in `systemctl status`.
    pub(super) fn status(&self) -> String {
        let lines = self.states.iter().map(|state| {
            let reply = state.last_verdict.as_ref().and_then(|verdict| state.policy.reply(verdict));
            let reply = reply.map_or("nothing said yet".to_owned(), |reply| reply.to_string());
            format!("{}: {reply} ({} checks)", state.endpoint, state.answered)
        });
        lines.collect::<Vec<_>>().join("; ")
    }

    /// What Prometheus is told.
    pub(super) fn metrics(&self, now: Instant) -> Response {
        self.states.iter().for_each(|state| state.meter.refresh(now));
        self.metrics.response()
    }

    /// Counts an HTTP request that got a 400.
    pub(super) fn count_bad_request(&self) {
        self.metrics.count_bad_request();
    }

    /// Waits until all that is known is written. A thread that waits for Patroni has nothing to write.
    pub(super) fn finish(self) {
        for EndpointState { cache, worker: Worker { work_tx, thread }, .. } in self.states {
            drop(work_tx);
            if !cache.is_fetching() {
                let _ = thread.join();
            }
        }
    }

    fn memory_file(&self, endpoint: &Endpoint) -> Result<Option<MemoryFile>, String> {
        self.directory.as_ref()?.as_ref().map(|directory| directory.file(endpoint)).transpose()
    }

    fn spawn_worker(&self, index: usize, endpoint: &Endpoint, file: Option<MemoryFile>) -> io::Result<Worker> {
        let (work_tx, work_rx) = channel();
        let (client, endpoint) = (self.client.clone(), endpoint.clone());
        let (results_tx, waker) = (self.results_tx.clone(), Arc::clone(&self.waker));
        let mut is_saved = true;
        let thread = thread::Builder::new().name(format!("fetch{endpoint}")).spawn(move || {
            for work in work_rx {
                match work {
                    Work::Fetch => {
                        let result = fetch(index, &endpoint, &client, file.as_ref());
                        if results_tx.send(result).is_err() || waker.wake().is_err() {
                            return;
                        }
                    }
                    Work::Save(memory) => {
                        let saved = file.as_ref().map_or(Ok(()), |file| file.save(&memory));
                        // A disk that is full is told of once.
                        if let Some(why) = saved.as_ref().err().filter(|_| is_saved) {
                            journal::warn(why);
                        }
                        is_saved = saved.is_ok();
                    }
                    Work::Warn(warning) => journal::warn(&warning),
                }
            }
        })?;
        Ok(Worker { work_tx, thread })
    }
}

impl Worker {
    fn begin(&self, work: Work) {
        // The thread lives as long as this: a panic in it ends the program.
        let _ = self.work_tx.send(work);
    }
}

/// Asks Patroni, once no process that answers one check does.
fn fetch(index: usize, endpoint: &Endpoint, client: &Client, file: Option<&MemoryFile>) -> FetchResult {
    let _lock = file.map(|file| file.lock(Instant::now() + GIVE_UP, || false));
    let began = Instant::now();
    let observation = client.get(endpoint);
    let judgement = judge(endpoint, &observation);
    FetchResult { index, observation, judgement, took: began.elapsed() }
}
