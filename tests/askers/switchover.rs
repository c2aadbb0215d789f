//! A switchover of a real cluster, and what each asker sees of it.

use std::error::Error;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::await_that;
use lab::requires::is_there;
use lab::testbed::Testbed;

use super::{by_hand, envoy, haproxy, keepalived};

/// Longer than any of them takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// The cluster, with an agent beside each member.
pub struct World {
    pub testbed: Testbed,
    /// Where the agents answer HAProxy's agent check, and where by HTTP.
    pub agent_port: u16,
    pub http_port: u16,
}

impl World {
    pub fn count(&self) -> usize {
        self.testbed.cluster.members.len()
    }

    /// Where a member's agent answers by HTTP.
    pub fn http(&self, member: usize) -> SocketAddr {
        SocketAddr::new(self.testbed.cluster.members[member].ip, self.http_port)
    }

    /// Where a member's PostgreSQL is.
    pub fn postgres(&self, member: usize) -> SocketAddr {
        SocketAddr::new(self.testbed.cluster.members[member].ip, self.testbed.cluster.postgres_port)
    }

    /// Whether each of some sessions over this port of ours is with a member's PostgreSQL.
    pub fn leads_to(&self, port: u16, member: usize) -> bool {
        let address = || -> Option<String> {
            let row = lab::clients::client(port).ok()?.query_one("SELECT host(inet_server_addr())", &[]).ok()?;
            Some(row.get(0))
        };
        let wanted = self.postgres(member).ip().to_string();
        (0..2 * self.count()).all(|_| address().as_ref() == Some(&wanted))
    }
}

/// Members by number, one after the other, and whether each is the one for writes.
pub type Look = Vec<(usize, bool)>;

/// Somebody who decides by our word where writes go.
pub trait Asker: Send {
    fn name(&self) -> &str;

    /// What it thinks now, of every member. An error is what no asker should see, such as a reset.
    fn look(&mut self, world: &World) -> Result<Look, String>;

    /// Whether a look asks all members in that moment. Whoever asks them from time to time may take
    /// two for the one for a while.
    fn asks_in_the_moment(&self) -> bool {
        false
    }

    /// Whether a client that goes by way of it, if one can, reaches this member.
    fn leads_to(&self, _: usize, _: &World) -> bool {
        true
    }
}

/// The work of a process guard: `BINARY ENVOY`. Prints a line for each asker.
pub fn run(directory: &Path, arguments: &[OsString], _: &AtomicBool) -> Result<(), Box<dyn Error>> {
    let [binary, envoy] = arguments else { return Err("usage: BINARY ENVOY".into()) };
    let testbed = Testbed::start_apart(directory, Path::new(binary), Path::new("patroni"))?;
    let world = World { agent_port: testbed.port(5555), http_port: testbed.port(5559), testbed };
    let ports = [(world.agent_port, "/primary"), (world.http_port, "http")];
    let members = &world.testbed.cluster.members;
    let agents: Vec<_> =
        members.iter().map(|member| world.testbed.agent(member, &ports, &[])).collect::<Result<_, _>>()?;

    let mut askers: Vec<Box<dyn Asker>> = by_hand::installed();
    let is_installed = |needs: &[&str]| needs.iter().all(|need| is_there(need));
    let mut take = |name: &str, started: Result<Vec<Box<dyn Asker>>, Box<dyn Error>>| match started {
        Ok(started) => askers.extend(started),
        Err(e) => println!("{name}: {e}"),
    };
    if is_installed(&haproxy::NEEDS) {
        take("haproxy", haproxy::start(&world));
    }
    if is_installed(&keepalived::NEEDS) {
        take("keepalived", keepalived::start(&world));
    }
    // None of it, or why it could not be installed.
    match Path::new(envoy) {
        program if program.is_file() => take("envoy", envoy::start(&world, program)),
        reason => println!("envoy: {}", reason.display()),
    }

    let old = world.testbed.cluster.leader().ok_or("no primary")?;
    let new = (old + 1) % world.count();
    let (began, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let (world, began, ended) = (&world, &began, &ended);
        let watching: Vec<_> = askers
            .into_iter()
            .map(|mut asker| {
                let (told, ready) = std::sync::mpsc::channel();
                let watch = move || {
                    let before = await_only(&mut *asker, world, old, None);
                    // Nobody listens any more where the switchover failed.
                    let _ = told.send(());
                    let seen = before.and_then(|before| {
                        await_that("the switchover", || began.load(Ordering::SeqCst));
                        Ok([before, await_only(&mut *asker, world, new, Some(ended))?].concat())
                    });
                    let name = |n: usize| &world.testbed.cluster.members[n].name;
                    match seen.and_then(|seen| judge(&seen, old, new, asker.asks_in_the_moment())) {
                        Ok(()) => println!("{}: saw {}, then {}", asker.name(), name(old), name(new)),
                        Err(e) => println!("{}: {e}", asker.name()),
                    }
                };
                (scope.spawn(watch), ready)
            })
            .collect();
        for (_, ready) in &watching {
            let _ = ready.recv();
        }
        began.store(true, Ordering::SeqCst);
        let members = &world.testbed.cluster.members;
        let switched = world.testbed.cluster.switch_over(&members[old], &members[new]);
        if switched.is_ok() {
            world.testbed.cluster.heal();
        }
        ended.store(true, Ordering::SeqCst);
        switched
    })?;
    drop(agents);
    Ok(())
}

