//! The listeners, and when to accept from them.

use std::io;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::request_reader::Protocol;

/// The pause of a listener after accepting failed, mostly for want of descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Clients at once, sending a request, waiting or lingering; those who come then wait in the
/// listener's backlog.
const MAX_CONNECTIONS: usize = 4096;

/// Descriptors that clients can't take: ours, and for each endpoint those of its fetch (socket,
/// name lookup, certificates).
const RESERVED: usize = 32;
const RESERVED_AN_ENDPOINT: usize = 8;

/// What the clients of a listener get.
#[derive(Clone, Copy)]
pub(super) enum ListenerKind {
    /// The answer of this view, by its index in the table.
    View(usize),
    /// They send a request first.
    Request(Protocol),
}

struct Listener {
    socket: TcpListener,
    kind: ListenerKind,
    /// Connections may wait. The poll is edge-triggered: it tells of new ones only.
    is_ready: bool,
    paused_until: Option<Instant>,
    /// The operator was told that accepting fails.
    has_warned: bool,
}

/// The listeners, by their tokens: 0, 1 and so on.
#[derive(Default)]
pub(super) struct Acceptor {
    listeners: Vec<Listener>,
    /// With which one a round begins.
    first: usize,
}

impl Acceptor {
    pub(super) fn add(
        &mut self,
        socket: std::net::TcpListener,
        kind: ListenerKind,
        registry: &Registry,
    ) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let mut socket = TcpListener::from_std(socket);
        registry.register(&mut socket, Token(self.listeners.len()), Interest::READABLE)?;
        self.listeners.push(Listener { socket, kind, is_ready: true, paused_until: None, has_warned: false });
        Ok(())
    }

    pub(super) fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// All, each once.
    pub(super) fn round(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, count) = (self.first, self.listeners.len());
        (first..count).chain(0..first)
    }

    /// There was room until this one. The next round begins with those behind it.
    pub(super) fn begin_round_after(&mut self, listener: usize) {
        self.first = (listener + 1) % self.listeners.len();
    }

    /// The poll says that connections wait.
    pub(super) fn set_ready(&mut self, listener: usize) {
        self.listeners[listener].is_ready = true;
    }

    /// The next connection that waits at a listener; none where none does, or the first of them is
    /// gone.
    ///
    /// # Errors
    /// No descriptor is free (EMFILE, ENFILE), no memory, or a socket that no longer listens.
    pub(super) fn accept(&mut self, listener: usize, now: Instant) -> io::Result<Option<(ListenerKind, TcpStream)>> {
        let listener = &mut self.listeners[listener];
        if !listener.is_ready || listener.paused_until.is_some_and(|until| until > now) {
            return Ok(None);
        }
        match listener.socket.accept() {
            Ok((client, _)) => Ok(Some((listener.kind, client))),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                listener.is_ready = false;
                Ok(None)
            }
            // Others may wait behind it: the next turn comes at once.
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Accepts nothing from this listener for a while, because of this error. The others go on: one
    /// whose socket is broken must not take them along. Gives what is to be told, once a listener.
    pub(super) fn pause(&mut self, listener: usize, now: Instant, error: &io::Error) -> Option<String> {
        let listener = &mut self.listeners[listener];
        listener.paused_until = Some(now + ACCEPT_BACKOFF);
        if std::mem::replace(&mut listener.has_warned, true) {
            return None;
        }
        let address = listener.socket.local_addr().map_or("a socket".to_owned(), |address| address.to_string());
        Some(format!("can't accept connections at {address}: {error}; tried again every {ACCEPT_BACKOFF:?}"))
    }

    /// When to accept again without being told by the poll: connections may wait.
    pub(super) fn next_accept(&self, now: Instant) -> Option<Instant> {
        let ready = self.listeners.iter().filter(|listener| listener.is_ready);
        ready.map(|listener| listener.paused_until.map_or(now, |until| until.max(now))).min()
    }
}

/// Whether accepting failed because too much is open, so that closing something helps.
pub(super) fn is_for_want_of_room(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// How many clients may be open: the limit of descriptors less what the program needs itself. One
/// more could be accepted and not answered, for want of a descriptor for asking Patroni, so it
/// waits in the backlog.
pub(super) fn max_connections(endpoints: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit.try_into().unwrap_or(usize::MAX));
    limit.saturating_sub(RESERVED + endpoints * RESERVED_AN_ENDPOINT).clamp(1, MAX_CONNECTIONS)
}
