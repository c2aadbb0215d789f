//! The holds, each looked up at most once a turn of the event loop, and only if somebody is answered
//! whom it may concern.

use std::cell::RefCell;

use crate::clock::Moment;
use crate::endpoint::Endpoint;
use crate::hold::file::HoldFile;
use crate::hold::{Held, Holds, strongest};
use crate::verdict::Verdict;

pub(super) struct HoldLookup {
    holds: Holds,
    /// What was found in this turn.
    found: RefCell<Vec<(HoldFile, Option<Held>)>>,
}

impl HoldLookup {
    pub(super) fn new(holds: Holds) -> Self {
        HoldLookup { holds, found: RefCell::default() }
    }

    /// A new turn begins.
    pub(super) fn forget(&mut self) {
        self.found.get_mut().clear();
    }

    /// The hold that counts for an endpoint.
    pub(super) fn held(&self, endpoint: Option<&Endpoint>) -> Option<Held> {
        strongest(self.holds.files(endpoint).into_iter().filter_map(|file| self.look_up(file)))
    }

    /// The verdict, unless the endpoint is held.
    pub(super) fn overriding(&self, endpoint: Option<&Endpoint>, verdict: Verdict) -> Verdict {
        match self.held(endpoint) {
            Some(held) => held.overriding(endpoint, &verdict),
            None => verdict,
        }
    }

    fn look_up(&self, file: HoldFile) -> Option<Held> {
        let mut found = self.found.borrow_mut();
        if let Some((_, held)) = found.iter().find(|(known, _)| *known == file) {
            return held.clone();
        }
        let held = Held::by(&file, Moment::now());
        found.push((file, held.clone()));
        held
    }
}
