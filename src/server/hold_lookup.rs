//! The hold, looked up at most once a turn of the event loop, and only if somebody is answered.

use std::cell::OnceCell;

use crate::hold::Hold;
use crate::verdict::{Sessions, Verdict};

pub(super) struct HoldLookup {
    hold: Hold,
    reason: OnceCell<Option<String>>,
}

impl HoldLookup {
    pub(super) fn new(hold: Hold) -> Self {
        HoldLookup { hold, reason: OnceCell::new() }
    }

    /// A new turn begins.
    pub(super) fn forget(&mut self) {
        self.reason = OnceCell::new();
    }

    /// The verdict, unless the node is held.
    pub(super) fn overriding(&self, verdict: Verdict) -> Verdict {
        match self.reason.get_or_init(|| self.hold.reason()) {
            Some(why) => Verdict::held(why, Sessions::Cut),
            None => verdict,
        }
    }
}
