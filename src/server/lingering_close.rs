//! The lingering close (nginx's word) of clients that have their answer: what they still send is
//! drained before the close, because a close with input unread sends a reset, after which the
//! kernel does not send a lost answer again.

use std::io::{self, Read};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::deadline_map::DeadlineMap;

/// The clients whose other half is still open, each until it closes or its time is up.
pub(super) struct LingeringClose {
    clients: DeadlineMap<TcpStream>,
}

impl LingeringClose {
    pub(super) fn new(timeout: Duration) -> Self {
        LingeringClose { clients: DeadlineMap::new(timeout) }
    }

    /// Closes our half of the connection, and the whole once the client has closed its own.
    pub(super) fn begin(&mut self, now: Instant, mut client: TcpStream, token: Token, registry: &Registry) {
        if client.shutdown(Shutdown::Write).is_err() || !drain_once(&mut client) {
            return;
        }
        if registry.register(&mut client, token, Interest::READABLE).is_ok() {
            self.clients.insert(now, token, client);
        }
    }

    /// The poll says that a client sent something or closed.
    pub(super) fn drain(&mut self, token: Token) {
        if self.clients.get_mut(token).is_some_and(|client| !drain_once(client)) {
            self.clients.remove(token);
        }
    }

    /// Closes those whose time is up.
    pub(super) fn close_expired(&mut self, now: Instant) {
        while self.clients.pop_expired(now).is_some() {}
    }

    /// Closes the one that has lingered longest. Whether there was one.
    pub(super) fn close_oldest(&mut self) -> bool {
        self.clients.pop_oldest().is_some()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.clients.next_deadline()
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }
}

/// Reads what there is, 1 MiB at most. Whether more may come: neither closed nor reset, nor sending
/// without end.
fn drain_once(client: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    for _ in 0..256 {
        match client.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
        }
    }
    false
}
