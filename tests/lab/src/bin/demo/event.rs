//! What can befall the cluster.

use std::thread;
use std::time::Duration;

use lab::cluster::{Cluster, Member};
use rustix::process::Signal;

/// How long Patroni is frozen: until another member has the leader lock (`ttl`).
const FROZEN: Duration = Duration::from_secs(35);

/// What can befall the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Switchover,
    Crash,
    Freeze,
}

pub const EVENTS: [Event; 3] = [Event::Switchover, Event::Crash, Event::Freeze];

impl Event {
    pub fn key(self) -> (char, &'static str) {
        match self {
            Event::Switchover => ('s', "switchover"),
            Event::Crash => ('c', "crash of PostgreSQL"),
            Event::Freeze => ('f', "freeze of Patroni"),
        }
    }

    /// Does it to the primary, and returns when it is over.
    pub fn happen(self, cluster: &Cluster, from: &Member, to: &Member) -> Result<(), String> {
        match self {
            Event::Switchover => cluster.switch_over(from, to).map_err(|e| e.to_string()),
            Event::Crash => from.kill_postgres().map_err(|e| e.to_string()),
            Event::Freeze => {
                from.signal_patroni(Signal::STOP);
                thread::sleep(FROZEN);
                from.signal_patroni(Signal::CONT);
                Ok(())
            }
        }
    }

    pub fn title(self, from: &str, to: &str) -> String {
        match self {
            Event::Switchover => format!("switchover from {from} to {to}"),
            Event::Crash => format!("crash of PostgreSQL on {from}"),
            Event::Freeze => format!("Patroni on {from} frozen for {} s", FROZEN.as_secs()),
        }
    }
}
