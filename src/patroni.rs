//! One GET to Patroni's REST API, and the observation that comes of it.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use ureq::Agent;
use ureq::config::Config;
use ureq::http::{Uri, header};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Connector, DefaultConnector, NextTimeout};

use crate::endpoint::Endpoint;
use crate::node::{Body, Cluster};

/// After this long a request is given up. Giving up sooner and asking again would take one more of Patroni's five
/// workers (`restapi.thread_pool_size`) each time, as an abandoned request keeps its worker.
const GIVE_UP: Duration = Duration::from_secs(30);

/// A primary's body grows by some 200 bytes a replica; nothing that Patroni sends comes near.
const BODY_LIMIT: u64 = 1 << 20;

/// Patroni's head has some 130 bytes, a request of ours as many and the endpoint. The client zeroes its buffers for each
/// request; 128 KiB each, as they are by default, are a quarter of what a process for one check costs. That for the answer is
/// larger than a head may be, or one that is too long would look like one that was cut short.
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

/// How a GET failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was learnt: refused, reset, cut short, timed out, no address, no TLS session.
    NoAnswer(String),
    /// Something answered that does not speak HTTP, or not as Patroni does.
    NotHttp(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::NoAnswer(why) | Failure::NotHttp(why)) = self;
        f.write_str(why)
    }
}

/// The base address of Patroni's REST API.
#[derive(Debug, Clone)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// Whether Patroni is spoken to by TLS.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }

    /// The port, by default the scheme's.
    pub fn port(&self) -> u16 {
        let given = self.0.parse::<Uri>().ok().and_then(|uri| uri.port_u16());
        given.unwrap_or(if self.is_https() { 443 } else { 80 })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|e| format!("{e}; write it like http://localhost:8008"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("an http:// or https:// address is needed, like http://localhost:8008".into());
        }
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err("health checks need no user and no password; leave them out".into());
        }
        if uri.query().is_some() {
            return Err("this is the base address only; parameters belong to the endpoint".into());
        }
        Ok(BaseUrl(text.trim_end_matches('/').to_owned()))
    }
}

/// How to speak TLS with Patroni.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// PEM file with the authorities that may have signed Patroni's certificate; the system's without it.
    pub cacert: Option<PathBuf>,
    /// PEM files with our certificate and its key, for `restapi.verify_client: required`.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Take any certificate.
    pub insecure: bool,
}

/// Patroni's REST API.
#[derive(Debug, Clone)]
pub struct Patroni {
    base: BaseUrl,
    tls: Tls,
    connect: Duration,
}

impl Patroni {
    /// Patroni at this base address, with at most `connect` for reaching it, which costs Patroni nothing.
    ///
    /// # Errors
    /// A sentence that says which certificate file can't be used and why.
    pub fn new(base: BaseUrl, tls: Tls, connect: Duration) -> Result<Self, String> {
        let patroni = Patroni { base, tls, connect };
        patroni.agent()?;
        Ok(patroni)
    }

    /// Asks for one endpoint. Takes 30 s at most, name resolution aside; where a second request has to tell the version, twice
    /// that.
    pub fn get(&self, endpoint: &Endpoint) -> Observation {
        let agent = self.agent().map_err(Failure::NoAnswer)?;
        let mut answer = ask(&agent, &format!("{}{endpoint}", self.base))?;
        if answer.status == 200 && endpoint.hides_version() {
            answer.body = ask(&agent, &format!("{}/health", self.base))?.body;
        }
        Ok(answer)
    }

    /// The same within this time, which counts from `since`.
    pub fn get_within(&self, endpoint: &Endpoint, since: Instant, limit: Duration) -> Observation {
        let endpoint = endpoint.clone();
        self.within(since, limit, move |patroni| patroni.get(&endpoint))
    }

