//! Clients that speak first: checks that name their endpoint (HAProxy's `agent-send`), and those
//! who want metrics. Each has a moment to send its request.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::deadline_map::DeadlineMap;
use crate::http::{HEAD_LIMIT, Request};

/// After this, what came is taken for the request: nothing or half an HTTP head is dropped, half a
/// line gets the reply of a failure. HAProxy sends its line with the first packet after the
/// connection is made; one that is lost comes some hundred milliseconds later.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// What a request is, and so where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// A line that names an endpoint.
    AgentSend,
    /// A check by HTTP.
    Http,
    /// HTTP as well, for metrics.
    Metrics,
}

impl Protocol {
    /// The most bytes that are read. An endpoint has a few dozen, a head a few hundred.
    pub(crate) fn limit(self) -> usize {
        match self {
            Protocol::AgentSend => 512,
            Protocol::Http | Protocol::Metrics => HEAD_LIMIT,
        }
    }

    /// Whether the request has ended, or is none.
    pub(crate) fn is_whole(self, bytes: &[u8]) -> bool {
        match self {
            Protocol::AgentSend => bytes.contains(&b'\n'),
            Protocol::Http | Protocol::Metrics => Request::is_whole(bytes),
        }
    }
}

/// What a client has sent of its request. It may be incomplete: the client closed, its time was up,
/// or it is too long.
pub(super) struct PartialRequest {
    pub(super) client: TcpStream,
    pub(super) protocol: Protocol,
    pub(super) bytes: Vec<u8>,
}

/// The clients that have not sent their whole request yet.
pub(super) struct RequestReader {
    clients: DeadlineMap<PartialRequest>,
}

impl RequestReader {
    pub(super) fn new() -> Self {
        RequestReader { clients: DeadlineMap::new(REQUEST_TIMEOUT) }
    }

    /// Takes a client that just came. Its request is given back if all of it is there already.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        client: TcpStream,
        protocol: Protocol,
        token: Token,
        registry: &Registry,
    ) -> Option<PartialRequest> {
        let mut request = PartialRequest { client, protocol, bytes: Vec::new() };
        if request.read() || registry.register(&mut request.client, token, Interest::READABLE).is_err() {
            return Some(request);
        }
        self.clients.insert(now, token, request);
        None
    }

    /// The poll says that a client sent something or closed. Its request is given back once nothing
    /// more is to come.
    pub(super) fn read(&mut self, token: Token, registry: &Registry) -> Option<PartialRequest> {
        let has_ended = self.clients.get_mut(token)?.read();
        has_ended.then(|| self.clients.remove(token)).flatten().map(|request| request.deregistered(registry))
    }

    /// The request of one whose time is up, if there is one, with what the poll has not told of yet.
    pub(super) fn take_expired(&mut self, now: Instant, registry: &Registry) -> Option<PartialRequest> {
        let mut request = self.clients.pop_expired(now)?;
        request.read();
        Some(request.deregistered(registry))
    }

    /// Closes the one that has taken longest. Whether there was one.
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

impl PartialRequest {
    /// Reads what there is. Whether nothing more is to come, or to be wanted.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 512];
        while self.bytes.len() < self.protocol.limit() && !self.protocol.is_whole(&self.bytes) {
            match self.client.read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return e.kind() != io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// The client may be registered anew, under another token.
    fn deregistered(mut self, registry: &Registry) -> Self {
        let _ = registry.deregister(&mut self.client);
        self
    }
}
