//! Patroni's configuration file, as far as it says where Patroni and Postgres are (Patroni's
//! manual, "YAML Configuration Settings").

use std::collections::BTreeMap;
use std::net::IpAddr;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::base_url::{BaseUrl, LOCALHOST};

/// What these say is read: of sections, and of a section each key with a single value.
const SECTIONS: [&str; 3] = ["ctl", "postgresql", "restapi"];

/// What a configuration says of its Patroni.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The cluster's name.
    pub scope: String,
    /// Where its REST API is to be asked from this host.
    pub base: BaseUrl,
    /// Whether the host there is the one that Patroni announces, where its certificate is for that:
    /// it may be another host's.
    pub is_host_announced: bool,
    /// Postgres' port, if it is said.
    pub postgres_port: Option<u16>,
    /// The authority that Patroni's own tools trust.
    pub cacert: Option<String>,
    /// Whether Patroni wants a certificate of all who ask.
    pub asks_for_certificate: bool,
    /// Where it listens, and what it is called there; a host is empty where it means all addresses.
    hosts: Vec<String>,
}

impl Configuration {
    /// Reads it; none where the file is another one, such as Debian's `dcs.yml`.
    ///
    /// # Errors
    /// In a few words, what is wrong with it, or what it does not say.
    pub fn read(text: &str) -> Result<Option<Self>, String> {
        let values = values(text)?;
        let value = |key: &str| values.get(key).map(String::as_str).filter(|value| !value.is_empty());
        if !["restapi", "postgresql"].iter().any(|section| values.contains_key(*section)) {
            return Ok(None);
        }
        let scope = value("scope").ok_or("it has no scope")?;
        let listen = value("restapi.listen").ok_or("it has no restapi.listen")?;
        let (host, port) = host_and_port(listen, None).map_err(|why| format!("restapi.listen: {why}"))?;
        let announced = value("restapi.connect_address").map(|address| host_and_port(address, Some(port)));
        let announced = announced.transpose().map_err(|why| format!("restapi.connect_address: {why}"))?;
        let announced = announced.map(|(host, _)| host).filter(|host| !host.is_empty());
        let is_https = value("restapi.certfile").is_some();
        // The certificate is for the host that Patroni announces. The port there may be that of a proxy.
        let asked = announced.as_deref().filter(|_| is_https);
        let is_host_announced = asked.is_some_and(|asked| asked != host);
        let asked = asked.unwrap_or(if host.is_empty() { LOCALHOST } else { &host });
        let scheme = if is_https { "https" } else { "http" };
        let brackets = if asked.contains(':') { ("[", "]") } else { ("", "") };
        let base = format!("{scheme}://{}{asked}{}:{port}", brackets.0, brackets.1);
        let verify = value("restapi.verify_client");
        Ok(Some(Configuration {
            scope: scope.to_owned(),
            base: base.parse().map_err(|why| format!("restapi: {why}"))?,
            is_host_announced,
            postgres_port: value("postgresql.listen").map(postgres_port).transpose()?.flatten(),
            cacert: value("ctl.cacert").map(str::to_owned),
            asks_for_certificate: is_https && verify.is_some_and(|verify| verify.eq_ignore_ascii_case("required")),
            hosts: [host].into_iter().chain(announced).collect(),
        }))
    }

    /// Whether who asks there asks this Patroni.
    pub fn is_at(&self, base: &BaseUrl) -> bool {
        let asked = base.host().trim_matches(['[', ']']);
        let is_same = |host: &String| host.is_empty() || host == asked || is_local(host) && is_local(asked);
        self.base.port() == base.port() && self.hosts.iter().any(is_same)
    }

    /// Whether both would listen at one port, unless that is at addresses that are known to be two.
    pub fn is_in_the_way_of(&self, other: &Self) -> bool {
        let (own, others) = (&self.hosts[0], &other.hosts[0]);
        let is_address = |host: &String| host.parse::<IpAddr>().is_ok() || is_local(host);
        let are_two = is_address(own) && is_address(others) && own != others && !(is_local(own) && is_local(others));
        self.base.port() == other.base.port() && !are_two
    }

