//! patroni-check itself: the real binary, held as an administrator's machine would hold it, and a
//! client like HAProxy.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as unix, UnixDatagram};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{PATIENCE, Process, await_that};

/// The binary under test, which cargo builds for the package's tests and puts one directory above
/// them.
pub fn binary_path() -> PathBuf {
    let test = std::env::current_exe().expect("a program");
    test.ancestors().nth(2).expect("a directory of the profile's").join("patroni-check")
}

/// The same as a command, without options that the machine's environment might set.
pub fn binary() -> Command {
    let mut command = Command::new(binary_path());
    without_settings(command.stdin(Stdio::null()));
    command
}

/// Takes from a command that runs it the options that the machine's environment might set.
pub fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PATRONI_CHECK_") {
            command.env_remove(name);
        }
    }
    command
}

/// A running patroni-check.
pub struct Agent {
    pub process: Process,
    pub address: SocketAddr,
    _log: TempDir,
}

impl Agent {
    /// The persistent service, bound by itself.
    pub fn listening(options: &[&str]) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], crate::any_port()));
        let mut command = binary();
        command.arg("--listen").arg(address.to_string()).args(options);
        Agent::start(&mut command, address)
    }

    /// Behind systemd-socket-activate, with its options such as `--accept`, and patroni-check's.
    pub fn activated(activate: &[&str], options: &[&str]) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], crate::any_port()));
        let mut command = Command::new("systemd-socket-activate");
        command.arg("-l").arg(address.to_string()).args(activate).stdin(Stdio::null());
        command.arg(binary().get_program()).args(options);
        Agent::start(&mut command, address)
    }

    /// A command that will have a listener at this address.
    pub fn start(command: &mut Command, address: SocketAddr) -> Self {
        let log = TempDir::new().expect("a directory for the log");
        let mut process = Process::start(command, &log.path().join("agent.log")).expect("the agent starts");
        // Looked up in /proc, because a connection would be a check already.
        await_that("a listening agent", || {
            assert!(process.try_wait().is_none(), "the agent has ended: {}", process.output());
            backlog(address).is_some()
        });
        Agent { process, address, _log: log }
    }

    /// One check, as HAProxy makes it: connect, read one line.
    pub fn check(&self) -> String {
        check(self.address)
    }
}

/// One check: what is read until the other side closes.
pub fn check(address: SocketAddr) -> String {
    read_reply(connect(address))
}

/// A connection as inetd passes it, and its other end.
pub fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("it listens");
    (listener.accept().expect("a client").0, client)
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream
}

pub fn read_reply(mut stream: TcpStream) -> String {
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("an answer and no reset");
    reply
}

/// A check by a client that sends something first.
pub fn check_after_sending(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(bytes).expect("what is sent is taken");
    read_reply(stream)
}

/// How many connections wait at a listening IPv4 address to be accepted, if somebody listens there:
/// the receive queue of its line in /proc/net/tcp (proc(5)).
fn backlog(address: SocketAddr) -> Option<u32> {
    let SocketAddr::V4(v4) = address else { return None };
    let wanted = format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, local, _, "0A", queues, ..] = fields.as_slice() else { return None };
        let (_, waiting) = queues.split_once(':')?;
        (*local == wanted).then(|| u32::from_str_radix(waiting, 16).ok())?
    })
}

/// A port that the test holds, as systemd does, while agents come and go.
pub struct Port {
    listener: TcpListener,
    pub address: SocketAddr,
}

/// What `sh -c` runs to pass its standard input, a listener, to a program as descriptor 3, as
/// sd_listen_fds(3) wants it.
pub const PASS_STDIN: &str = r#"exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@""#;

impl Port {
    pub fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        Port { listener, address }
    }

    pub fn backlog(&self) -> u32 {
        backlog(self.address).expect("the test listens")
    }

    /// A descriptor of it that a child inherits.
    pub fn inheritable(&self) -> OwnedFd {
        rustix::io::dup(&self.listener).expect("a descriptor is free")
    }

    /// Nobody can accept from it any more, whoever holds it.
    pub fn shutdown(&self) {
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both).expect("it listens");
    }

    pub fn stdin(&self) -> Stdio {
        OwnedFd::from(self.listener.try_clone().expect("a descriptor is free")).into()
    }

    /// The binary with this port as its descriptor 3, as sd_listen_fds(3) wants it.
    pub fn command(&self, manager: &Manager, options: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", PASS_STDIN]);
        command.arg(binary().get_program()).args(options).stdin(self.stdin());
        command.env("NOTIFY_SOCKET", manager.socket());
        command
    }

    /// The same with so few descriptors.
    pub fn command_of_few_descriptors(&self, count: u32, options: &[&str]) -> Command {
        let command = self.command(&Manager::bind(), options);
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--nofile={count}")).arg("--").arg(command.get_program()).args(command.get_args());
        limited.stdin(self.stdin());
        limited
    }

    pub fn agent(&self, manager: &Manager, options: &[&str]) -> Agent {
        Agent::start(&mut self.command(manager, options), self.address)
    }
}

/// The end of sd_notify(3) that systemd has.
pub struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Manager {
    pub fn bind() -> Self {
        let directory = TempDir::new().expect("a directory for the socket");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        Manager { socket, directory }
    }

    /// One in the abstract namespace, and its name as `NOTIFY_SOCKET` has it.
    pub fn abstract_one(name: &str) -> (Self, String) {
        let address = unix::SocketAddr::from_abstract_name(name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("a socket");
        (Manager { socket, directory: TempDir::new().expect("a directory") }, format!("@{name}"))
    }

    /// Its socket's path, as `NOTIFY_SOCKET` has it.
    pub fn socket(&self) -> String {
        self.directory.path().join("notify").display().to_string()
    }

    /// The next notification, whole.
    pub fn next(&self) -> String {
        self.socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let mut buffer = [0; 1 << 16];
        let length = self.socket.recv(&mut buffer).unwrap_or_else(|e| panic!("no notification: {e}"));
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// Waits for this notification. Each is a datagram of its own.
    pub fn await_message(&self, message: &str) {
        while self.next().trim_end() != message {}
    }

    /// Waits until nothing has come for so long.
    pub fn await_silence(&self, pause: Duration) {
        self.socket.set_read_timeout(Some(pause)).expect("a timeout can be set");
        await_that("silence", || self.socket.recv(&mut [0; 4096]).is_err());
    }
}

/// A moment that is long for a machine and short for a person.
pub const MOMENT: Duration = Duration::from_millis(50);
