//! One check, one GET, one answer.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Instant;

use socket2::Socket;

use crate::cli::{BadConfiguration, Options};
use crate::desk;
use crate::endpoint::Endpoint;
use crate::hear::{self, Speech};
use crate::invocation::Purpose;
use crate::verdict::{Verdict, judge};

/// Answers the one check of this connection. There is no earlier verdict that could stand, so silence is a failure.
///
/// # Errors
/// A wrong configuration, or a thread that could not be started. A client that is gone is none.
pub fn answer(mut connection: Socket, purpose: &Purpose, options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let arrived = Instant::now();
    // Whoever accepted it may have left it so, and then nothing below would wait for the client.
    connection.set_nonblocking(false)?;
    let reply = match purpose {
        Purpose::Endpoint(endpoint) => ask(endpoint, options, arrived)?,
        Purpose::AgentSend => match hear_line(&mut connection, arrived + hear::REQUEST_TIMEOUT) {
            said if said.is_empty() => None,
            said => match hear::endpoint_in(&said, options.endpoint()).and_then(|endpoint| listed(endpoint, options)) {
                Ok(endpoint) => ask(&endpoint, options, Instant::now())?,
                Err(verdict) => options.vocabulary(options.endpoint())?.reply(&options.hold().over(verdict)),
            },
        },
        Purpose::Metrics => {
            let what = "a socket named metrics needs the persistent service: one process for each check has no counts";
            return Err(BadConfiguration(what.into()).into());
        }
    };
    let Some(reply) = reply else { return Ok(()) };
    let leave = Instant::now() + options.limits().deadline;
    if connection.write_all(reply.as_bytes()).is_ok() && connection.shutdown(Shutdown::Write).is_ok() {
        // A close with input unread would send a reset, which could overtake the answer.
        let mut buffer = [0; 16 * 1024];
        while read_until(leave, &mut connection, &mut buffer) > 0 {}
    }
    Ok(())
}

fn listed(endpoint: Endpoint, options: &Options) -> Result<Endpoint, Verdict> {
    let is_listed = options.named().any(|named| *named == endpoint);
    if is_listed { Ok(endpoint) } else { Err(desk::not_listed(&endpoint)) }
}

/// The line with which a check says what it asks about, or what there is of it by then.
fn hear_line(connection: &mut Socket, end: Instant) -> Vec<u8> {
    let mut said = vec![0; Speech::Line.limit()];
    let mut count = 0;
    while !said[..count].contains(&b'\n') {
        match read_until(end, connection, &mut said[count..]) {
            0 => break,
            more => count += more,
        }
    }
    said.truncate(count);
    said
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
pub fn print(endpoint: &Endpoint, options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(reply) = ask(endpoint, options, Instant::now())? {
        std::io::stdout().write_all(reply.as_bytes())?;
    }
    Ok(())
}

/// The reply to a check that arrived then.
fn ask(endpoint: &Endpoint, options: &Options, arrived: Instant) -> Result<Option<String>, Box<dyn std::error::Error>> {
    let vocabulary = options.vocabulary(endpoint)?;
    let patroni = options.patroni()?;
    let observation = patroni.get_within(endpoint, arrived, options.limits().deadline);
    let verdict = judge(endpoint, &observation).verdict;
    Ok(vocabulary.reply(&options.hold().over(verdict)))
}
