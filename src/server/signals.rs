//! Signals, as bytes in a socket that the poll watches.

use std::io;
use std::os::unix::net;
use std::sync::Arc;

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

/// Readable after a signal that ends the program: SIGTERM or SIGINT.
pub(super) struct Signals(UnixStream);

impl Signals {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let (sender, receiver) = net::UnixStream::pair()?;
        for signal in [SIGTERM, SIGINT] {
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        // Their default action ends a program. Tools send them to make daemons read their settings
        // or open their logs again.
        for signal in [SIGHUP, SIGUSR1, SIGUSR2] {
            signal_hook::flag::register(signal, Arc::default())?;
        }
        receiver.set_nonblocking(true)?;
        let mut receiver = UnixStream::from_std(receiver);
        registry.register(&mut receiver, token, Interest::READABLE)?;
        Ok(Signals(receiver))
    }

    /// The poll is edge-triggered: what is not read now would hide the next signal.
    pub(super) fn drain(&mut self) {
        let _ = io::copy(&mut self.0, &mut io::sink());
    }
}
