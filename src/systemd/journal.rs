//! What the operator is told: entries in the journal, or lines on standard error where that is not
//! the journal.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use libsystemd::logging::{Priority, connected_to_journal, journal_send};

use super::activation::is_connection;
use crate::config::Instance;
use crate::haproxy::reply::Reply;
use crate::patroni::Observation;
use crate::patroni::body::Body;
use crate::text::printable;
use crate::verdict::Verdict;
use crate::view::View;

/// Entries that may wait for the journal; more are counted and dropped. A change of verdict is an
/// entry.
const WAITING: usize = 256;

/// The instance whose entries this process writes. A process is of one for good.
static INSTANCE: OnceLock<Instance> = OnceLock::new();

/// From now on the entries of this process are those of this instance.
pub fn sign(instance: &Instance) {
    let _ = INSTANCE.set(instance.clone());
}

fn identifier() -> String {
    INSTANCE.get().map_or_else(|| "patroni-check".to_owned(), Instance::identifier)
}

/// A change of verdict.
pub struct Change<'a> {
    /// The view that was answered for.
    pub view: &'a View,
    /// The new verdict.
    pub verdict: &'a Verdict,
    /// The one before it, if there was one.
    pub before: Option<&'a Verdict>,
    /// What HAProxy is told; nothing under `--on-failure silent`.
    pub reply: Option<&'a Reply>,
    /// What Patroni said last, if it was ever asked.
    pub observation: Option<&'a Observation>,
}

/// A text, and a field for each thing that one may want to filter by.
struct Entry {
    priority: Priority,
    message: String,
    fields: Vec<(&'static str, String)>,
}

/// The journal, written by a thread of its own: a journald that is stopped, a full disk or a pipe
/// that nobody reads hold up whoever writes.
pub struct Journal {
    entries_tx: SyncSender<Entry>,
    lost: Arc<AtomicUsize>,
    ended_rx: Receiver<()>,
}

impl Journal {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn new() -> io::Result<Self> {
        let (entries_tx, entries_rx) = sync_channel::<Entry>(WAITING);
        let (ended_tx, ended_rx) = channel();
        let lost = Arc::new(AtomicUsize::new(0));
        let lost_too = Arc::clone(&lost);
        thread::Builder::new().name("journal".into()).spawn(move || {
            for entry in entries_rx {
                entry.write();
                let count = lost_too.swap(0, Ordering::Relaxed);
                if count > 0 {
                    let message = format!("{count} entries are missing here, because the journal took none for a time");
                    Entry::plain(Priority::Warning, message).write();
                }
            }
            let _ = ended_tx.send(());
        })?;
        Ok(Journal { entries_tx, lost, ended_rx })
    }

    /// A warning.
    pub fn warn(&self, message: String) {
        // Names and values from outside are in it.
        self.write(Entry::plain(Priority::Warning, printable(&message)));
    }

    /// A change of verdict.
    pub fn changed(&self, change: &Change) {
        self.write(Entry::of(change));
    }

    /// Waits until all is written, but no longer than this.
    pub fn flush(self, timeout: Duration) {
        drop(self.entries_tx);
        let _ = self.ended_rx.recv_timeout(timeout);
    }

    fn write(&self, entry: Entry) {
        if self.entries_tx.try_send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Entry {
    fn plain(priority: Priority, message: String) -> Self {
        let mut fields = vec![("SYSLOG_IDENTIFIER", identifier())];
        fields.extend(INSTANCE.get().map(|instance| ("PATRONI_CHECK_INSTANCE", instance.to_string())));
        Entry { priority, message, fields }
    }

    fn of(change: &Change) -> Self {
        let is_failure = matches!(change.verdict, Verdict::Fail(_));
        let priority = if is_failure { Priority::Warning } else { Priority::Notice };
        let reply = change.reply.map_or("(nothing)".to_owned(), Reply::to_string);
        let mut message = format!("{} -> {reply}", change.view);
        // With the time at which it was to end, if it ended by itself.
        if let (Some(Verdict::Held(held, _)), false) = (change.before, matches!(change.verdict, Verdict::Held(..))) {
            message += &format!(" (the hold is over: {held})");
        }
        let mut entry = Entry::plain(priority, message);
        entry.fields.extend([
            ("PATRONI_CHECK_ENDPOINT", change.view.to_string()),
            ("PATRONI_CHECK_VERDICT", change.verdict.word().to_owned()),
            ("PATRONI_CHECK_REPLY", reply),
            ("PATRONI_CHECK_REASON", change.verdict.why().to_owned()),
        ]);
        if let Some(Ok(answer)) = change.observation {
            entry.fields.push(("PATRONI_CHECK_STATUS", answer.status.to_string()));
            if let Body::Node(node) = &answer.body {
                entry.fields.push(("PATRONI_CHECK_ROLE", node.role.clone()));
                entry.fields.push(("PATRONI_CHECK_STATE", node.state.clone()));
            }
        }
        entry
    }

    /// Writes it to the journal, else to standard error, unless that is a client's connection.
    /// Errors are dropped: there is nowhere to report them.
    fn write(self) {
        let is_clients = is_connection(&io::stderr());
        let is_for_journal = is_clients || connected_to_journal();
        let is_written = is_for_journal && journal_send(self.priority, &self.message, self.fields.into_iter()).is_ok();
        // Under inetd the client would read it: HAProxy takes each word for an order that it knows,
        // `down` for instance.
        if !is_written && !is_clients {
            let _ = writeln!(io::stderr(), "{}: {}", identifier(), self.message);
        }
    }
}

/// A change of verdict, written at once: for a process that ends with its answer.
pub(crate) fn tell_change(change: &Change) {
    Entry::of(change).write();
}

/// Tells the operator at once why the program ends, or what he should know before he trusts its
/// answer.
pub fn complain(error: &str) {
    write_at_once(Priority::Error, error);
}

/// A warning, written at once.
pub(crate) fn warn(warning: &str) {
    write_at_once(Priority::Warning, warning);
}

fn write_at_once(priority: Priority, text: &str) {
    // Names and values from outside are in it.
    let text = printable(text);
    if connected_to_journal() && !is_connection(&io::stderr()) {
        // By standard error: an entry of a process that is gone by the time journald reads it has
        // no unit. The number is the priority (sd-daemon(3)); the unit of one process for each
        // check lets nothing below a notice through (LogLevelMax=).
        let _ = writeln!(io::stderr(), "<{}>{text}", u8::from(priority));
    } else {
        Entry::plain(priority, text).write();
    }
}
