//! The persistent responder: one event loop over all listeners, and for each endpoint one thread
//! that asks Patroni.

mod acceptor;
mod check;
mod deadline_map;
mod dispatch;
mod endpoints;
mod event_loop;
mod fetcher;
mod hold_lookup;
mod lingering_close;
mod metrics;
pub(crate) mod request_reader;
mod signals;
mod views;

use std::error::Error;
use std::net::TcpListener;
use std::time::Duration;

use crate::config::{Config, ListenerRole};
use crate::systemd::journal::Journal;
use crate::systemd::notify::Notifier;
use event_loop::EventLoop;

/// At the end the last entries have this long to reach the journal.
const JOURNAL_TIMEOUT: Duration = Duration::from_millis(200);

/// Answers checks on these listeners, each in its role, until SIGTERM or SIGINT; then accepts no
/// more, answers what was accepted, and returns within the deadline.
///
/// # Errors
/// [`BadConfiguration`](crate::config::BadConfiguration), or what the operating system refused at
/// the start.
pub fn serve(listeners: Vec<(TcpListener, ListenerRole)>, config: &Config) -> Result<(), Box<dyn Error>> {
    let journal = Journal::new()?;
    if let Some(warning) = config.warning() {
        journal.warn(warning);
    }
    let notifier = Notifier::from_env().unwrap_or_else(|e| {
        journal.warn(format!("can't notify the service manager (NOTIFY_SOCKET): {e}"));
        Notifier::without_manager()
    });
    let mut event_loop = EventLoop::new(listeners, config, journal, notifier)?;
    event_loop.notify_ready();
    event_loop.run()?;
    event_loop.finish().flush(JOURNAL_TIMEOUT);
    Ok(())
}
