//! The probe: whether Postgres, or PgBouncer, is there to take a client. It can only speak against a
//! node.
//!
//! A postmaster answers the request for encryption with one byte before it knows who asks, also when
//! it is full, paused or recovering. Nothing is logged of it: over a Unix socket it is SSLRequest,
//! over TCP GSSENCRequest, because a postmaster with `ssl=on` logs each handshake that ends after the
//! first (PostgreSQL's manual, "Message Flow", "SSL Session Encryption").

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, socket_with,
    sockopt,
};

/// Where Debian's packages have their sockets.
pub const SOCKET_DIRECTORY: &str = "/var/run/postgresql";

/// A length of eight bytes, and a code for the version (`pqcomm.h`, `NEGOTIATE_SSL_CODE`).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// The same, `NEGOTIATE_GSS_CODE`.
const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// PgBouncer's default port.
const PGBOUNCER: u16 = 6432;

/// Where clients connect on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A Unix socket, by its directory and port (`unix_socket_directories`).
    Unix(PathBuf, u16),
    /// An address.
    Tcp(SocketAddr),
}

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// Somebody is there.
    Answers,
    /// It settles nothing: no answer in time, or the probe itself was not possible, with the reason.
    Inconclusive(String),
    /// Nobody is there, and how that shows.
    Gone(String),
}

impl FromStr for Target {
    type Err = String;

    /// Reads `DIRECTORY:PORT` or `ADDRESS:PORT`.
    ///
    /// # Errors
    /// One line that says what is wrong and what would be right.
    fn from_str(text: &str) -> Result<Self, String> {
        let unix = text.rsplit_once(':').filter(|_| text.starts_with('/'));
        let target = match unix {
            Some((directory, port)) => port.parse().ok().map(|port| Target::Unix(directory.into(), port)),
            None => text.parse().ok().map(Target::Tcp),
        };
        let target = target.filter(|target| target.port() > 0).ok_or(
            "write the directory of a Unix socket or an IP address, and a port, like /var/run/postgresql:5432 or \
             127.0.0.1:6432",
        )?;
        match &target {
            Target::Unix(directory, port) if SocketAddrUnix::new(&*socket_path(directory, *port)).is_err() => {
                Err("the path of a Unix socket has at most 107 bytes".into())
            }
            _ => Ok(target),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Unix(directory, port) => write!(f, "{}:{port}", directory.display()),
            Target::Tcp(address) => address.fmt(f),
        }
    }
}

/// libpq's manual, `host`.
fn socket_path(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

impl Target {
    fn port(&self) -> u16 {
        match self {
            Target::Unix(_, port) => *port,
            Target::Tcp(address) => address.port(),
        }
    }

    /// Another port beside this one, in the same directory of Unix sockets.
    pub fn beside(this: Option<&Target>, port: u16) -> Target {
        match this {
            Some(Target::Unix(directory, _)) => Target::Unix(directory.clone(), port),
            _ => Target::Unix(SOCKET_DIRECTORY.into(), port),
        }
    }

    /// Whose port it probably is, for reasons.
    fn name(&self) -> &'static str {
        if self.port() == PGBOUNCER { "pgbouncer" } else { "postgres" }
    }

    /// Begins a probe. What is known at once is given instead: mostly a refusal.
    ///
    /// # Errors
    /// What is known.
    pub fn begin(&self) -> Result<Probe, Probed> {
        let (begun, request) = match self {
            Target::Unix(directory, port) => (begin_unix(&socket_path(directory, *port)), SSL_REQUEST),
            Target::Tcp(address) => (begin_tcp(*address), GSSENC_REQUEST),
        };
        let socket = begun.map_err(|e| self.failed(e))?;
        Ok(Probe { target: self.clone(), socket, request })
    }

    /// What a failure to connect or read means.
    fn failed(&self, error: Errno) -> Probed {
        let name = self.name();
        match error {
            Errno::CONNREFUSED => Probed::Gone(format!("{name}: connection refused")),
            Errno::NOENT => Probed::Gone(format!("{name}: no socket at {self}")),
            Errno::CONNRESET | Errno::PIPE => Probed::Gone(format!("{name}: connection closed")),
            // The queue of a Unix socket is full: somebody is there and busy.
            Errno::AGAIN => self.silent(),
            error => Probed::Inconclusive(format!("{name}: can't be probed: {}", io::Error::from(error))),
        }
    }

    fn silent(&self) -> Probed {
        Probed::Inconclusive(format!("{}: no answer to the probe", self.name()))
    }
}

fn begin_unix(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = socket(AddressFamily::UNIX)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

fn begin_tcp(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(e) => Err(e),
    }
}

fn socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)
}

/// A probe on its way.
#[derive(Debug)]
pub struct Probe {
    target: Target,
    socket: OwnedFd,
    request: [u8; 8],
}

impl Probe {
    /// Waits for its end, at most until then.
    pub fn finish(self, until: Instant) -> Probed {
        self.exchange(until).unwrap_or_else(|e| self.target.failed(e))
    }

    fn exchange(&self, until: Instant) -> Result<Probed, Errno> {
        if !self.wait_for(PollFlags::OUT, until)? {
            return Ok(self.target.silent());
        }
        sockopt::socket_error(&self.socket)??;
        send(&self.socket, &self.request, SendFlags::NOSIGNAL)?;
        if !self.wait_for(PollFlags::IN, until)? {
            return Ok(self.target.silent());
        }
        let mut answer = [0];
        // Whatever it says, somebody is there.
        match recv(&self.socket, &mut answer[..], RecvFlags::empty())? {
            (_, 0) => Err(Errno::CONNRESET),
            _ => Ok(Probed::Answers),
        }
    }

    fn wait_for(&self, what: PollFlags, until: Instant) -> Result<bool, Errno> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.socket, what)], Some(&timeout)) {
                Err(Errno::INTR) => {}
                ready => return Ok(ready? > 0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_clients_connect() {
        let table = [
            ("/var/run/postgresql:5432", Target::Unix("/var/run/postgresql".into(), 5432)),
            ("/a:b:6432", Target::Unix("/a:b".into(), 6432)),
            ("127.0.0.1:5432", Target::Tcp(([127, 0, 0, 1], 5432).into())),
            ("[::1]:6432", Target::Tcp(([0, 0, 0, 0, 0, 0, 0, 1], 6432).into())),
        ];
        for (text, target) in table {
            assert_eq!(text.parse::<Target>().as_ref(), Ok(&target));
            assert_eq!(target.to_string(), text);
        }
        let beside = Target::beside(Some(&Target::Unix("/tmp".into(), 5432)), 6432);
        assert_eq!(beside.to_string(), "/tmp:6432");
        for none in [None, Some(&Target::Tcp(([127, 0, 0, 1], 5432).into()))] {
            assert_eq!(Target::beside(none, 6432).to_string(), "/var/run/postgresql:6432");
        }
    }

    #[test]
    fn what_is_no_such_place_is_refused() {
        let long = format!("/{}:5432", "x".repeat(110));
        let table = [
            "",
            "5432",
            ":5432",
            "/var/run/postgresql",
            "/var/run/postgresql:",
            "/var/run/postgresql:0",
            "/x:65536",
            "/x:-1",
            "localhost:5432",
            "127.0.0.1",
            "127.0.0.1:0",
            "x:5432",
            "/x\0:5432",
            &long,
        ];
        for text in table {
            let error = text.parse::<Target>().expect_err(text);
            assert!(!error.is_empty() && !error.contains('\n'), "{text}");
        }
    }
}
