//! What happens in a month: the sequence follows from the seed alone.

use std::time::Duration;

use fastrand::Rng;
use lab::fake_patroni::{Behaviour, Step, answer};

use crate::hostile::Hostile;
use crate::rule::Said;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Patroni says this for so long.
    Says(Saying, Duration),
    /// An operator holds the node, for so many seconds or until the next release.
    Hold {
        drain: bool,
        seconds: Option<u64>,
    },
    Release,
    Restart,
    /// SIGKILL.
    Crash,
    /// Another file with the program takes the place of the old one.
    Upgrade,
    /// journald stands still for so long.
    JournalStalls(Duration),
    /// The host sleeps for so many seconds while the service is restarted: the clock since the boot
    /// is ahead.
    HostSleeps(u64),
    /// Patroni gets another certificate of the same authority.
    RenewsCertificate,
    Hostile(Hostile),
}

/// What Patroni is made to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saying {
    /// Status, state, role, and what stands in the body beside them.
    Node(u16, &'static str, &'static str, &'static str),
    /// The same of a primary, after so many milliseconds.
    Slow(u64),
    /// A primary that nobody holds the lock of, as far as a Patroni knows that can't look.
    Blind,
    /// What a real Patroni said.
    Recorded(String),
    Silent(Silence),
    /// What no Patroni sends.
    Garbage(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    Refused,
    Hang,
    Close,
    Reset,
    HeadCutShort,
    BodyCutShort,
    Drip,
}

pub const PRIMARY: Saying = Saying::Node(200, "running", "primary", "");
const UNLOCKED: &str = r#", "cluster_unlocked": true"#;
const PAUSED: &str = r#", "pause": true"#;
const PAUSED_UNLOCKED: &str = r#", "pause": true, "cluster_unlocked": true"#;

/// Each with how often it comes.
const NODES: [(u32, Saying); 22] = [
    (30, PRIMARY),
    (5, Saying::Node(200, "running", "master", "")),
    (10, Saying::Node(503, "running", "replica", "")),
    (4, Saying::Node(200, "running", "replica", "")),
    (3, Saying::Node(200, "stopping", "primary", "")),
    (2, Saying::Node(200, "starting", "primary", "")),
    (2, Saying::Node(200, "crashed", "primary", "")),
    (2, Saying::Node(503, "starting", "replica", "")),
    (3, Saying::Node(503, "stopped", "demoted", "")),
    (4, Saying::Node(200, "unknown", "primary", "")),
    (3, Saying::Node(503, "unknown", "primary", "")),
    (2, Saying::Node(503, "unknown", "replica", "")),
    (12, Saying::Node(503, "running", "primary", UNLOCKED)),
    (4, Saying::Node(200, "running", "primary", UNLOCKED)),
    (8, Saying::Node(503, "running", "primary", "")),
    (6, Saying::Node(200, "running", "primary", PAUSED_UNLOCKED)),
    (3, Saying::Node(503, "running", "primary", PAUSED_UNLOCKED)),
    (4, Saying::Node(200, "running", "primary", PAUSED)),
    (3, Saying::Node(503, "running", "primary", PAUSED)),
    (3, Saying::Node(503, "running", "replica", PAUSED)),
    (4, Saying::Blind),
    (4, Saying::Garbage("HTTP/1.0 404 Not Found\r\n\r\nno such page")),
];

const SILENCES: [Silence; 7] = [
    Silence::Refused,
    Silence::Hang,
    Silence::Close,
    Silence::Reset,
    Silence::HeadCutShort,
    Silence::BodyCutShort,
    Silence::Drip,
];

fn milliseconds(random: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.u64(from..to))
}

/// The events between two looks at the service.
pub fn chapter(random: &mut Rng, recorded: &[String]) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < 16 {
        if random.bool() {
            // What a month is mostly made of, and what most faults begin with.
            events.push(Event::Says(PRIMARY, milliseconds(random, 150, 400)));
        }
        events.push(says(random, recorded));
        match random.u32(0..100) {
            0..4 => events.push(Event::Restart),
            4..7 => events.push(Event::Crash),
            7..9 => events.push(Event::Upgrade),
            9..12 => events.push(Event::JournalStalls(milliseconds(random, 100, 3000))),
            12..14 => {
                // In a silence, so that all there is is from before.
                events.push(Event::Says(Saying::Silent(Silence::Close), milliseconds(random, 200, 1000)));
                events.push(Event::HostSleeps(random.u64(6..4000)));
            }
            14..20 => events.push(Event::RenewsCertificate),
            20..27 => {
                let seconds = random.bool().then(|| random.u64(1..4));
                events.push(Event::Hold { drain: random.bool(), seconds });
                (0..random.u32(1..5)).for_each(|_| events.push(says(random, recorded)));
                events.push(Event::Release);
            }
            27..40 => events.push(Event::Hostile(Hostile::any(random))),
            _ => {}
        }
    }
    events
}

