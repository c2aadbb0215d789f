//! Who holds the socket: found out, not chosen by a flag.

use std::error::Error;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

use libsystemd::activation::receive_descriptors_with_names;
use listenfd::ListenFd;
use socket2::{SockRef, Socket};

use crate::cli::{BadConfiguration, Options};
use crate::endpoint::Endpoint;

/// Who holds the socket, and which endpoint it answers for.
pub enum Invocation {
    /// Listeners, from systemd (Accept=no) or bound ourselves: the persistent service.
    Listeners(Vec<(TcpListener, Endpoint)>),
    /// One connection, from systemd (Accept=yes) or inetd: one answer.
    Connection(Socket, Endpoint),
    /// Nobody: the reply goes to standard output.
    Nobody(Endpoint),
}

impl Invocation {
    /// Finds out how we were started.
    ///
    /// # Errors
    /// [`BadConfiguration`] for sockets that can't be answered on, or the error of binding `--listen`.
    pub fn find(options: &Options) -> Result<Self, Box<dyn Error>> {
        let passed = passed(options)?;
        if !passed.is_empty() {
            return from_systemd(passed);
        }
        let default = options.endpoint_named("")?;
        if let Some(connection) = standard_input()? {
            return Ok(Invocation::Connection(connection, default));
        }
        let mut listeners = Vec::new();
        for (address, endpoint) in options.listen() {
            let listener = TcpListener::bind(address)
                .map_err(|e| io::Error::new(e.kind(), format!("--listen {address}: {e}; is something else there?")))?;
            listeners.push((listener, endpoint));
        }
        Ok(if listeners.is_empty() { Invocation::Nobody(default) } else { Invocation::Listeners(listeners) })
    }
}

/// The sockets in `LISTEN_FDS`, each with the endpoint that its name (`FileDescriptorName=`) gives.
fn passed(options: &Options) -> Result<Vec<(TcpListener, Endpoint)>, BadConfiguration> {
    // libsystemd reads the names and leaves the descriptors alone; listenfd, which knows no names, adopts them.
    let names = receive_descriptors_with_names(false).unwrap_or_default();
    let mut descriptors = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..descriptors.len() {
        let name = names.get(index).map_or("", |(_, name)| name);
        let socket = descriptors.take_tcp_listener(index).ok().flatten().ok_or_else(|| {
            let unit = "a socket unit's ListenStream= with a port";
            BadConfiguration(format!("passed descriptor {index} ({name:?}) is no TCP socket; {unit} is needed"))
        })?;
        sockets.push((socket, options.endpoint_named(name)?));
    }
    Ok(sockets)
}

/// Accept=no passes listeners, Accept=yes one connection. Only SO_ACCEPTCONN tells them apart.
fn from_systemd(mut passed: Vec<(TcpListener, Endpoint)>) -> Result<Invocation, Box<dyn Error>> {
    let mut listening = 0;
    for (socket, _) in &passed {
        listening += usize::from(SockRef::from(socket).is_listener()?);
    }
    if listening == passed.len() {
        return Ok(Invocation::Listeners(passed));
    }
    match (passed.pop(), passed.is_empty()) {
        (Some((connection, endpoint)), true) => {
            Ok(Invocation::Connection(Socket::from(OwnedFd::from(connection)), endpoint))
        }
        _ => Err(BadConfiguration("passed sockets are neither all listeners nor one connection".into()).into()),
    }
}

/// The connection on standard input, if that is a socket: inetd, xinetd, StandardInput=socket.
fn standard_input() -> Result<Option<Socket>, BadConfiguration> {
    let Ok(descriptor) = io::stdin().as_fd().try_clone_to_owned() else { return Ok(None) };
    let socket = Socket::from(descriptor);
    match socket.is_listener() {
        Ok(false) => Ok(Some(socket)),
        Ok(true) => Err(BadConfiguration("standard input is a listener; inetd must accept itself (nowait)".into())),
        Err(_) => Ok(None),
    }
}
