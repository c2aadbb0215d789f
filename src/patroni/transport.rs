//! What a request goes over: TCP, a bound on what comes in by it, and TLS.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::Timeout;
use ureq::http::Uri;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, TcpConnector, Transport, TransportAdapter,
};

/// After this long a request is given up, and so is a TLS handshake. Giving up sooner and asking
/// again would take one more of Patroni's five workers (`restapi.thread_pool_size`) each time, as
/// an abandoned request keeps its worker.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(30);

/// A primary's body grows by some 200 bytes a replica; nothing that Patroni sends comes near.
pub(super) const BODY_LIMIT: u64 = 1 << 20;

/// So many bytes may come in for one request, whatever they are: a handshake, interim answers,
/// heads, chunks, trailers. The client bounds some of these and not others; Patroni sends a few
/// hundred.
const BYTES_LIMIT: u64 = 2 * BODY_LIMIT;

/// What is to be done once if a deadline passes while a request is under way, which goes on.
#[derive(Clone)]
pub(super) struct AtDeadline {
    deadline: Instant,
    todo: Arc<Mutex<Option<Todo>>>,
}

type Todo = Box<dyn FnOnce() + Send>;

impl AtDeadline {
    pub(super) fn new(deadline: Instant, todo: impl FnOnce() + Send + 'static) -> Self {
        AtDeadline { deadline, todo: Arc::new(Mutex::new(Some(Box::new(todo)))) }
    }

    fn todo(&self) -> MutexGuard<'_, Option<Todo>> {
        self.todo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits up to the deadline and, if something is to be done then, for the rest of the time
    /// after it.
    fn amid<T>(
        &self,
        timeout: NextTimeout,
        mut wait: impl FnMut(NextTimeout) -> Result<T, ureq::Error>,
    ) -> Result<T, ureq::Error> {
        let start = Instant::now();
        let left = self.deadline.saturating_duration_since(start);
        if left >= *timeout.after || self.todo().is_none() {
            return wait(timeout);
        }
        // ureq takes a timeout of zero for one second.
        if !left.is_zero() {
            match wait(NextTimeout { after: left.into(), ..timeout }) {
                Err(ureq::Error::Timeout(_)) => {}
                done => return done,
            }
        }
        let todo = self.todo().take();
        todo.into_iter().for_each(|todo| todo());
        let left = timeout.after.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(ureq::Error::Timeout(timeout.reason));
        }
        wait(NextTimeout { after: left.into(), ..timeout })
    }
}

impl fmt::Debug for AtDeadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AtDeadline").field(&self.deadline).finish()
    }
}

/// A connect that the deadline cuts in two is begun anew: that costs Patroni nothing.
impl Connector for AtDeadline {
    type Out = Heeding<<TcpConnector as Connector>::Out>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<()>) -> Result<Option<Self::Out>, ureq::Error> {
        let connected = self.amid(details.timeout, |timeout| {
            let mut addrs = details.resolver.empty();
            details.addrs.iter().for_each(|address| addrs.push(*address));
            let now = (details.current_time)();
            let (current_time, run_connector) = (Arc::clone(&details.current_time), Arc::clone(&details.run_connector));
            let register_shutdown = Arc::clone(&details.register_shutdown);
            let details =
                ConnectionDetails { addrs, now, timeout, current_time, run_connector, register_shutdown, ..*details };
            TcpConnector::default().connect(&details, chained)
        })?;
        Ok(connected.map(|transport| Heeding { transport, at: self.clone() }))
    }
}

/// Waits for Patroni, and heeds the deadline meanwhile.
#[derive(Debug)]
pub(super) struct Heeding<T> {
    transport: T,
    at: AtDeadline,
}

impl<T: Transport> Transport for Heeding<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.transport.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let Heeding { transport, at } = self;
        at.amid(timeout, |timeout| transport.await_input(timeout))
    }

    fn is_open(&mut self) -> bool {
        self.transport.is_open()
    }
}

/// Bounds what comes in.
#[derive(Debug)]
pub(super) struct Bound;

#[derive(Debug)]
pub(super) struct Bounded<T> {
    transport: T,
    left: u64,
}

impl<In: Transport> Connector<In> for Bound {
    type Out = Bounded<In>;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(|transport| Bounded { transport, left: BYTES_LIMIT }))
    }
}

impl<T: Transport> Transport for Bounded<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.transport.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let before = self.buffers().input().len();
        let has_more = self.transport.await_input(timeout)?;
        let more = self.buffers().input().len().saturating_sub(before) as u64;
        self.left = self.left.checked_sub(more).ok_or(ureq::Error::BodyExceedsLimit(BYTES_LIMIT))?;
        Ok(has_more)
    }

    fn is_open(&mut self) -> bool {
        self.transport.is_open()
    }
}

/// Speaks TLS where there is a configuration for it. ureq's own takes no verifier, and counts the
/// handshake as a part of the connect. But Patroni shakes hands in its workers: to cut a handshake
/// short and begin another one would take one more of them each time. So it may last as long as an
/// answer.
#[derive(Debug)]
pub(super) struct Encrypt(pub(super) Option<Arc<ClientConfig>>);

pub(super) struct Encrypted<T: Transport> {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter<T>>,
}

impl<T: Transport> fmt::Debug for Encrypted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Encrypted").field(&self.stream.sock.inner()).finish()
    }
}

impl<In: Transport> Connector<In> for Encrypt {
    type Out = Either<In, Encrypted<In>>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        let (transport, config) = match (chained, &self.0) {
            (Some(transport), Some(config)) => (transport, Arc::clone(config)),
            (chained, _) => return Ok(chained.map(Either::A)),
        };
        let name = ServerName::try_from(host(details.uri).to_owned()).map_err(io::Error::other)?;
        let mut conn = ClientConnection::new(config, name).map_err(invalid)?;
        let mut sock = TransportAdapter::new(transport, Arc::clone(&details.current_time));
        sock.set_timeout(NextTimeout { after: GIVE_UP.into(), reason: Timeout::Global, ..NextTimeout::default() });
        conn.complete_io(&mut sock)?;
        let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
        let stream = StreamOwned { conn, sock };
        Ok(Some(Either::B(Encrypted { buffers: LazyBuffers::new(input, output), stream })))
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<T: Transport> Transport for Encrypted<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        Ok(self.stream.write_all(output)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// The host of an address, without the brackets of an IPv6 one.
pub(super) fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}
