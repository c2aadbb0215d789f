//! `patroni-check hold` and `release`: an operator's word, and what it means.

use std::error::Error;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::clock::{Moment, boot_id};
use crate::commands::table::{VIEW_WIDTH, aligned};
use crate::config::{Config, ListenerRole};
use crate::endpoint::Endpoint;
use crate::hold::text::{End, Hold, Standing, format_time};
use crate::hold::{Found, Scope, covers, in_file, standing};
use crate::patroni::body::Body;
use crate::patroni::{Answer, Observation};
use crate::systemd::socket_units::{SocketUnit, socket_units};
use crate::text::printable;
use crate::verdict::{Evidence, Judgement, Sessions, Verdict, judge, too_old};

/// A hold that an operator wants.
#[derive(Debug, Clone)]
pub struct Order {
    /// The views; all of them without any.
    pub on: Vec<Endpoint>,
    /// Open sessions may stay.
    pub drain: bool,
    /// It ends by itself after this.
    pub lasting: Option<Duration>,
    /// Whatever this node serves.
    pub force: bool,
    /// Why.
    pub reason: String,
}

/// Patroni may take this long to say what this node serves, for each endpoint.
const TIMEOUT: Duration = Duration::from_secs(2);

/// `patroni-check hold`: begins a hold and says what that means.
///
/// # Errors
/// Draining is refused, or what kept a file from being written.
pub fn begin(config: &Config, order: &Order) -> Result<(), Box<dyn Error>> {
    if order.drain && !order.force {
        refuse_to_drain(config, &order.on)?;
    }
    let now = Moment::now();
    let end = order.lasting.map(|time| End::after(now, time, boot_id()));
    let sessions = if order.drain { Sessions::MayStay } else { Sessions::Cut };
    let hold = Hold::new(&order.reason, sessions, end);
    let holds = config.holds();
    let all = [holds.of_all().clone()];
    let files = if order.on.is_empty() { all.to_vec() } else { order.on.iter().map(|on| holds.of(on)).collect() };
    for (index, file) in files.iter().enumerate() {
        let but = || match joined(&order.on[..index], "and") {
            held if held.is_empty() => String::new(),
            held => format!("; held is {held}"),
        };
        file.begin(&hold).map_err(|e| format!("{}{}", in_file(file.path(), &e), but()))?;
    }
    let sockets = if order.on.is_empty() { Vec::new() } else { socket_units(config).unwrap_or_default() };
    tell(&order.meaning(&hold, config, &sockets));
    Ok(())
}

/// `patroni-check hold --list`: all holds, in a table.
///
/// # Errors
/// The directory can't be read.
pub fn list(config: &Config) -> io::Result<()> {
    let found = config.holds().found()?;
    let mut table = vec![["ENDPOINT", "WORDS", "UNTIL", "REASON"].map(str::to_owned)];
    table.extend(found.iter().filter_map(cells));
    tell(&if table.len() > 1 { aligned(&table, VIEW_WIDTH).join("\n") } else { "no hold".into() });
    Ok(())
}

/// `patroni-check release`: ends these holds, or all.
///
/// # Errors
/// What kept a file from being removed.
pub fn end(config: &Config, on: &[Endpoint]) -> io::Result<()> {
    let holds = config.holds();
    let files: Vec<_> = if on.is_empty() {
        holds.remove_unfinished();
        // The first one does not need the directory to be readable.
        let beside = holds.found().unwrap_or_else(|_| Vec::new()).into_iter();
        let beside = beside.filter_map(|found| match found.scope {
            Scope::Some(endpoint) => Some((endpoint.to_string(), found.file)),
            Scope::All | Scope::Nothing(_) => None,
        });
        std::iter::once(("all endpoints".to_owned(), holds.of_all().clone())).chain(beside).collect()
    } else {
        let files = |on: &Endpoint| holds.all_of(on).into_iter().map(|file| (on.to_string(), file)).collect::<Vec<_>>();
        on.iter().flat_map(files).collect()
    };
    let (mut released, mut obstacle) = (Vec::new(), None);
    for (what, file) in files {
        let was_over = file.hold().is_some_and(|hold| standing(&hold, Moment::now()) == Standing::Over);
        match file.end() {
            Ok(true) => released.push(if was_over { format!("{what} (it was over)") } else { what }),
            Ok(false) => {}
            Err(e) => obstacle = obstacle.or(Some(in_file(file.path(), &e))),
        }
    }
    let names = released.join(", ");
    let mut text = match &released[..] {
        [] if on.is_empty() => "This node was not held.".to_owned(),
        [] => format!("This node had no hold on {}.", joined(on, "or")),
        [only] if only == "all endpoints" => "Released: Patroni decides again.".to_owned(),
        _ => format!("Released: Patroni decides again on {names}."),
    };
    for endpoint in on {
        if let Some(held) = holds.held(Some(endpoint)) {
            text += &format!("\nBut {endpoint} is still held by another hold: {}", printable(&held.why));
        }
    }
    if obstacle.is_none() || !released.is_empty() {
        tell(&text);
    }
    obstacle.map_or(Ok(()), Err)
}

