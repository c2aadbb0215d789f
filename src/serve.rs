//! The persistent responder: one event loop over all listeners, and one thread a view that asks Patroni.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::net::{SendFlags, send};
use rustix::process::{Resource, getrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use socket2::SockRef;

use crate::cli::Options;
use crate::clock::Moment;
use crate::desk::Desks;
use crate::endpoint::Endpoint;
use crate::hear::{Heard, Hearing, Speech, endpoint_in};
use crate::hold::Hold;
use crate::invocation::Purpose;
use crate::journal::{Change, Journal};
use crate::linger::Lingering;
use crate::notify::Notifier;
use crate::reply::Vocabulary;
use crate::verdict::Verdict;

/// Sockets open at once, speaking, waiting or lingering; those who come then wait in the listener's backlog.
const OPEN: usize = 4096;

/// Descriptors that clients can't take: ours, and for each view those of its request (socket, name lookup, certificates).
const RESERVED: usize = 32;
const RESERVED_A_VIEW: usize = 8;

/// Accepted from one listener in one turn, so that the others, deadlines and the watchdog get theirs in a flood.
const BATCH: usize = 256;

/// At the end the journal has so long for what it was told last.
const END: Duration = Duration::from_millis(200);

/// The pause after accepting failed, mostly for want of descriptors.
const BREATHER: Duration = Duration::from_millis(100);

const WAKER: Token = Token(usize::MAX);
const SIGNAL: Token = Token(usize::MAX - 1);

struct Listener {
    socket: TcpListener,
    /// Whom its clients are led to.
    to: Door,
    /// Connections may wait; the poll tells of new ones only.
    ready: bool,
}

/// Where a client is led: to the desk of its endpoint, or, to be heard first, to where it can speak.
#[derive(Clone, Copy)]
enum Door {
    Desk(usize),
    Hearing(Speech),
}

/// Answers checks on these listeners, each for its endpoint, until SIGTERM or SIGINT; then accepts no more, answers what
/// was accepted, and returns within the deadline.
///
/// # Errors
/// [`BadConfiguration`](crate::cli::BadConfiguration), or what the operating system refused at the start.
pub fn serve(
    listeners: Vec<(std::net::TcpListener, Purpose)>,
    options: &Options,
) -> Result<(), Box<dyn std::error::Error>> {
    let journal = Journal::new()?;
    if let Some(warning) = options.warning() {
        journal.warn(warning);
    }
    let notifier = Notifier::from_env().unwrap_or_else(|e| {
        journal.warn(format!("can't notify the service manager (NOTIFY_SOCKET): {e}"));
        Notifier::nobody()
    });
    let mut responder = Responder::new(listeners, options, journal, notifier)?;
    responder.begin();
    responder.run()?;
    responder.journal.end(END);
    Ok(())
}

struct Responder {
    poll: Poll,
    signal: UnixStream,
    listeners: Vec<Listener>,
    desks: Desks,
    /// What is answered for where a check names nothing, and the words for one that names nothing that we know.
    default: (Endpoint, Vocabulary),
    journal: Journal,
    notifier: Notifier,
    hold: Hold,
    /// Why the node is held, if it is; looked up once a turn, if anybody asks.
    held: Option<Option<String>>,
    deadline: Duration,
    hearing: Hearing,
    lingering: Lingering,
    /// The next client's.
    token: Token,
    /// As many clients as may be there.
    room: usize,
    /// Accepting pauses until then.
    stalled: Option<Instant>,
    /// SIGTERM came; the last moment for everything.
    stop: Option<Instant>,
}

impl Responder {
    fn new(
        sockets: Vec<(std::net::TcpListener, Purpose)>,
        options: &Options,
        journal: Journal,
        notifier: Notifier,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let poll = Poll::new()?;
        let signal = signals(&poll)?;
        let mut desks = Desks::new(options, Waker::new(poll.registry(), WAKER)?)?;
        let mut listeners = Vec::new();
        for (socket, purpose) in sockets {
            let to = match purpose {
                Purpose::Endpoint(endpoint) => Door::Desk(desks.open(&endpoint)?),
                Purpose::AgentSend => {
                    for endpoint in options.named() {
                        desks.open(endpoint)?;
                    }
                    Door::Hearing(Speech::Line)
                }
                Purpose::Metrics => Door::Hearing(Speech::Head),
            };
            socket.set_nonblocking(true)?;
            let mut socket = TcpListener::from_std(socket);
            poll.registry().register(&mut socket, Token(listeners.len()), Interest::READABLE)?;
            listeners.push(Listener { socket, to, ready: true });
        }
        let deadline = options.limits().deadline;
        let room = room(desks.desks.len());
        Ok(Responder {
            poll,
            signal,
            token: Token(listeners.len()),
            listeners,
            desks,
            default: (options.endpoint().clone(), options.vocabulary(options.endpoint())?),
            journal,
            notifier,
            hold: options.hold(),
            held: None,
            deadline,
            hearing: Hearing::default(),
            lingering: Lingering::new(deadline),
            room,
            stalled: None,
            stop: None,
        })
    }

    fn begin(&self) {
        if let Err(e) = self.notifier.ready() {
            self.journal.warn(format!("can't send READY=1 to the service manager (NOTIFY_SOCKET): {e}"));
        }
        self.notifier.status(&self.desks.status());
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let pause = self.pause();
            match self.poll.poll(&mut events, pause) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
            self.held = None;
            for event in &events {
                match event.token() {
                    WAKER => self.collect(),
                    SIGNAL => self.stop(),
                    Token(listener) if listener < self.listeners.len() => self.listeners[listener].ready = true,
                    client => match self.hearing.go_on(client, self.poll.registry()) {
                        Some(heard) => self.lead(heard),
                        None => self.lingering.drain(client),
                    },
                }
            }
            let now = Instant::now();
            self.accept(now);
            while let Some(heard) = self.hearing.overdue(now, self.poll.registry()) {
                self.lead(heard);
            }
            self.answer_overdue();
            // Not from before the last check was accepted: the answer would not be for that one.
            self.desks.fetch(Moment::now());
            self.lingering.expire(now);
            if self.notifier.is_due(now) {
                self.notifier.ping_watchdog(now);
                self.notifier.status(&self.desks.status());
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
        let moment = Moment::now();
        let overdue = self.desks.desks.iter().filter_map(|desk| desk.view.time_left(moment)).min();
        let (spoken, gone) = (self.hearing.next_over(), self.lingering.next_leave());
        let times = [accept, spoken, gone, self.notifier.due(), self.stop];
        let pauses = times.into_iter().flatten().map(|time| time.saturating_duration_since(now));
        pauses.chain(overdue).min()
    }

    fn open(&self) -> usize {
        let waiting = self.desks.desks.iter().map(|desk| desk.view.waiting()).sum::<usize>();
        self.hearing.len() + self.lingering.len() + waiting
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
                if self.open() >= self.room && !self.dismiss_one() {
                    self.stalled = Some(now + BREATHER);
                    return;
                }
                match self.listeners[index].socket.accept() {
                    Ok((client, _)) => self.admit(self.listeners[index].to, client),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.listeners[index].ready = false,
                    Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                    // No descriptor is free (EMFILE, ENFILE), or no memory.
                    Err(_) if self.dismiss_one() => {}
                    Err(_) => {
                        self.stalled = Some(now + BREATHER);
                        return;
                    }
                }
            }
        }
    }

    /// Somebody makes room who has his answer, or else who has not said what he wants.
    fn dismiss_one(&mut self) -> bool {
        self.lingering.dismiss_oldest() || self.hearing.dismiss_oldest()
    }

    fn admit(&mut self, door: Door, client: TcpStream) {
        match door {
            Door::Desk(desk) => self.queue(desk, client),
            Door::Hearing(speech) => {
                let token = self.next_token();
                if let Some(heard) = self.hearing.begin(Instant::now(), client, speech, token, self.poll.registry()) {
                    self.lead(heard);
                }
            }
        }
    }

    /// Leads a client that has spoken to whom it asked for.
    fn lead(&mut self, heard: Heard) {
        let now = Instant::now();
        match heard.speech {
            // HAProxy's line may be on its way again, and HAProxy keeps what it knows where nothing is said.
            Speech::Line if heard.said.is_empty() => {}
            Speech::Line => {
                match endpoint_in(&heard.said, &self.default.0).and_then(|endpoint| self.desks.named(&endpoint)) {
                    Ok(desk) => self.queue(desk, heard.client),
                    Err(verdict) => {
                        let verdict = self.unless_held(verdict);
                        self.say(now, heard.client, self.default.1.reply(&verdict));
                    }
                }
            }
            Speech::Head if heard.is_whole() => {
                let answer = self.desks.metrics(now, &heard.said);
                // Room for all of it in one write, however many views; where there is no more, what there is has to do.
                let _ = SockRef::from(&heard.client).set_send_buffer_size(answer.len());
                self.say(now, heard.client, Some(answer));
            }
            Speech::Head => {}
        }
    }

    fn queue(&mut self, desk: usize, client: TcpStream) {
        // Not the time at which this turn began: what was fresh then need not be when the last of a batch has come.
        if let Some((client, verdict)) = self.desks.desks[desk].view.arrive(Moment::now(), client) {
            self.answer(desk, client, verdict);
        }
    }

    fn unless_held(&mut self, verdict: Verdict) -> Verdict {
        match self.held.get_or_insert_with(|| self.hold.reason()) {
            Some(why) => Verdict::held(why),
            None => verdict,
        }
    }

    fn answer(&mut self, desk: usize, client: TcpStream, verdict: Verdict) {
        let verdict = self.unless_held(verdict);
        let now = Instant::now();
        let desk = &mut self.desks.desks[desk];
        let reply = desk.vocabulary.reply(&verdict);
        desk.answered += 1;
        desk.meter.answered(&reply);
        if desk.said.as_ref() != Some(&verdict) {
            self.journal.changed(&Change {
                endpoint: &desk.endpoint,
                verdict: &verdict,
                reply: &reply,
                observation: desk.observation.as_ref(),
            });
            desk.meter.changed(now, &verdict);
            desk.said = Some(verdict);
            self.notifier.status(&self.desks.status());
        }
        self.say(now, client, reply);
    }

    fn say(&mut self, now: Instant, client: TcpStream, reply: Option<String>) {
        let Some(reply) = reply else { return };
        // A client that is gone has no use for its answer, and an empty send buffer takes a short one whole. It leaves in one
        // packet with the end that follows.
        if send(&client, reply.as_bytes(), SendFlags::MORE | SendFlags::NOSIGNAL).is_ok() {
            let token = self.next_token();
            self.lingering.see_off(now, client, token, self.poll.registry());
        }
    }

    fn next_token(&mut self) -> Token {
        let token = self.token;
        self.token = Token(token.0 + 1);
        token
    }

    fn collect(&mut self) {
        while let Some((desk, answered)) = self.desks.collect(Moment::now()) {
            for (client, verdict) in answered {
                self.answer(desk, client, verdict);
            }
        }
    }

    fn answer_overdue(&mut self) {
        let now = Moment::now();
        for desk in 0..self.desks.desks.len() {
            for (client, verdict) in self.desks.desks[desk].view.overdue(now) {
                self.answer(desk, client, verdict);
            }
        }
    }

    /// What is still in the backlog is for the next process: systemd holds the port.
    fn stop(&mut self) {
        let _ = io::copy(&mut self.signal, &mut io::sink());
        if self.stop.is_none() {
            self.notifier.stopping();
            self.stop = Some(Instant::now() + self.deadline);
        }
    }
}

/// How many clients may be there at once: one that could not be answered, for want of a descriptor for asking Patroni,
/// had better wait.
fn room(views: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit.try_into().unwrap_or(usize::MAX));
    limit.saturating_sub(RESERVED + views * RESERVED_A_VIEW).clamp(1, OPEN)
}

fn signals(poll: &Poll) -> io::Result<UnixStream> {
    let (sender, receiver) = std::os::unix::net::UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
    }
    // What asks other programs for their settings anew, or for their log files, would end this one.
    for signal in [SIGHUP, SIGUSR1, SIGUSR2] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    receiver.set_nonblocking(true)?;
    let mut receiver = UnixStream::from_std(receiver);
    poll.registry().register(&mut receiver, SIGNAL, Interest::READABLE)?;
    Ok(receiver)
}
