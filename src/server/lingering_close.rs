//! The lingering close (nginx's word) of clients that have their answer: what they still send is
//! drained before the close, because a close with input unread sends a reset, after which the
//! kernel does not send a lost answer again.

use std::io::{self, Read};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::deadline_map::DeadlineMap;

/// The clients whose other half is still open, each until it closes or its time is up.
pub(super) struct LingeringClose {
    clients: DeadlineMap<TcpStream>,
    /// Those of them that came in this turn of the loop, and in the one before. The poll does not
    /// watch them yet.
    of_this_turn: Vec<Token>,
    of_last_turn: Vec<Token>,
}

impl LingeringClose {
    pub(super) fn new(timeout: Duration) -> Self {
        LingeringClose { clients: DeadlineMap::new(timeout), of_this_turn: Vec::new(), of_last_turn: Vec::new() }
    }

    /// Closes our half of the connection. The rest is left to the next turn's end, whatever begins it.
    pub(super) fn begin(&mut self, now: Instant, client: TcpStream, token: Token) {
        if client.shutdown(Shutdown::Write).is_ok() {
            self.clients.insert(now, token, client);
            self.of_this_turn.push(token);
        }
    }

    /// Closes those whose time is up, and those of the turn before who have closed their own half;
    /// the poll watches the others of them from now on. Nearly all have closed by then, so a check
    /// costs one turn of the loop and not two. Where there is no next turn to be waited for, those
    /// of this one as well.
    pub(super) fn end_turn(&mut self, now: Instant, is_stopping: bool, registry: &Registry) {
        if is_stopping {
            self.of_last_turn.append(&mut self.of_this_turn);
        }
        for token in self.of_last_turn.drain(..) {
            let Some(client) = self.clients.get_mut(token) else { continue };
            if !drain_once(client) || registry.register(client, token, Interest::READABLE).is_err() {
                self.clients.remove(token);
            }
        }
        std::mem::swap(&mut self.of_last_turn, &mut self.of_this_turn);
        while let Some(mut client) = self.clients.pop_expired(now) {
            drain_once(&mut client);
        }
    }

    /// The poll says that a client sent something or closed.
    pub(super) fn drain(&mut self, token: Token) {
        if self.clients.get_mut(token).is_some_and(|client| !drain_once(client)) {
            self.clients.remove(token);
        }
    }

    /// Closes the one that has lingered longest. Whether there was one.
    pub(super) fn close_oldest(&mut self) -> bool {
        self.clients.pop_oldest().is_some_and(|mut client| {
            drain_once(&mut client);
            true
        })
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.clients.next_deadline()
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }
}

/// Reads what there is, 1 MiB at most. Whether more may come: neither closed nor reset, nor sending
/// without end.
fn drain_once(client: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    for _ in 0..256 {
        match client.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{self, Ipv4Addr};

    use mio::{Events, Poll};

    use super::*;

    #[test]
    fn who_has_closed_by_the_next_turn_is_never_watched_and_the_others_are() {
        let mut poll = Poll::new().unwrap();
        let mut lingering = LingeringClose::new(Duration::from_secs(60));
        let listener = net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut clients = [0, 1, 2].map(|token| {
            let client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let accepted = listener.accept().unwrap().0;
            accepted.set_nonblocking(true).unwrap();
            lingering.begin(Instant::now(), TcpStream::from_std(accepted), Token(token));
            Some(client)
        });
        let mut events = Events::with_capacity(8);
        let mut seen = |poll: &mut Poll| {
            poll.poll(&mut events, Some(Duration::from_millis(50))).unwrap();
            events.iter().map(|event| event.token().0).collect::<Vec<_>>()
        };
        assert_eq!(clients[1].as_mut().unwrap().read(&mut [0]).unwrap(), 0, "our half is closed at once");
        clients[0] = None;
        clients[1].as_mut().unwrap().write_all(b"late").unwrap();
        assert_eq!((seen(&mut poll), lingering.len()), (vec![], 3));
        let end_turn = |lingering: &mut LingeringClose| lingering.end_turn(Instant::now(), false, poll.registry());
        end_turn(&mut lingering);
        assert_eq!(lingering.len(), 3, "the turn in which they came");
        end_turn(&mut lingering);
        assert_eq!((seen(&mut poll), lingering.len()), (vec![], 2));
        clients[2] = None;
        assert_eq!(seen(&mut poll), [2]);
        lingering.drain(Token(2));
        lingering.end_turn(Instant::now(), true, poll.registry());
        assert_eq!(lingering.len(), 1);
        // What it sent was read, so it sees an end and no reset.
        assert!(lingering.close_oldest());
        assert_eq!(clients[1].as_mut().unwrap().read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn who_has_sent_something_sees_an_end_and_no_reset_whyever_it_is_closed() {
        let poll = Poll::new().unwrap();
        let listener = net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let ways: [fn(&mut LingeringClose, &Poll); 2] = [
            |lingering, _| assert!(lingering.close_oldest()),
            |lingering, poll| lingering.end_turn(Instant::now() + Duration::from_secs(61), false, poll.registry()),
        ];
        for close in ways {
            let mut lingering = LingeringClose::new(Duration::from_secs(60));
            let mut client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let accepted = listener.accept().unwrap().0;
            accepted.set_nonblocking(true).unwrap();
            lingering.begin(Instant::now(), TcpStream::from_std(accepted), Token(0));
            client.write_all(b"late").unwrap();
            close(&mut lingering, &poll);
            assert_eq!((lingering.len(), client.read(&mut [0]).unwrap()), (0, 0));
            assert!(client.take_error().unwrap().is_none(), "the end hides a reset behind it from a read");
        }
    }
}
