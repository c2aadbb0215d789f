//! What HAProxy's configuration takes for a name, an address and a path (its configuration manual,
//! 2.3 and 4.2, `bind`).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address and a port to bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    text: String,
    /// Empty for all addresses, whichever way HAProxy writes that.
    host: String,
    port: u16,
}

impl Bind {
    pub(super) fn is_same_port(&self, other: &Bind) -> bool {
        let is_same_host = self.host == other.host || self.host.is_empty() || other.host.is_empty();
        self.port == other.port && is_same_host
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = address_and_port(text).ok_or("write it like :5000, 192.0.2.1:5000, [::1]:5000 or none")?;
        Ok(Bind { text: text.to_owned(), host: host.to_owned(), port })
    }
}

/// A name that HAProxy takes (its configuration manual, 2.3).
pub(crate) fn haproxy_name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let is_good = !text.is_empty() && text.chars().all(good);
    if is_good {
        Ok(text.into())
    } else {
        Err("HAProxy takes only letters, digits and the characters -_.: in a name".into())
    }
}

/// The two parts of what is to be bound.
fn address_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let host = match bare.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => "",
        Ok(_) => bare,
        Err(_) if host == "*" => "",
        Err(_) if host.is_empty() || is_host_name(host) => host,
        Err(_) => return None,
    };
    Some((host, port.parse().ok().filter(|port| *port > 0)?))
}

pub(super) fn is_host_name(text: &str) -> bool {
    let labels = text.strip_suffix('.').unwrap_or(text).split('.');
    let is_good =
        |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    text.len() <= 253 && { labels }.all(is_good)
}

/// The path of a Unix socket. HAProxy takes 97 bytes of it.
pub(crate) fn socket_path(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "/-_.:@+".contains(c);
    let is_good = text.starts_with('/') && !text.ends_with('/') && text.len() <= 97 && text.chars().all(good);
    if is_good { Ok(text.into()) } else { Err("an absolute path of at most 97 plain characters, or none".into()) }
}
