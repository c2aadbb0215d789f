//! What there is to say of this node.

use std::error::Error;
use std::time::Duration;

use super::requests::{Lag, Requests};
use crate::clock::Moment;
use crate::config::{Config, Instance};
use crate::endpoint::Endpoint;
use crate::haproxy::reply::{Reply, ReplyFormat};
use crate::hold::file::HoldFile;
use crate::hold::text::{Standing, format_time};
use crate::hold::{Held, Scope, covers, standing, time_left};
use crate::memory::file::Directory;
use crate::observe::{Look, look};
use crate::patroni::Client;
use crate::patroni::body::{Body, Node};
use crate::systemd::socket_units::{SocketUnit, socket_units};
use crate::verdict::{Verdict, is_being_promoted, judge, too_old};
use crate::view::View;

/// Why the service may say something else.
const UNLOCKED: &str = "Nobody holds the leader lock, as far as this Patroni knows. The service keeps its last verdict \
    for --grace, and in a paused cluster for as long as this lasts. explain judges without what is remembered.";

/// What a monitoring check makes of it (Monitoring Plugins' development guidelines, "Plugin Return
/// Codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    Ok,
    Warning,
    Critical,
}

/// What there is to say of an endpoint.
pub(super) struct Row {
    pub(super) view: View,
    pub(super) status: Option<u16>,
    pub(super) verdict: Verdict,
    pub(super) is_being_promoted: bool,
    pub(super) full: Option<Reply>,
    pub(super) plain: Option<Reply>,
    pub(super) why: String,
    pub(super) held: Option<Held>,
}

/// What the service, or the last process for a check, has left of an endpoint.
pub(super) struct Remembered {
    pub(super) view: View,
    /// The last conclusive one, and the age of its observation; none where there was none yet.
    pub(super) conclusive: Option<(Verdict, Duration)>,
    /// Whether this node held the lock when Patroni last knew who does.
    pub(super) lock_was_here: Option<bool>,
}

pub(super) struct Explanation {
    pub(super) client: Client,
    pub(super) health: Health,
    pub(super) summary: String,
    pub(super) node: Option<Node>,
    pub(super) lag: Option<Lag>,
    pub(super) rows: Vec<Row>,
    pub(super) hints: Vec<String>,
    pub(super) sockets: Vec<SocketUnit>,
    pub(super) remembered: Vec<Remembered>,
}

impl Explanation {
    pub(super) fn new(config: &Config, named: &[View]) -> Result<Self, Box<dyn Error>> {
        let client = config.client()?;
        let health: Endpoint = "/health".parse()?;
        let mut requests = Requests::to(&client);
        let first = requests.observe(&health);
        let views = if named.is_empty() { Endpoint::all().map(View::from).collect() } else { named.to_vec() };
        let rows = views.into_iter().map(|view| {
            let look = look(&config.subject(&view), config.limits.deadline, || {
                if first.is_err() { first.clone() } else { requests.observe(&view.endpoint) }
            });
            Row::new(config, view, look)
        });
        let rows: Vec<_> = rows.collect();
        let node = match &first {
            Ok(answer) => match &answer.body {
                Body::Node(node) => Some(node.clone()),
                _ => None,
            },
            Err(_) => None,
        };
        let node_verdict = judge(&health, &first).verdict;
        let (health, summary) = sum_up(config, &node_verdict, node.as_ref(), &rows, !named.is_empty());
        let lag = node.as_ref().and_then(|node| requests.lag(node));
        let mut hints = requests.hints(first.as_ref().err());
        if node.as_ref().is_some_and(|node| node.cluster_unlocked && !node.failsafe_mode_is_active) {
            let service = config.instance.as_ref().map_or_else(|| "patroni-check".into(), Instance::service);
            hints.push(format!("{UNLOCKED} systemctl status {service} shows what the service says."));
        }
        hints.extend(of_holds(config, &rows));
        let sockets = socket_units(config).unwrap_or_else(|why| {
            hints.push(why);
            Vec::new()
        });
        let remembered = remembered(config, &mut hints);
        Ok(Explanation { client, health, summary, node, lag, rows, hints, sockets, remembered })
    }
}

impl Row {
    fn new(config: &Config, view: View, look: Look) -> Self {
        let endpoint = &view.endpoint;
        let answer = look.observation.as_ref().and_then(|observation| observation.as_ref().ok());
        let status = answer.map(|answer| answer.status);
        let is_being_promoted = answer.is_some_and(
            |answer| matches!(&answer.body, Body::Node(node) if is_being_promoted(endpoint, answer.status, node)),
        );
        let judged = look.judgement.verdict;
        let vetoed = status == Some(200) && !matches!(judged, Verdict::Serve(_));
        let held = config.holds().held(Some(endpoint));
        let verdict = match held.clone() {
            Some(held) => held.overriding(Some(endpoint), &judged),
            None => judged,
        };
        let why =
            if vetoed && held.is_none() { format!("200 vetoed: {}", verdict.why()) } else { verdict.why().to_owned() };
        // Options that plain words or one endpoint refuse are no reason not to show all else.
        let reply = |format| config.reply_policy_in(format, &view).ok()?.reply(&verdict);
        let (full, plain) = (reply(ReplyFormat::Full), reply(ReplyFormat::Plain));
        Row { view, status, verdict, is_being_promoted, full, plain, why, held }
    }
}

