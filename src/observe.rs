//! One look at this node: what Patroni says of it, and beside that whether anybody is there to take a
//! client.

use std::time::{Duration, Instant};

use crate::endpoint::Endpoint;
use crate::patroni::Observation;
use crate::probe::{Probed, Target};
use crate::verdict::{Judgement, Verdict, judge};

/// What is looked at: an endpoint of Patroni, and what clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// What is probed, if anything.
    pub probe: Option<Target>,
    /// Where the probe is not that of the whole program, the endpoint as a view of it is written.
    pub name: String,
}

impl Subject {
    /// The verdict in place of one that lets the node serve, where nobody is there to take a client, as
    /// far as that shows at once. For checks at their deadline: while Patroni sits on a request there
    /// is no other look.
    pub fn veto(&self, verdict: &Verdict) -> Option<Verdict> {
        let probe = self.probe.as_ref().filter(|_| matches!(verdict, Verdict::Serve(_)))?;
        match probe.begin() {
            Err(Probed::Gone(why)) => Some(Verdict::Fail(why)),
            _ => None,
        }
    }
}

/// What came of a look.
#[derive(Debug, Clone)]
pub struct Look {
    /// What Patroni said; nothing where nobody was there to take a client, so that it was not asked.
    pub observation: Option<Observation>,
    /// What came of the probe, if there was one.
    pub probed: Option<Probed>,
    /// What both mean.
    pub judgement: Judgement,
}

/// Looks once, for checks that are answered within this deadline. The probe is under way while `get`
/// asks Patroni, and is then waited for until half of the deadline is over: what Patroni said must
/// not come too late. Where the end of the probe is known before, as with a port that refuses, that
/// is the verdict, and a Patroni that hangs holds up nobody.
pub fn look(subject: &Subject, deadline: Duration, get: impl FnOnce() -> Observation) -> Look {
    let until = Instant::now() + deadline / 2;
    let begun = match subject.probe.as_ref().map(Target::begin) {
        Some(Err(Probed::Gone(why))) => {
            let judgement = Judgement::nobody_there(why.clone());
            return Look { observation: None, probed: Some(Probed::Gone(why)), judgement };
        }
        begun => begun,
    };
    let observation = get();
    let probed = begun.map(|begun| begun.map_or_else(|known| known, |probe| probe.finish(until)));
    let judgement = judge(&subject.endpoint, &observation).after_probe(probed.as_ref());
    Look { observation: Some(observation), probed, judgement }
}
