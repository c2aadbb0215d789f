//! The checks of many HAProxies from two threads: each asks each view at an interval and a phase of
//! its own, with some jitter, from an address of its own. What goes over the cable is what HAProxy
//! sends: it reads a line, or an answer's head, and closes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

use lab::times::Times;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use socket2::{Domain, SockAddr, Socket, Type};

/// What is asked, and what must be the beginning of the answer.
pub struct View {
    pub address: SocketAddr,
    /// Nothing for an agent-check.
    pub request: Option<String>,
    pub right: &'static str,
}

impl View {
    fn kind(&self) -> &'static str {
        if self.request.is_some() { "HTTP" } else { "agent-check" }
    }
}

pub struct Load {
    pub haproxies: u32,
    /// Between two checks of the same HAProxy of the same view.
    pub interval: Duration,
    pub time: Duration,
}

#[derive(Default)]
pub struct Outcome {
    pub sent: usize,
    /// Answered, and with what was right.
    pub right: usize,
    pub wrong: usize,
    /// Some of what was wrong.
    pub wrong_answers: Vec<String>,
    /// Refused, reset, cut short, or not answered two seconds after the end.
    pub lost: usize,
    /// Why, and how often.
    pub lost_because: BTreeMap<String, usize>,
    /// From the connect to the answer.
    pub times: Times,
    /// How late the generator itself was.
    pub behind: Times,
    /// From the first check to the last answer.
    pub elapsed: Duration,
}

impl Outcome {
    fn add(&mut self, other: Outcome) {
        self.sent += other.sent;
        self.right += other.right;
        self.wrong += other.wrong;
        self.wrong_answers.extend(other.wrong_answers);
        self.lost += other.lost;
        for (why, count) in other.lost_because {
            *self.lost_because.entry(why).or_default() += count;
        }
        self.times.0.extend(other.times.0);
        self.behind.0.extend(other.behind.0);
        self.elapsed = self.elapsed.max(other.elapsed);
    }

    fn lose(&mut self, why: &str) {
        self.lost += 1;
        *self.lost_because.entry(why.to_owned()).or_default() += 1;
    }
}

/// With so many open nothing more is sent: it is lost.
const MOST_OPEN: usize = 20_000;

/// How long answers are awaited at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

struct Check {
    socket: Socket,
    view: usize,
    began: Instant,
    is_asked: bool,
    answer: Vec<u8>,
}

/// The address of an HAProxy, below 10.1.0.0/16.
fn source(haproxy: u32) -> SockAddr {
    let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 1, 0, 1)) + haproxy);
    SocketAddrV4::new(ip, 0).into()
}

/// Each HAProxy asks what `views` has for it.
pub fn generate<'a>(load: &Load, views: impl Fn(u32) -> &'a [View] + Sync) -> io::Result<Outcome> {
    thread::scope(|scope| {
        // Of each kind of HAProxy, which is by its lowest bit, each has half.
        let halves = [0, 1].map(|half| {
            let views = &views;
            scope.spawn(move || generate_half(load, views, half))
        });
        let mut all = Outcome::default();
        for half in halves {
            let half = half.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            all.add(half);
        }
        Ok(all)
    })
}

