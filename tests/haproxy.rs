//! A real HAProxy reads the agent: what each vocabulary makes of its servers, on the way from every verdict to every other.

mod lab;

use std::net::TcpListener;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use lab::agent::Agent;
use lab::haproxy::Haproxy;
use lab::standin::{Behaviour, StandIn, answer, primary, replica};
use lab::{any_port, await_some, await_that};

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

struct Stack {
    haproxy: Haproxy,
    stats_port: u16,
    patroni: StandIn,
    _agent: Agent,
    _postgres: TcpListener,
    _directory: TempDir,
}

impl Stack {
    fn new(options: &[&str]) -> Self {
        let patroni = StandIn::new(Serves.behaviour());
        let url = patroni.url();
        let patient = ["--patroni", &url, "--deadline", "30s", "--max-age", "0s"];
        let agent = Agent::listening(&[&patient[..], options].concat());
        let postgres = TcpListener::bind("127.0.0.1:0").unwrap();
        let directory = TempDir::new().unwrap();
        let stats_port = any_port();
        let sections = format!(
            "defaults
    mode tcp
    timeout connect 30s
    timeout client 30s
    timeout server 30s
    timeout check 30s

backend postgres
    server node {} check inter 100ms rise 1 agent-check agent-port {} agent-inter 100ms

listen stats
    bind 127.0.0.1:{stats_port}
    mode http
    stats enable
    stats uri /
",
            postgres.local_addr().unwrap(),
            agent.address.port(),
        );
        let mut command = Command::new("haproxy");
        command.stdin(Stdio::null());
        let haproxy = Haproxy::start(command, directory.path(), &sections).unwrap();
        let stack = Stack { haproxy, stats_port, patroni, _agent: agent, _postgres: postgres, _directory: directory };
        stack.await_status("UP");
        stack
    }

    fn await_status(&self, wanted: &str) {
        let mut status = String::new();
        await_some(&format!("status {wanted}"), || {
            status = self.haproxy.status("postgres", "node").unwrap();
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
                stack.haproxy.server("postgres", "node").unwrap()["last_agt"].ends_with(&reason)
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
    walk(&["--on-standby", "drain"], "DRAIN (agent)", "MAINT");
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
    walk(&["--on-standby", "drain", "--on-failure", "down"], "DRAIN (agent)", "DOWN (agent)");
}

#[test]
fn plain_maint_by_default() {
    walk(&["--words", "plain"], "MAINT", "MAINT");
}

#[test]
fn plain_drain() {
    walk(&["--words", "plain", "--on-failure", "drain"], "MAINT", "DRAIN (agent)");
    walk(&["--words", "plain", "--on-standby", "drain"], "DRAIN (agent)", "MAINT");
}

#[test]
fn silence_leaves_the_server_as_it_was() {
    for words in ["full", "plain"] {
        let stack = Stack::new(&["--words", words, "--on-failure", "silent"]);
        for (before, status) in [(Serves, "UP"), (StandsBy, "MAINT")] {
            stack.patroni.now(before.behaviour());
            stack.await_status(status);
            stack.patroni.now(Fails.behaviour());
            stack.await_checks();
            assert_eq!(stack.haproxy.status("postgres", "node").unwrap(), status);
        }
    }
}
