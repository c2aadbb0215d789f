//! The event loop: one thread over all sockets. Nothing in it may block.

use std::error::Error;
use std::io;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Poll, Token, Waker};
use rustix::net::{SendFlags, send};
use socket2::SockRef;

use super::acceptor::{Acceptor, ListenerKind, is_for_want_of_room, max_connections};
use super::check::Check;
use super::dispatch::Dispatch;
use super::endpoints::EndpointTable;
use super::hold_lookup::HoldLookup;
use super::lingering_close::LingeringClose;
use super::request_reader::{PartialRequest, Protocol, RequestReader};
use super::signals::Signals;
use super::views::ViewTable;
use crate::clock::Moment;
use crate::config::{Config, ListenerRole};
use crate::memory::file::Noted;
use crate::systemd::journal::{Change, Journal};
use crate::systemd::notify::Notifier;
use crate::verdict::Verdict;

/// Accepted from one listener in one turn, so that the others, deadlines and the watchdog get
/// theirs in a flood.
const BATCH: usize = 256;

// The scheme of tokens: a listener's is its index, those of clients count up from there and are
// never given twice, and the two below are the last ones, which no client reaches.
const REPORT: Token = Token(usize::MAX);
const SIGNAL: Token = Token(usize::MAX - 1);

/// The loop, and all that it knows.
pub(super) struct EventLoop {
    poll: Poll,
    signals: Signals,
    acceptor: Acceptor,
    request_reader: RequestReader,
    views: ViewTable,
    lingering_close: LingeringClose,
    dispatch: Dispatch,
    journal: Journal,
    notifier: Notifier,
    hold: HoldLookup,
    deadline: Duration,
    next_client: Token,
    max_connections: usize,
    /// SIGTERM came; the loop ends then at the latest.
    stop_at: Option<Instant>,
}

impl EventLoop {
    pub(super) fn new(
        sockets: Vec<(TcpListener, ListenerRole)>,
        config: &Config,
        journal: Journal,
        notifier: Notifier,
    ) -> Result<Self, Box<dyn Error>> {
        let poll = Poll::new()?;
        let signals = Signals::new(poll.registry(), SIGNAL)?;
        let endpoints = EndpointTable::new(config, Waker::new(poll.registry(), REPORT)?)?;
        let mut views = ViewTable::new(config, endpoints)?;
        let mut acceptor = Acceptor::default();
        for (socket, role) in sockets {
            let kind = match role {
                ListenerRole::View(view) => ListenerKind::View(views.get_or_insert(&view)?),
                ListenerRole::AgentSend => ListenerKind::Request(Protocol::AgentSend),
                ListenerRole::Http => ListenerKind::Request(Protocol::Http),
                ListenerRole::Metrics => ListenerKind::Request(Protocol::Metrics),
            };
            if matches!(kind, ListenerKind::Request(Protocol::AgentSend | Protocol::Http)) {
                for view in config.listed_views() {
                    views.get_or_insert(view)?;
                }
            }
            acceptor.add(socket, kind, poll.registry())?;
        }
        Ok(EventLoop {
            poll,
            signals,
            next_client: Token(acceptor.listeners()),
            acceptor,
            request_reader: RequestReader::new(),
            max_connections: max_connections(views.endpoints.len()),
            views,
            lingering_close: LingeringClose::new(config.limits.deadline),
            dispatch: Dispatch { default_view: config.view.clone(), fallback_policy: config.fallback_policy()? },
            journal,
            notifier,
            hold: HoldLookup::new(&config.holds()),
            deadline: config.limits.deadline,
            stop_at: None,
        })
    }

    pub(super) fn notify_ready(&mut self) {
        if let Err(e) = self.notifier.ready(Instant::now()) {
            self.journal.warn(format!("can't send READY=1 to the service manager (NOTIFY_SOCKET): {e}"));
        }
        self.notifier.status(&self.views.status());
    }

