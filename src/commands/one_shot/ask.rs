//! The verdict on one check, by a process that knows what the earlier ones left, and leaves what it
//! learns. At most one such process at a time asks Patroni.

use std::time::{Duration, Instant};

use crate::cache::Cache;
use crate::clock::Moment;
use crate::config::{BadConfiguration, Config, Limits};
use crate::endpoint::Endpoint;
use crate::haproxy::reply::Reply;
use crate::memory::Memory;
use crate::memory::file::{Directory, Lock, MemoryFile};
use crate::patroni::Observation;
use crate::systemd::journal::{self, Change};
use crate::verdict::{Verdict, judge};

/// Finds the verdict on a check that arrives now, and what HAProxy would be told, and tells it
/// once, within the deadline. If Patroni has not answered by then, the request goes on: to give it
/// up and have the next process ask again would take one of Patroni's workers each time.
///
/// # Errors
/// Wrong configuration.
pub(super) fn ask(
    endpoint: &Endpoint,
    config: &Config,
    tell: impl FnOnce(&Verdict, Option<&Reply>),
) -> Result<(), BadConfiguration> {
    let (arrived, start) = (Moment::now(), Instant::now());
    let deadline = start + config.limits.deadline;
    let policy = config.reply_policy(endpoint)?;
    let client = config.client()?;
    let file = memory_file(endpoint, config);
    let mut tell = Some(tell);
    let mut answer = |verdict: Verdict, observation: Option<&Observation>| {
        let verdict = config.hold().overriding(verdict);
        let reply = policy.reply(&verdict);
        if let Some(tell) = tell.take() {
            tell(&verdict, reply.as_ref());
        }
        if file.as_ref().is_some_and(|file| file.is_change(Moment::now(), &verdict)) {
            journal::tell_change(&Change { endpoint, verdict: &verdict, reply: reply.as_ref(), observation });
        }
    };
    let (mut cache, lock) = match look_up_or_lock(file.as_ref(), config.limits, arrived, deadline) {
        Found::Verdict(verdict) => {
            answer(verdict, None);
            return Ok(());
        }
        Found::Nothing(cache, lock) => (cache, lock),
    };
    let mut answered = None;
    while cache.begin_fetch(Moment::now()) {
        let observation = if file.is_some() {
            client.get_answering_late(endpoint, deadline, || {
                if let Some(verdict) = at_deadline(&mut cache) {
                    answer(verdict, None);
                }
            })
        } else {
            // Nobody would have what comes late.
            client.get_within(endpoint, start, config.limits.deadline)
        };
        let told = cache.fetch_completed(Moment::now(), judge(endpoint, &observation));
        if let Some(Err(why)) = file.as_ref().map(|file| file.save(cache.memory())) {
            journal::warn(&why);
        }
        answered = told.into_iter().next().map(|((), verdict)| (verdict, observation));
    }
    // Whoever waits for it need not wait for a client or the journal.
    drop(lock);
    if let Some((verdict, observation)) = answered {
        answer(verdict, Some(&observation));
    }
    Ok(())
}

enum Found {
    Verdict(Verdict),
    /// Patroni is to be asked, by one who knows this.
    Nothing(Box<Cache<()>>, Option<Lock>),
}

/// The verdict by what is remembered, by what another process finds meanwhile, or at the deadline;
/// else the right to ask.
fn look_up_or_lock(file: Option<&MemoryFile>, limits: Limits, arrived: Moment, deadline: Instant) -> Found {
    let recall = |memory: Option<Memory>| {
        let mut cache = Cache::remembering(memory.unwrap_or_else(|| Memory::new(limits)));
        let found = cache.look_up_or_wait(arrived, ());
        (cache, found.map(|((), verdict)| verdict))
    };
    let Some(file) = file else { return Found::Nothing(Box::new(recall(None).0), None) };
    let mut found = None;
    let locked = file.lock(deadline, || {
        found = recall(file.load(Moment::now()).unwrap_or_default()).1;
        found.is_some()
    });
    if let Some(verdict) = found {
        return Found::Verdict(verdict);
    }
    // What is there now: another process may have found it just before.
    let (mut cache, mut found) = recall(file.load(Moment::now()).unwrap_or_else(without));
    let is_busy = matches!(locked, Ok(None));
    if is_busy {
        found = found.or_else(|| at_deadline(&mut cache));
    }
    found.map_or_else(|| Found::Nothing(Box::new(cache), locked.unwrap_or_else(without)), Found::Verdict)
}

/// Where there is no memory, there is one line that says why, unless nobody wants one.
fn memory_file(endpoint: &Endpoint, config: &Config) -> Option<MemoryFile> {
    let directory = Directory::of(config).unwrap_or_else(without)?;
    directory.file(endpoint).map_or_else(without, Some)
}

/// What can be said without waiting longer.
fn at_deadline(cache: &mut Cache<()>) -> Option<Verdict> {
    // The two clocks may differ by a little.
    std::thread::sleep(cache.time_left(Moment::now()).unwrap_or(Duration::ZERO));
    cache.take_expired(Moment::now()).into_iter().next().map(|((), verdict)| verdict)
}

fn without<T>(why: String) -> Option<T> {
    journal::warn(&why);
    None
}
