//! The persistent responder: one event loop over all listeners, and one thread a view that asks Patroni.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::process::{Resource, getrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::{BadConfiguration, Options};
use crate::endpoint::Endpoint;
use crate::linger::Lingering;
use crate::patroni::{Observation, Patroni};
use crate::reply::Vocabulary;
use crate::supervise::{Change, Supervisor};
use crate::verdict::{NoNews, Verdict, judge};
use crate::view::View;

/// Sockets open at once, waiting or lingering; those who come then wait in the listener's backlog.
const OPEN: usize = 4096;

/// Descriptors that clients can't take: ours, and for each view those of its request (socket, name lookup, certificates).
const RESERVED: usize = 32;
const RESERVED_A_VIEW: usize = 8;

/// Accepted from one listener in one turn, so that the others, deadlines and the watchdog get theirs in a flood.
const BATCH: usize = 256;

/// The pause after accepting failed, mostly for want of descriptors.
const BREATHER: Duration = Duration::from_millis(100);

const WAKER: Token = Token(usize::MAX);
const SIGNAL: Token = Token(usize::MAX - 1);

/// What a view's thread found: which view, what Patroni said, what that means.
type Found = (usize, Observation, Result<Verdict, NoNews>);

struct Listener {
    socket: TcpListener,
    view: usize,
    /// Connections may wait; the poll tells of new ones only.
    ready: bool,
}

/// A view with what it needs towards Patroni, HAProxy and the operator.
struct Desk {
    endpoint: Endpoint,
    vocabulary: Vocabulary,
    view: View<TcpStream>,
    fetch: Sender<()>,
    observation: Option<Observation>,
    said: Option<Verdict>,
    answered: u64,
}

/// Answers checks on these listeners, each for its endpoint, until SIGTERM or SIGINT; then accepts no more, answers what
/// was accepted, and returns within the deadline.
///
/// # Errors
/// [`BadConfiguration`], or what the operating system refused at the start.
pub fn serve(
    listeners: Vec<(std::net::TcpListener, Endpoint)>,
    options: &Options,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut responder = Responder::new(listeners, options)?;
    responder.supervisor.ready(&responder.status())?;
    responder.run()?;
    Ok(())
}

struct Responder {
    poll: Poll,
    signal: UnixStream,
    listeners: Vec<Listener>,
    desks: Vec<Desk>,
    found: Receiver<Found>,
    supervisor: Supervisor,
    deadline: Duration,
    lingering: Lingering,
    /// As many of these as may be open.
    room: usize,
    /// Accepting pauses until then.
    stalled: Option<Instant>,
    /// SIGTERM came; the last moment for everything.
    stop: Option<Instant>,
}

