//! The verdict on one check, by a process that knows what the earlier ones left, and leaves what it
//! learns. At most one such process at a time asks Patroni.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cache::Cache;
use crate::clock::Moment;
use crate::config::{BadConfiguration, Config, Limits};
use crate::endpoint::Endpoint;
use crate::haproxy::reply::{Reply, ReplyPolicy};
use crate::hold::Holds;
use crate::memory::Memory;
use crate::memory::file::{Directory, Lock, MemoryFile, Noted};
use crate::observe::{Subject, look};
use crate::systemd::journal::{self, Change};
use crate::verdict::Verdict;
use crate::view::View;

/// Finds the verdict on a check that arrives now, and what HAProxy would be told, and tells it
/// once, within the deadline. If Patroni has not answered by then, the request goes on: to give it
/// up and have the next process ask again would take one of Patroni's workers each time.
///
/// The journal comes last: one that takes nothing holds up whoever writes.
///
/// # Errors
/// Wrong configuration.
pub(super) fn ask(
    view: &View,
    config: &Config,
    tell: impl FnOnce(&Verdict, Option<&Reply>) + Send + 'static,
) -> Result<(), BadConfiguration> {
    let (arrived, start) = (Moment::now(), Instant::now());
    let deadline = start + config.limits.deadline;
    let mut warnings = Vec::new();
    let subject = config.subject(view);
    let endpoint = &subject.endpoint;
    let file = memory_file(&subject, config, &mut warnings);
    let mut check = Check {
        endpoint: endpoint.clone(),
        policy: config.reply_policy(view)?,
        calm: config.calm(view),
        holds: config.holds(),
        tell: Some(Box::new(tell)),
        told: None,
    };
    let (told, observation) =
        match look_up_or_lock(&subject, file.as_ref(), config.limits, arrived, deadline, &mut warnings) {
            Found::Verdict(verdict, memory) => {
                check.answer(verdict, &memory);
                (check.told, None)
            }
            Found::Ask(cache, lock) => {
                let client = config.client()?;
                // What is to be done at the deadline is done amid the request.
                let shared = Arc::new(Mutex::new((check, *cache)));
                let mut answered = None;
                while locked(&shared).1.begin_fetch(Moment::now()) {
                    let shared_too = Arc::clone(&shared);
                    let subject_too = subject.clone();
                    let look = look(&subject, config.limits.deadline, || match file {
                        Some(_) => client.get_answering_late(endpoint, deadline, move || {
                            let (check, cache) = &mut *locked(&shared_too);
                            let verdict = at_deadline(cache, &subject_too);
                            verdict.into_iter().for_each(|verdict| check.answer(verdict, cache.memory()));
                        }),
                        // Nobody would have what comes late.
                        None => client.get_within(endpoint, start, config.limits.deadline),
                    });
                    let (_, cache) = &mut *locked(&shared);
                    let verdicts = cache.fetch_completed(Moment::now(), look.judgement);
                    if let Some((file, lock)) = file.as_ref().zip(lock.as_ref()) {
                        warnings.extend(file.save(cache.memory(), lock).err());
                    }
                    answered = verdicts.into_iter().next().map(|((), verdict)| (verdict, look.observation));
                }
                // Whoever waits for it need not wait for a client.
                drop(lock);
                let (check, cache) = &mut *locked(&shared);
                let observation = answered.and_then(|(verdict, observation)| {
                    check.answer(verdict, cache.memory());
                    observation
                });
                (check.told.take(), observation)
            }
        };
    warnings.iter().for_each(|warning| journal::warn(warning));
    let noted = |(told, file): (Told, MemoryFile)| Some((file.note_told(view, told.at, &told.verdict)?, told));
    if let Some((Noted { before }, Told { verdict, reply, .. })) = told.zip(file).and_then(noted) {
        let (before, reply, observation) = (before.as_ref(), reply.as_ref(), observation.as_ref());
        journal::tell_change(&Change { view, verdict: &verdict, before, reply, observation });
    }
    Ok(())
}

/// Tells the client.
type Tell = Box<dyn FnOnce(&Verdict, Option<&Reply>) + Send>;

/// The check, and what its answer takes.
struct Check {
    endpoint: Endpoint,
    policy: ReplyPolicy,
    calm: Duration,
    holds: Holds,
    tell: Option<Tell>,
    told: Option<Told>,
}

struct Told {
    at: Moment,
    verdict: Verdict,
    reply: Option<Reply>,
}

impl Check {
    fn answer(&mut self, verdict: Verdict, memory: &Memory) {
        let Some(tell) = self.tell.take() else { return };
        let verdict = memory.after_calm(Moment::now(), self.calm, verdict);
        let verdict = self.holds.overriding(Some(&self.endpoint), verdict);
        let reply = self.policy.reply(&verdict);
        tell(&verdict, reply.as_ref());
        self.told = Some(Told { at: Moment::now(), verdict, reply });
    }
}

enum Found {
    /// By what is remembered.
    Verdict(Verdict, Box<Memory>),
    /// Patroni is to be asked, by one who knows this.
    Ask(Box<Cache<()>>, Option<Lock>),
}

/// The verdict by what is remembered, by what another process finds meanwhile, or at the deadline;
/// else the right to ask.
fn look_up_or_lock(
    subject: &Subject,
    file: Option<&MemoryFile>,
    limits: Limits,
    arrived: Moment,
    deadline: Instant,
    warnings: &mut Vec<String>,
) -> Found {
    let recall = |memory: Option<Memory>| {
        let mut cache = Cache::remembering(memory.unwrap_or_else(|| Memory::new(limits)));
        let found = cache.look_up_or_wait(arrived, ());
        (cache, found.map(|((), verdict)| verdict))
    };
    let mut or_warning = |why: String| warnings.push(why);
    let Some(file) = file else { return Found::Ask(Box::new(recall(None).0), None) };
    let mut found = None;
    let lock = file.lock(deadline, || {
        let (cache, verdict) = recall(file.load().unwrap_or_default());
        found = verdict.map(|verdict| Found::Verdict(verdict, Box::new(cache.memory().clone())));
        found.is_some()
    });
    if let Some(found) = found {
        return found;
    }
    let lock = match lock {
        Ok(lock) => lock,
        Err(why) => {
            // What can't be replaced may be older than what others know.
            or_warning(why);
            return Found::Ask(Box::new(recall(None).0), None);
        }
    };
    // What is there now: another process may have found it just before.
    let memory = file.load().unwrap_or_else(|why| {
        or_warning(why);
        None
    });
    let (mut cache, mut found) = recall(memory);
    if lock.is_none() {
        found = found.or_else(|| at_deadline(&mut cache, subject));
    }
    match found {
        Some(verdict) => Found::Verdict(verdict, Box::new(cache.memory().clone())),
        None => Found::Ask(Box::new(cache), lock),
    }
}

/// None where there is no memory, with a warning that says why, unless nobody wants one.
fn memory_file(subject: &Subject, config: &Config, warnings: &mut Vec<String>) -> Option<MemoryFile> {
    let directory = Directory::of(config).transpose()?;
    directory.map(|directory| directory.file(subject)).map_err(|why| warnings.push(why)).ok()
}

/// What can be said without waiting longer.
fn at_deadline(cache: &mut Cache<()>, subject: &Subject) -> Option<Verdict> {
    // The two clocks may differ by a little.
    sleep(cache.time_left(Moment::now()).unwrap_or_default());
    let ((), verdict) = cache.take_expired(Moment::now()).into_iter().next()?;
    Some(subject.veto(&verdict).unwrap_or(verdict))
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
