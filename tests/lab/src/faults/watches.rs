//! What the recorder's threads do: each looks at one thing of one node, again and again.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

use crate::faults::agents::Mode;
use crate::faults::recorder::{Seen, Traffic};
use crate::http::{self, Answer};
use crate::sampling::{Sampling, Track};

/// Patroni itself is asked less often: each look costs it a query, and it must not be the looking
/// that makes it slow.
const PATRONI_PAUSE: Duration = Duration::from_millis(50);

/// The most that a replica may lag, in bytes.
const LAG: i64 = 1 << 20;

/// After so long without a word the health check beside the agent has taken the server out: `inter
/// 1s fall 3`.
const HEALTH_CHECK: Duration = Duration::from_secs(3);

/// Connects over the socket file, and again when the connection is lost, and looks.
fn keep_looking(sampling: &Sampling, home: &Path, port: u16, track: &Track, ask: impl Fn(&mut Client) -> Option<u32>) {
    let mut config = postgres::Config::new();
    config.host_path(home).port(port).user("postgres").dbname("postgres").options("-c statement_timeout=1s");
    let mut client: Option<Client> = None;
    while sampling.on() {
        client = client.filter(|client| !client.is_closed()).or_else(|| config.connect(NoTls).ok());
        let begin = sampling.now();
        let value = client.as_mut().and_then(&ask);
        if value.is_none() {
            client = None;
        }
        // Longer than the statement_timeout: its host stood still.
        if sampling.now() - begin > Duration::from_secs(2) {
            track.note(begin, 0);
        }
        track.note(sampling.now(), value.unwrap_or(0));
        sampling.rest();
    }
}

/// Writes to the node itself.
pub fn watch_writes(sampling: &Sampling, home: &Path, port: u16, fit: &Track) {
    keep_looking(sampling, home, port, fit, |client| {
        // The first eight digits of a WAL file's name are its timeline.
        let timeline = "SELECT CASE WHEN NOT pg_is_in_recovery() \
            THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END";
        let timeline: Option<String> = client.query_one(timeline, &[]).ok()?.get(0);
        match timeline.and_then(|digits| u32::from_str_radix(&digits, 16).ok()) {
            Some(timeline) => client.batch_execute("INSERT INTO writes VALUES ('node')").ok().map(|()| timeline),
            None => Some(0),
        }
    });
}

/// Reads from the node itself.
pub fn watch_reads(sampling: &Sampling, home: &Path, port: u16, fit: &Track) {
    keep_looking(sampling, home, port, fit, |client| {
        let in_recovery: bool = client.query_one("SELECT pg_is_in_recovery()", &[]).ok()?.get(0);
        Some(in_recovery.into())
    });
}

/// Compares a replica with the primary, whichever that is.
pub fn watch_lag(sampling: &Sampling, home: &Path, others: &[PathBuf], port: u16, fit: &Track) {
    let config = |home: &PathBuf| {
        let mut config = postgres::Config::new();
        config.host_path(home).port(port).user("postgres").dbname("postgres");
        config.connect(NoTls).ok()
    };
    let others = Mutex::new(others.iter().filter_map(config).collect::<Vec<_>>());
    keep_looking(sampling, home, port, fit, |client| {
        let received = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() - '0/0' END::int8";
        let received: Option<i64> = client.query_one(received, &[]).ok()?.get(0);
        let Some(received) = received else { return Some(0) };
        let written = others.lock().unwrap_or_else(PoisonError::into_inner).iter_mut().find_map(|other| {
            let written = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn() - '0/0' END::int8";
            other.query_one(written, &[]).ok()?.get::<_, Option<i64>>(0)
        })?;
        Some(u32::from(written - received <= LAG))
    });
}

/// Asks Patroni, as HAProxy's usual check does, and reads the body for the role.
pub fn watch_patroni(sampling: &Sampling, patroni: SocketAddr, traffic: Traffic, seen: &Seen) {
    let [role, status, ..] = &seen.ready;
    let wanted: &[&str] = match traffic {
        Traffic::Writes => &["primary", "master"],
        Traffic::Reads | Traffic::FreshReads => &["replica"],
    };
    let ask = || {
        let begin = Instant::now();
        let answer = http::get_while(patroni, traffic.endpoint(), Duration::from_secs(1), || {
            // Not given up, as Patroni would have to work for each new one; but it is no yes.
            role.note(sampling.now(), 0);
            status.note(sampling.now(), 0);
            begin.elapsed() <= Duration::from_secs(30) && sampling.on()
        });
        let Answer { status, body } = Answer::read(&answer.ok()?)?;
        let fits = body["role"].as_str().is_some_and(|role| wanted.contains(&role));
        Some((fits, status == 200, fits && status == 200 && body["state"] == "running"))
    };
    while sampling.on() {
        let (by_role, by_status, settled) = ask().unwrap_or_default();
        let now = sampling.now();
        role.note(now, by_role.into());
        status.note(now, by_status.into());
        seen.settled.note(now, settled.into());
        thread::sleep(PATRONI_PAUSE);
    }
}

/// Reads an agent's word, as HAProxy does.
pub fn watch_agent(sampling: &Sampling, pause: Duration, agent: SocketAddr, mode: Mode, seen: &Seen) {
    let (word, words) = (&seen.ready[mode.rule()], &seen.words[mode as usize]);
    let mut last = sampling.now();
    while sampling.on() {
        let asked = sampling.now();
        let mut reply = String::new();
        let read = TcpStream::connect_timeout(&agent, Duration::from_secs(1)).and_then(|mut stream| {
            stream.set_read_timeout(Some(HEALTH_CHECK))?;
            stream.read_to_string(&mut reply)
        });
        let now = sampling.now();
        if read.is_ok() && !reply.is_empty() {
            last = now;
            word.note(now, u32::from(reply.starts_with("READY UP")));
            words.lock().unwrap_or_else(PoisonError::into_inner).push((asked, reply.trim_end().to_owned()));
        } else if now - last > HEALTH_CHECK {
            // Until then no answer changes nothing in HAProxy.
            word.note(now, 0);
        }
        thread::sleep(pause);
    }
}