    /// The cluster's members, as `/cluster` lists them, within this time. Never the source of a verdict.
    ///
    /// # Errors
    /// Why not.
    pub fn cluster_within(&self, limit: Duration) -> Result<Cluster, Failure> {
        self.within(Instant::now(), limit, |patroni| {
            let agent = patroni.agent().map_err(Failure::NoAnswer)?;
            let Response { status, body, .. } = exchange(&agent, &format!("{}/cluster", patroni.base))?;
            if status != 200 {
                return Err(Failure::NotHttp(format!("status {status}")));
            }
            Cluster::read(&body.unwrap_or_default()).ok_or(Failure::NotHttp("no list of members".into()))
        })
    }

    /// On a thread that is left behind when the time is over, because a name lookup can't be given a deadline.
    fn within<T: Send + 'static>(
        &self,
        since: Instant,
        limit: Duration,
        ask: impl FnOnce(&Patroni) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (found, finding) = channel();
        let patroni = self.clone();
        let thread = thread::Builder::new().spawn(move || found.send(ask(&patroni)).is_ok());
        thread.map_err(|e| Failure::NoAnswer(format!("no thread to ask it: {e}")))?;
        let late = |_| Err(Failure::NoAnswer(format!("no answer within {limit:?}")));
        finding.recv_timeout(limit.saturating_sub(since.elapsed())).unwrap_or_else(late)
    }

    /// The base address.
    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// The other scheme at the same address, with any certificate: to find out what Patroni speaks, not what it says.
    pub fn in_the_other_scheme(&self) -> Patroni {
        let base = match self.base.0.split_once("://") {
            Some(("http", rest)) => format!("https://{rest}"),
            Some((_, rest)) => format!("http://{rest}"),
            None => self.base.0.clone(),
        };
        Patroni { base: BaseUrl(base), tls: Tls { insecure: true, ..Tls::default() }, connect: self.connect }
    }

    /// A new one for each request: nothing is kept from one to the next (Patroni closes each connection), and
    /// certificates that were renewed on disk are picked up.
    fn agent(&self) -> Result<Agent, String> {
        let tls = if self.base.is_https() { Some(self.tls.load()?) } else { None };
        Ok(client(self.connect, tls, DefaultConnector::default()))
    }
}

/// A client that takes Patroni's answers as they are: no proxy, no redirect, no compression.
pub fn client(connect: Duration, tls: Option<TlsConfig>, connector: impl Connector) -> Agent {
    let mut config = Config::builder()
        .user_agent(concat!("patroni-check/", env!("CARGO_PKG_VERSION")))
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .timeout_connect(Some(connect))
        .timeout_global(Some(GIVE_UP))
        .input_buffer_size(2 * HEAD_LIMIT)
        .output_buffer_size(HEAD_LIMIT)
        .max_response_header_size(HEAD_LIMIT);
    if let Some(tls) = tls {
        config = config.tls_config(tls);
    }
    Agent::with_parts(config.build(), connector, AllAddresses)
}

/// Asks for an endpoint.
pub fn ask(agent: &Agent, url: &str) -> Observation {
    let Response { status, date, body } = exchange(agent, url)?;
    let body = match body {
        Some(body) => Body::read(&body).ok_or(Failure::NoAnswer("answer cut short".into()))?,
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

/// One GET. The answer is read whole, because Patroni logs a traceback for each that is left unread.
fn exchange(agent: &Agent, url: &str) -> Result<Response, Failure> {
    let mut response = agent.get(url).header(header::CONNECTION, "close").call().map_err(failure)?;
    let status = response.status().as_u16();
    let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok()).and_then(unix_time);
    let body = match response.body_mut().with_config().limit(BODY_LIMIT).read_to_vec() {
        Ok(body) => Some(body),
        Err(ureq::Error::BodyExceedsLimit(_)) => None,
        Err(e) => return Err(failure(e)),
    };
    Ok(Response { status, date, body })
}

fn unix_time(date: &str) -> Option<u64> {
    let date = httpdate::parse_http_date(date).ok()?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

impl Tls {
    fn load(&self) -> Result<TlsConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = match &self.cacert {
            Some(file) => RootCerts::new_with_certs(&certificates(file)?),
            None => RootCerts::PlatformVerifier,
        };
        let identity = match &self.identity {
            Some((cert, key)) => Some(identity(cert, key, &provider)?),
            None => None,
        };
        Ok(TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(roots)
            .client_cert(identity)
            .disable_verification(self.insecure)
            .build())
    }
}

fn read_file(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|e| format!("{}: {e}", file.display()))
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let pem = read_file(file)?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| format!("{}: {e}", file.display()))? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(format!("{}: no certificate in it (PEM is expected)", file.display()));
    }
    Ok(found)
}