fn says(random: &mut Rng, recorded: &[String]) -> Event {
    let time = match random.u32(0..10) {
        0..2 => milliseconds(random, 1, 120),
        2..8 => milliseconds(random, 120, 500),
        _ => milliseconds(random, 500, 1500),
    };
    let saying = match random.u32(0..100) {
        0..15 => {
            let silence = *random.choice(&SILENCES).expect("some");
            // Beyond the grace, or well within it.
            let is_long = random.u32(0..5) == 0;
            let time = if is_long { milliseconds(random, 4500, 8000) } else { 3 * time };
            return Event::Says(Saying::Silent(silence), time);
        }
        15..20 => Saying::Slow(random.u64(10..300)),
        20..30 => Saying::Recorded(random.choice(recorded).expect("some").clone()),
        30..32 => Saying::Garbage("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),
        _ => {
            let mut left = random.u32(0..NODES.iter().map(|(often, _)| often).sum());
            let node = NODES.iter().find(|(often, _)| left.checked_sub(*often).map(|less| left = less).is_none());
            let node = node.expect("one of them").1.clone();
            if node == Saying::Node(503, "running", "primary", UNLOCKED) && random.u32(0..6) == 0 {
                // Beyond the grace.
                return Event::Says(node, milliseconds(random, 5500, 8000));
            }
            node
        }
    };
    Event::Says(saying, time)
}

impl Saying {
    /// What the fake Patroni is to do, after what time, and what that means. The number is the
    /// timeline, by which the reply says what it follows from.
    pub fn play(&self, number: u32) -> (Behaviour, Duration, Said) {
        let now = Duration::ZERO;
        let bytes = match self {
            Saying::Node(status, state, role, more) => node(*status, state, role, number, more),
            Saying::Slow(_) => node(200, "running", "primary", number, ""),
            Saying::Blind => {
                let text = node(
                    503,
                    "running",
                    "primary",
                    number,
                    r#", "cluster_unlocked": true, "dcs_last_seen": 1795487900"#,
                );
                let text = String::from_utf8(text).expect("text");
                text.replacen("\r\n", "\r\nDate: Tue, 24 Nov 2026 02:39:42 GMT\r\n", 1).into_bytes()
            }
            Saying::Recorded(answer) => numbered(answer, number),
            Saying::Silent(silence) => return (silence.behaviour(number), now, Said::silence()),
            Saying::Garbage(text) => return (Behaviour::Send(text.as_bytes().to_vec()), now, Said::garbage()),
        };
        let said = Said::by(&bytes);
        let time = if let Saying::Slow(time) = self { Duration::from_millis(*time) } else { now };
        (Behaviour::Send(bytes), time, said)
    }

    /// In the report.
    pub fn kind(&self) -> &'static str {
        match self {
            Saying::Node(..) | Saying::Slow(_) | Saying::Blind => "states and roles",
            Saying::Recorded(_) => "recorded answers",
            Saying::Silent(_) => "silences",
            Saying::Garbage(_) => "garbage",
        }
    }
}

fn node(status: u16, state: &str, role: &str, number: u32, more: &str) -> Vec<u8> {
    let body = format!(r#"{{"state": "{state}", "role": "{role}", "timeline": {number}{more}}}"#);
    let Behaviour::Send(bytes) = answer(status, &body) else { unreachable!("an answer is sent") };
    bytes
}

/// A recorded answer with this timeline, where it had one or null.
fn numbered(answer: &str, number: u32) -> Vec<u8> {
    let Some((before, after)) = answer.split_once(r#""timeline": "#) else { return answer.into() };
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit() || "nul".contains(c));
    format!(r#"{before}"timeline": {number}{after}"#).into_bytes()
}

impl Silence {
    fn behaviour(self, number: u32) -> Behaviour {
        let whole = node(200, "running", "primary", number, "");
        let cut = |at: usize| Behaviour::Script(vec![Step::Send(whole[..at].to_vec())]);
        match self {
            // The port is closed beside that.
            Silence::Refused | Silence::Close => Behaviour::Close,
            Silence::Hang => Behaviour::Script(vec![Step::Hang]),
            Silence::Reset => Behaviour::Script(vec![Step::Reset]),
            Silence::HeadCutShort => cut(30),
            Silence::BodyCutShort => cut(whole.len() - 10),
            Silence::Drip => Behaviour::Script(vec![Step::Drip(whole[..100].to_vec(), Duration::from_millis(20))]),
        }
    }
}
