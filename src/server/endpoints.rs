//! The endpoints that the service answers for: of each its cache, its fetch thread, which asks
//! Patroni, and what the operator is told of it.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;

use super::cache::Cache;
use super::check::Check;
use super::metrics::{Meter, Metrics};
use crate::clock::Moment;
use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::haproxy::reply::ReplyPolicy;
use crate::http::Response;
use crate::patroni::{Client, Observation};
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
    requests_tx: Sender<()>,
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
        self.states.push(EndpointState {
            endpoint: endpoint.clone(),
            policy: self.config.reply_policy(endpoint)?,
            cache: Cache::new(self.config.limits),
            last_observation: None,
            last_verdict: None,
            answered: 0,
            meter: self.metrics.meter(endpoint)?,
            requests_tx: self.spawn_fetcher(index, endpoint)?,
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
        Some((index, state.cache.fetch_completed(now, judgement)))
    }

    /// Asks Patroni where a check waits and no request is in flight.
    pub(super) fn begin_fetches(&mut self, now: Moment) {
        for state in &mut self.states {
            if state.cache.begin_fetch(now) {
                // The thread lives as long as the state: a panic in it ends the program.
                let _ = state.requests_tx.send(());
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

    /// Starts the thread that asks Patroni for an endpoint, once for each message. It makes one
    /// request at a time, so as many requests are in flight as there are endpoints, at most.
    fn spawn_fetcher(&self, index: usize, endpoint: &Endpoint) -> io::Result<Sender<()>> {
        let (requests_tx, requests_rx) = channel();
        let (client, endpoint) = (self.client.clone(), endpoint.clone());
        let (results_tx, waker) = (self.results_tx.clone(), Arc::clone(&self.waker));
        thread::Builder::new().name(format!("fetch{endpoint}")).spawn(move || {
            while let Ok(()) = requests_rx.recv() {
                let began = Instant::now();
                let observation = client.get(&endpoint);
                let judgement = judge(&endpoint, &observation);
                let took = began.elapsed();
                let result = FetchResult { index, observation, judgement, took };
                if results_tx.send(result).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        })?;
        Ok(requests_tx)
    }
}
