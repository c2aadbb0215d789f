//! A Postgres, and what is done to it.

use super::Ms;

const PROMOTION: Ms = 400;
const STOP: Ms = 500;
const START: Ms = 500;
/// Between a demotion and the start as a replica.
const PAUSE: Ms = 100;
/// The same where the leader key was released: another node is to take it first (`ha.py`,
/// `demote`).
const LONG_PAUSE: Ms = 2000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Running,
    /// Dead, and Patroni has not noticed.
    Crashed,
    Stopping,
    Starting,
    Stopped,
}

/// What is done to it, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Promote(Ms),
    /// With the key released afterwards or not.
    Demote(Ms, bool),
    Start(Ms),
}

/// What has been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    Promoted,
    Demoted { release: bool },
}

#[derive(Debug, Clone)]
pub struct Postgres {
    pub state: State,
    pub is_primary: bool,
    pub timeline: u32,
    job: Option<Job>,
}

impl Postgres {
    pub fn new(is_primary: bool) -> Self {
        Postgres { state: State::Running, is_primary, timeline: 1, job: None }
    }

    pub fn is_running_primary(&self) -> bool {
        self.state == State::Running && self.is_primary
    }

    pub fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    pub fn is_dead(&self) -> bool {
        matches!(self.state, State::Crashed | State::Stopped)
    }

    pub fn crash(&mut self) {
        if self.state == State::Running {
            (self.state, self.job) = (State::Crashed, None);
        }
    }

    /// Promoted by an operator, past Patroni.
    pub fn promote_by_hand(&mut self) {
        if self.state == State::Running && !self.is_primary {
            self.is_primary = true;
            self.timeline += 1;
        }
    }

    pub fn promote(&mut self, now: Ms) {
        self.job = Some(Job::Promote(now + PROMOTION));
    }

    pub fn demote(&mut self, now: Ms, release: bool) {
        (self.state, self.job) = (State::Stopping, Some(Job::Demote(now + STOP, release)));
    }

    pub fn start(&mut self, now: Ms) {
        (self.state, self.job) = (State::Starting, Some(Job::Start(now + START)));
    }

    /// Patroni, which did it, is a new process now.
    pub fn patroni_restarted(&mut self, now: Ms) {
        self.job = None;
        if matches!(self.state, State::Starting | State::Stopping) {
            self.start(now);
        }
    }

    pub fn step(&mut self, now: Ms) -> Option<Done> {
        match self.job {
            Some(Job::Promote(end)) if now >= end => {
                (self.is_primary, self.job) = (true, None);
                self.timeline += 1;
                return Some(Done::Promoted);
            }
            Some(Job::Demote(end, release)) if now >= end => {
                (self.is_primary, self.state) = (false, State::Stopped);
                let pause = if release { LONG_PAUSE } else { PAUSE };
                self.job = Some(Job::Start(now + pause + START));
                return Some(Done::Demoted { release });
            }
            Some(Job::Start(end)) if now + START >= end && self.state == State::Stopped => self.state = State::Starting,
            Some(Job::Start(end)) if now >= end => (self.state, self.job) = (State::Running, None),
            _ => {}
        }
        None
    }
}
