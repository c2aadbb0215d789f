//! The endpoints that the service asks Patroni about: of each its cache, and its fetch thread. Views
//! of one endpoint share them.

use std::error::Error;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mio::Waker;

use super::check::Check;
use super::fetcher::{Fetched, Fetcher, Report, Reporter, Work};
use super::metrics::{FetchMeter, Metrics};
use crate::cache::Cache;
use crate::clock::Moment;
use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::memory::Memory;
use crate::memory::file::{Directory, MemoryFile};
use crate::observe::Subject;
use crate::patroni::{Client, Observation};
use crate::systemd::journal::Journal;
use crate::verdict::Verdict;

/// One endpoint's state.
pub(super) struct EndpointState {
    subject: Subject,
    pub(super) cache: Cache<Check>,
    pub(super) last_observation: Option<Observation>,
    pub(super) fetcher: Fetcher,
    meter: FetchMeter,
}

/// What is remembered. What can't be replaced does not count, as it may be older than what others
/// knew; the first fetch says why it can't.
fn remembered(file: Option<&MemoryFile>) -> Result<Option<Memory>, String> {
    match file {
        Some(file) if file.try_lock().is_ok() => file.load(),
        _ => Ok(None),
    }
}

/// All endpoints, and what is needed to add another one. None is ever removed, so that an index
/// stays good: a fetch that ends late can't hit an endpoint for which it was not made.
pub(super) struct EndpointTable {
    states: Vec<EndpointState>,
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
            config: config.clone(),
            directory: Directory::of(config),
            client: config.client()?,
            waker: Arc::new(waker),
            reports_tx,
            reports_rx,
        })
    }

    /// The index of an endpoint, which is added if it is new. Two views of one endpoint share its
    /// state: Patroni gets one request at a time for each endpoint.
    ///
    /// # Errors
    /// No thread to be had.
    pub(super) fn get_or_insert(&mut self, subject: &Subject, metrics: &Metrics) -> Result<usize, Box<dyn Error>> {
        if let Some(index) = self.states.iter().position(|state| state.subject == *subject) {
            return Ok(index);
        }
        let index = self.states.len();
        let file = self.memory_file(subject);
        let report = Reporter::new(index, self.reports_tx.clone(), Arc::clone(&self.waker));
        let memory = file.as_ref().map_or_else(|why| Err(why.clone()), |file| remembered(file.as_ref()));
        let memory = memory.unwrap_or_else(|why| {
            let _ = report.send(Report::Warning(why));
            None
        });
        let file = file.ok().flatten();
        let (client, turn) = (self.client.clone(), self.turn(&subject.endpoint));
        let deadline = self.config.limits.deadline;
        let fetcher = Fetcher::spawn(subject.clone(), client, turn, deadline, file, memory.clone(), report)?;
        self.states.push(EndpointState {
            subject: subject.clone(),
            cache: Cache::remembering(memory.unwrap_or_else(|| Memory::new(self.config.limits))),
            last_observation: None,
            fetcher,
            meter: metrics.fetch_meter(&subject.name)?,
        });
        Ok(index)
    }

    pub(super) fn get(&self, index: usize) -> &EndpointState {
        &self.states[index]
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut EndpointState {
        &mut self.states[index]
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    /// The checks whose deadline has come.
    pub(super) fn take_expired(&mut self, now: Moment) -> Vec<(Check, Verdict)> {
        self.take_unanswered(|cache| cache.take_expired(now))
    }

    /// All that wait, where they can't wait longer.
    pub(super) fn take_all(&mut self, now: Moment) -> Vec<(Check, Verdict)> {
        self.take_unanswered(|cache| cache.take_all(now))
    }

    fn take_unanswered(&mut self, take: impl Fn(&mut Cache<Check>) -> Vec<(Check, Verdict)>) -> Vec<(Check, Verdict)> {
        let expired = |state: &mut EndpointState| {
            let mut expired = take(&mut state.cache);
            // They all have the same one.
            if let Some(veto) = expired.first().and_then(|(_, verdict)| state.subject.veto(verdict)) {
                expired.iter_mut().for_each(|(_, verdict)| verdict.clone_from(&veto));
            }
            expired
        };
        self.states.iter_mut().flat_map(expired).collect()
    }

    /// The number of checks that wait.
    pub(super) fn waiting(&self) -> usize {
        self.states.iter().map(|state| state.cache.waiting()).sum()
    }

    /// How long until the deadline of the next check.
    pub(super) fn time_left(&self, now: Moment) -> Option<Duration> {
        self.states.iter().filter_map(|state| state.cache.time_left(now)).min()
    }

    /// Takes note of what a thread has reported since the last time. Gives the checks that are
    /// answered by it.
    pub(super) fn take_report(&mut self, now: Moment, journal: &Journal) -> Option<Vec<(Check, Verdict)>> {
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
                let Fetched { look, took } = *fetched;
                state.meter.fetched(took, &look);
                state.last_observation = look.observation;
                let answered = state.cache.fetch_completed(now, look.judgement);
                state.fetcher.save(state.cache.memory());
                answered
            }
        };
        Some(answered)
    }

    /// Asks Patroni where a check waits and no request is in flight.
    pub(super) fn begin_fetches(&mut self, now: Moment) {
        for state in &mut self.states {
            if state.cache.begin_fetch(now) {
                state.fetcher.begin(Work::Fetch);
            }
        }
    }

    /// Waits until all that is known is written, but for no thread that waits for Patroni.
    pub(super) fn finish(self) {
        for EndpointState { cache, fetcher, .. } in self.states {
            fetcher.finish(cache.is_fetching());
        }
    }

    fn memory_file(&self, subject: &Subject) -> Result<Option<MemoryFile>, String> {
        Ok(self.directory.as_ref()?.as_ref().map(|directory| directory.file(subject)))
    }

    /// Whose turn it is to ask Patroni, of those who ask it the same.
    fn turn(&self, endpoint: &Endpoint) -> Arc<Mutex<()>> {
        let path = endpoint.request_path();
        let same = self.states.iter().find(|state| state.subject.endpoint.request_path() == path);
        same.map_or_else(Arc::default, |state| state.fetcher.turn())
    }
}