impl Responder {
    fn new(
        sockets: Vec<(std::net::TcpListener, Endpoint)>,
        options: &Options,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let signal = signals(&poll)?;
        let (finder, found) = channel();
        let patroni = options.patroni()?;
        let mut desks: Vec<Desk> = Vec::new();
        let mut listeners = Vec::new();
        for (socket, endpoint) in sockets {
            // Two sockets for one endpoint share its view: Patroni gets one request at a time for each endpoint.
            let view = match desks.iter().position(|desk| desk.endpoint == endpoint) {
                Some(view) => view,
                None => {
                    let fetch = fetcher(desks.len(), &patroni, &endpoint, &finder, &waker)?;
                    desks.push(Desk::new(endpoint, options, fetch)?);
                    desks.len() - 1
                }
            };
            socket.set_nonblocking(true)?;
            let mut socket = TcpListener::from_std(socket);
            poll.registry().register(&mut socket, Token(listeners.len()), Interest::READABLE)?;
            listeners.push(Listener { socket, view, ready: true });
        }
        let deadline = options.limits().deadline;
        let lingering = Lingering::new(listeners.len(), deadline);
        let supervisor = Supervisor::new();
        let room = room(desks.len());
        let (stalled, stop) = (None, None);
        Ok(Responder { poll, signal, listeners, desks, found, supervisor, deadline, lingering, room, stalled, stop })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let pause = self.pause();
            match self.poll.poll(&mut events, pause) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    WAKER => self.collect(),
                    SIGNAL => self.stop(),
                    Token(listener) if listener < self.listeners.len() => self.listeners[listener].ready = true,
                    client => self.lingering.drain(client),
                }
            }
            let now = Instant::now();
            self.accept(now);
            self.answer_overdue(now);
            self.fetch(now);
            self.lingering.expire(now);
            if self.supervisor.is_due(now) {
                self.supervisor.beat(now, &self.status());
            }
            if self.stop.is_some_and(|last| now >= last || self.open() == 0) {
                return Ok(());
            }
        }
    }

    /// How long the poll may sleep.
    fn pause(&self) -> Option<Duration> {
        let now = Instant::now();
        let can_accept = self.listeners.iter().any(|listener| listener.ready);
        let accept = (can_accept && self.stop.is_none()).then(|| self.stalled.unwrap_or(now));
        let overdue = self.desks.iter().filter_map(|desk| desk.view.next_deadline()).min();
        let times = [accept, overdue, self.lingering.next_leave(), self.supervisor.due(), self.stop];
        times.into_iter().flatten().min().map(|time| time.saturating_duration_since(now))
    }

    fn open(&self) -> usize {
        self.lingering.len() + self.desks.iter().map(|desk| desk.view.waiting()).sum::<usize>()
    }

    fn accept(&mut self, now: Instant) {
        if self.stop.is_some() || self.stalled.is_some_and(|until| until > now) {
            return;
        }
        self.stalled = None;
        for index in 0..self.listeners.len() {
            let mut batch = BATCH;
            while self.listeners[index].ready && batch > 0 {
                batch -= 1;
                if self.open() >= self.room && !self.lingering.dismiss_oldest() {
                    self.stalled = Some(now + BREATHER);
                    return;
                }
                match self.listeners[index].socket.accept() {
                    Ok((client, _)) => self.admit(self.listeners[index].view, client),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.listeners[index].ready = false,
                    Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                    // No descriptor is free (EMFILE, ENFILE), or no memory: somebody who has his answer makes room.
                    Err(_) if self.lingering.dismiss_oldest() => {}
                    Err(_) => {
                        self.stalled = Some(now + BREATHER);
                        return;
                    }
                }
            }
        }
    }

    fn admit(&mut self, view: usize, client: TcpStream) {
        // Not the time at which this turn began: what was fresh then need not be when the last of a batch has come.
        let now = Instant::now();
        if let Some((client, verdict)) = self.desks[view].view.arrive(now, client) {
            self.answer(now, view, client, verdict);
        }
    }

    fn answer(&mut self, now: Instant, view: usize, mut client: TcpStream, verdict: Verdict) {
        let desk = &mut self.desks[view];
        desk.answered += 1;
        let reply = desk.vocabulary.reply(&verdict);
        if desk.said.as_ref() != Some(&verdict) {
            let observation = desk.observation.as_ref();
            self.supervisor.changed(&Change {
                endpoint: &desk.endpoint,
                verdict: &verdict,
                reply: &reply,
                observation,
            });
            desk.said = Some(verdict);
            let status = self.status();
            self.supervisor.status(&status);
        }
        let Some(reply) = reply else { return };
        // A client that is gone has no use for its answer, and an empty send buffer takes a short line whole.
        if client.write(reply.as_bytes()).is_ok() {
            self.lingering.see_off(now, client, self.poll.registry());
        }
    }

    fn collect(&mut self) {
        while let Ok((view, observation, found)) = self.found.try_recv() {
            let now = Instant::now();
            self.desks[view].observation = Some(observation);
            for (client, verdict) in self.desks[view].view.observed(now, found) {
                self.answer(now, view, client, verdict);
            }
        }
    }

    fn answer_overdue(&mut self, now: Instant) {
        for view in 0..self.desks.len() {
            for (client, verdict) in self.desks[view].view.overdue(now) {
                self.answer(now, view, client, verdict);
            }
        }
    }

    fn fetch(&mut self, now: Instant) {
        for desk in &mut self.desks {
            if desk.view.begin_fetch(now) {
                // The thread lives as long as we do: a panic in it ends the program.
                let _ = desk.fetch.send(());
            }
        }
    }

    /// What is still in the backlog is for the next process: systemd holds the port.
    fn stop(&mut self) {
        let _ = io::copy(&mut self.signal, &mut io::sink());
        if self.stop.is_none() {
            self.supervisor.stopping();
            self.stop = Some(Instant::now() + self.deadline);
        }
    }

    fn status(&self) -> String {
        let views = self.desks.iter().map(|desk| {
            let said = desk.said.as_ref().and_then(|verdict| desk.vocabulary.reply(verdict));
            let said = said.as_deref().map_or("nothing said yet", str::trim_end);
            format!("{}: {said} ({} checks)", desk.endpoint, desk.answered)
        });
        views.collect::<Vec<_>>().join("; ")
    }
}

impl Desk {
    fn new(endpoint: Endpoint, options: &Options, fetch: Sender<()>) -> Result<Self, BadConfiguration> {
        let vocabulary = options.vocabulary(&endpoint)?;
        let view = View::new(options.limits());
        Ok(Desk { endpoint, vocabulary, view, fetch, observation: None, said: None, answered: 0 })
    }
}

/// How many clients may be there at once: one that could not be answered, for want of a descriptor for asking Patroni,
/// had better wait.
fn room(views: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit.try_into().unwrap_or(usize::MAX));
    limit.saturating_sub(RESERVED + views * RESERVED_A_VIEW).clamp(1, OPEN)
}

/// Starts the thread that asks Patroni for a view, once for each order.
fn fetcher(
    view: usize,
    patroni: &Patroni,
    endpoint: &Endpoint,
    found: &Sender<Found>,
    waker: &Arc<Waker>,
) -> io::Result<Sender<()>> {
    let (order, orders) = channel();
    let (patroni, endpoint, found, waker) = (patroni.clone(), endpoint.clone(), found.clone(), Arc::clone(waker));
    thread::Builder::new().name(format!("fetch{endpoint}")).spawn(move || {
        while let Ok(()) = orders.recv() {
            let observation = patroni.get(&endpoint);
            let verdict = judge(&endpoint, &observation);
            if found.send((view, observation, verdict)).is_err() || waker.wake().is_err() {
                return;
            }
        }
    })?;
    Ok(order)
}

fn signals(poll: &Poll) -> io::Result<UnixStream> {
    let (sender, receiver) = std::os::unix::net::UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
    }
    receiver.set_nonblocking(true)?;
    let mut receiver = UnixStream::from_std(receiver);
    poll.registry().register(&mut receiver, SIGNAL, Interest::READABLE)?;
    Ok(receiver)
}
