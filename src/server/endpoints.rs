//! The endpoints that the service answers for: of each its cache, its fetch thread, which asks
//! Patroni, and what the operator is told of it.

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use mio::Waker;

use super::check::Check;
use super::fetcher::{Fetched, Fetcher, Report, Reporter, Work};
use super::metrics::{Meter, Metrics};
use crate::cache::Cache;
use crate::clock::Moment;
use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::haproxy::reply::ReplyPolicy;
use crate::http::Response;
use crate::memory::Memory;
use crate::memory::file::{Directory, MemoryFile};
use crate::patroni::{Client, Observation};
use crate::systemd::journal::Journal;
use crate::verdict::Verdict;

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
    fetcher: Fetcher,
}

/// What is remembered. What can't be replaced does not count, as it may be older than what others
/// knew; the first fetch says why it can't.
fn remembered(file: Option<&MemoryFile>) -> Result<Option<Memory>, String> {
    match file {
        Some(file) if file.try_lock().is_ok() => file.load(),
        _ => Ok(None),
    }
}

impl EndpointState {
    /// Another verdict than before is told from now on.
    pub(super) fn tell(&mut self, verdict: Verdict) {
        self.fetcher.begin(Work::Told(Moment::now(), verdict.clone()));
        self.last_verdict = Some(verdict);
    }
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
    reports_tx: Sender<(usize, Report)>,
    reports_rx: Receiver<(usize, Report)>,
}

impl EndpointTable {
    /// None yet. `waker` is called when a fetch has ended.
    ///
    /// # Errors
    /// A configuration that does not lead to Patroni.
    pub(super) fn new(config: &Config, waker: Waker) -> Result<Self, Box<dyn Error>> {
        let (reports_tx, reports_rx) = channel();
        Ok(EndpointTable {
            states: Vec::new(),
            metrics: Metrics::new()?,
            config: config.clone(),
            directory: Directory::of(config),
            client: config.client()?,
            waker: Arc::new(waker),
            reports_tx,
            reports_rx,
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
        let report = Reporter::new(index, self.reports_tx.clone(), Arc::clone(&self.waker));
        let memory = file.as_ref().map_or_else(|why| Err(why.clone()), |file| remembered(file.as_ref()));
        let memory = memory.unwrap_or_else(|why| {
            let _ = report.send(Report::Warning(why));
            None
        });
        let file = file.ok().flatten();
        let fetcher = Fetcher::spawn(endpoint.clone(), self.client.clone(), file, memory.clone(), report)?;
        self.states.push(EndpointState {
            endpoint: endpoint.clone(),
            policy,
            cache: Cache::remembering(memory.unwrap_or_else(|| Memory::new(self.config.limits))),
            last_observation: None,
            last_verdict: None,
            answered: 0,
            meter: self.metrics.meter(endpoint)?,
            fetcher,
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

    /// Takes note of what a thread has reported since the last time. Gives its endpoint and the
    /// checks that are answered by it.
    pub(super) fn take_report(&mut self, now: Moment, journal: &Journal) -> Option<(usize, Vec<(Check, Verdict)>)> {
        let (index, report) = self.reports_rx.try_recv().ok()?;
        let state = &mut self.states[index];
        let answered = match report {
            Report::FoundByAnother(memory) => {
                // What Patroni said to that one is not known here.
                state.last_observation = None;
                state.cache.found_by_another(now, *memory)
            }
            Report::Warning(warning) => {
                journal.warn(warning);
                Vec::new()
            }
            Report::Fetched(fetched) => {
                let Fetched { observation, judgement, took } = *fetched;
                state.meter.fetched(took, &observation, &judgement);
                state.last_observation = Some(observation);
                let answered = state.cache.fetch_completed(now, judgement);
                state.fetcher.save(state.cache.memory());
                answered
            }
        };
        Some((index, answered))
    }

    /// Asks Patroni where a check waits and no request is in flight.
    pub(super) fn begin_fetches(&mut self, now: Moment) {
        for state in &mut self.states {
            if state.cache.begin_fetch(now) {
                state.fetcher.begin(Work::Fetch);
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

    /// Waits until all that is known is written, but for no thread that waits for Patroni.
    pub(super) fn finish(self) {
        for EndpointState { cache, fetcher, .. } in self.states {
            fetcher.finish(cache.is_fetching());
        }
    }

    fn memory_file(&self, endpoint: &Endpoint) -> Result<Option<MemoryFile>, String> {
        self.directory.as_ref()?.as_ref().map(|directory| directory.file(endpoint)).transpose()
    }
}
