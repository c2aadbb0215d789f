//! Values of options: what each may be, and what is said of one that may not.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::commands::haproxy_config::ConfigFormat;
use crate::config::{HOLD_FILE, ListenerRole};
use crate::haproxy::config_text::Fallback;
use crate::haproxy::reply::ReplyFormat;
use crate::haproxy::syntax::socket_path;
use crate::text;
use crate::view::{View, Words};

/// 5 s at most: a service that is stopped has answered all checks before TimeoutStopSec= is over.
pub const DEADLINES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(5);

/// Longer waits are for a loop around it.
pub(super) const WAITS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// What lasts longer is no maintenance.
pub(super) const HOLDS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(366 * 24 * 3600);

/// A member that is gone shows as DOWN in HAProxy for so long.
pub(super) const ABSENCES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(30 * 24 * 3600);

/// HAProxy's own default is 2 s.
pub(super) const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);

/// A socket to bind, and its role where that is not the default view's.
#[derive(Debug, Clone)]
pub(super) struct Listen {
    pub(super) address: SocketAddr,
    role: Option<ListenerRole>,
}

impl Listen {
    pub(super) fn role_or(self, default: &View) -> ListenerRole {
        self.role.unwrap_or_else(|| ListenerRole::View(default.clone()))
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, role) = match text.split_once('=') {
            Some((address, role)) => (address, Some(role.parse()?)),
            None => (text, None),
        };
        let address =
            address.parse().map_err(|_| "write an IP address and a port, like 127.0.0.1:5555 or [::]:5555")?;
        Ok(Listen { address, role })
    }
}

/// A value, or the word `none`.
#[derive(Debug, Clone)]
pub(super) struct OrNone<T>(pub(super) Option<T>);

impl<T: FromStr> FromStr for OrNone<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "none" { Ok(OrNone(None)) } else { text.parse().map(|value| OrNone(Some(value))) }
    }
}

/// The path of HAProxy's admin socket.
#[derive(Debug, Clone)]
pub(super) struct SocketPath(pub(super) String);

impl FromStr for SocketPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        socket_path(text).map(SocketPath)
    }
}

/// Names of reply formats, as completions explain them.
pub(super) const FORMATS: Words<ReplyFormat> = &[
    ("full", "Two words and the reason: MAINT UP # replica streaming", ReplyFormat::Full),
    ("plain", "One word: READY or MAINT", ReplyFormat::Plain),
];

/// Names of what `haproxy-config` writes.
pub(super) const CONFIG_FORMATS: Words<ConfigFormat> = &[
    ("haproxy", "A commented configuration", ConfigFormat::Haproxy),
    ("json", "The members, for templates", ConfigFormat::Json),
];

/// Names of what becomes of reads when no replica is left.
pub(super) const FALLBACKS: Words<Fallback> = &[
    ("none", "No server is left for reads", Fallback::None),
    ("keep", "The primary takes them, and their sessions stay there", Fallback::Keep),
    ("cut", "The primary takes them until a replica is back", Fallback::Cut),
];

/// One of these, by its name.
pub(super) fn one_of<T: Copy + Send + Sync + 'static>(words: Words<T>) -> impl TypedValueParser<Value = T> {
    let values = words.iter().map(|(name, help, _)| PossibleValue::new(*name).help(*help));
    PossibleValuesParser::new(values).try_map(move |given| {
        let found = words.iter().find(|(name, _, _)| *name == given);
        found.map(|(_, _, value)| *value).ok_or("an unknown value")
    })
}

/// A duration in a range.
pub(super) fn duration(typed: &str, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = text::duration(typed)?;
    let (least, most) = (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
    if range.contains(&duration) { Ok(duration) } else { Err(format!("out of range: {least} to {most}")) }
}

/// systemd's words (systemd.syntax(7)).
pub(super) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Ok(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Ok(false),
        _ => Err("write yes or no".into()),
    }
}

/// A file by its whole path, because the service has another working directory than a person.
pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    let is_file = text.starts_with('/') && !text.ends_with('/');
    if is_file { Ok(text.into()) } else { Err(format!("write the whole path of a file, like {HOLD_FILE}")) }
}
