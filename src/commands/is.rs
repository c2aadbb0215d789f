//! `patroni-check is`: whether this node may take an endpoint's traffic, as an exit status.

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::config::{BadConfiguration, Config};
use crate::observe::look;
use crate::text::printable;
use crate::verdict::Verdict;
use crate::view::View;

/// Patroni is asked ten times a second at most.
const PAUSE: Duration = Duration::from_millis(100);

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// The view whose traffic it is about.
    pub view: View,
    /// Nothing is printed for a yes or a no.
    pub quiet: bool,
    /// How long to wait for a yes.
    pub wait: Duration,
    /// How long Patroni may take for one answer, unless there is longer to wait.
    pub deadline: Duration,
    /// Exit status 255 in place of 2.
    pub strict: bool,
}

/// The exit statuses, as they are without `--strict`.
const YES: u8 = 0;
const NO: u8 = 1;
const UNKNOWN: u8 = 2;

/// What `--strict` makes of `UNKNOWN`: systemd's `ExecCondition=` takes anything lower for a no
/// (systemd.service(5)).
pub const STRICT: u8 = 255;

/// Asks Patroni, again and again if it is to wait, and prints what the last answer means.
///
/// # Errors
/// Wrong configuration.
pub fn run(config: &Config, question: &Question) -> Result<ExitCode, BadConfiguration> {
    let start = Instant::now();
    let (verdict, status) = loop {
        let began = Instant::now();
        // A request that Patroni sits on is waited for and not repeated: each one that was left behind
        // would keep one more of Patroni's workers.
        let limit = question.deadline.max(question.wait.saturating_sub(start.elapsed()));
        let verdict = ask(config, question, limit)?;
        let status = match verdict {
            Verdict::Serve(_) => YES,
            Verdict::StandBy(..) | Verdict::Calm(..) | Verdict::Held(..) => NO,
            Verdict::Fail(_) => UNKNOWN,
        };
        if status == YES || start.elapsed() + PAUSE > question.wait {
            break (verdict, status);
        }
        sleep(PAUSE.saturating_sub(began.elapsed()));
    };
    if !question.quiet || status == UNKNOWN {
        // The status is the answer, whether anybody reads the line or not: an error would be a no.
        let _ = writeln!(stdout(), "{}: {}, {}", question.view, verdict.word(), printable(verdict.why()));
    }
    Ok(ExitCode::from(if status == UNKNOWN && question.strict { STRICT } else { status }))
}

fn ask(config: &Config, question: &Question, limit: Duration) -> Result<Verdict, BadConfiguration> {
    let client = config.client_within(question.deadline)?;
    let (subject, start) = (config.subject(&question.view), Instant::now());
    let look = look(&subject, question.deadline, || client.get_within(&subject.endpoint, start, limit));
    Ok(config.holds().overriding(Some(&subject.endpoint), look.judgement.verdict))
}
