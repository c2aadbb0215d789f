//! Who listens on this host.

use std::net::SocketAddr;

/// The addresses of all that listen here (proc(5), `/proc/net/tcp`).
pub(super) fn listeners() -> impl Iterator<Item = SocketAddr> {
    let tables = [procfs::net::tcp(), procfs::net::tcp6()].into_iter().flatten().flatten();
    let listen = tables.filter(|entry| entry.state == procfs::net::TcpState::Listen);
    listen.map(|entry| entry.local_address)
}
