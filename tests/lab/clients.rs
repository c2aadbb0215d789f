//! Clients of HAProxy's that write or read each 20 ms, and when that went through.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use postgres::{Client, NoTls};

use super::witness::{Look, PAUSE};

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
    pub fn start(look: Look, port: u16, work: Work) -> (Self, JoinHandle<()>) {
        let worker = Worker::default();
        let its = worker.clone();
        let thread = thread::spawn(move || {
            while look.on() {
                if let Ok(mut client) = client(port) {
                    while look.on() && work.is_done_by(&mut client) {
                        its.with(|done| done.at.push(look.now()));
                        thread::sleep(PAUSE);
                    }
                }
                if look.on() {
                    its.with(|done| done.failures += 1);
                }
                thread::sleep(PAUSE);
            }
        });
        (worker, thread)
    }

    fn with<T>(&self, look: impl FnOnce(&mut Done) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// When it last succeeded.
    pub fn last(&self) -> Option<Duration> {
        self.with(|done| done.at.last().copied())
    }

    /// The longest time from one success to the next.
    pub fn longest_outage(&self) -> Duration {
        self.with(|done| done.at.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default())
    }

    /// Connections and queries that failed.
    pub fn failures(&self) -> u32 {
        self.with(|done| done.failures)
    }
}

impl Work {
    fn is_done_by(self, client: &mut Client) -> bool {
        let query = match self {
            Work::Write => "INSERT INTO witness VALUES ('client')",
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
