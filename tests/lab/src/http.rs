//! A bare GET, in place of a client that knows better: what comes is what was sent.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::PATIENCE;

/// The whole answer, head and body.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    get_while(address, path, PATIENCE, || false)
}

/// The same. Each time that nothing has come for so long, `goes_on` says whether to wait on.
pub fn get_while(
    address: SocketAddr,
    path: &str,
    pause: Duration,
    mut goes_on: impl FnMut() -> bool,
) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, pause)?;
    stream.set_read_timeout(Some(pause))?;
    // In one piece, as the time that this takes is measured.
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(answer),
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) && goes_on() => {}
            Err(e) => return Err(e),
        }
    }
}

/// An answer of Patroni's, as far as it is one.
pub struct Answer {
    pub status: u16,
    pub body: serde_json::Value,
}

impl Answer {
    pub fn read(answer: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(answer);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Answer { status, body: serde_json::from_str(body).ok()? })
    }
}