    /// The ports on this host.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        [self.base.port()].into_iter().chain(self.postgres_port)
    }
}

fn is_local(host: &str) -> bool {
    matches!(host, LOCALHOST | "127.0.0.1" | "::1")
}

/// Postgres' port; none where Patroni takes no address from it, because it is a number for YAML.
fn postgres_port(listen: &str) -> Result<Option<u16>, String> {
    let is_number = listen.bytes().all(|byte| byte.is_ascii_digit());
    // The default is Patroni's own (`get_server_parameters` in `patroni/postgresql/config.py`).
    let address = (!is_number).then(|| host_and_port(listen, Some(5432))).transpose();
    Ok(address.map_err(|why| format!("postgresql.listen: {why}"))?.map(|(_, port)| port))
}

/// An address as Patroni reads it (`split_host_port` in `patroni/utils.py`); the host is in lower
/// case, without brackets, and empty where it means all addresses.
fn host_and_port(text: &str, default: Option<u16>) -> Result<(String, u16), String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.trim().parse().ok().filter(|port| *port > 0)),
        None => (text, default),
    };
    let port = port.ok_or_else(|| format!("{text} has no port"))?;
    let host = host.trim().trim_matches(['[', ']']).to_ascii_lowercase();
    let host = match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) if address.is_unspecified() => String::new(),
        Ok(address) => address.to_string(),
        Err(_) if host == "*" => String::new(),
        Err(_) => host,
    };
    Ok((host, port))
}

/// What Python takes for nothing, as YAML writes it.
fn is_nothing(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "~" | "null" | "false" | "no" | "off" | "0")
}

/// A mapping or a list that is not over yet.
struct Level {
    is_mapping: bool,
    /// Whose value comes next.
    key: Option<String>,
}

/// The single values at the top, and in the sections that are read, as `section.key`; what is no
/// single value is there as an empty one. PyYAML takes the last of a key, too, and of a section.
///
/// Event by event: nothing is built but these few values, whatever a file nests or repeats.
fn values(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    let mut levels: Vec<Level> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, at) = event.map_err(|e| format!("line {}: {}", e.marker().line(), e.info()))?;
        let refused = |what: &str| Err(format!("line {}: {what}", at.start.line()));
        // What stands before the keys here; none where they are nobody's business.
        let prefix = match &levels[..] {
            [top] if top.is_mapping => Some(String::new()),
            [Level { is_mapping: true, key: Some(section) }, inner] => {
                let is_read = inner.is_mapping && SECTIONS.contains(&section.as_str());
                is_read.then(|| format!("{section}."))
            }
            _ => None,
        };
        let value = match &event {
            // Patroni reads one document.
            Event::DocumentStart(_) if !found.is_empty() => return refused("a second document"),
            Event::Alias(_) if prefix.is_some() => return refused("an alias is not read here"),
            Event::Scalar(text, style, ..) => {
                if *style == ScalarStyle::Plain && is_nothing(text) {
                    ""
                } else {
                    text
                }
            }
            Event::MappingStart(..) | Event::SequenceStart(..) => "",
            Event::MappingEnd | Event::SequenceEnd => {
                levels.pop();
                if let Some(level) = levels.last_mut() {
                    level.key = None;
                }
                continue;
            }
            _ => continue,
        };
        let is_single = matches!(event, Event::Scalar(..));
        if let (Some(prefix), Some(Level { key, .. })) = (prefix, levels.last_mut()) {
            match key {
                Some(key) => {
                    if prefix.is_empty() && SECTIONS.contains(&key.as_str()) {
                        let section = format!("{key}.");
                        found.retain(|key: &String, _| !key.starts_with(&section));
                    }
                    found.insert(prefix + key, value.to_owned());
                }
                None if !is_single => return refused("a key that is no word"),
                None if value == "<<" => return refused("<< is not read here"),
                None => {
                    *key = Some(value.to_owned());
                    continue;
                }
            }
            if is_single {
                *key = None;
            }
        }
        if !is_single {
            levels.push(Level { is_mapping: matches!(event, Event::MappingStart(..)), key: None });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
