//! The holds, each looked up at most once a turn of the event loop, and only if somebody is answered
//! whom it may concern.

use std::cell::RefCell;

use crate::clock::Moment;
use crate::endpoint::Endpoint;
use crate::hold::file::HoldFile;
use crate::hold::{Held, Holds, strongest};
use crate::verdict::Verdict;

pub(super) struct HoldLookup {
    of_all: Vec<HoldFile>,
    /// What was found in this turn.
    found: RefCell<Vec<(HoldFile, Option<Held>)>>,
}

impl HoldLookup {
    pub(super) fn new(holds: &Holds) -> Self {
        HoldLookup { of_all: holds.files(None), found: RefCell::default() }
    }

    /// A new turn begins.
    pub(super) fn forget(&mut self) {
        self.found.get_mut().clear();
    }

    /// The hold that counts where these files may hold.
    pub(super) fn held(&self, files: &[HoldFile]) -> Option<Held> {
        strongest(files.iter().filter_map(|file| self.look_up(file)))
    }

    /// The verdict on an endpoint that these files may hold, unless it is held.
    pub(super) fn overriding(&self, files: &[HoldFile], endpoint: &Endpoint, verdict: Verdict) -> Verdict {
        match self.held(files) {
            Some(held) => held.overriding(Some(endpoint), &verdict),
            None => verdict,
        }
    }

    /// The same for what asks about no view.
    pub(super) fn overriding_unnamed(&self, verdict: Verdict) -> Verdict {
        match self.held(&self.of_all) {
            Some(held) => held.overriding(None, &verdict),
            None => verdict,
        }
    }

    fn look_up(&self, file: &HoldFile) -> Option<Held> {
        let mut found = self.found.borrow_mut();
        if let Some((_, held)) = found.iter().find(|(known, _)| known == file) {
            return held.clone();
        }
        let held = Held::by(file, Moment::now());
        found.push((file.clone(), held.clone()));
        held
    }
}
