//! What each rule says of each replica, and how old its reads are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use postgres::{Client, NoTls};

use crate::cluster::Cluster;
use crate::http::{self, Answer};
use crate::sampling::Sampling;

/// The first is the plain endpoint, to which the others are compared.
pub const RULES: [&str; 5] = ["`/replica`", "streaming", "lag=100MB", "16MB", "1MB"];

/// Plain bytes, in the order of the rules.
const LAGS: [&str; 3] = ["104857600", "16777216", "1048576"];

/// Between two looks at a member. Each is four requests.
const PAUSE: Duration = Duration::from_millis(200);

/// Between two writes of the primary's.
const BEAT: Duration = Duration::from_millis(50);

/// How exact the sums are.
const TICK: Duration = Duration::from_millis(100);

/// One look at a member.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    at: Duration,
    /// Whether it is in the pool, by each rule.
    is_in: [bool; RULES.len()],
    /// For how long there has been something that a reader there does not see.
    age: Duration,
}

/// When each beat was committed; its number is the place.
type Beats = Arc<Mutex<Vec<Duration>>>;

pub struct Watch {
    sampling: Sampling,
    members: Vec<JoinHandle<Vec<Look>>>,
    beating: JoinHandle<()>,
}

impl Watch {
    pub fn start(cluster: &Cluster) -> Self {
        let sampling = Sampling::new(PAUSE);
        let homes: Vec<PathBuf> = cluster.members.iter().map(|member| member.home.clone()).collect();
        let (port, beats) = (cluster.postgres_port, Beats::default());
        let beating = thread::spawn({
            let (sampling, beats, homes) = (sampling.clone(), Arc::clone(&beats), homes.clone());
            move || beat(&sampling, &homes, port, &beats)
        });
        let watch = |(n, home): (usize, PathBuf)| {
            let patroni = SocketAddr::new(cluster.members[n].ip, cluster.patroni_port);
            let (sampling, beats) = (sampling.clone(), Arc::clone(&beats));
            thread::spawn(move || look_at(&sampling, &home, port, patroni, &beats))
        };
        let members = homes.into_iter().enumerate().map(watch).collect();
        Watch { sampling, members, beating }
    }

    pub fn finish(self) -> Seen {
        let end = self.sampling.now();
        self.sampling.end();
        let _ = self.beating.join();
        Seen { end, members: self.members.into_iter().map(|member| member.join().unwrap_or_default()).collect() }
    }
}

fn connect(home: &PathBuf, port: u16) -> Option<Client> {
    let mut config = postgres::Config::new();
    config.host_path(home).port(port).user("postgres").dbname("postgres").options("-c statement_timeout=2s");
    config.connect(NoTls).ok()
}

/// Writes the next number to whoever is the primary, again and again.
fn beat(sampling: &Sampling, homes: &[PathBuf], port: u16, beats: &Beats) {
    let mut primary: Option<Client> = None;
    while sampling.on() {
        let number = i64::try_from(beats.lock().unwrap_or_else(PoisonError::into_inner).len()).unwrap_or(i64::MAX);
        let mut write = |client: &mut Client| client.execute("UPDATE beat SET number = $1", &[&number]).is_ok();
        if primary.as_mut().is_some_and(&mut write) {
            beats.lock().unwrap_or_else(PoisonError::into_inner).push(sampling.now());
        } else {
            primary = homes.iter().filter_map(|home| connect(home, port)).find_map(|mut client| {
                let row = client.query_one("SELECT pg_is_in_recovery()", &[]).ok()?;
                (!row.get::<_, bool>(0)).then_some(client)
            });
        }
        thread::sleep(BEAT);
    }
}