/// Looks again and again until this member alone is chosen and reached, but not before `ended` is
/// set. Gives what was seen, of a wait without `ended` the last look alone.
fn await_only(asker: &mut dyn Asker, world: &World, member: usize, ended: Option<&AtomicBool>) -> Result<Look, String> {
    let (mut seen, start, mut over_since) = (Look::new(), Instant::now(), None);
    loop {
        let is_over = ended.is_none_or(|ended| ended.load(Ordering::SeqCst));
        let look = asker.look(world)?;
        let only = look.iter().all(|(n, chosen)| *chosen == (*n == member));
        let reached = asker.leads_to(member, world);
        if ended.is_none() {
            seen.clear();
        }
        seen.extend(&look);
        if is_over && only && reached {
            return Ok(seen);
        }
        let is_late = match is_over {
            true => over_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE,
            // As long as the cluster may take at worst.
            false => start.elapsed() > 2 * lab::PATIENCE,
        };
        if is_late {
            return Err(format!("member{} was not chosen: {look:?}, or not reached: {reached}", member + 1));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// The old one at first, the new one at last, never a third. And never the old one again once it
/// was the new one, if that is to be judged.
fn judge(seen: &[(usize, bool)], old: usize, new: usize, in_order: bool) -> Result<(), String> {
    let mut order: Vec<usize> = seen.iter().filter(|(_, chosen)| *chosen).map(|(n, _)| *n).collect();
    order.dedup();
    let is_right = match order.as_slice() {
        [first, .., last] => {
            (*first, *last) == (old, new)
                && order.iter().all(|n| [old, new].contains(n))
                && (order.len() == 2 || !in_order)
        }
        _ => false,
    };
    if is_right { Ok(()) } else { Err(format!("chose members {order:?} in this order, counted from 0")) }
}

#[test]
fn one_after_the_other_and_no_third() {
    let table = [
        (&[(0, true), (1, false), (2, false), (0, false), (1, true), (2, false)][..], true, true),
        (&[(0, true), (1, false), (0, false), (1, false), (0, false), (1, true)], true, true),
        // Both in one look, and then the old one again.
        (&[(0, true), (1, true), (0, true), (1, true)], false, true),
        (&[(0, true), (1, false), (2, true), (0, false), (1, true)], false, false),
        (&[(0, true), (1, false)], false, false),
        (&[(1, true)], false, false),
        (&[], false, false),
    ];
    for (seen, in_order, at_all) in table {
        assert_eq!(judge(seen, 0, 1, true).is_ok(), in_order, "{seen:?}");
        assert_eq!(judge(seen, 0, 1, false).is_ok(), at_all, "{seen:?}");
    }
}
