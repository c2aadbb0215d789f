//! One check, one GET, one answer.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use socket2::Socket;

use crate::cli::Options;
use crate::endpoint::Endpoint;
use crate::verdict::{NoNews, Verdict, judge};

/// Answers the one check of this connection. There is no earlier verdict that could stand, so silence is a failure.
///
/// # Errors
/// A wrong configuration, or a thread that could not be started. A client that is gone is none.
pub fn answer(
    mut connection: Socket,
    endpoint: &Endpoint,
    options: &Options,
) -> Result<(), Box<dyn std::error::Error>> {
    let Some(reply) = ask(endpoint, options)? else { return Ok(()) };
    // Whoever accepted it may have left it so, and then nothing below would wait for the client.
    connection.set_nonblocking(false)?;
    let leave = Instant::now() + options.limits().deadline;
    if connection.write_all(reply.as_bytes()).is_ok() && connection.shutdown(Shutdown::Write).is_ok() {
        // A close with input unread would send a reset, which could overtake the answer.
        let mut buffer = [0; 16 * 1024];
        loop {
            let left = leave.saturating_duration_since(Instant::now());
            if left.is_zero() || connection.set_read_timeout(Some(left)).is_err() {
                break;
            }
            match connection.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    }
    Ok(())
}

/// Prints the reply to standard output.
///
/// # Errors
/// As [`answer`], and a standard output that takes no more.
pub fn print(endpoint: &Endpoint, options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(reply) = ask(endpoint, options)? {
        std::io::stdout().write_all(reply.as_bytes())?;
    }
    Ok(())
}

fn ask(endpoint: &Endpoint, options: &Options) -> Result<Option<String>, Box<dyn std::error::Error>> {
    let vocabulary = options.vocabulary(endpoint)?;
    let patroni = options.patroni()?;
    let deadline = options.limits().deadline;
    let (found, finding) = channel();
    let asked = endpoint.clone();
    // On a thread, because a name lookup can't be given a deadline. It ends with the program.
    thread::Builder::new().spawn(move || found.send(judge(&asked, &patroni.get(&asked))))?;
    let late = || Err(NoNews::NoAnswer(format!("patroni: no answer within {deadline:?}")));
    let verdict = finding.recv_timeout(deadline).unwrap_or_else(|_| late()).unwrap_or_else(Verdict::from);
    Ok(vocabulary.reply(&verdict))
}