/// When holds end by themselves, and files that look like holds and are none.
fn of_holds(config: &Config, rows: &[Row]) -> Vec<String> {
    let holds = config.holds();
    // Whoever may not look there may not see what is there.
    let found = holds.found().unwrap_or_default();
    let of_files = found.iter().filter_map(|found| match &found.scope {
        Scope::Nothing(why) => Some(format!("{} {why}.", found.file.path().display())),
        Scope::All => of_end(&found.file, "The hold"),
        Scope::Some(on) if rows.iter().any(|row| covers(on, &row.view.endpoint)) => {
            of_end(&found.file, &format!("The hold on {on}"))
        }
        Scope::Some(_) => None,
    });
    of_files.collect()
}

fn of_end(file: &HoldFile, what: &str) -> Option<String> {
    let hold = file.hold()?;
    let (end, now) = (hold.end.as_ref()?, Moment::now());
    let (time, left) = (format_time(end.wall), time_left(end, now));
    match standing(&hold, now) {
        Standing::Over => None,
        Standing::Holds => Some(format!("{what} ends by itself at {time}, in {left}.")),
        Standing::ClockJumped => Some(format!(
            "{what} ends by itself in {left}. The clock of this host was set ahead, past {time}, and does not end it."
        )),
    }
}

/// What is remembered of each endpoint. Why something is not to be seen is a hint.
fn remembered(config: &Config, hints: &mut Vec<String>) -> Vec<Remembered> {
    let now = Moment::now();
    let read = |directory: &Directory, view: View| {
        let memory = directory.file(&config.subject(&view)).load()?;
        Ok(memory.map(|memory| Remembered {
            view,
            conclusive: memory.conclusive().map(|(began, verdict)| (verdict.clone(), now.since(began))),
            lock_was_here: memory.lock_was_here(),
        }))
    };
    let found = Directory::of(config).and_then(|directory| match directory {
        Some(directory) => Ok(directory.views()?.into_iter().map(|view| read(&directory, view)).collect()),
        None => Ok(Vec::new()),
    });
    let found: Vec<Result<_, String>> = found.unwrap_or_else(|why| vec![Err(why)]);
    found
        .into_iter()
        .filter_map(|found| {
            found.unwrap_or_else(|why| {
                hints.push(format!("What is remembered can't be read: {why}"));
                None
            })
        })
        .collect()
}

/// The first line: the node in a few words.
fn sum_up(config: &Config, verdict: &Verdict, node: Option<&Node>, rows: &[Row], named: bool) -> (Health, String) {
    if let (Verdict::Fail(why), _) | (Verdict::StandBy(why, _) | Verdict::Held(why, _), None) = (verdict, node) {
        return (Health::Critical, why.clone() + &node.map_or_else(String::new, Node::cluster_flags));
    }
    let node_says = node.map_or_else(String::new, |node| {
        let timeline = node.timeline.map_or_else(String::new, |timeline| format!(", timeline {timeline}"));
        format!("{} {}{timeline}{}", node.role_text(), node.state, node.cluster_flags())
    });
    let is_too_old = |row: &&Row| node.is_some_and(|node| too_old(&row.view.endpoint, node).is_some());
    let failed: Vec<&Row> = rows.iter().filter(|row| matches!(row.verdict, Verdict::Fail(_))).collect();
    match failed.iter().find(|row| named || !is_too_old(row)) {
        Some(row) if named => (Health::Critical, format!("{}: {}", row.view, row.why)),
        Some(row) => (Health::Warning, format!("{node_says}, but {}: {}", row.view, row.why)),
        None => match (config.holds().held(None), rows.iter().find(|row| row.held.is_some())) {
            (Some(held), _) => (Health::Warning, format!("{node_says}, {}", held.why)),
            (None, Some(row)) => (Health::Warning, format!("{node_says}, {} {}", row.view, row.why)),
            _ if node.is_some_and(|node| node.cluster_unlocked) => (Health::Warning, node_says),
            _ => match rows.iter().find(|row| row.is_being_promoted) {
                Some(row) => (Health::Warning, format!("{node_says}, but {}: {}", row.view, row.why)),
                None => (Health::Ok, node_says),
            },
        },
    }
}
