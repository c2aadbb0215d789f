//! The verdict on one check, by a process that knows what the earlier ones left, and leaves what it
//! learns. At most one such process at a time asks Patroni.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Instant;

use crate::cache::Cache;
use crate::clock::Moment;
use crate::config::{BadConfiguration, Config, Limits};
use crate::endpoint::Endpoint;
use crate::haproxy::reply::{Reply, ReplyPolicy};
use crate::hold::Hold;
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
    tell: impl FnOnce(&Verdict, Option<&Reply>) + Send + 'static,
) -> Result<(), BadConfiguration> {
    let (arrived, start) = (Moment::now(), Instant::now());
    let deadline = start + config.limits.deadline;
    let client = config.client()?;
    let file = memory_file(endpoint, config);
    let mut check = Check {
        endpoint: endpoint.clone(),
        policy: config.reply_policy(endpoint)?,
        hold: config.hold(),
        file: file.clone(),
        tell: Some(Box::new(tell)),
    };
    let (cache, lock) = match look_up_or_lock(file.as_ref(), config.limits, arrived, deadline) {
        Found::Verdict(verdict) => {
            check.answer(verdict, None);
            return Ok(());
        }
        Found::Nothing(cache, lock) => (cache, lock),
    };
    // What is to be done at the deadline is done amid the request.
    let shared = Arc::new(Mutex::new((check, *cache)));
    let mut answered = None;
    while locked(&shared).1.begin_fetch(Moment::now()) {
        let observation = if file.is_some() {
            let shared = Arc::clone(&shared);
            client.get_answering_late(endpoint, deadline, move || {
                let (check, cache) = &mut *locked(&shared);
                if let Some(verdict) = at_deadline(cache) {
                    check.answer(verdict, None);
                }
            })
        } else {
            // Nobody would have what comes late.
            client.get_within(endpoint, start, config.limits.deadline)
        };
        let cache = &mut locked(&shared).1;
        let told = cache.fetch_completed(Moment::now(), judge(endpoint, &observation));
        if let Some(Err(why)) = file.as_ref().map(|file| file.save(cache.memory(), lock.as_ref())) {
            journal::warn(&why);
        }
        answered = told.into_iter().next().map(|((), verdict)| (verdict, observation));
    }
    // Whoever waits for it need not wait for a client or the journal.
    drop(lock);
    if let Some((verdict, observation)) = answered {
        locked(&shared).0.answer(verdict, Some(&observation));
    }
    Ok(())
}

/// Tells the client.
type Tell = Box<dyn FnOnce(&Verdict, Option<&Reply>) + Send>;

/// The check, and what its answer takes.
struct Check {
    endpoint: Endpoint,
    policy: ReplyPolicy,
    hold: Hold,
    file: Option<MemoryFile>,
    tell: Option<Tell>,
}

impl Check {
    fn answer(&mut self, verdict: Verdict, observation: Option<&Observation>) {
        let verdict = self.hold.overriding(verdict);
        let reply = self.policy.reply(&verdict);
        if let Some(tell) = self.tell.take() {
            tell(&verdict, reply.as_ref());
        }
        if self.file.as_ref().is_some_and(|file| file.is_change(Moment::now(), &verdict)) {
            let endpoint = &self.endpoint;
            journal::tell_change(&Change { endpoint, verdict: &verdict, reply: reply.as_ref(), observation });
        }
    }
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
    let lock = file.lock(deadline, || {
        found = recall(file.load(Moment::now()).unwrap_or_default()).1;
        found.is_some()
    });
    if let Some(verdict) = found {
        return Found::Verdict(verdict);
    }
    // What is there now: another process may have found it just before.
    let (mut cache, mut found) = recall(file.load(Moment::now()).unwrap_or_else(without));
    let is_busy = matches!(lock, Ok(None));
    if is_busy {
        found = found.or_else(|| at_deadline(&mut cache));
    }
    found.map_or_else(|| Found::Nothing(Box::new(cache), lock.unwrap_or_else(without)), Found::Verdict)
}

/// Where there is no memory, there is one line that says why, unless nobody wants one.
fn memory_file(endpoint: &Endpoint, config: &Config) -> Option<MemoryFile> {
    let directory = Directory::of(config).unwrap_or_else(without)?;
    directory.file(endpoint).map_or_else(without, Some)
}

/// What can be said without waiting longer.
fn at_deadline(cache: &mut Cache<()>) -> Option<Verdict> {
    // The two clocks may differ by a little.
    sleep(cache.time_left(Moment::now()).unwrap_or_default());
    cache.take_expired(Moment::now()).into_iter().next().map(|((), verdict)| verdict)
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn without<T>(why: String) -> Option<T> {
    journal::warn(&why);
    None
}
