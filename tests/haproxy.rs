//! A real HAProxy reads the agent: what each vocabulary makes of its servers, on the way from every
//! verdict to every other.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use lab::agent::{Agent, binary};
use lab::fake_patroni::{Behaviour, FakePatroni, answer, in_role, primary, replica};
use lab::haproxy::{Haproxy, readme};
use lab::{any_port, await_some, await_that, requires};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Node {
    Serves,
    StandsBy,
    Fails,
}
use Node::{Fails, Serves, StandsBy};

impl Node {
    fn behaviour(self) -> Behaviour {
        match self {
            Serves => primary(),
            StandsBy => replica(),
            Fails => answer(500, "{}"),
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Serves => "primary timeline 3",
            StandsBy => "replica timeline 3",
            Fails => "patroni: status 500",
        }
    }
}

/// Each verdict after each other one.
const WALK: [Node; 7] = [Serves, StandsBy, Serves, Fails, StandsBy, Fails, Serves];

/// Patient, so that nothing is late on a slow machine.
const DEFAULTS: &str = "defaults
    mode tcp
    timeout connect 30s
    timeout client 30s
    timeout server 30s
    timeout check 30s
";

struct Stack {
    haproxy: Haproxy,
    stats_port: u16,
    patroni: FakePatroni,
    _agent: Agent,
    _postgres: TcpListener,
    _directory: TempDir,
}

impl Stack {
    /// One server, with a short interval.
    fn new(options: &[&str]) -> Self {
        let agent = "agent-check agent-port 5555 agent-inter 100ms";
        Stack::with(
            options,
            &format!("backend postgres\n    server db1 192.0.2.1:5432 check inter 100ms rise 1 {agent}\n"),
        )
    }

    /// A backend `postgres` as the README writes it, with a server `db1`, on the addresses of this
    /// test.
    fn with(options: &[&str], backend: &str) -> Self {
        let patroni = FakePatroni::new(Serves.behaviour());
        let url = patroni.url();
        let patient = ["--patroni", &url, "--deadline", "5s", "--max-age", "0s"];
        let agent = Agent::listening(&[&patient[..], options].concat());
        let postgres = TcpListener::bind("127.0.0.1:0").unwrap();
        let directory = TempDir::new().unwrap();
        let stats_port = any_port();
        let backend = backend.replace("192.0.2.1:5432", &postgres.local_addr().unwrap().to_string());
        let backend = backend.replace("port 5555", &format!("port {}", agent.address.port()));
        let backend = backend.replace("port 8008", &format!("port {}", patroni.address.port()));
        let sections = format!(
            "{DEFAULTS}
{backend}
listen stats
    bind 127.0.0.1:{stats_port}
    mode http
    stats enable
    stats uri /
"
        );
        let haproxy = Haproxy::start(Command::new("haproxy"), directory.path(), &sections).unwrap();
        let stack = Stack { haproxy, stats_port, patroni, _agent: agent, _postgres: postgres, _directory: directory };
        stack.await_status("UP");
        stack
    }

    fn await_status(&self, wanted: &str) {
        let mut status = String::new();
        await_some(&format!("status {wanted}"), || {
            status = self.haproxy.status("postgres", "db1").unwrap();
            (status == wanted).then_some(())
        });
    }

    /// Waits until HAProxy has asked some more times and had its answers.
    fn await_checks(&self) {
        let before = self.patroni.requests().len();
        await_that("more checks", || self.patroni.requests().len() > before + 3);
    }

    fn page(&self) -> String {
        let mut response = ureq::get(format!("http://127.0.0.1:{}/", self.stats_port)).call().unwrap();
        response.body_mut().read_to_string().unwrap()
    }
}

