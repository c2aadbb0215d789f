//! All of them, the networks between them, and the clock.

use super::agent::{Agent, Outcome, Reply, Rule};
use super::haproxy::Server;
use super::invariants::{Invariants, Violation};
use super::patroni::{Act, Patroni, Peer};
use super::rest_api::Says;
use super::store::Store;
use super::{HAPROXIES, LEADER, Ms, NODES, STEP, Settings};

/// A request of an agent's to its Patroni.
#[derive(Debug, Clone)]
pub struct Request {
    pub began: Ms,
    /// The body that Patroni made up.
    body: Option<Says>,
    /// What it says with its status, which it looks up afterwards (`do_GET`), and when that
    /// arrives.
    answer: Option<(Ms, Says)>,
}

/// How a Patroni answers, until then.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trouble {
    pub slow_until: Ms,
    pub latency: Ms,
    pub lost_until: Ms,
}

pub struct World {
    pub now: Ms,
    pub store: Store,
    pub patronis: Vec<Patroni>,
    pub agents: Vec<Agent>,
    pub requests: [Option<Request>; NODES],
    pub troubles: [Trouble; NODES],
    /// The whole host is stopped until then.
    pub host_frozen_until: [Ms; NODES],
    /// There is no agent until then.
    pub agent_down_until: [Ms; NODES],
    /// The network between two members is cut until then.
    pub cut_until: [[Ms; NODES]; NODES],
    /// By HAProxy, then by node.
    pub servers: Vec<Vec<Server>>,
    pub invariants: Invariants,
    /// What happened, if somebody wants to know.
    pub trace: Option<Vec<String>>,
    told: (Option<usize>, Vec<Says>),
}

impl World {
    pub fn new(settings: Settings, rule: Rule, phase: Ms) -> Self {
        let server = |haproxy: usize, node: usize| {
            Server::new(phase + 130 * Ms::try_from(haproxy).expect("few") + 80 * Ms::try_from(node).expect("few"))
        };
        World {
            now: 0,
            store: Store::new(&settings),
            patronis: (0..NODES).map(|node| Patroni::new(node, LEADER, settings)).collect(),
            agents: (0..NODES).map(|_| Agent::new(rule)).collect(),
            requests: Default::default(),
            troubles: Default::default(),
            host_frozen_until: [0; NODES],
            agent_down_until: [0; NODES],
            cut_until: [[0; NODES]; NODES],
            servers: (0..HAPROXIES).map(|h| (0..NODES).map(|node| server(h, node)).collect()).collect(),
            invariants: Invariants::default(),
            trace: None,
            told: (Some(LEADER), Vec::new()),
        }
    }

    pub fn is_host_frozen(&self, node: usize) -> bool {
        self.now < self.host_frozen_until[node]
    }

    /// Whether its agent does nothing.
    fn is_agent_stopped(&self, node: usize) -> bool {
        self.is_host_frozen(node) || self.now < self.agent_down_until[node]
    }

    pub fn freeze_host(&mut self, node: usize, until: Ms) {
        self.host_frozen_until[node] = until;
        let patroni = &mut self.patronis[node];
        patroni.frozen_until = patroni.frozen_until.max(until);
    }

    /// One step of the clock.
    pub fn step(&mut self) -> Result<(), Violation> {
        self.now += STEP;
        self.store.step(self.now);
        for node in 0..NODES {
            let act = self.patronis[node].step(self.now, &mut self.store);
            if !matches!(act, Act::None) {
                self.ask_others(node, &act);
            }
        }
        self.note_changes();
        let calm = std::array::from_fn(|node| self.is_calm(node));
        self.invariants.look(self.now, &self.store, &self.patronis, calm);
        for node in 0..NODES {
            for reply in self.agent(node) {
                self.deliver(node, &reply)?;
            }
        }
        let is_stopped = std::array::from_fn(|node| self.is_agent_stopped(node));
        let slow = self.troubles.iter().filter(|trouble| self.now < trouble.slow_until + trouble.latency);
        let latency = slow.map(|trouble| trouble.latency).max().unwrap_or_default();
        self.invariants.compare(self.now, &self.servers, (&self.store, &self.patronis), is_stopped, latency)
    }

    /// Whether Patroni answers at once, and the agent asks.
    fn is_calm(&self, node: usize) -> bool {
        let (patroni, trouble) = (&self.patronis[node], self.troubles[node]);
        patroni.listens(self.now)
            && !self.is_agent_stopped(node)
            && !patroni.is_frozen(self.now)
            && self.now >= trouble.slow_until.max(trouble.lost_until)
            && self.requests[node].as_ref().is_none_or(|request| self.now <= request.began + 3 * STEP)
    }

