//! Those who check, and what they are told.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use lab::PATIENCE;

use crate::place::Place;

#[derive(Debug)]
pub struct Check {
    pub began: Instant,
    pub ended: Instant,
    /// Or why there is none.
    pub reply: Result<String, String>,
}

/// One client. Each fourth asks by HTTP, where that is answered.
pub fn checks(place: &dyn Place, client: usize, done: &AtomicBool) -> Vec<Check> {
    let mut checks = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let http = place.http().filter(|_| client % 4 == 3);
        let began = Instant::now();
        let reply = ask(http.unwrap_or_else(|| place.address()), http.is_some());
        checks.push(Check { began, ended: Instant::now(), reply });
    }
    checks
}

/// One check, and its line.
pub fn ask(address: SocketAddr, by_http: bool) -> Result<String, String> {
    let mut reply = String::new();
    let mut asked = || -> io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        if by_http {
            stream.write_all(b"GET /primary HTTP/1.0\r\n\r\n")?;
        }
        stream.read_to_string(&mut reply)?;
        Ok(())
    };
    asked().map_err(|e| format!("{e}, {reply:?}"))?;
    let line = if by_http { reply.split_once("\r\n\r\n").map(|(_, body)| body) } else { Some(reply.as_str()) };
    let is_200 = reply.starts_with("HTTP/1.1 200 ");
    match line {
        Some(line) if by_http && is_200 != line.starts_with("READY UP") => Err(format!("the wrong status: {reply:?}")),
        Some(line) if line.ends_with('\n') => Ok(line.to_owned()),
        _ => Err(format!("cut short: {reply:?}")),
    }
}
