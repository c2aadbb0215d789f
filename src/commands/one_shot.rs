//! One check, one GET, one answer: what one process for each connection does, inetd's, or a
//! shell's.

mod ask;

use std::error::Error;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::config::{BadConfiguration, Config, ListenerRole};
use crate::haproxy::agent_send;
use crate::haproxy::reply::Reply;
use crate::http::{Request, Response};
use crate::server::request_reader::{Protocol, REQUEST_TIMEOUT};
use crate::view::View;
use ask::ask;

/// Answers the one check of this connection.
///
/// # Errors
/// A wrong configuration. A client that is gone is none.
pub fn answer(connection: Socket, role: &ListenerRole, config: &Config) -> Result<(), Box<dyn Error>> {
    let arrived = Instant::now();
    // Whoever accepted it may have left it so, and then nothing below would wait for the client.
    connection.set_nonblocking(false)?;
    let client = Arc::new(Client { connection, leave: OnceLock::new(), time_to_leave: config.limits.deadline });
    match role {
        ListenerRole::View(view) => answer_agent(client, view, config)?,
        ListenerRole::AgentSend => answer_agent_send(client, config, arrived)?,
        ListenerRole::Http => answer_http(client, config, arrived)?,
        ListenerRole::Metrics => {
            let what = "a socket named metrics needs the persistent service: one process for each check has no counts";
            return Err(BadConfiguration(what.into()).into());
        }
    }
    Ok(())
}

fn answer_agent(client: Arc<Client>, view: &View, config: &Config) -> Result<(), BadConfiguration> {
    let teller = Arc::clone(&client);
    ask(view, config, move |_, reply| teller.send_reply(reply))?;
    client.linger();
    Ok(())
}

fn answer_agent_send(client: Arc<Client>, config: &Config, arrived: Instant) -> Result<(), BadConfiguration> {
    let line = client.read_request(Protocol::AgentSend, arrived);
    if line.is_empty() {
        return Ok(());
    }
    match agent_send::find(&line, &config.view, |view| listed(view, config)) {
        Ok(view) => return answer_agent(client, &view, config),
        Err(verdict) => {
            let reply = config.fallback_policy()?.reply(&config.holds().overriding(None, verdict));
            client.send_reply(reply.as_ref());
        }
    }
    client.linger();
    Ok(())
}

fn answer_http(client: Arc<Client>, config: &Config, arrived: Instant) -> Result<(), BadConfiguration> {
    let head = client.read_request(Protocol::Http, arrived);
    if head.is_empty() {
        return Ok(());
    }
    let found = Request::read(&head).and_then(|request| request.find(&config.view, |view| listed(view, config)));
    match found {
        Ok(view) => {
            let teller = Arc::clone(&client);
            ask(&view, config, move |verdict, reply| teller.send_response(Response::of(verdict, reply), &head))?;
        }
        Err(response) => client.send_response(response, &head),
    }
    client.linger();
    Ok(())
}

fn listed(view: &View, config: &Config) -> Option<View> {
    config.listed_views().find(|listed| *listed == view).cloned()
}

/// The one client.
struct Client {
    connection: Socket,
    /// It has its answer, and may take until then to close.
    leave: OnceLock<Instant>,
    time_to_leave: Duration,
}

impl Client {
    /// What it sends first, or what there is of it when its time is up.
    fn read_request(&self, protocol: Protocol, arrived: Instant) -> Vec<u8> {
        let end = arrived + REQUEST_TIMEOUT;
        let mut request = vec![0; protocol.limit()];
        let mut count = 0;
        while !protocol.is_whole(&request[..count]) {
            match self.read_until(end, &mut request[count..]) {
                0 => break,
                more => count += more,
            }
        }
        request.truncate(count);
        request
    }

    /// Sends HAProxy its line, or nothing (`--on-failure silent`).
    fn send_reply(&self, reply: Option<&Reply>) {
        self.send(reply.map(Reply::line).unwrap_or_default().as_bytes());
    }

    fn send_response(&self, response: Response, head: &[u8]) {
        self.send(&response.for_sender(head).to_bytes());
    }

    /// Sends the answer, and the end behind it: the client need not wait for what may go on here.
    fn send(&self, answer: &[u8]) {
        if (&self.connection).write_all(answer).is_ok() && self.connection.shutdown(Shutdown::Write).is_ok() {
            let _ = self.leave.set(Instant::now() + self.time_to_leave);
        }
    }

    /// A close with input unread would send a reset, which could overtake the answer.
    fn linger(&self) {
        let Some(leave) = self.leave.get() else { return };
        let mut buffer = [0; 16 * 1024];
        while self.read_until(*leave, &mut buffer) > 0 {}
    }

    /// How many bytes came: none where the other side has closed, or the time is over.
    fn read_until(&self, end: Instant, buffer: &mut [u8]) -> usize {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || self.connection.set_read_timeout(Some(left)).is_err() {
            return 0;
        }
        (&self.connection).read(buffer).unwrap_or(0)
    }
}

/// Prints the reply to standard output. Without a memory: whoever reads it waits for the end of the
/// process, which would wait for Patroni.
///
/// # Errors
/// A wrong configuration, and a standard output that takes no more.
pub fn print(view: &View, config: &Config) -> Result<(), Box<dyn Error>> {
    let (printed_tx, printed_rx) = channel();
    let config = Config { runtime_directory: None, ..config.clone() };
    ask(view, &config, move |_, reply| {
        let line = reply.map(Reply::line).unwrap_or_default();
        let _ = printed_tx.send(std::io::stdout().write_all(line.as_bytes()));
    })?;
    Ok(printed_rx.try_recv().unwrap_or(Ok(()))?)
}
