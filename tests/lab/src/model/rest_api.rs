//! What Patroni answers to `GET /primary` (`api.py`, `do_GET` and `get_postgresql_status`).

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Says {
    pub status: u16,
    pub state: &'static str,
    pub role: &'static str,
    pub timeline: u32,
    pub pause: bool,
    pub unlocked: bool,
    pub failsafe: bool,
    /// When Patroni read the store last, and when it sent this: seconds of Unix time.
    pub last_seen: u64,
    pub date: u64,
}

impl Says {
    /// Whether Patroni itself says that it holds the lock. Of a paused cluster that nobody leads it
    /// says the role only.
    pub fn claims_lock(&self) -> bool {
        self.status == 200 && !(self.pause && self.unlocked)
    }

    /// Whether Postgres takes writes, as far as Patroni knows.
    pub fn is_primary(&self) -> bool {
        self.state == "running" && self.role == "primary"
    }

    /// This answer where a moment went by between the look at the cluster, the end of the body, and
    /// the status (`do_GET`).
    pub fn torn(&self, later: &Says) -> Says {
        let Says { status, failsafe, last_seen, date, .. } = *later;
        Says { status, failsafe, last_seen, date, ..self.clone() }
    }

    pub fn body(&self) -> String {
        let Says { state, role, timeline, last_seen, .. } = self;
        let mut body = format!(r#"{{"state": "{state}", "role": "{role}", "timeline": {timeline}"#);
        for (flag, name) in
            [(self.pause, "pause"), (self.unlocked, "cluster_unlocked"), (self.failsafe, "failsafe_mode_is_active")]
        {
            if flag {
                body += &format!(r#", "{name}": true"#);
            }
        }
        body + &format!(r#", "dcs_last_seen": {last_seen}, "patroni": {{"version": "4.1.5"}}}}"#)
    }
}
