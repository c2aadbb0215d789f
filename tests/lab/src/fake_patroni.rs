//! A fake Patroni, for what a real one can't be made to do on demand: garbage, hangs, old versions.
//!
//! It speaks HTTP as Patroni does (1.0, no length, closes), and counts what it is asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// What to do with a request.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// These bytes, then close.
    Send(Vec<u8>),
    /// To each request the next of these, and the last of them to all that follow.
    InTurn(Vec<Vec<u8>>),
    /// To a request for one of these paths the bytes beside it, to any other nothing, until the
    /// behaviour changes.
    Only(Vec<(&'static str, Vec<u8>)>),
    /// Nothing, until the behaviour changes.
    Hang,
    /// Close at once.
    Close,
    /// One step after the other, then close. A change of behaviour ends it, as a restart of Patroni
    /// would.
    Script(Vec<Step>),
}

#[derive(Debug, Clone)]
pub enum Step {
    Send(Vec<u8>),
    /// Each of these bytes after a pause.
    Drip(Vec<u8>, Duration),
    /// These bytes for ever.
    Endless(Vec<u8>),
    Hang,
    /// Close with a reset, whatever was sent before.
    Reset,
}

/// An answer as Patroni sends it.
pub fn answer(status: u16, body: &str) -> Behaviour {
    let reason = if status == 200 { "OK" } else { "Service Unavailable" };
    let head = format!("HTTP/1.0 {status} {reason}\r\nServer: BaseHTTP/0.6\r\nContent-Type: application/json\r\n\r\n");
    Behaviour::Send((head + body).into_bytes())
}

/// An answer of a node in this state and role.
pub fn node(status: u16, state: &str, role: &str) -> Behaviour {
    answer(status, &format!(r#"{{"state": "{state}", "role": "{role}", "timeline": 3}}"#))
}

pub fn primary() -> Behaviour {
    node(200, "running", "primary")
}

pub fn replica() -> Behaviour {
    node(503, "running", "replica")
}

/// A good node that says to each of the two endpoints what its role makes of it.
pub fn in_role(role: &str) -> Behaviour {
    let said = |is_meant: bool| match node(if is_meant { 200 } else { 503 }, "running", role) {
        Behaviour::Send(bytes) => bytes,
        _ => unreachable!("a node's answer is sent"),
    };
    Behaviour::Only(vec![("/primary", said(role == "primary")), ("/replica", said(role == "replica"))])
}

#[derive(Default)]
struct State {
    behaviour: Mutex<Option<Behaviour>>,
    changes: AtomicUsize,
    changed: Condvar,
    delay: Mutex<Duration>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    requests: Mutex<Vec<String>>,
}

/// The fake Patroni. Its thread ends with the test's process.
pub struct FakePatroni {
    pub address: SocketAddr,
    state: Arc<State>,
}

impl FakePatroni {
    pub fn new(behaviour: Behaviour) -> Self {
        FakePatroni::at("127.0.0.1:0", behaviour)
    }

    /// At an address of one's own choice.
    pub fn at(address: &str, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(&state, stream));
            }
        });
        let fake = FakePatroni { address, state };
        fake.now(behaviour);
        fake
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Behaves differently from now on, towards requests that hang, too.
    pub fn now(&self, behaviour: Behaviour) {
        let mut current = self.state.behaviour.lock().unwrap();
        *current = Some(behaviour);
        self.state.changes.fetch_add(1, Ordering::SeqCst);
        drop(current);
        self.state.changed.notify_all();
    }

    /// Takes this long for each answer.
    pub fn delay(&self, delay: Duration) {
        *self.state.delay.lock().unwrap() = delay;
    }

    /// The request lines so far, such as `GET /primary HTTP/1.1`.
    pub fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }

    pub fn in_flight(&self) -> usize {
        self.state.in_flight.load(Ordering::SeqCst)
    }

    pub fn most_in_flight(&self) -> usize {
        self.state.most_in_flight.load(Ordering::SeqCst)
    }
}

fn serve(state: &State, stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut request = String::new();
    reader.read_line(&mut request).ok()?;
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    let now = state.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
    state.most_in_flight.fetch_max(now, Ordering::SeqCst);
    state.requests.lock().unwrap().push(request.trim_end().to_owned());
    let delay = *state.delay.lock().unwrap();
    thread::sleep(delay);
    let behaviour = state.behaviour.lock().unwrap();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let hangs = |behaviour: &mut Option<Behaviour>| match behaviour {
        Some(Behaviour::Only(answers)) => answers.iter().all(|(known, _)| *known != path),
        behaviour => matches!(behaviour, Some(Behaviour::Hang) | None),
    };
    let mut current = state.changed.wait_while(behaviour, hangs).unwrap();
    let behaviour = match &mut *current {
        Some(Behaviour::InTurn(answers)) if answers.len() > 1 => Some(Behaviour::Send(answers.remove(0))),
        Some(Behaviour::InTurn(answers)) => answers.first().cloned().map(Behaviour::Send),
        Some(Behaviour::Only(answers)) => {
            let found = answers.iter().find(|(known, _)| *known == path);
            found.map(|(_, bytes)| Behaviour::Send(bytes.clone()))
        }
        behaviour => behaviour.clone(),
    };
    drop(current);
    // Before the bytes, so that whoever has the whole answer finds the count right.
    state.in_flight.fetch_sub(1, Ordering::SeqCst);
    match behaviour {
        Some(Behaviour::Send(bytes)) => (&stream).write_all(&bytes).ok()?,
        Some(Behaviour::Script(steps)) => play(state, &stream, &steps)?,
        _ => {}
    }
    Some(())
}

fn play(state: &State, mut stream: &TcpStream, steps: &[Step]) -> Option<()> {
    let act = state.changes.load(Ordering::SeqCst);
    let is_over = || state.changes.load(Ordering::SeqCst) != act;
    for step in steps {
        match step {
            Step::Send(bytes) => stream.write_all(bytes).ok()?,
            Step::Drip(bytes, pause) => {
                for byte in bytes {
                    stream.write_all(&[*byte]).ok()?;
                    thread::sleep(*pause);
                    (!is_over()).then_some(())?;
                }
            }
            Step::Endless(bytes) => loop {
                stream.write_all(bytes).ok()?;
                (!is_over()).then_some(())?;
            },
            Step::Hang => {
                let behaviour = state.behaviour.lock().unwrap();
                drop(state.changed.wait_while(behaviour, |_| !is_over()).unwrap());
            }
            Step::Reset => socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).ok()?,
        }
    }
    Some(())
}