/// Walks every transition. `standby` and `failure` are the statuses that HAProxy is to show.
fn walk(options: &[&str], standby: &str, failure: &str) {
    if !requires(&["haproxy"]) {
        return;
    }
    let stack = Stack::new(options);
    let is_full = !options.contains(&"plain");
    for node in WALK {
        stack.patroni.now(node.behaviour());
        let wanted = match node {
            Serves => "UP",
            StandsBy => standby,
            Fails => failure,
        };
        stack.await_status(wanted);
        // It is there to stay, not a step to something else.
        stack.await_checks();
        stack.await_status(wanted);
        if is_full {
            let reason = format!("({})", node.reason());
            await_that("the reason in show stat", || {
                stack.haproxy.server("postgres", "db1").unwrap()["last_agt"].ends_with(&reason)
            });
            // The page has a reason for servers that are down, and for no others.
            await_that("the reason on the stats page", || {
                !wanted.starts_with("DOWN") || stack.page().contains(node.reason())
            });
        }
    }
}

#[test]
fn full_maint_by_default() {
    walk(&[], "MAINT", "MAINT");
}

#[test]
fn full_down_on_failure() {
    walk(&["--on-failure", "down"], "MAINT", "DOWN (agent)");
}

#[test]
fn full_drain_on_failure() {
    walk(&["--on-failure", "drain"], "MAINT", "DRAIN (agent)");
}

#[test]
fn full_drain_on_standby() {
    walk(&["--endpoint", "/replica?on-standby=drain&on-failure=maint"], "DRAIN (agent)", "MAINT");
}

#[test]
fn full_down_on_standby() {
    walk(&["--on-standby", "down"], "DOWN (agent)", "MAINT");
}

#[test]
fn full_down_and_drain() {
    walk(&["--on-standby", "down", "--on-failure", "drain"], "DOWN (agent)", "DRAIN (agent)");
}

#[test]
fn full_drain_and_down() {
    walk(&["--endpoint", "/replica", "--on-standby", "drain", "--on-failure", "down"], "DRAIN (agent)", "DOWN (agent)");
}

#[test]
fn plain_maint_by_default() {
    walk(&["--words", "plain"], "MAINT", "MAINT");
}

#[test]
fn plain_drain() {
    walk(&["--words", "plain", "--on-failure", "drain"], "MAINT", "DRAIN (agent)");
    walk(&["--words", "plain", "--endpoint", "/replica", "--on-standby", "drain"], "DRAIN (agent)", "MAINT");
}

#[test]
fn silence_leaves_the_server_as_it_was() {
    if !requires(&["haproxy"]) {
        return;
    }
    for words in ["full", "plain"] {
        let stack = Stack::new(&["--words", words, "--on-failure", "silent"]);
        for (before, status) in [(Serves, "UP"), (StandsBy, "MAINT")] {
            stack.patroni.now(before.behaviour());
            stack.await_status(status);
            stack.patroni.now(Fails.behaviour());
            stack.await_checks();
            assert_eq!(stack.haproxy.status("postgres", "db1").unwrap(), status);
        }
    }
}

