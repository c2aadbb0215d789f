//! One GET to Patroni's REST API, and the observation that comes of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustls::ClientConfig;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::{Uri, header};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Connector, NextTimeout, TcpConnector};

use super::base_url::{BaseUrl, LOCALHOST};
use super::body::{Body, Cluster};
use super::failure::{Failure, NoAnswer};
use super::lookup::lookup;
use super::tls::Tls;
use super::transport::{AtDeadline, BODY_LIMIT, Bound, Encrypt, GIVE_UP, host};
use crate::endpoint::Endpoint;

/// Patroni's head has some 130 bytes, a request of ours as many and the endpoint. The client zeroes
/// its buffers for each request; 128 KiB each, as they are by default, are a quarter of what a
/// process for one check costs. That for the answer is larger than a head may be, or one that is
/// too long would look like one that was cut short.
const HEAD_LIMIT: usize = 8 << 10;

/// What Patroni said to one GET, or how that failed.
pub type Observation = Result<Answer, Failure>;

/// A whole HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// What the body says of the node; that of another answer where the endpoint hides the version.
    pub body: Body,
    /// When Patroni sent it (`Date`), in seconds of Unix time by the clock of its host.
    pub date: Option<u64>,
}

/// Patroni's REST API.
#[derive(Debug, Clone)]
pub struct Client {
    base: BaseUrl,
    tls: Tls,
    connect_timeout: Duration,
}

impl Client {
    /// Patroni at this base address, with at most `connect_timeout` for its port to take a
    /// connection, so that another address of its host is tried in time. That costs Patroni
    /// nothing: what it does itself, a TLS handshake first, is waited for.
    ///
    /// # Errors
    /// A sentence that says which certificate file can't be used and why.
    pub fn new(base: BaseUrl, tls: Tls, connect_timeout: Duration) -> Result<Self, String> {
        let client = Client { base, tls, connect_timeout };
        client.tls_config()?;
        Ok(client)
    }

    /// Asks for one endpoint. Takes 30 s at most, the lookup of the name and the connect aside;
    /// where a second request has to tell the version, twice that.
    pub fn get(&self, endpoint: &Endpoint) -> Observation {
        self.get_over(TcpConnector::default(), endpoint)
    }

    fn get_over(&self, connector: impl Connector, endpoint: &Endpoint) -> Observation {
        let agent = self.agent(connector).map_err(NoAnswer::Other)?;
        let mut answer = ask(&agent, &format!("{}{}", self.base, endpoint.request_path()))?;
        if answer.status == 200 && endpoint.hides_version() {
            answer.body = ask(&agent, &format!("{}/health", self.base))?.body;
        }
        Ok(answer)
    }

    /// The same. If the answer is not there at the deadline, this is done once, and the request
    /// goes on, because it is never given up.
    ///
    /// Without a thread where no name is to be looked up: a thread is an eighth of what a process
    /// for one check costs. A lookup can't be given a deadline, so it is waited for on a thread,
    /// and with it the request.
    pub fn get_answering_late(
        &self,
        endpoint: &Endpoint,
        deadline: Instant,
        at_deadline: impl FnOnce() + Send + 'static,
    ) -> Observation {
        if !self.base.is_looked_up() {
            return self.get_over(AtDeadline::new(deadline, at_deadline), endpoint);
        }
        let endpoint = endpoint.clone();
        let found = self.on_a_thread(move |patroni| patroni.get(&endpoint))?;
        found.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap_or_else(|_| {
            at_deadline();
            // A lookup can't be given a deadline, and with it the process would never end.
            found.recv_timeout(2 * GIVE_UP).unwrap_or_else(|_| Err(NoAnswer::Timeout.into()))
        })
    }

    /// The same within this time, which counts from `since`.
    pub fn get_within(&self, endpoint: &Endpoint, since: Instant, limit: Duration) -> Observation {
        let endpoint = endpoint.clone();
        self.within(since, limit, move |patroni| patroni.get(&endpoint))
    }

    /// The cluster's members, as `/cluster` lists them, within this time. Never the source of a
    /// verdict.
    ///
    /// # Errors
    /// Why not.
    pub fn cluster_within(&self, limit: Duration) -> Result<Cluster, Failure> {
        self.within(Instant::now(), limit, |patroni| {
            let agent = patroni.agent(TcpConnector::default()).map_err(NoAnswer::Other)?;
            let Response { status, body, .. } = exchange(&agent, &format!("{}/cluster", patroni.base))?;
            if status != 200 {
                return Err(Failure::BadAnswer(format!("status {status}")));
            }
            let body = body.ok_or_else(|| Failure::BadAnswer("endless body".into()))?;
            Cluster::read(&body).ok_or(Failure::BadAnswer("no list of members".into()))
        })
    }

