//! systemd: notifications to the manager, entries in the journal.

use std::io;
use std::time::{Duration, Instant};

use libsystemd::logging::{Priority, connected_to_journal, journal_send};
use sd_notify::NotifyState;

use crate::endpoint::Endpoint;
use crate::node::Body;
use crate::patroni::Observation;
use crate::verdict::Verdict;

/// How often `systemctl status` gets new counts where no watchdog asks for more.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// What is said to systemd. Without one (no `NOTIFY_SOCKET`) it does nothing.
pub struct Supervisor {
    every: Duration,
    due: Option<Instant>,
    journal: bool,
}

/// A change of verdict.
pub struct Change<'a> {
    /// The endpoint that was judged.
    pub endpoint: &'a Endpoint,
    /// The new verdict.
    pub verdict: &'a Verdict,
    /// What HAProxy is told; nothing under `--on-failure silent`.
    pub reply: &'a Option<String>,
    /// What Patroni said last, if it was ever asked.
    pub observation: Option<&'a Observation>,
}

impl Supervisor {
    /// Finds out who supervises us.
    pub fn new() -> Self {
        // Twice a period, as sd_watchdog_enabled(3) advises.
        let every = sd_notify::watchdog_enabled().map_or(STATUS_EVERY, |period| (period / 2).min(STATUS_EVERY));
        let due = std::env::var_os("NOTIFY_SOCKET").map(|_| Instant::now() + every);
        Supervisor { every, due, journal: connected_to_journal() }
    }

    /// READY=1: listening.
    ///
    /// # Errors
    /// What kept the notification from the manager, which would otherwise wait for it in vain.
    pub fn ready(&self, status: &str) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)])
            .map_err(|e| io::Error::new(e.kind(), format!("can't tell systemd that we are ready (NOTIFY_SOCKET): {e}")))
    }

    /// When the next sign of life is due.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it is due now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// WATCHDOG=1, and the counts. To be called by the event loop itself, after it has answered what was overdue.
    pub fn beat(&mut self, now: Instant, status: &str) {
        // A lost notification is made good by the next; a manager that is gone has no use for it.
        let _ = sd_notify::notify(&[NotifyState::Watchdog, NotifyState::Status(status)]);
        self.due = Some(now + self.every);
    }

    /// The line in `systemctl status`.
    pub fn status(&self, status: &str) {
        let _ = sd_notify::notify(&[NotifyState::Status(status)]);
    }

    /// STOPPING=1.
    pub fn stopping(&self) {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }

    /// One journal entry for a change of verdict, with a field for each thing that one may want to filter by; a line on
    /// standard error where that is not the journal.
    pub fn changed(&self, change: &Change) {
        let is_failure = matches!(change.verdict, Verdict::Fail(_));
        let priority = if is_failure { Priority::Warning } else { Priority::Notice };
        let reply = change.reply.as_deref().unwrap_or("(nothing)").trim_end();
        let message = format!("{} -> {reply}", change.endpoint);
        let mut fields = vec![
            ("SYSLOG_IDENTIFIER", "patroni-check".to_owned()),
            ("PATRONI_CHECK_ENDPOINT", change.endpoint.to_string()),
            ("PATRONI_CHECK_VERDICT", change.verdict.word().to_owned()),
            ("PATRONI_CHECK_REPLY", reply.to_owned()),
            ("PATRONI_CHECK_REASON", change.verdict.why().to_owned()),
        ];
        if let Some(Ok(answer)) = change.observation {
            fields.push(("PATRONI_CHECK_STATUS", answer.status.to_string()));
            if let Body::Node(node) = &answer.body {
                fields.push(("PATRONI_CHECK_ROLE", node.role.clone()));
                fields.push(("PATRONI_CHECK_STATE", node.state.clone()));
            }
        }
        if !self.journal || journal_send(priority, &message, fields.into_iter()).is_err() {
            eprintln!("patroni-check: {message}");
        }
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Supervisor::new()
    }
}
