//! Notifications to the service manager (sd_notify(3)). Without one (no `NOTIFY_SOCKET`) they do
//! nothing.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// How often `systemctl status` gets new counts where no watchdog asks for more.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// The pause before a READY=1 that was not taken is sent again.
const READY_AGAIN: Duration = Duration::from_millis(100);

/// The shortest pause between pings. A WatchdogSec= below it is a mistake, and the loop would do
/// nothing else.
const SHORTEST: Duration = Duration::from_millis(10);

/// STATUS has at most so many characters. PID 1 drops a notification of more than 4096 bytes whole
/// (`manager.c`, `NOTIFY_BUFFER_MAX`).
const STATUS_LIMIT: usize = 900;

/// Whom we notify, and when. Each notification is a datagram of its own, so that none is lost
/// because of another one, and none waits for a manager that does not read: what is lost is made
/// good by the next.
pub(crate) struct Notifier {
    /// The manager's socket, and ours.
    manager: Option<(SocketAddr, UnixDatagram)>,
    every: Duration,
    due: Option<Instant>,
    /// READY=1 was not taken yet.
    owes_ready: bool,
}

impl Notifier {
    /// Finds out who manages us.
    ///
    /// # Errors
    /// A `NOTIFY_SOCKET` that can't be used. The program can do without it, the manager may not.
    pub(crate) fn from_env() -> io::Result<Self> {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Notifier::without_manager());
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // Twice a period, as sd_watchdog_enabled(3) advises.
        let half = sd_notify::watchdog_enabled().map(|period| period / 2).filter(|half| !half.is_zero());
        let every = half.map_or(STATUS_EVERY, |half| half.clamp(SHORTEST, STATUS_EVERY));
        Ok(Notifier {
            manager: Some((address(&name)?, socket)),
            every,
            due: Some(Instant::now() + every),
            owes_ready: false,
        })
    }

    /// One without a manager.
    pub(crate) fn without_manager() -> Self {
        Notifier { manager: None, every: STATUS_EVERY, due: None, owes_ready: false }
    }

    /// READY=1: listening. What keeps it from the manager now may have passed soon, and it waits
    /// for it, so it is sent until it is taken.
    ///
    /// # Errors
    /// What kept it from the manager.
    pub(crate) fn ready(&mut self, now: Instant) -> io::Result<()> {
        let sent = self.send(&NotifyState::Ready);
        self.owes_ready = sent.is_err();
        if self.owes_ready {
            self.due = self.due.map(|due| due.min(now + READY_AGAIN));
        }
        sent
    }

    /// When the next notification is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it is due now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// WATCHDOG=1. To be called by the event loop itself, after it has answered what was overdue.
    pub(crate) fn ping_watchdog(&mut self, now: Instant) {
        let _ = self.send(&NotifyState::Watchdog);
        self.due = self.due.map(|_| now + self.every);
        if self.owes_ready {
            let _ = self.ready(now);
        }
    }

    /// The line in `systemctl status`.
    pub(crate) fn status(&self, status: &str) {
        let mut line: String = status.chars().take(STATUS_LIMIT).collect();
        if line.len() < status.len() {
            line.push('…');
        }
        let _ = self.send(&NotifyState::Status(&line));
    }

    /// STOPPING=1.
    pub(crate) fn stopping(&self) {
        let _ = self.send(&NotifyState::Stopping);
    }

    fn send(&self, state: &NotifyState) -> io::Result<()> {
        let Some((manager, socket)) = &self.manager else { return Ok(()) };
        socket.send_to_addr(state.to_string().as_bytes(), manager).map(drop)
    }
}

/// A path, or `@` and a name in the abstract namespace (unix(7)), which sd-notify does not know.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "it must be a path, or @ and a name")),
    }
}
