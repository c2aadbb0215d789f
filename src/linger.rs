//! Clients that have their answer and linger: what they still send is drained before the close, because a close with
//! input unread sends a reset, after which the kernel does not send a lost answer again.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// The clients that linger, each until it closes or its time is up.
pub struct Lingering {
    patience: Duration,
    clients: HashMap<Token, TcpStream>,
    /// When each has to go, in order; some are gone by then.
    leaving: VecDeque<(Instant, Token)>,
}

impl Lingering {
    /// Nobody yet.
    pub fn new(patience: Duration) -> Self {
        Lingering { patience, clients: HashMap::new(), leaving: VecDeque::new() }
    }

    /// Sees a client off that has its answer: closes our side, and the rest when it closes too.
    pub fn see_off(&mut self, now: Instant, mut client: TcpStream, token: Token, registry: &Registry) {
        if client.shutdown(Shutdown::Write).is_err() || !may_send_more(&mut client) {
            return;
        }
        if registry.register(&mut client, token, Interest::READABLE).is_ok() {
            self.clients.insert(token, client);
            self.leaving.push_back((now + self.patience, token));
        }
    }

    /// The poll says that a client sent something or closed.
    pub fn drain(&mut self, token: Token) {
        if self.clients.get_mut(&token).is_some_and(|client| !may_send_more(client)) {
            self.clients.remove(&token);
        }
    }

    /// Closes those whose time is up.
    pub fn expire(&mut self, now: Instant) {
        while self.leaving.front().is_some_and(|(leave, token)| *leave <= now || !self.clients.contains_key(token)) {
            self.dismiss_first();
        }
    }

    /// Closes the one that has lingered longest, if any.
    pub fn dismiss_oldest(&mut self) -> bool {
        while !self.leaving.is_empty() {
            if self.dismiss_first() {
                return true;
            }
        }
        false
    }

    /// When to call [`Lingering::expire`] again.
    pub fn next_leave(&self) -> Option<Instant> {
        self.leaving.front().map(|(leave, _)| *leave)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether all are gone.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    fn dismiss_first(&mut self) -> bool {
        self.leaving.pop_front().is_some_and(|(_, token)| self.clients.remove(&token).is_some())
    }
}

/// Reads what there is. Whether more may come: neither closed nor reset, nor sending without end.
fn may_send_more(client: &mut TcpStream) -> bool {
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
