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
use crate::endpoint::Endpoint;
use crate::metrics::{Meter, Metrics};
use crate::patroni::{Observation, Patroni};
use crate::reply::Vocabulary;
use crate::verdict::{Judgement, Verdict, judge};
use crate::view::View;

/// So many endpoints may be asked about by `agent-send` beside those that sockets are for: each means one more request at
/// a time to Patroni, which has five workers.
pub const LENT: usize = 4;

/// Whoever asks by `agent-send` asks each few seconds. An endpoint that was not asked about for so long makes room for
/// another one.
const IDLE: Duration = Duration::from_secs(60);

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
    /// When it was asked about last; none for one that stays.
    asked: Option<Instant>,
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

    /// The desk for an endpoint that somebody asks about by `agent-send`: the one it has, or a new one, or that of another
    /// one that was not asked about for long. None where there are too many.
    pub fn lend(&mut self, now: Instant, endpoint: &Endpoint) -> Option<usize> {
        let desk = match self.find(endpoint) {
            Some(desk) => desk,
            None => {
                let lent = self.desks.iter().filter(|desk| desk.asked.is_some()).count();
                let place = if lent < LENT {
                    self.desks.len()
                } else {
                    self.desks.iter().position(|desk| desk.is_idle(now))?
                };
                let desk = self.desk(place, endpoint).ok()?;
                // In the place of the idle one, or behind the last.
                drop(self.desks.splice(place..self.desks.len().min(place + 1), [Desk { asked: Some(now), ..desk }]));
                place
            }
        };
        if let Some(asked) = &mut self.desks[desk].asked {
            *asked = now;
        }
        Some(desk)
    }

    /// What Patroni said since the last time, taken note of: the checks that it answers, with their desk and verdict.
    pub fn collect(&mut self, now: Instant) -> Option<(usize, Vec<(TcpStream, Verdict)>)> {
        let Found { desk: index, observation, judgement, took } = self.found.try_recv().ok()?;
        let desk = &mut self.desks[index];
        desk.meter.fetched(took, &observation, &judgement);
        desk.observation = Some(observation);
        Some((index, desk.view.observed(now, judgement)))
    }

    /// Asks Patroni where somebody waits to hear it.
    pub fn fetch(&mut self, now: Instant) {
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
            asked: None,
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

impl Desk {
    fn is_idle(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| asked + IDLE <= now) && self.view.is_quiet()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use mio::{Poll, Token};

    #[test]
    fn a_lent_desk_is_lent_to_another_one_when_nobody_has_come_for_long() {
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(0)).unwrap();
        let options = Options::try_parse_from(["patroni-check"]).unwrap();
        let mut desks = Desks::new(&options, waker).unwrap();
        let start = Instant::now();
        let endpoint = |lag: usize| format!("/replica?lag={lag}").parse::<Endpoint>().unwrap();
        let stays = desks.open(&"/primary".parse().unwrap()).unwrap();
        for lag in 1..=LENT {
            assert_eq!(desks.lend(start, &endpoint(lag)), Some(stays + lag));
        }
        assert_eq!(desks.lend(start, &endpoint(9)), None);
        assert_eq!(desks.lend(start, &endpoint(9)), None, "nothing is left of the first try");
        let later = start + IDLE;
        assert_eq!(desks.lend(later, &endpoint(1)), Some(1), "still in use");
        assert_eq!(desks.lend(later, &endpoint(9)), Some(2));
        assert_eq!(desks.desks.len(), 1 + LENT);
        assert_eq!(desks.lend(later, &endpoint(2)), Some(3), "its meter was free again");
        assert_eq!(desks.desks[0].endpoint.to_string(), "/primary", "it stays, though nobody has come");
    }
}
