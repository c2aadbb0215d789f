//! HAProxy, as the README configures it: what it makes of an agent's words, and when it asks.

use super::Ms;

/// The README's.
pub const AGENT_INTER: Ms = 100;
const INTER: Ms = 1000;
const FALL: u32 = 3;

/// A check under way: which it is, and when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    Agent(Ms),
    Health(Ms),
}

/// One server line of one HAProxy.
#[derive(Debug, Clone)]
pub struct Server {
    /// `disabled`, until its agent says READY.
    maint: bool,
    agent_down: bool,
    failed_checks: u32,
    next_agent: Ms,
    next_health: Ms,
    agent: Option<Ms>,
    health: Option<Ms>,
    /// When its agent answered last.
    pub last_answer: Option<Ms>,
    /// The network between them is cut until then.
    pub cut_until: Ms,
}

impl Server {
    /// The first checks are spread over the interval.
    pub fn new(phase: Ms) -> Self {
        Server {
            maint: true,
            agent_down: false,
            failed_checks: 0,
            next_agent: phase % AGENT_INTER,
            next_health: phase % INTER,
            agent: None,
            health: None,
            last_answer: None,
            cut_until: 0,
        }
    }

    /// Whether it is given sessions.
    pub fn is_up(&self) -> bool {
        !self.maint && !self.agent_down && self.failed_checks < FALL
    }

    /// The checks that begin now. One that was not answered in time is given up.
    pub fn checks(&mut self, now: Ms) -> Vec<Check> {
        if self.agent.is_some_and(|began| now >= began + AGENT_INTER) {
            self.agent = None;
        }
        if self.health.is_some_and(|began| now >= began + INTER) {
            self.health = None;
            self.failed_checks = (self.failed_checks + 1).min(FALL);
        }
        let agent = (self.agent.is_none() && now >= self.next_agent).then(|| {
            self.agent = Some(now);
            self.next_agent = now + AGENT_INTER;
            Check::Agent(now)
        });
        // MAINT pauses the health checks.
        let health = (!self.maint && self.health.is_none() && now >= self.next_health).then(|| {
            self.health = Some(now);
            self.next_health = now + INTER;
            Check::Health(now)
        });
        [agent, health].into_iter().flatten().collect()
    }

    /// What an agent answered to a check.
    pub fn hear(&mut self, now: Ms, check: Check, line: &str) {
        if now < self.cut_until {
            return;
        }
        match check {
            Check::Agent(began) if self.agent == Some(began) => {
                self.agent = None;
                self.last_answer = Some(now);
                for word in line.split('#').next().unwrap_or_default().split_whitespace() {
                    match word {
                        "READY" => self.maint = false,
                        "MAINT" => self.maint = true,
                        "UP" => self.agent_down = false,
                        "DOWN" => self.agent_down = true,
                        word => panic!("a word that is not expected here: {word}"),
                    }
                }
            }
            Check::Health(began) if self.health == Some(began) => {
                self.health = None;
                self.failed_checks = 0;
            }
            // It was given up.
            _ => {}
        }
    }
}
