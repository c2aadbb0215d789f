//! Patroni's configuration file, as far as it says where Patroni and Postgres are (Patroni's
//! manual, "YAML Configuration Settings").

use std::collections::BTreeMap;

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
    /// Postgres' port.
    pub postgres_port: u16,
    /// The authority that Patroni's own tools trust.
    pub cacert: Option<String>,
    /// Whether Patroni wants a certificate of all who ask.
    pub asks_for_certificate: bool,
    /// Where it listens, and where it says that it does: host and port, the host of all addresses
    /// empty.
    at: Vec<(String, u16)>,
}

impl Configuration {
    /// Reads it; none where the file is another one, such as Debian's `dcs.yml`.
    ///
    /// # Errors
    /// In a few words, what is wrong with it, or what it does not say.
    pub fn read(text: &str) -> Result<Option<Self>, String> {
        let values = values(text)?;
        let value = |key: &str| values.get(key).map(String::as_str).filter(|value| !value.is_empty());
        let is_patronis = ["restapi", "postgresql"].iter().any(|section| values.contains_key(*section));
        let Some(scope) = value("scope").filter(|_| is_patronis) else { return Ok(None) };
        let listen = value("restapi.listen").ok_or("it has no restapi.listen")?;
        let (host, port) = host_and_port(listen, None).map_err(|why| format!("restapi.listen: {why}"))?;
        let announced = value("restapi.connect_address").map(|address| host_and_port(address, Some(port)));
        let announced = announced.transpose().map_err(|why| format!("restapi.connect_address: {why}"))?;
        let is_https = value("restapi.certfile").is_some();
        // The certificate is for the address that Patroni announces.
        let asked = match &announced {
            Some((host, port)) if is_https => (host.as_str(), *port),
            _ if host.is_empty() => (LOCALHOST, port),
            _ => (host.as_str(), port),
        };
        let scheme = if is_https { "https" } else { "http" };
        let brackets = if asked.0.contains(':') { ("[", "]") } else { ("", "") };
        let base = format!("{scheme}://{}{}{}:{}", brackets.0, asked.0, brackets.1, asked.1);
        let (_, postgres_port) = host_and_port(value("postgresql.listen").unwrap_or_default(), Some(5432))
            .map_err(|why| format!("postgresql.listen: {why}"))?;
        Ok(Some(Configuration {
            scope: scope.to_owned(),
            base: base.parse().map_err(|why| format!("restapi: {why}"))?,
            postgres_port,
            cacert: value("ctl.cacert").map(str::to_owned),
            asks_for_certificate: value("restapi.verify_client") == Some("required"),
            at: [(host, port)].into_iter().chain(announced).collect(),
        }))
    }

    /// Whether who asks there asks this Patroni.
    pub fn is_at(&self, base: &BaseUrl) -> bool {
        let is_local = |host: &str| matches!(host, LOCALHOST | "127.0.0.1" | "::1");
        let asked = base.host().trim_matches(['[', ']']);
        let is_same = |host: &str| host.is_empty() || host == asked || is_local(host) && is_local(asked);
        self.at.iter().any(|(host, port)| *port == base.port() && is_same(host))
    }
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
    Ok((if matches!(host.as_str(), "*" | "0.0.0.0" | "::") { String::new() } else { host }, port))
}

/// A mapping or a list that is not over yet.
struct Level {
    is_mapping: bool,
    /// Whose value comes next.
    key: Option<String>,
}

/// The single values at the top, and in the sections that are read, as `section.key`; what is no
/// single value is there as an empty one. PyYAML takes the last of a key, too.
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
                let is_null = *style == ScalarStyle::Plain && matches!(&**text, "~" | "null" | "Null" | "NULL");
                if is_null { "" } else { text }
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
