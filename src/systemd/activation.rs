//! How the program was started: with listeners, with one connection, or by a person. No flag says
//! it.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use libsystemd::activation::receive_descriptors_with_names;
use listenfd::ListenFd;
use socket2::{Domain, SockRef, Socket, Type};

use crate::config::{BadConfiguration, Config, ListenerRole};
use crate::view::View;

/// How many connections may wait to be accepted: what systemd gives a socket unit
/// (systemd.socket(5), `Backlog=`, bounded by `net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// More than any unit passes; a process has 1024 by default.
const DESCRIPTORS_LIMIT: u64 = 1024;

/// The service was started without a socket. To print the reply would help nobody.
#[derive(Debug)]
pub struct NoSocket;

impl NoSocket {
    /// The exit status: "program is not configured" (systemd.exec(5), "Process Exit Codes"). The
    /// unit knows it.
    pub const STATUS: u8 = 6;
}

impl fmt::Display for NoSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no socket was passed to the service; start one of its sockets: systemctl start patroni-check.socket",
        )
    }
}

impl Error for NoSocket {}

/// Whether systemd itself has started this process, and waits for its READY=1. A child of such a
/// service inherits `NOTIFY_SOCKET`, but is not that process (systemd.exec(5), `SYSTEMD_EXEC_PID`).
fn is_the_service() -> bool {
    let started = std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    started && std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Who holds the socket, and what it is for.
pub enum Activation {
    /// Listeners, from systemd (Accept=no) or bound ourselves: the persistent service.
    Listeners(Vec<(TcpListener, ListenerRole)>),
    /// One connection, from systemd (Accept=yes) or inetd: one answer.
    Connection(Socket, ListenerRole),
    /// Nobody: the reply goes to standard output.
    Stdout(View),
}

impl Activation {
    /// Finds out how we were started.
    ///
    /// # Errors
    /// [`BadConfiguration`] for sockets that can't be answered on, [`NoSocket`], or the error of
    /// binding `--listen`.
    pub fn find(config: &Config) -> Result<Self, Box<dyn Error>> {
        let passed = passed()?;
        if !passed.is_empty() {
            return from_systemd(passed, config);
        }
        let mut listeners = Vec::new();
        for (address, role) in config.listen.iter().cloned() {
            let listener = TcpListener::bind(address).map_err(|e| {
                io::Error::new(e.kind(), format!("--listen {address}: {e}; does another program use this port?"))
            })?;
            SockRef::from(&listener).listen(BACKLOG)?;
            listeners.push((listener, role));
        }
        if !listeners.is_empty() {
            return Ok(Activation::Listeners(listeners));
        }
        match standard_input()? {
            Some(connection) => Ok(Activation::Connection(connection, config.connection_role("")?)),
            None if is_the_service() => Err(NoSocket.into()),
            None => Ok(Activation::Stdout(config.view.clone())),
        }
    }
}

/// The sockets in `LISTEN_FDS`, each with its name, `FileDescriptorName=` (sd_listen_fds(3)).
fn passed() -> Result<Vec<(TcpListener, String)>, BadConfiguration> {
    let value = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let bad = |what: String| BadConfiguration(format!("sockets passed by LISTEN_FDS: {what}"));
    if value("LISTEN_FDS").is_some() && value("LISTEN_PID").is_none() {
        return Err(bad("LISTEN_PID is missing, which says for which process they are".into()));
    }
    let is_for_us = value("LISTEN_PID").is_some_and(|pid| pid == *std::process::id().to_string());
    if let Some(count) = value("LISTEN_FDS").filter(|_| is_for_us) {
        let count = count.to_string_lossy();
        // The libraries below make room for as many as are named.
        if !count.parse().is_ok_and(|count: u64| count <= DESCRIPTORS_LIMIT) {
            return Err(bad(format!("{count} is no number of them up to {DESCRIPTORS_LIMIT}")));
        }
    }
    // libsystemd reads the names and leaves the descriptors alone; listenfd, which knows no names,
    // adopts them.
    let names = receive_descriptors_with_names(false).map_err(|e| bad(e.to_string()))?;
    let mut descriptors = ListenFd::from_env();
    let given = value("LISTEN_FDNAMES").map_or(0, |names| names.as_bytes().split(|byte| *byte == b':').count());
    if given > 0 && descriptors.len() > 0 && given != descriptors.len() {
        return Err(bad(format!("there are {} sockets and {given} names in LISTEN_FDNAMES", descriptors.len())));
    }
    let mut sockets = Vec::new();
    for index in 0..descriptors.len() {
        let name = names.get(index).map_or("", |(_, name)| name);
        let socket = descriptors.take_tcp_listener(index).ok().flatten().ok_or_else(|| {
            let unit = "a socket unit's ListenStream= with a port";
            BadConfiguration(format!("passed descriptor {index} ({name:?}) is no TCP socket; {unit} is needed"))
        })?;
        sockets.push((socket, name.to_owned()));
    }
    Ok(sockets)
}

/// Accept=no passes listeners, Accept=yes one connection. Only SO_ACCEPTCONN tells them apart.
fn from_systemd(mut passed: Vec<(TcpListener, String)>, config: &Config) -> Result<Activation, Box<dyn Error>> {
    let mut listening = 0;
    for (socket, _) in &passed {
        listening += usize::from(SockRef::from(socket).is_listener()?);
    }
    if listening == passed.len() {
        let listeners = passed.into_iter().map(|(socket, name)| Ok((socket, config.role_named(&name)?)));
        return Ok(Activation::Listeners(listeners.collect::<Result<_, BadConfiguration>>()?));
    }
    match (passed.pop(), passed.is_empty()) {
        (Some((connection, name)), true) => {
            let role = config.connection_role(&name)?;
            Ok(Activation::Connection(Socket::from(OwnedFd::from(connection)), role))
        }
        _ => Err(BadConfiguration("the passed sockets must be listeners only, or one connection".into()).into()),
    }
}

/// The connection on standard input, if that is one: inetd, xinetd, StandardInput=socket.
fn standard_input() -> Result<Option<Socket>, BadConfiguration> {
    // The standard library's makes room for lines first.
    let stdin = rustix::stdio::stdin();
    if SockRef::from(&stdin).is_listener().unwrap_or(false) {
        return Err(BadConfiguration("standard input is a listener; inetd must pass connections (nowait)".into()));
    }
    // What ssh and containers have there is a socket as well, but no connection of HAProxy's.
    let descriptor = is_connection(&stdin).then(|| stdin.as_fd().try_clone_to_owned().ok()).flatten();
    Ok(descriptor.map(Socket::from))
}

/// Whether this is a TCP connection.
pub(crate) fn is_connection(descriptor: &impl AsFd) -> bool {
    let socket = SockRef::from(descriptor);
    let is_stream = matches!(socket.r#type(), Ok(Type::STREAM));
    let is_inet = socket.domain().is_ok_and(|domain| domain == Domain::IPV4 || domain == Domain::IPV6);
    is_stream && is_inet && !socket.is_listener().unwrap_or(true)
}