fn generate_half<'a>(load: &Load, views: impl Fn(u32) -> &'a [View], half: u32) -> io::Result<Outcome> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let start = Instant::now();
    let mut due = BinaryHeap::new();
    for haproxy in (0..load.haproxies).filter(|haproxy| haproxy / 2 % 2 == half) {
        for view in 0..views(haproxy).len() {
            let first = load.interval.mul_f64(fastrand::f64());
            if first < load.time {
                due.push(Reverse((start + first, haproxy, view)));
            }
        }
    }
    let mut outcome = Outcome::default();
    // By the descriptor.
    let mut open: Vec<Option<(u32, Check)>> = Vec::new();
    let mut count = 0;
    let mut events = Vec::with_capacity(1024);
    loop {
        let mut now = Instant::now();
        while let Some(Reverse((at, haproxy, view))) = due.peek().copied().filter(|Reverse((at, ..))| *at <= now) {
            due.pop();
            let next = at + load.interval.mul_f64(0.95 + 0.1 * fastrand::f64());
            if next < start + load.time {
                due.push(Reverse((next, haproxy, view)));
            }
            outcome.sent += 1;
            outcome.behind.0.push(now - at);
            match begin(&epoll, haproxy, view, &views(haproxy)[view]) {
                Ok((number, check)) if count < MOST_OPEN => {
                    if open.len() <= number {
                        open.resize_with(number + 1, || None);
                    }
                    open[number] = Some((haproxy, check));
                    count += 1;
                }
                Ok(_) => outcome.lose("too many are open"),
                Err(e) => outcome.lose(&e.to_string()),
            }
            now = Instant::now();
        }
        let end = start + load.time + LAST_ANSWERS;
        if (due.is_empty() && count == 0) || now > end {
            (0..count).for_each(|_| outcome.lose("no answer"));
            outcome.elapsed = now - start;
            return Ok(outcome);
        }
        let next = due.peek().map_or(end, |Reverse((at, ..))| *at);
        let wait = Timespec::try_from(next.saturating_duration_since(now)).map_err(io::Error::other)?;
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait))?;
        for event in &events {
            let number = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(place) = open.get_mut(number) else { continue };
            let Some((haproxy, check)) = place else { continue };
            let view = &views(*haproxy)[check.view];
            let Some(answer) = check.go_on(view) else { continue };
            match answer {
                Ok(()) if check.answer.starts_with(view.right.as_bytes()) => {
                    outcome.right += 1;
                    outcome.times.0.push(check.began.elapsed());
                }
                Ok(()) => {
                    outcome.wrong += 1;
                    if outcome.wrong_answers.len() < 5 {
                        outcome.wrong_answers.push(String::from_utf8_lossy(&check.answer).into_owned());
                    }
                }
                Err(e) => outcome.lose(&format!("{}: {e}", view.kind())),
            }
            *place = None;
            count -= 1;
        }
    }
}

fn begin(epoll: impl std::os::fd::AsFd, haproxy: u32, number: usize, view: &View) -> io::Result<(usize, Check)> {
    use std::os::fd::AsRawFd;
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&source(haproxy))?;
    let began = Instant::now();
    match socket.connect(&view.address.into()) {
        Err(e) if e.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => return Err(e),
        _ => {}
    }
    let descriptor = u64::try_from(socket.as_raw_fd()).map_err(io::Error::other)?;
    let asks = if view.request.is_some() { EventFlags::OUT } else { EventFlags::empty() };
    epoll::add(epoll, &socket, EventData::new_u64(descriptor), EventFlags::IN | EventFlags::ET | asks)?;
    let check = Check { socket, view: number, began, is_asked: false, answer: Vec::new() };
    Ok((usize::try_from(descriptor).map_err(io::Error::other)?, check))
}

impl Check {
    /// Nothing while there is more to come.
    fn go_on(&mut self, view: &View) -> Option<io::Result<()>> {
        if let Some(request) = view.request.as_ref().filter(|_| !self.is_asked) {
            match self.socket.write(request.as_bytes()) {
                Ok(length) if length == request.len() => self.is_asked = true,
                Ok(_) => return Some(Err(ErrorKind::WriteZero.into())),
                Err(e) if e.kind() == ErrorKind::WouldBlock || e.kind() == ErrorKind::NotConnected => return None,
                Err(e) => return Some(Err(e)),
            }
        }
        let end: &[u8] = if view.request.is_some() { b"\r\n\r\n" } else { b"\n" };
        let mut buffer = [0; 1024];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Some(Err(ErrorKind::UnexpectedEof.into())),
                Ok(length) => self.answer.extend_from_slice(&buffer[..length]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return None,
                Err(e) => return Some(Err(e)),
            }
            if self.answer.windows(end.len()).any(|window| window == end) {
                return Some(Ok(()));
            }
        }
    }
}
