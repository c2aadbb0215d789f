//! Clients that speak first: checks that say themselves which endpoint they ask about (HAProxy's `agent-send`), and those
//! who want metrics. Each has a moment to say it.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::endpoint::Endpoint;
use crate::verdict::Verdict;

/// A client that has not spoken by then is closed. HAProxy sends its line with the first packet after the connection is made; one
/// that is lost comes some hundred milliseconds later.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// What a client is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// A line.
    Line,
    /// The head of an HTTP request, which an empty line ends.
    Head,
}

impl Speech {
    /// The most bytes that are read. An endpoint has a few dozen, a request for metrics a few hundred.
    pub fn limit(self) -> usize {
        match self {
            Speech::Line => 512,
            Speech::Head => 4096,
        }
    }
}

/// What a client has said, whole or not: its time may have been up.
pub struct Heard {
    /// The client.
    pub client: TcpStream,
    /// What it was to say.
    pub speech: Speech,
    /// What it said.
    pub said: Vec<u8>,
}

/// The clients that speak.
#[derive(Default)]
pub struct Hearing {
    clients: HashMap<Token, Heard>,
    /// When each has to have spoken, in order; some have by then.
    over: VecDeque<(Instant, Token)>,
}

/// The endpoint that a check asks about by its line; an empty one means the default one.
///
/// # Errors
/// The verdict on a line that is none, or names none: it must neither be taken for an endpoint nor go unnoticed.
pub fn endpoint_in(said: &[u8], default: &Endpoint) -> Result<Endpoint, Verdict> {
    let fail = |what: &str| Verdict::Fail(format!("agent-send: {what}"));
    let Some(end) = said.iter().position(|byte| *byte == b'\n') else {
        // Its beginning may be another endpoint.
        return Err(fail("a line without an end; write \\n at its end"));
    };
    let line = String::from_utf8_lossy(&said[..end]);
    match line.trim() {
        "" => Ok(default.clone()),
        line => line.parse().map_err(|_| fail("no health check endpoint of Patroni's")),
    }
}

impl Hearing {
    /// Hears a client that just came. It is given back if it has said it all already.
    pub fn begin(
        &mut self,
        now: Instant,
        client: TcpStream,
        speech: Speech,
        token: Token,
        registry: &Registry,
    ) -> Option<Heard> {
        let mut heard = Heard { client, speech, said: Vec::new() };
        if heard.listen() || registry.register(&mut heard.client, token, Interest::READABLE).is_err() {
            return Some(heard);
        }
        self.clients.insert(token, heard);
        self.over.push_back((now + REQUEST_TIMEOUT, token));
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

    /// Closes the one that has taken longest to speak, if any.
    pub fn dismiss_oldest(&mut self) -> bool {
        while let Some((_, token)) = self.over.pop_front() {
            if self.clients.remove(&token).is_some() {
                return true;
            }
        }
        false
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
        while self.said.len() < self.speech.limit() && !self.is_whole() {
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
    fn a_line_names_an_endpoint_or_is_a_failure() {
        let default: Endpoint = "/sync".parse().unwrap();
        let said = |text: &[u8]| match endpoint_in(text, &default) {
            Ok(endpoint) => endpoint.to_string(),
            Err(verdict) => verdict.why().to_owned(),
        };
        let table: [(&[u8], &str); 12] = [
            (b"/replica\n", "/replica"),
            (b" /replica?lag=1kB\r\n/primary\n", "/replica?lag=1024"),
            (b"", "without an end"),
            (b"/replica", "without an end"),
            (b"/read-only", "without an end"),
            (&[b'x'; 512], "without an end"),
            (b"\n", "/sync"),
            (b"\r\n", "/sync"),
            (b"/replica/\n", "no health check"),
            (b"replica\n", "no health check"),
            (b"/replica\xff\n", "no health check"),
            (b"GET /replica HTTP/1.1\r\n", "no health check"),
        ];
        for (text, expected) in table {
            let got = said(text);
            assert!(got.contains(expected), "{}: {got}", String::from_utf8_lossy(text));
        }
    }
}