    /// On a thread that is left behind when the time is over, because a name lookup can't be given
    /// a deadline.
    fn within<T: Send + 'static>(
        &self,
        since: Instant,
        limit: Duration,
        ask: impl FnOnce(&Client) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let late = |_| Err(NoAnswer::NotWithin(limit).into());
        self.on_a_thread(ask)?.recv_timeout(limit.saturating_sub(since.elapsed())).unwrap_or_else(late)
    }

    fn on_a_thread<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Client) -> Result<T, Failure> + Send + 'static,
    ) -> Result<Receiver<Result<T, Failure>>, Failure> {
        let (found_tx, found_rx) = channel();
        let patroni = self.clone();
        let thread = thread::Builder::new().spawn(move || found_tx.send(ask(&patroni)).is_ok());
        thread.map_err(|e| NoAnswer::Other(format!("no thread to ask it: {e}")))?;
        Ok(found_rx)
    }

    /// The base address.
    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// The other scheme at the same address, with any certificate: to find out what Patroni speaks,
    /// not what it says.
    pub fn in_the_other_scheme(&self) -> Client {
        let tls = Tls { insecure: true, ..Tls::default() };
        Client { base: self.base.in_the_other_scheme(), tls, connect_timeout: self.connect_timeout }
    }

    /// A new one for each request: nothing is kept from one to the next (Patroni closes each
    /// connection), and certificates that were renewed on disk are picked up.
    fn agent(&self, connector: impl Connector) -> Result<Agent, String> {
        Ok(http_agent(self.connect_timeout, self.tls_config()?, connector))
    }

    fn tls_config(&self) -> Result<Option<Arc<ClientConfig>>, String> {
        self.base.is_https().then(|| self.tls.load()).transpose()
    }
}

/// A client that takes Patroni's answers as they are: no proxy, no redirect, no compression. It
/// reaches Patroni by this connector and within `connect_timeout`; over that it speaks TLS, if so
/// configured.
pub fn http_agent(connect_timeout: Duration, tls: Option<Arc<ClientConfig>>, connector: impl Connector) -> Agent {
    let config = Config::builder()
        .user_agent(concat!("patroni-check/", env!("CARGO_PKG_VERSION")))
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .timeout_connect(Some(connect_timeout))
        .timeout_global(Some(GIVE_UP))
        .input_buffer_size(2 * HEAD_LIMIT)
        .output_buffer_size(HEAD_LIMIT)
        .max_response_header_size(HEAD_LIMIT)
        .build();
    Agent::with_parts(config, connector.chain(Bound).chain(Encrypt(tls)), AllAddresses)
}

/// Asks for an endpoint.
pub fn ask(agent: &Agent, url: &str) -> Observation {
    let Response { status, date, body } = exchange(agent, url)?;
    let body = match body {
        Some(body) => Body::read(&body).ok_or(NoAnswer::CutShort)?,
        None => Body::Unreadable("endless body".into()),
    };
    Ok(Answer { status, body, date })
}

/// What came over the wire.
struct Response {
    status: u16,
    date: Option<u64>,
    /// None where it has no end.
    body: Option<Vec<u8>>,
}

/// One GET. The answer is read whole, because Patroni logs a traceback for each that is left
/// unread.
fn exchange(agent: &Agent, url: &str) -> Result<Response, Failure> {
    let mut response = agent.get(url).header(header::CONNECTION, "close").call()?;
    let status = response.status().as_u16();
    let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok()).and_then(unix_time);
    let body = match response.body_mut().with_config().limit(BODY_LIMIT).read_to_vec() {
        Ok(body) => Some(body),
        Err(ureq::Error::BodyExceedsLimit(_)) => None,
        Err(e) => return Err(e.into()),
    };
    Ok(Response { status, date, body })
}

fn unix_time(date: &str) -> Option<u64> {
    let date = httpdate::parse_http_date(date).ok()?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// Looks names up on the thread that asks, so that lookups that hang can't pile up, and tries both
/// loopbacks for `localhost` (RFC 6761, 6.3), whatever /etc/hosts says: Patroni may listen on
/// either only.
#[derive(Debug)]
struct AllAddresses;

impl Resolver for AllAddresses {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = host(uri);
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let found: Vec<SocketAddr> = if host == LOCALHOST {
            let loopbacks = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            loopbacks.map(|ip| (ip, port).into()).to_vec()
        } else {
            match host.parse::<IpAddr>() {
                Ok(address) => vec![(address, port).into()],
                Err(_) => lookup(host, port)?,
            }
        };
        let mut addresses = self.empty();
        // As many as ureq has room for.
        found.into_iter().take(16).for_each(|address| addresses.push(address));
        if addresses.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(addresses) }
    }
}
