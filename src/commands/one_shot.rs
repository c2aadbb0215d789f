//! One check, one GET, one answer: what one process for each connection does, inetd's, or a
//! shell's.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Instant;

use socket2::Socket;

use crate::config::{BadConfiguration, Config, ListenerRole};
use crate::endpoint::Endpoint;
use crate::haproxy::agent_send::{not_listed, requested_endpoint};
use crate::haproxy::reply::Reply;
use crate::server::request_reader::{Framing, REQUEST_TIMEOUT};
use crate::verdict::{Verdict, judge};

/// Answers the one check of this connection. There is no earlier verdict that could stand, so
/// silence is a failure.
///
/// # Errors
/// A wrong configuration, or a thread that could not be started. A client that is gone is none.
pub fn answer(mut connection: Socket, role: &ListenerRole, config: &Config) -> Result<(), Box<dyn std::error::Error>> {
    let arrived = Instant::now();
    // Whoever accepted it may have left it so, and then nothing below would wait for the client.
    connection.set_nonblocking(false)?;
    let reply = match role {
        ListenerRole::Endpoint(endpoint) => ask(endpoint, config, arrived)?,
        ListenerRole::AgentSend => match read_line(&mut connection, arrived + REQUEST_TIMEOUT) {
            line if line.is_empty() => None,
            line => match requested_endpoint(&line, &config.endpoint).and_then(|endpoint| listed(endpoint, config)) {
                Ok(endpoint) => ask(&endpoint, config, Instant::now())?,
                Err(verdict) => config.reply_policy(&config.endpoint)?.reply(&config.hold().overriding(verdict)),
            },
        },
        ListenerRole::Metrics => {
            let what = "a socket named metrics needs the persistent service: one process for each check has no counts";
            return Err(BadConfiguration(what.into()).into());
        }
    };
    let Some(reply) = reply else { return Ok(()) };
    let leave = Instant::now() + config.limits.deadline;
    if connection.write_all(reply.line().as_bytes()).is_ok() && connection.shutdown(Shutdown::Write).is_ok() {
        // A close with input unread would send a reset, which could overtake the answer.
        let mut buffer = [0; 16 * 1024];
        while read_until(leave, &mut connection, &mut buffer) > 0 {}
    }
    Ok(())
}

fn listed(endpoint: Endpoint, config: &Config) -> Result<Endpoint, Verdict> {
    let is_listed = config.listed_endpoints().any(|named| *named == endpoint);
    if is_listed { Ok(endpoint) } else { Err(not_listed(&endpoint)) }
}

/// The line with which a check says what it asks about, or what there is of it by then.
fn read_line(connection: &mut Socket, end: Instant) -> Vec<u8> {
    let mut line = vec![0; Framing::Line.limit()];
    let mut count = 0;
    while !line[..count].contains(&b'\n') {
        match read_until(end, connection, &mut line[count..]) {
            0 => break,
            more => count += more,
        }
    }
    line.truncate(count);
    line
}

/// How many bytes came: none where the other side has closed, or the time is over.
fn read_until(end: Instant, connection: &mut Socket, buffer: &mut [u8]) -> usize {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() || connection.set_read_timeout(Some(left)).is_err() {
        return 0;
    }
    connection.read(buffer).unwrap_or(0)
}

/// Prints the reply to standard output.
///
/// # Errors
/// As [`answer`], and a standard output that takes no more.
pub fn print(endpoint: &Endpoint, config: &Config) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(reply) = ask(endpoint, config, Instant::now())? {
        std::io::stdout().write_all(reply.line().as_bytes())?;
    }
    Ok(())
}

/// The reply to a check that arrived then.
fn ask(endpoint: &Endpoint, config: &Config, arrived: Instant) -> Result<Option<Reply>, Box<dyn std::error::Error>> {
    let policy = config.reply_policy(endpoint)?;
    let client = config.client()?;
    let observation = client.get_within(endpoint, arrived, config.limits.deadline);
    let verdict = judge(endpoint, &observation).verdict;
    Ok(policy.reply(&config.hold().overriding(verdict)))
}
