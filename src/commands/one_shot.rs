//! One check, one GET, one answer: what one process for each connection does, inetd's, or a
//! shell's.

use std::error::Error;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Instant;

use socket2::Socket;

use crate::config::{BadConfiguration, Config, ListenerRole};
use crate::endpoint::Endpoint;
use crate::haproxy::agent_send;
use crate::haproxy::reply::Reply;
use crate::http::{Request, Response};
use crate::server::request_reader::{Protocol, REQUEST_TIMEOUT};
use crate::verdict::{Verdict, judge};

/// Answers the one check of this connection. There is no earlier verdict that could stand, so
/// silence is a failure.
///
/// # Errors
/// A wrong configuration, or a thread that could not be started. A client that is gone is none.
pub fn answer(mut connection: Socket, role: &ListenerRole, config: &Config) -> Result<(), Box<dyn Error>> {
    let arrived = Instant::now();
    // Whoever accepted it may have left it so, and then nothing below would wait for the client.
    connection.set_nonblocking(false)?;
    let answer = match role {
        ListenerRole::Endpoint(endpoint) => agent_answer(endpoint, config, arrived)?,
        ListenerRole::AgentSend => {
            let line = read_request(&mut connection, Protocol::AgentSend, arrived);
            if line.is_empty() { None } else { agent_send_answer(&line, config)? }
        }
        ListenerRole::Http => {
            let head = read_request(&mut connection, Protocol::Http, arrived);
            if head.is_empty() { None } else { Some(http_answer(&head, config)?) }
        }
        ListenerRole::Metrics => {
            let what = "a socket named metrics needs the persistent service: one process for each check has no counts";
            return Err(BadConfiguration(what.into()).into());
        }
    };
    let Some(answer) = answer else { return Ok(()) };
    let leave = Instant::now() + config.limits.deadline;
    if connection.write_all(&answer).is_ok() && connection.shutdown(Shutdown::Write).is_ok() {
        // A close with input unread would send a reset, which could overtake the answer.
        let mut buffer = [0; 16 * 1024];
        while read_until(leave, &mut connection, &mut buffer) > 0 {}
    }
    Ok(())
}

fn agent_answer(endpoint: &Endpoint, config: &Config, arrived: Instant) -> Result<Option<Vec<u8>>, Box<dyn Error>> {
    let (_, reply) = ask(endpoint, config, arrived)?;
    Ok(reply.map(|reply| reply.line().into_bytes()))
}

fn agent_send_answer(line: &[u8], config: &Config) -> Result<Option<Vec<u8>>, Box<dyn Error>> {
    match agent_send::find(line, &config.endpoint, |endpoint| listed(endpoint, config)) {
        Ok(endpoint) => agent_answer(&endpoint, config, Instant::now()),
        Err(verdict) => {
            let reply = config.reply_policy(&config.endpoint)?.reply(&config.hold().overriding(verdict));
            Ok(reply.map(|reply| reply.line().into_bytes()))
        }
    }
}

fn http_answer(head: &[u8], config: &Config) -> Result<Vec<u8>, Box<dyn Error>> {
    let asked =
        Request::read(head).and_then(|request| request.find(&config.endpoint, |endpoint| listed(endpoint, config)));
    let response = match asked {
        Ok(endpoint) => {
            let (verdict, reply) = ask(&endpoint, config, Instant::now())?;
            Response::of(&verdict, reply.as_ref())
        }
        Err(response) => response,
    };
    Ok(response.for_sender(head).to_bytes())
}

fn listed(endpoint: &Endpoint, config: &Config) -> Option<Endpoint> {
    config.listed_endpoints().find(|listed| *listed == endpoint).cloned()
}

/// What a client sends first, or what there is of it when its time is up.
fn read_request(connection: &mut Socket, protocol: Protocol, arrived: Instant) -> Vec<u8> {
    let end = arrived + REQUEST_TIMEOUT;
    let mut request = vec![0; protocol.limit()];
    let mut count = 0;
    while !protocol.is_whole(&request[..count]) {
        match read_until(end, connection, &mut request[count..]) {
            0 => break,
            more => count += more,
        }
    }
    request.truncate(count);
    request
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
pub fn print(endpoint: &Endpoint, config: &Config) -> Result<(), Box<dyn Error>> {
    if let Some(answer) = agent_answer(endpoint, config, Instant::now())? {
        std::io::stdout().write_all(&answer)?;
    }
    Ok(())
}

/// The verdict on a check that arrived then, and what HAProxy would be told.
fn ask(endpoint: &Endpoint, config: &Config, arrived: Instant) -> Result<(Verdict, Option<Reply>), Box<dyn Error>> {
    let policy = config.reply_policy(endpoint)?;
    let client = config.client()?;
    let observation = client.get_within(endpoint, arrived, config.limits.deadline);
    let verdict = config.hold().overriding(judge(endpoint, &observation).verdict);
    let reply = policy.reply(&verdict);
    Ok((verdict, reply))
}