/// Refuses, unless Patroni says for each endpoint in question that this node does not serve it. What
/// one node serves is gone from the cluster while that one is drained, and clients with a session
/// would not notice.
fn refuse_to_drain(config: &Config, on: &[Endpoint]) -> Result<(), Box<dyn Error>> {
    let of_one = ["/primary", "/leader", "/standby-leader"].map(str::parse::<Endpoint>);
    let asked: Vec<Endpoint> = if on.is_empty() { of_one.into_iter().collect::<Result<_, _>>()? } else { on.to_vec() };
    let client = config.client_within(TIMEOUT)?;
    for endpoint in asked.iter().filter(|endpoint| endpoint.is_for_one()) {
        let observation = client.get_within(endpoint, Instant::now(), TIMEOUT);
        let judged = judge(endpoint, &observation);
        let why = printable(judged.verdict.why());
        if serves(&judged) {
            return Err(format!(
                "not held: this node serves {endpoint} ({why}), and no other would take new sessions while it drains; \
                 run patronictl switchover first, or hold it with --force"
            )
            .into());
        }
        if !stands_by(&judged) && !is_too_old(endpoint, &observation) {
            return Err(format!(
                "not held: Patroni does not say that this node does not serve {endpoint} ({why}), and draining is for \
                 one that does not; --force holds it whatever Patroni says"
            )
            .into());
        }
    }
    Ok(())
}

/// Then the service never says that this node serves it.
fn is_too_old(endpoint: &Endpoint, observation: &Observation) -> bool {
    matches!(observation, Ok(Answer { body: Body::Node(node), .. }) if too_old(endpoint, node).is_some())
}

/// Now, or in a moment.
fn serves(judged: &Judgement) -> bool {
    let is_promoted = matches!(judged.evidence, Evidence::Conclusive { has_lock: Some(true) });
    matches!(judged.verdict, Verdict::Serve(_)) || is_promoted && matches!(judged.verdict, Verdict::StandBy(..))
}

/// Whatever may be remembered of this node.
fn stands_by(judged: &Judgement) -> bool {
    matches!(judged.verdict, Verdict::StandBy(..)) && matches!(judged.evidence, Evidence::Conclusive { .. })
}

impl Order {
    /// What is so from now on.
    fn meaning(&self, hold: &Hold, config: &Config, sockets: &[SocketUnit]) -> String {
        let words = if self.drain { "DRAIN" } else { "MAINT" };
        let scope = if self.on.is_empty() { String::new() } else { format!(" on {}", joined(&self.on, "and")) };
        let mut how = config.instance.as_ref().map_or_else(String::new, |name| format!(" --instance {name}"));
        how.extend(self.on.iter().map(|on| format!(" --on '{on}'")));
        let end = hold.end.as_ref().zip(self.lasting).map_or_else(String::new, |(end, lasting)| {
            format!("until {}, in {}, or ", format_time(end.wall), humantime::format_duration(lasting))
        });
        let mut lines = vec![format!(
            "Held: from the next check on this node answers {words}{scope}, {end}until you run: patroni-check release{how}"
        )];
        if self.drain {
            lines.push("HAProxy opens no new sessions here. Open ones stay until their clients end them.".into());
        }
        let is_for_one = self.on.is_empty() || self.on.iter().any(Endpoint::is_for_one);
        if is_for_one && !self.drain {
            lines.push(
                "If this node is the primary, no node takes writes now. Better run patronictl switchover before a hold."
                    .into(),
            );
        }
        if is_for_one && self.drain && self.force {
            lines.push("If this node is the primary, no node takes new sessions for writes now.".into());
        }
        match hold.end.as_ref().map(|end| end.boot.is_some()) {
            Some(true) => lines.push("It ends by itself. A clock that is set ahead does not end it early.".into()),
            Some(false) => lines.push("It ends by itself, when the clock of this host says so.".into()),
            None => {}
        }
        lines.extend(
            self.on
                .iter()
                .filter(|on| !is_answered(on, config, sockets))
                .map(|on| format!("No socket of this host answers for {on}, as far as systemd knows.")),
        );
        lines.join("\n")
    }
}

/// Whether a socket is there for views that a hold on this is about. Where no socket is known, others
/// may be there than systemd's.
fn is_answered(on: &Endpoint, config: &Config, sockets: &[SocketUnit]) -> bool {
    let listed = || config.listed_views().any(|view| covers(on, &view.endpoint));
    let is_for = |socket: &SocketUnit| match socket.role.parse::<ListenerRole>() {
        Ok(ListenerRole::View(view)) => covers(on, &view.endpoint),
        Ok(ListenerRole::AgentSend | ListenerRole::Http) => listed(),
        _ => false,
    };
    sockets.is_empty() || sockets.iter().any(is_for)
}

fn joined(endpoints: &[Endpoint], word: &str) -> String {
    let names: Vec<_> = endpoints.iter().map(Endpoint::to_string).collect();
    match &names[..] {
        [all @ .., last] if !all.is_empty() => format!("{} {word} {last}", all.join(", ")),
        _ => names.concat(),
    }
}

/// A hold's line in the table; none for one that was removed meanwhile.
fn cells(found: &Found) -> Option<[String; 4]> {
    let what = match &found.scope {
        Scope::All => "(all)".to_owned(),
        Scope::Some(endpoint) => endpoint.to_string(),
        Scope::Nothing(_) => found.file.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    if let Scope::Nothing(why) = &found.scope {
        return Some([what, "-".into(), "-".into(), why.clone()]);
    }
    let hold = found.file.hold()?;
    let standing = standing(&hold, Moment::now());
    let words = if hold.sessions == Sessions::MayStay { "drain" } else { "maint" };
    let until = hold.end.as_ref().map_or("-".into(), |end| format_time(end.wall));
    let over = if standing == Standing::Over { ", over" } else { "" };
    let notes = hold.notes(standing);
    let notes = if notes.is_empty() { notes } else { format!("({notes}) ") };
    Some([what, words.into(), until + over, notes + &hold.reason])
}

/// What is done is done, whether anybody reads of it or not.
fn tell(what: &str) {
    let _ = writeln!(io::stdout(), "{what}");
}
