//! The desks of the persistent service: each has one view, the thread that asks Patroni for it, the words for HAProxy, and
//! what the operator is told of it.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;
use mio::net::TcpStream;

use crate::cli::Options;
use crate::clock::Moment;
use crate::endpoint::Endpoint;
use crate::metrics::{Meter, Metrics};
use crate::patroni::{Observation, Patroni};
use crate::reply::Vocabulary;
use crate::verdict::{Judgement, Verdict, judge};
use crate::view::View;

/// One endpoint's.
pub struct Desk {
    /// What is asked.
    pub endpoint: Endpoint,
    /// How verdicts are put into words.
    pub vocabulary: Vocabulary,
    /// The checks that wait, and what is known.
    pub view: View<TcpStream>,
    /// What Patroni said last.
    pub observation: Option<Observation>,
    /// What HAProxy was told last.
    pub said: Option<Verdict>,
    /// How many checks were answered.
    pub answered: u64,
    /// For Prometheus.
    pub meter: Meter,
    fetch: Sender<()>,
}

/// What a desk's thread found.
pub struct Found {
    desk: usize,
    observation: Observation,
    judgement: Judgement,
    took: Duration,
}

/// All desks, and what is needed to open another one.
pub struct Desks {
    /// In the order of their opening.
    pub desks: Vec<Desk>,
    /// The meters of all of them.
    metrics: Metrics,
    options: Options,
    patroni: Patroni,
    waker: Arc<Waker>,
    finder: Sender<Found>,
    found: Receiver<Found>,
}

impl Desks {
    /// None yet. `waker` is called when Patroni has said something.
    ///
    /// # Errors
    /// A configuration that does not lead to Patroni.
    pub fn new(options: &Options, waker: Waker) -> Result<Self, Box<dyn Error>> {
        let (finder, found) = channel();
        let (patroni, options) = (options.patroni()?, options.clone());
        let (desks, metrics) = (Vec::new(), Metrics::default());
        Ok(Desks { desks, metrics, options, patroni, waker: Arc::new(waker), finder, found })
    }

    /// The desk for an endpoint, to stay. Two sockets for one endpoint share theirs: Patroni gets one request at a time for
    /// each endpoint.
    ///
    /// # Errors
    /// Words that do not go together for it, or no thread to be had.
    pub fn open(&mut self, endpoint: &Endpoint) -> Result<usize, Box<dyn Error>> {
        if let Some(desk) = self.find(endpoint) {
            return Ok(desk);
        }
        let desk = self.desk(self.desks.len(), endpoint)?;
        self.desks.push(desk);
        Ok(self.desks.len() - 1)
    }

    /// The desk of an endpoint that a check names itself.
    ///
    /// # Errors
    /// The verdict on one that nobody has put on the list: each desk means one more request at a time to Patroni, so which there
    /// are is for the settings to say.
    pub fn named(&self, endpoint: &Endpoint) -> Result<usize, Verdict> {
        self.find(endpoint).ok_or_else(|| not_listed(endpoint))
    }

    /// What Patroni said since the last time, taken note of: the checks that it answers, with their desk and verdict.
    pub fn collect(&mut self, now: Moment) -> Option<(usize, Vec<(TcpStream, Verdict)>)> {
        let Found { desk: index, observation, judgement, took } = self.found.try_recv().ok()?;
        let desk = &mut self.desks[index];
        desk.meter.fetched(took, &observation, &judgement);
        desk.observation = Some(observation);
        Some((index, desk.view.observed(now, judgement)))
    }

    /// Asks Patroni where somebody waits to hear it.
    pub fn fetch(&mut self, now: Moment) {
        for desk in &mut self.desks {
            if desk.view.begin_fetch(now) {
                // The thread lives as long as the desk: a panic in it ends the program.
                let _ = desk.fetch.send(());
            }
        }
    }

    /// The line in `systemctl status`.
    pub fn status(&self) -> String {
        let views = self.desks.iter().map(|desk| {
            let said = desk.said.as_ref().and_then(|verdict| desk.vocabulary.reply(verdict));
            let said = said.as_deref().map_or("nothing said yet", str::trim_end);
            format!("{}: {said} ({} checks)", desk.endpoint, desk.answered)
        });
        views.collect::<Vec<_>>().join("; ")
    }

    /// What Prometheus is told.
    pub fn metrics(&self, now: Instant, request: &[u8]) -> String {
        self.desks.iter().for_each(|desk| desk.meter.refresh(now));
        self.metrics.answer(request)
    }

    fn find(&self, endpoint: &Endpoint) -> Option<usize> {
        self.desks.iter().position(|desk| desk.endpoint == *endpoint)
    }

    fn desk(&self, index: usize, endpoint: &Endpoint) -> Result<Desk, Box<dyn Error>> {
        Ok(Desk {
            endpoint: endpoint.clone(),
            vocabulary: self.options.vocabulary(endpoint)?,
            view: View::new(self.options.limits()),
            observation: None,
            said: None,
            answered: 0,
            meter: self.metrics.meter(endpoint)?,
            fetch: self.fetcher(index, endpoint)?,
        })
    }

    /// Starts the thread that asks Patroni for a desk, once for each order.
    fn fetcher(&self, desk: usize, endpoint: &Endpoint) -> io::Result<Sender<()>> {
        let (order, orders) = channel();
        let (patroni, endpoint) = (self.patroni.clone(), endpoint.clone());
        let (finder, waker) = (self.finder.clone(), Arc::clone(&self.waker));
        thread::Builder::new().name(format!("fetch{endpoint}")).spawn(move || {
            while let Ok(()) = orders.recv() {
                let began = Instant::now();
                let observation = patroni.get(&endpoint);
                let judgement = judge(&endpoint, &observation);
                let took = began.elapsed();
                if finder.send(Found { desk, observation, judgement, took }).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        })?;
        Ok(order)
    }
}

/// What is said to a check that names an endpoint which is not on the list.
pub fn not_listed(endpoint: &Endpoint) -> Verdict {
    Verdict::Fail(format!("agent-send: not in PATRONI_CHECK_ALSO: {endpoint}"))
}
