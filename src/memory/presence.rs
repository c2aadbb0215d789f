//! Whether the node served an endpoint lately, and for how long: what calm goes by.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;

/// Whether the node served the endpoint lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Presence {
    /// Patroni has said nothing yet.
    Unknown,
    /// It serves, and has from Patroni's first answer on.
    Here,
    Away,
    /// It was away, and has served since.
    Back(Run),
}

/// Good answers without a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// When the first one began.
    since: Moment,
    /// When the newest one began.
    latest: Moment,
    /// How long an earlier run was, between which and this one nobody asked.
    earlier: Duration,
}

impl Run {
    fn new(since: Moment) -> Self {
        Run { since, latest: since, earlier: Duration::ZERO }
    }

    fn go_on(self, began: Moment, pause: Duration) -> Self {
        if began.since_by_boot(self.latest) <= pause {
            return Run { latest: began, ..self };
        }
        let earlier = self.earlier.max(self.latest.since_by_boot(self.since));
        Run { earlier, ..Run::new(began) }
    }
}

impl Presence {
    /// After an answer that began then, and lets the node serve. A silence may have been told of
    /// before it. After a pause longer than this the time begins anew.
    pub(super) fn good(self, began: Moment, after_silence: bool, pause: Duration) -> Self {
        match self {
            Presence::Unknown => Presence::Here,
            _ if after_silence => Presence::Back(Run::new(began)),
            Presence::Here => Presence::Here,
            Presence::Away => Presence::Back(Run::new(began)),
            Presence::Back(run) => Presence::Back(run.go_on(began, pause)),
        }
    }

    /// After a silence that lasts. Before Patroni's first answer it is no absence that anybody has
    /// seen.
    pub(super) fn silent(self) -> Self {
        if self == Presence::Unknown { self } else { Presence::Away }
    }

    /// What is left of a calm of this length, by the clock since the boot alone: a wall clock that is
    /// set must not end it early.
    pub(super) fn calm_left(self, now: Moment, calm: Duration) -> Option<Duration> {
        let Presence::Back(run) = self else { return None };
        let left = calm.saturating_sub(now.since_by_boot(run.since));
        (run.earlier < calm && !left.is_zero()).then_some(left)
    }

    /// The newest moment in it.
    pub(super) fn latest(self) -> Option<Moment> {
        match self {
            Presence::Back(run) => Some(run.latest),
            Presence::Unknown | Presence::Here | Presence::Away => None,
        }
    }
}