    /// Turns until SIGTERM. The phases of a turn, in this order:
    ///
    /// 1. Sleep until something happens or the next deadline comes.
    /// 2. Take the events: fetches that ended, SIGTERM, listeners with connections, clients that
    ///    sent something or closed.
    /// 3. Accept. After the events, because they may have made room.
    /// 4. Answer what may wait no longer: requests that are not whole, checks at their deadline.
    /// 5. Begin fetches. After the last check was accepted: an answer whose request began before is
    ///    not for that check.
    /// 6. Close who was answered in the turn before and has closed since, and who lingers for too
    ///    long. After the answers: nobody waits for it.
    /// 7. Notify the service manager. Last, so that a watchdog's ping says that all of this was
    ///    done.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = self.time_to_sleep();
            match self.poll.poll(&mut events, timeout) {
                // No events were looked for. Who sent a request in time must not be taken for silent.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            self.hold.forget();
            for event in &events {
                match event.token() {
                    REPORT => self.take_reports(),
                    SIGNAL => self.stop(),
                    Token(listener) if listener < self.acceptor.listeners() => self.acceptor.set_ready(listener),
                    client => self.read(client),
                }
            }
            let now = Instant::now();
            self.accept(now);
            while let Some(request) = self.request_reader.take_expired(now, self.poll.registry()) {
                self.dispatch_request(request);
            }
            let expired = self.views.endpoints.take_expired(Moment::now());
            self.answer_each(expired);
            self.views.endpoints.begin_fetches(Moment::now());
            self.lingering_close.end_turn(now, self.stop_at.is_some(), self.poll.registry());
            if self.notifier.is_due(now) {
                self.notifier.ping_watchdog(now);
                self.notifier.status(&self.views.status());
            }
            if self.stop_at.is_some_and(|end| now >= end || self.connections() == 0) {
                // Who asked after SIGTERM has no more time than the loop.
                let waiting = self.views.endpoints.take_all(Moment::now());
                self.answer_each(waiting);
                return Ok(());
            }
        }
    }

    pub(super) fn finish(self) -> Journal {
        self.views.endpoints.finish();
        self.journal
    }

    fn time_to_sleep(&self) -> Option<Duration> {
        let now = Instant::now();
        let times = [
            self.acceptor.next_accept(now).filter(|_| self.can_accept()),
            self.request_reader.next_deadline(),
            self.lingering_close.next_deadline(),
            self.notifier.due(),
            self.stop_at,
        ];
        let until_then = times.into_iter().flatten().map(|time| time.saturating_duration_since(now));
        until_then.chain(self.views.endpoints.time_left(Moment::now())).min()
    }

    fn connections(&self) -> usize {
        self.request_reader.len() + self.views.endpoints.waiting() + self.lingering_close.len()
    }

    fn accept(&mut self, now: Instant) {
        if self.stop_at.is_some() {
            return;
        }
        for listener in self.acceptor.round() {
            for _ in 0..BATCH {
                if self.connections() > self.max_connections && !self.close_oldest() {
                    // Or else a crowd at one would keep the others out.
                    self.acceptor.begin_round_after(listener);
                    return;
                }
                match self.acceptor.accept(listener, now) {
                    Ok(Some((kind, client))) => {
                        // Only now is it known that somebody wants the room.
                        if self.connections() >= self.max_connections {
                            self.close_oldest();
                        }
                        self.admit(kind, client);
                    }
                    Ok(None) => break,
                    Err(e) if is_for_want_of_room(&e) && self.close_oldest() => {}
                    Err(e) => {
                        if let Some(warning) = self.acceptor.pause(listener, now, &e) {
                            self.journal.warn(warning);
                        }
                        break;
                    }
                }
            }
        }
    }

    /// Whether one more client finds room. If not, all wait for Patroni, and the first answer or
    /// deadline makes room.
    fn can_accept(&self) -> bool {
        let has_room = self.connections() <= self.max_connections;
        self.stop_at.is_none() && (has_room || self.connections() > self.views.endpoints.waiting())
    }

    /// Makes room: of a client that has its answer, or else of one that has not said what it wants.
    fn close_oldest(&mut self) -> bool {
        self.lingering_close.close_oldest() || self.request_reader.close_oldest()
    }

    fn admit(&mut self, kind: ListenerKind, client: TcpStream) {
        match kind {
            ListenerKind::View(view) => self.check(Check::by_agent_check(client, view)),
            ListenerKind::Request(protocol) => {
                let (now, token) = (Instant::now(), self.next_token());
                let request = self.request_reader.begin(now, client, protocol, token, self.poll.registry());
                if let Some(request) = request {
                    self.dispatch_request(request);
                }
            }
        }
    }

    fn read(&mut self, client: Token) {
        match self.request_reader.read(client, self.poll.registry()) {
            Some(request) => self.dispatch_request(request),
            None => self.lingering_close.drain(client),
        }
    }

    fn dispatch_request(&mut self, request: PartialRequest) {
        if request.bytes.is_empty() {
            // HAProxy's packet may have been lost and be sent again. Without a reply HAProxy keeps its
            // state.
            return;
        }
        match self.dispatch.check(request, &self.views, &self.hold) {
            Ok(check) => self.check(check),
            Err((client, answer)) => self.send_reply(client, answer),
        }
    }

    fn check(&mut self, check: Check) {
        // Not the time at which this turn began: what was fresh then need not be when the last of a
        // batch has come.
        if let Some((check, verdict)) = self.views.look_up_or_wait(Moment::now(), check) {
            self.answer(check, verdict);
        }
    }

    fn take_reports(&mut self) {
        while let Some(answered) = self.views.endpoints.take_report(Moment::now(), &self.journal) {
            self.answer_each(answered);
        }
    }

    fn answer_each(&mut self, answered: Vec<(Check, Verdict)>) {
        for (check, verdict) in answered {
            self.answer(check, verdict);
        }
    }

    fn answer(&mut self, check: Check, verdict: Verdict) {
        let verdict = self.views.after_calm(check.view, Moment::now(), verdict);
        let asked = self.views.get(check.view);
        let verdict = self.hold.overriding(&asked.hold_files, &asked.view.endpoint, verdict);
        let news = self.views.note_told(check.view, &verdict);
        let state = self.views.get(check.view);
        let reply = state.policy.reply(&verdict);
        if check.is_http() {
            state.meter.answered_by_http(&verdict);
        } else {
            state.meter.answered(reply.as_ref());
        }
        let answer = check.answer(&verdict, reply.as_ref());
        if let Some(Noted { before }) = news {
            let (view, before, reply) = (&state.view, before.as_ref(), reply.as_ref());
            let observation = self.views.last_observation(check.view);
            self.journal.changed(&Change { view, verdict: &verdict, before, reply, observation });
            self.notifier.status(&self.views.status());
        }
        self.send_reply(check.client, answer);
    }

    fn send_reply(&mut self, client: TcpStream, reply: Option<Vec<u8>>) {
        let Some(reply) = reply else { return };
        if reply.len() > 1024 {
            // Room for all metrics in one write, however many endpoints; where there is no more,
            // what there is has to do.
            let _ = SockRef::from(&client).set_send_buffer_size(reply.len());
        }
        // A client that is gone has no use for its answer, and an empty send buffer takes a short
        // one whole. It leaves in one packet with the end that follows.
        if send(&client, &reply, SendFlags::MORE | SendFlags::NOSIGNAL).is_ok() {
            let token = self.next_token();
            self.lingering_close.begin(Instant::now(), client, token);
        }
    }

    fn next_token(&mut self) -> Token {
        let token = self.next_client;
        self.next_client = Token(token.0 + 1);
        token
    }

    /// Notes when the loop must end, and tells systemd. Nothing is accepted from now on: the
    /// backlog is for the next process, as systemd holds the port.
    fn stop(&mut self) {
        self.signals.drain();
        if self.stop_at.is_none() {
            self.notifier.stopping();
            self.stop_at = Some(Instant::now() + self.deadline);
        }
    }
}