fn identity(cert: &Path, key: &Path, provider: &rustls::crypto::CryptoProvider) -> Result<ClientCert, String> {
    let chain = certificates(cert)?;
    let secret = PrivateKey::from_pem(&read_file(key)?).map_err(|e| format!("{}: {e}", key.display()))?;
    let unfit = |e: rustls::Error| format!("{} and {} do not belong together: {e}", cert.display(), key.display());
    // ureq panics where the two do not fit, so ask first.
    let ders = chain.iter().map(|certificate| certificate.der().to_vec().into()).collect();
    let der = secret.der().to_vec().try_into().map_err(|e| format!("{}: {e}", key.display()))?;
    rustls::sign::CertifiedKey::from_der(ders, der, provider).map_err(unfit)?;
    Ok(ClientCert::new_with_certs(&chain, secret))
}

/// Looks names up on the thread that asks, so that lookups that hang can't pile up, and tries both loopbacks for
/// `localhost` (RFC 6761, 6.3), whatever /etc/hosts says: Patroni may listen on either only.
#[derive(Debug)]
struct AllAddresses;

impl Resolver for AllAddresses {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let found: Vec<SocketAddr> = if host.eq_ignore_ascii_case("localhost") {
            let loopbacks = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            loopbacks.map(|ip| (ip, port).into()).to_vec()
        } else {
            (host, port).to_socket_addrs().map_err(|_| ureq::Error::HostNotFound)?.collect()
        };
        let mut addresses = self.empty();
        // As many as ureq has room for.
        found.into_iter().take(16).for_each(|address| addresses.push(address));
        if addresses.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(addresses) }
    }
}

fn failure(error: ureq::Error) -> Failure {
    use io::ErrorKind as Kind;
    let no_answer = |what: &str| Failure::NoAnswer(what.into());
    match error {
        ureq::Error::Io(e) => match e.kind() {
            Kind::ConnectionRefused => no_answer("connection refused"),
            Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => no_answer("connection reset"),
            Kind::UnexpectedEof => no_answer("answer cut short"),
            Kind::InvalidData => Failure::NoAnswer(format!("TLS: {e}")),
            _ => Failure::NoAnswer(e.to_string()),
        },
        ureq::Error::Timeout(ureq::Timeout::Connect) => no_answer("no connection in time"),
        ureq::Error::Timeout(_) => no_answer("no answer in time"),
        ureq::Error::HostNotFound => no_answer("host name has no address"),
        ureq::Error::Tls(e) => Failure::NoAnswer(format!("TLS: {e}")),
        ureq::Error::Rustls(e) => Failure::NoAnswer(format!("TLS: {e}")),
        ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) | ureq::Error::BodyStalled => {
            Failure::NotHttp("not HTTP".into())
        }
        e => Failure::NoAnswer(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_address_is_http_without_user_or_query() {
        for good in ["http://localhost:8008", "https://db1.example/patroni/", "http://[::1]:8008"] {
            good.parse::<BaseUrl>().expect(good);
        }
        for bad in ["", "localhost:8008", "ftp://a", "http://", "http://u:p@a", "http://a?b=c", "/a"] {
            bad.parse::<BaseUrl>().expect_err(bad);
        }
    }
}
