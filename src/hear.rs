//! Clients that speak first: checks that say themselves which endpoint they ask about (HAProxy's `agent-send`), and those
//! who want metrics. Each has a moment to say it.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::endpoint::Endpoint;
use crate::verdict::Verdict;

/// An endpoint has a few dozen bytes, a request for metrics a few hundred.
pub const LIMIT: usize = 4096;

/// What a client is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// A line.
    Line,
    /// The head of an HTTP request, which an empty line ends.
    Head,
}

/// What a client has said, whole or not: its time may have been up.
pub struct Heard {
    /// The client.
    pub client: TcpStream,
    /// When it came.
    pub arrived: Instant,
    /// What it was to say.
    pub speech: Speech,
    /// What it said.
    pub said: Vec<u8>,
}

/// The clients that speak.
pub struct Hearing {
    patience: Duration,
    clients: HashMap<Token, Heard>,
    /// When each has to have spoken, in order; some have by then.
    over: VecDeque<(Instant, Token)>,
}

/// How long a check may take to say its endpoint, of the time in which it is answered. HAProxy sends it with the first
/// packet after the connection is made.
pub fn patience(deadline: Duration) -> Duration {
    deadline / 4
}

/// The endpoint that a check asks about. Nothing said means the default one.
///
/// # Errors
/// The verdict on what is no endpoint: it must neither be taken for another one nor go unnoticed.
pub fn endpoint_in(said: &[u8], default: &Endpoint) -> Result<Endpoint, Verdict> {
    let text = String::from_utf8_lossy(said);
    match text.lines().next().unwrap_or_default().trim() {
        "" => Ok(default.clone()),
        line => line.parse().map_err(|_| Verdict::Fail("agent-send: no health check endpoint of Patroni's".into())),
    }
}

impl Hearing {
    /// Nobody yet.
    pub fn new(deadline: Duration) -> Self {
        Hearing { patience: patience(deadline), clients: HashMap::new(), over: VecDeque::new() }
    }

    /// Hears a client that just came. It is given back if it has said it all already.
    pub fn begin(
        &mut self,
        arrived: Instant,
        client: TcpStream,
        speech: Speech,
        token: Token,
        registry: &Registry,
    ) -> Option<Heard> {
        let mut heard = Heard { client, arrived, speech, said: Vec::new() };
        if heard.listen() || registry.register(&mut heard.client, token, Interest::READABLE).is_err() {
            return Some(heard);
        }
        self.clients.insert(token, heard);
        self.over.push_back((arrived + self.patience, token));
        None
    }

    /// The poll says that a client sent something or closed. It is given back once it has said it all.
    pub fn go_on(&mut self, token: Token, registry: &Registry) -> Option<Heard> {
        self.clients.get_mut(&token)?.listen().then(|| self.end(token, registry)).flatten()
    }

    /// Gives back one whose time is up, if there is one.
    pub fn overdue(&mut self, now: Instant, registry: &Registry) -> Option<Heard> {
        while self.over.front().is_some_and(|(over, token)| *over <= now || !self.clients.contains_key(token)) {
            let ended = self.over.pop_front().and_then(|(_, token)| self.end(token, registry));
            if ended.is_some() {
                return ended;
            }
        }
        None
    }

    /// When to call [`Hearing::overdue`] again.
    pub fn next_over(&self) -> Option<Instant> {
        self.over.front().map(|(over, _)| *over)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether nobody speaks.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    fn end(&mut self, token: Token, registry: &Registry) -> Option<Heard> {
        let mut heard = self.clients.remove(&token)?;
        // It may be registered anew, by another room.
        let _ = registry.deregister(&mut heard.client);
        Some(heard)
    }
}

impl Heard {
    /// Reads what there is. Whether nothing more is to come, or to be wanted.
    fn listen(&mut self) -> bool {
        let mut buffer = [0; 512];
        while self.said.len() < LIMIT && !self.is_whole() {
            match self.client.read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => self.said.extend_from_slice(&buffer[..count]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return e.kind() != io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// Whether it was said to the end.
    pub fn is_whole(&self) -> bool {
        match self.speech {
            Speech::Line => self.said.contains(&b'\n'),
            Speech::Head => self.said.windows(4).any(|end| end == b"\r\n\r\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_asks_about_an_endpoint_or_the_default_one_or_nothing_that_is_known() {
        let default: Endpoint = "/primary".parse().unwrap();
        let said = |text: &[u8]| endpoint_in(text, &default).map(|endpoint| endpoint.to_string()).map_err(drop);
        let table: [(&[u8], _); 9] = [
            (b"", Ok("/primary")),
            (b"\r\n", Ok("/primary")),
            (b"/replica\n", Ok("/replica")),
            (b" /replica?lag=1kB\r\n/primary\n", Ok("/replica?lag=1024")),
            (b"/replica", Ok("/replica")),
            (b"/replica/\n", Err(())),
            (b"replica\n", Err(())),
            (b"/replica\xff\n", Err(())),
            (b"GET /replica HTTP/1.1\r\n", Err(())),
        ];
        for (text, expected) in table {
            assert_eq!(said(text), expected.map(str::to_owned), "{}", String::from_utf8_lossy(text));
        }
    }
}
