//! Clients that write or read again and again, and when that went through.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use postgres::{Client, NoTls};

use crate::sampling::{Sampling, longest_gap};

/// What a client does through a backend again and again.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    Write,
    Read,
}

/// A client; a session that is lost is begun anew.
#[derive(Clone, Default)]
pub struct Worker(Arc<Mutex<Done>>);

#[derive(Default)]
struct Done {
    at: Vec<Duration>,
    failures: u32,
}

impl Worker {
    /// Begins through a port of HAProxy's.
    pub fn start(sampling: Sampling, port: u16, work: Work) -> (Self, JoinHandle<()>) {
        let worker = Worker::default();
        let its = worker.clone();
        let thread = thread::spawn(move || {
            while sampling.on() {
                if let Ok(mut client) = client(port) {
                    while sampling.on() && work.is_done_by(&mut client) {
                        its.with(|done| done.at.push(sampling.now()));
                        sampling.rest();
                    }
                }
                if sampling.on() {
                    its.with(|done| done.failures += 1);
                }
                sampling.rest();
            }
        });
        (worker, thread)
    }

    /// Begins to write to a node itself, over its socket file. One in recovery refuses until it is
    /// promoted.
    pub fn start_on(sampling: Sampling, home: &Path, port: u16) -> (Self, JoinHandle<()>) {
        let mut config = postgres::Config::new();
        config.host_path(home).port(port).user("postgres").dbname("postgres");
        // What it refuses is not for its log.
        config.options("-c statement_timeout=1s -c log_min_messages=panic");
        let worker = Worker::default();
        let its = worker.clone();
        let thread = thread::spawn(move || {
            let mut client: Option<Client> = None;
            while sampling.on() {
                client = client.filter(|client| !client.is_closed()).or_else(|| config.connect(NoTls).ok());
                if client.as_mut().is_some_and(|client| Work::Write.is_done_by(client)) {
                    its.with(|done| done.at.push(sampling.now()));
                }
                sampling.rest();
            }
        });
        (worker, thread)
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Done) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// When it last succeeded.
    pub fn last(&self) -> Option<Duration> {
        self.with(|done| done.at.last().copied())
    }

    /// When it succeeded.
    pub fn times(&self) -> Vec<Duration> {
        self.with(|done| done.at.clone())
    }

    /// The longest time from one success to the next.
    pub fn longest_outage(&self) -> Duration {
        longest_gap(&self.times()).map_or(Duration::ZERO, |(from, to)| to - from)
    }

    /// The same since a moment, up to now: one that lasts is counted.
    pub fn longest_outage_since(&self, began: Duration, now: Duration) -> Duration {
        let times = self.times().into_iter().filter(|at| *at > began && *at < now);
        let times: Vec<_> = [began].into_iter().chain(times).chain([now]).collect();
        longest_gap(&times).map_or(Duration::ZERO, |(from, to)| to - from)
    }

    /// Connections and queries that failed.
    pub fn failures(&self) -> u32 {
        self.with(|done| done.failures)
    }
}

impl Work {
    fn is_done_by(self, client: &mut Client) -> bool {
        let query = match self {
            Work::Write => "INSERT INTO writes VALUES ('client')",
            Work::Read => "SELECT 1",
        };
        client.batch_execute(query).is_ok()
    }
}

/// A client of HAProxy's.
pub fn client(port: u16) -> Result<Client, postgres::Error> {
    let mut config = postgres::Config::new();
    config.host("127.0.0.1").port(port).user("postgres").password("demo").dbname("postgres");
    config.connect_timeout(Duration::from_secs(1)).connect(NoTls)
}

#[test]
fn an_outage_that_lasts_counts_and_one_from_before_does_not() {
    let ms = Duration::from_millis;
    let worker = Worker::default();
    for at in [0, 5000, 5020, 5040, 6000] {
        worker.with(|done| done.at.push(ms(at)));
    }
    assert_eq!(worker.longest_outage(), ms(5000));
    for (began, now, outage) in [(5010, 5050, 20), (5010, 6010, 960), (5030, 8000, 2000), (7000, 7500, 500)] {
        assert_eq!(worker.longest_outage_since(ms(began), ms(now)), ms(outage), "{began} to {now}");
    }
}