fn look_at(sampling: &Sampling, home: &PathBuf, port: u16, patroni: SocketAddr, beats: &Beats) -> Vec<Look> {
    let get = |path: &str| Answer::read(&http::get(patroni, path).ok()?);
    let (mut looks, mut client) = (Vec::new(), None::<Client>);
    while sampling.on() {
        let mut look = Look::default();
        if let Some(Answer { status: 200, body }) = get("/replica") {
            look.is_in[0] = true;
            look.is_in[1] = body["replication_state"] == "streaming";
            for (is_in, lag) in look.is_in[2..].iter_mut().zip(LAGS) {
                *is_in = get(&format!("/replica?lag={lag}")).is_some_and(|answer| answer.status == 200);
            }
        }
        look.at = sampling.now();
        client = client.filter(|client| !client.is_closed()).or_else(|| connect(home, port));
        let read = client.as_mut().and_then(|client| client.query_one("SELECT number FROM beat", &[]).ok());
        if let Some(row) = read {
            let number = usize::try_from(row.get::<_, i64>(0)).unwrap_or_default();
            let beats = beats.lock().unwrap_or_else(PoisonError::into_inner);
            look.age = beats.get(number + 1).map_or(Duration::ZERO, |unseen| look.at.saturating_sub(*unseen));
        }
        looks.push(look);
        sampling.rest();
    }
    looks
}

pub struct Seen {
    end: Duration,
    members: Vec<Vec<Look>>,
}

impl Seen {
    /// A row of the table.
    pub fn row(&self, title: &str) -> String {
        let mut oldest = [Duration::ZERO; RULES.len()];
        let (mut out, mut times, mut nobody) = ([0; RULES.len()], [0; RULES.len()], [0; RULES.len()]);
        let mut last: Vec<Look> = vec![Look { is_in: [true; RULES.len()], ..Look::default() }; self.members.len()];
        let mut at = Duration::from_secs(1);
        while at < self.end {
            let now = self
                .members
                .iter()
                .map(|looks| looks.iter().rev().find(|look| look.at <= at).copied().unwrap_or_default());
            let now: Vec<Look> = now.collect();
            for rule in 0..RULES.len() {
                for (now, last) in now.iter().zip(&last) {
                    if now.is_in[rule] {
                        oldest[rule] = oldest[rule].max(now.age);
                    } else if now.is_in[0] {
                        out[rule] += 1;
                        times[rule] += u32::from(last.is_in[rule] || !last.is_in[0]);
                    }
                }
                nobody[rule] += u32::from(now.iter().all(|look| !look.is_in[rule]));
            }
            last = now;
            at += TICK;
        }
        let seconds = |ticks: u32| format!("{:.1}", (TICK * ticks).as_secs_f64());
        let cells = |cells: Vec<String>| cells.join(" / ");
        let rules = || 0..RULES.len();
        format!(
            "| {title} | {:.0} | {} | {} | {} |\n",
            self.end.as_secs_f64(),
            cells(rules().map(|rule| format!("{:.1}", oldest[rule].as_secs_f64())).collect()),
            cells(rules().map(|rule| format!("{} ({})", seconds(out[rule]), times[rule])).collect()),
            cells(rules().map(|rule| seconds(nobody[rule])).collect()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look after so many seconds: in by the plain rule, in by the others, the age of reads.
    fn look((at, plain, others, age): (u64, bool, bool, u64)) -> Look {
        let is_in = std::array::from_fn(|rule| if rule == 0 { plain } else { others });
        Look { at: Duration::from_secs(at), is_in, age: Duration::from_secs(age) }
    }

    #[test]
    fn what_the_looks_come_to() {
        let first = [(0, true, true, 0), (3, true, false, 2), (5, true, true, 0), (8, false, false, 0)];
        let second = [(0, true, true, 0), (4, true, false, 7), (6, false, false, 9), (9, true, true, 1)];
        let members = [&first[..], &second].map(|looks| looks.iter().copied().map(look).collect()).to_vec();
        let row = Seen { end: Duration::from_secs(10), members }.row("both");
        let others = |text: &str| [text; RULES.len() - 1].join(" / ");
        // Two seconds each; for one of them both at once, for one the first has gone by itself.
        let (oldest, out, nobody) = (others("1.0"), others("4.0 (2)"), others("2.0"));
        assert_eq!(row, format!("| both | 10 | 7.0 / {oldest} | 0.0 (0) / {out} | 1.0 / {nobody} |\n"));
    }
}