#[test]
fn one_port_answers_for_what_each_backend_sends() {
    if !requires(&["haproxy"]) {
        return;
    }
    let patroni = FakePatroni::new(answer(200, r#"{"state": "running", "role": "replica", "timeline": 3}"#));
    let postgres = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = postgres.local_addr().unwrap();
    let port = any_port();
    let listen = format!("127.0.0.1:{port}=agent-send");
    let _agent =
        Agent::listening(&["--patroni", &patroni.url(), "--deadline", "4s", "--listen", &listen, "--also", "/replica"]);
    let backend = |name: &str, sends: &str| {
        format!(
            "backend {name}\n    server db1 {address} check inter 100ms agent-check agent-port {port} agent-inter 100ms {sends}\n"
        )
    };
    let sections = [
        ("reads", r#"agent-send "/replica\n""#),
        // HAProxy adds no end of line: it may be the beginning of another endpoint.
        ("without-end", "agent-send /health"),
        ("writes", r#"agent-send "/primary\n""#),
        ("nonsense", r#"agent-send "/replicas\n""#),
    ];
    let backends = sections.map(|(name, sends)| backend(name, sends)).concat();
    let directory = TempDir::new().unwrap();
    let haproxy =
        Haproxy::start(Command::new("haproxy"), directory.path(), &format!("{DEFAULTS}\n{backends}")).unwrap();
    // In maintenance is what it does not begin with.
    for (name, status) in [("nonsense", "MAINT"), ("writes", "MAINT"), ("reads", "UP"), ("without-end", "UP")] {
        await_that(name, || haproxy.status(name, "db1").unwrap().starts_with(status));
    }
    let last = |name: &str| {
        await_some(name, || {
            let last = haproxy.server(name, "db1").unwrap()["last_agt"].clone();
            (!last.is_empty()).then_some(last)
        })
    };
    assert!(last("reads").ends_with("(replica timeline 3)"), "{}", last("reads"));
    assert!(last("nonsense").ends_with("(agent-send: no health check endpoint of Patroni's)"), "{}", last("nonsense"));
    let asked = patroni.requests();
    for path in ["/replica", "/primary"] {
        assert!(asked.contains(&format!("GET {path} HTTP/1.1")), "{path}: {asked:?}");
    }
    let is_wrong = |line: &String| line.contains("/replicas") || line.contains("/health");
    assert!(!asked.iter().any(is_wrong), "{asked:?}");
}

#[test]
fn haproxy_takes_the_lines_of_the_readme_as_they_are() {
    if !requires(&["haproxy"]) {
        return;
    }
    assert_eq!(readme().len(), 2);
    for block in readme() {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("haproxy.cfg");
        std::fs::write(&file, format!("{DEFAULTS}\n{block}")).unwrap();
        let output = Command::new("haproxy").args(["-c", "-q", "-f"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{block}{output:?}");
    }
}

#[test]
fn the_lines_of_the_readme_follow_the_agent() {
    if !requires(&["haproxy"]) {
        return;
    }
    for block in readme() {
        let section = block.lines().next().unwrap();
        let other = |line: &&str| !line.contains("server db2") && !line.contains("bind :5000") && *line != section;
        let backend: Vec<_> = block.lines().filter(other).collect();
        let stack = Stack::with(&[], &format!("backend postgres\n{}\n", backend.join("\n")));
        stack.patroni.now(StandsBy.behaviour());
        stack.await_status("MAINT");
        stack.patroni.now(Serves.behaviour());
        stack.await_status("UP");
    }
}

#[test]
fn with_the_recommended_lines_nothing_is_up_before_the_agent_has_spoken() {
    if !requires(&["haproxy"]) {
        return;
    }
    let block = readme().into_iter().find(|block| block.contains("postgres_read_write")).unwrap();
    let directory = TempDir::new().unwrap();
    // Nobody answers on the agent's port.
    let block = block.replace("port 5555", &format!("port {}", any_port())).replace("bind :5000", "");
    let haproxy = Haproxy::start(Command::new("haproxy"), directory.path(), &format!("{DEFAULTS}\n{block}")).unwrap();
    for server in ["db1", "db2"] {
        assert_eq!(haproxy.status("postgres_read_write", server).unwrap(), "MAINT");
    }
}

/// A client of a backend, and the server that it has come to; none where there is none.
fn connect(port: u16) -> Option<(TcpStream, String)> {
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut name = [0; 3];
    client.read_exact(&mut name).ok()?;
    Some((client, String::from_utf8_lossy(&name).into_owned()))
}

/// Takes connections, says which server it is, and waits for the end of each.
fn postgres(address: &str, name: &'static str) {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            thread::spawn(move || client.write_all(name.as_bytes()).and_then(|()| client.read(&mut [0])));
        }
    });
}

/// Two hosts, of which the second is a replica that fails and comes back.
fn reads_fall_back(options: &[&str], fallback: &str) {
    if !requires(&["haproxy"]) {
        return;
    }
    let [postgres_port, writes, reads, http] = [(); 4].map(|()| any_port());
    let patronis: Vec<_> = ["primary", "replica"].map(|role| FakePatroni::new(in_role(role))).into();
    let _agents: Vec<_> = patronis
        .iter()
        .zip(["127.0.0.1", "127.0.0.2"].iter().zip(["db1", "db2"]))
        .map(|(patroni, (ip, name))| {
            postgres(&format!("{ip}:{postgres_port}"), name);
            let listen = [(writes, "/primary"), (reads, "/replica"), (http, "http")]
                .map(|(port, role)| format!("--listen={ip}:{port}={role}"));
            let listen = listen.each_ref().map(String::as_str);
            Agent::listening(&[&listen[..], &["--patroni", &patroni.url(), "--deadline", "4s"]].concat())
        })
        .collect();
    let member = |n: u8| {
        format!(r#"{{"name": "db{n}", "role": "", "state": "", "host": "127.0.0.{n}", "port": {postgres_port}}}"#)
    };
    let cluster = FakePatroni::new(answer(200, &format!(r#"{{"members": [{}, {}]}}"#, member(1), member(2))));
    let (writes, reads, http) = (writes.to_string(), reads.to_string(), http.to_string());
    let (write_port, read_port) = (any_port(), any_port());
    let binds = [write_port, read_port].map(|port| format!("127.0.0.1:{port}"));
    let mut command = binary();
    command.args(["haproxy-config", "--section", "--patroni", &cluster.url(), "--fallback", fallback]);
    command.args(["--agent-port", &writes, "--replica-port", &reads, "--http-port", &http]);
    let config = command.args(["--read-write", &binds[0], "--read-only", &binds[1]]).args(options).output().unwrap();
    assert!(config.status.success(), "{config:?}");
    let sections = format!("{DEFAULTS}\n{}", String::from_utf8_lossy(&config.stdout));
    let directory = TempDir::new().unwrap();
    let haproxy = Haproxy::start(Command::new("haproxy"), directory.path(), &sections).unwrap();
    let status = |backend: &str, server: &str| haproxy.status(&format!("postgres_{backend}"), server).unwrap();
    let reached = || connect(read_port).map(|(_, name)| name);
    let is_back = || status("read_only", "db2").starts_with("UP") && reached().as_deref() == Some("db2");
    await_that("the replica takes the reads", || {
        let is_settled = status("read_write", "db1").starts_with("UP") && !status("read_only", "db1").starts_with("UP");
        is_settled && is_back()
    });
    // What is no backup any more would take them as well.
    assert!((0..10).all(|_| reached().as_deref() == Some("db2")));
    patronis[1].now(Fails.behaviour());
    await_that("no replica is left", || !status("read_only", "db2").starts_with("UP"));
    if fallback == "none" {
        assert!(connect(read_port).is_none());
        return;
    }
    await_that("the primary takes the reads", || reached().as_deref() == Some("db1"));
    let (mut session, _) = connect(read_port).unwrap();
    patronis[1].now(in_role("replica"));
    await_that("the replica is back", is_back);
    if fallback == "cut" {
        await_that("its session ends", || session.read(&mut [0]).is_ok_and(|read| read == 0));
    } else {
        session.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        session.read(&mut [0]).expect_err("it goes on");
    }
    // What is no primary any more takes no reads as such.
    patronis[0].now(in_role("replica"));
    patronis[1].now(in_role("primary"));
    await_that("a switchover", || {
        let is_former = !status("read_only", "db1_primary").starts_with("UP");
        is_former && status("read_only", "db1").starts_with("UP") && reached().as_deref() == Some("db1")
    });
}

#[test]
fn reads_fall_back_to_the_primary() {
    reads_fall_back(&[], "keep");
}

#[test]
fn reads_fall_back_to_the_primary_until_a_replica_is_back() {
    reads_fall_back(&[], "cut");
}

#[test]
fn reads_fall_back_by_http() {
    reads_fall_back(&["--http"], "cut");
}

#[test]
fn reads_fall_back_to_nobody() {
    reads_fall_back(&[], "none");
}
