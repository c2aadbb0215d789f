//! Checks and bare requests, with the time that each took.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::{Process, http};

use lab::times::Times;

/// One check: how long from the connect to the end of the answer.
pub fn timed_check(address: SocketAddr) -> io::Result<Duration> {
    timed_exchange(address, b"")
}

/// As HAProxy's `httpchk` sends it.
const HTTP_CHECK: &[u8] = b"OPTIONS /primary HTTP/1.0\r\n\r\n";

/// The same by HTTP.
pub fn timed_http_check(address: SocketAddr) -> io::Result<Duration> {
    timed_exchange(address, HTTP_CHECK)
}

fn timed_exchange(address: SocketAddr, request: &[u8]) -> io::Result<Duration> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    if !request.is_empty() {
        stream.write_all(request)?;
    }
    let mut buffer = [0; 256];
    let mut count = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 if count > 0 => return Ok(start.elapsed()),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => count += more,
        }
    }
}

pub fn some_check(address: SocketAddr) -> Result<Duration, Box<dyn Error>> {
    Ok(timed_check(address)?)
}

/// One bare GET.
pub fn timed_get(url: &str) -> Result<Duration, Box<dyn Error>> {
    let address = url.trim_start_matches("http://").parse()?;
    let start = Instant::now();
    http::get(address, "/primary")?;
    Ok(start.elapsed())
}

pub struct Load {
    pub a_second: f64,
    pub lost: usize,
    pub p99: f64,
    /// Of the program that answers, in seconds a check.
    pub processor_time: f64,
}

/// Clients that check as fast as they can.
pub fn load(
    program: &Process,
    check: impl Fn() -> io::Result<Duration> + Sync,
    clients: usize,
    time: Duration,
) -> Load {
    let lost = AtomicUsize::new(0);
    let (start, before) = (Instant::now(), program.processor_time());
    let times: Vec<Duration> = thread::scope(|scope| {
        let client = || {
            let mut times = Vec::new();
            while start.elapsed() < time {
                match check() {
                    Ok(time) => times.push(time),
                    Err(_) => _ = lost.fetch_add(1, Ordering::Relaxed),
                }
            }
            times
        };
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client does not panic")).collect()
    });
    #[expect(clippy::cast_precision_loss)]
    let count = times.len() as f64;
    Load {
        a_second: count / start.elapsed().as_secs_f64(),
        lost: lost.into_inner(),
        p99: Times(times).quantile(0.99),
        processor_time: (program.processor_time() - before).as_secs_f64() / count,
    }
}