    /// A new process of it, which begins then.
    pub fn restart_agent(&mut self, node: usize, at: Ms) {
        self.agents[node].restart();
        self.requests[node] = None;
        self.agent_down_until[node] = at;
    }

    fn note_changes(&mut self) {
        if self.trace.is_none() {
            return;
        }
        let (now, leader) = (self.now, self.store.leader);
        let says = |patroni: &Patroni| Says { last_seen: 0, date: 0, ..patroni.says(now) };
        let new = (leader, self.patronis.iter().map(says).collect::<Vec<_>>());
        if new.0 != self.told.0 {
            self.note(|| format!("{now:>7} store: leader {leader:?}"));
        }
        for (node, says) in new.1.iter().enumerate() {
            if self.told.1.get(node) != Some(says) {
                self.note(|| format!("{now:>7} patroni {node}: {} {}", says.status, says.body()));
            }
        }
        self.told = new;
    }

    fn ask_others(&mut self, node: usize, act: &Act) {
        let others = (0..NODES).filter(|other| *other != node);
        let reach = |other: usize| self.now >= self.cut_until[node][other];
        let seen: Vec<(usize, Peer)> = others
            .map(|other| {
                let peer = if reach(other) { self.patronis[other].seen_by_others(self.now) } else { Peer::Silent };
                (other, peer)
            })
            .collect();
        if matches!(act, Act::Failsafe) {
            for (other, _) in seen.iter().filter(|(_, peer)| *peer == Peer::Replica) {
                self.patronis[*other].consent(self.now, node);
            }
        }
        let peers: Vec<Peer> = seen.into_iter().map(|(_, peer)| peer).collect();
        self.patronis[node].told(self.now, act, &peers);
    }

    /// One turn of an agent's loop: its replies.
    fn agent(&mut self, node: usize) -> Vec<Reply> {
        let now = self.now;
        let is_stopped = self.is_agent_stopped(node);
        let mut replies = Vec::new();
        for (haproxy, servers) in self.servers.iter_mut().enumerate() {
            for check in servers[node].checks(now) {
                if !is_stopped && now >= servers[node].cut_until {
                    replies.extend(self.agents[node].arrive(now, (haproxy, check)));
                }
            }
        }
        if is_stopped {
            return replies;
        }
        if let Some((began, outcome)) = self.answer(node) {
            self.invariants.observed(now, node, began, &outcome, &self.patronis[node]);
            replies.extend(self.agents[node].observe(now, &outcome));
        }
        replies.extend(self.agents[node].overdue(now));
        if self.agents[node].begins_to_ask(now) {
            self.requests[node] = Some(Request { began: now, body: None, answer: None });
        }
        replies
    }

    /// What came of an agent's request, if it has ended.
    fn answer(&mut self, node: usize) -> Option<(Ms, Outcome)> {
        let (now, patroni, trouble) = (self.now, &self.patronis[node], self.troubles[node]);
        let request = self.requests[node].as_mut().filter(|request| now > request.began)?;
        let began = request.began;
        let outcome = if patroni.is_frozen(now) {
            (now >= began + 30_000).then_some(Outcome::Nothing)
        } else if !patroni.listens(now) || now < trouble.lost_until {
            Some(Outcome::Nothing)
        } else {
            let says = patroni.says(now);
            let Some(body) = request.body.clone() else {
                request.body = Some(says);
                return None;
            };
            let latency = if now < trouble.slow_until { trouble.latency } else { 0 };
            let (due, _) = request.answer.get_or_insert_with(|| (now + latency, body.torn(&says)));
            (now >= *due).then(|| request.answer.take().map(|(_, says)| Outcome::Said(says)))?
        };
        let outcome = outcome?;
        self.requests[node] = None;
        Some((began, outcome))
    }

    /// Adds to the story, if it is told.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    fn deliver(&mut self, node: usize, reply: &Reply) -> Result<(), Violation> {
        if self.invariants.nodes[node].last_line != reply.line {
            let now = self.now;
            self.note(|| format!("{now:>7} agent {node}: {}", reply.line.trim_end()));
        }
        self.invariants.replied(self.now, node, reply, &self.patronis[node])?;
        let (haproxy, check) = reply.to;
        self.servers[haproxy][node].hear(self.now, check, &reply.line);
        Ok(())
    }
}
