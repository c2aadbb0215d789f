//! The members of the cluster as HAProxy's servers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use super::syntax::{haproxy_name, is_host_name};
use crate::patroni::body::{Cluster, Member};

/// A member as HAProxy's server.
#[derive(Debug)]
pub(super) struct Server {
    /// A name that HAProxy takes, and that no other server has.
    pub(super) name: String,
    /// Its name in Patroni.
    pub(super) member: String,
    /// Where clients are sent, or why none can be.
    pub(super) address: Result<(String, u16), String>,
}

impl Server {
    /// Its line. A comment above it says what differs from Patroni.
    /// Names in comments are quoted as Rust does it: no newline ends the comment, and no escape
    /// reaches a terminal.
    pub(super) fn line(&self) -> String {
        let Server { name, member, .. } = self;
        let other = if name == member { String::new() } else { format!("    # Its name in Patroni is {member:?}.\n") };
        match self.address() {
            Ok(address) => format!("{other}    server {name} {address}\n"),
            Err(why) => format!("    # Left out: {member:?} {why}.\n"),
        }
    }

    /// Its address as HAProxy takes it.
    pub(super) fn address(&self) -> Result<String, &str> {
        let (host, port) = self.address.as_ref().map_err(String::as_str)?;
        Ok(if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    }
}

/// A server for each member, sorted by name, so that a switchover changes nothing. `port` is where
/// clients are sent on each host, if not to the port that Patroni announces.
pub(super) fn servers(cluster: &Cluster, port: Option<u16>) -> Result<Vec<Server>, String> {
    let mut members: Vec<&Member> = cluster.members.iter().collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let servers = names(&members).into_iter().zip(&members);
    let servers: Vec<_> = servers
        .map(|(name, member)| Server { name, member: member.name.clone(), address: address(member, port) })
        .collect();
    let is_any = servers.iter().any(|server| server.address.is_ok());
    if is_any { Ok(servers) } else { Err("no member of the cluster tells the address of its Postgres".into()) }
}

/// Names that HAProxy takes, each another one: a member's own name where that is such a name, else
/// one with `_` for what HAProxy does not take, and with a number behind it where another member
/// has that.
fn names(members: &[&Member]) -> Vec<String> {
    let mut own: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        if haproxy_name(&member.name).is_ok() {
            own.entry(&member.name).or_insert(index);
        }
    }
    let mut taken: BTreeSet<String> = own.keys().map(|name| (*name).to_owned()).collect();
    let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
    let name = |(index, member): (usize, &&Member)| {
        if own.get(&*member.name) == Some(&index) {
            return member.name.clone();
        }
        let plain = |c: char| if haproxy_name(c.encode_utf8(&mut [0; 4])).is_ok() { c } else { '_' };
        let plain: String = member.name.chars().map(plain).collect();
        let plain = if plain.is_empty() { "_".to_owned() } else { plain };
        let number = numbers.entry(plain.clone()).or_insert(0);
        loop {
            *number += 1;
            let name = if *number == 1 { plain.clone() } else { format!("{plain}_{number}") };
            if taken.insert(name.clone()) {
                return name;
            }
        }
    };
    members.iter().enumerate().map(name).collect()
}

/// Where HAProxy reaches a member.
pub(super) fn address(member: &Member, port: Option<u16>) -> Result<(String, u16), String> {
    let untold = "does not tell the address of its Postgres";
    let host = member.host.as_deref().ok_or(untold)?;
    let port = port.or(member.port).filter(|port| *port > 0).ok_or(untold)?;
    // A zone (fe80::1%eth0) is one of that host.
    if host.parse::<Ipv6Addr>().is_ok() || is_host_name(host) {
        Ok((host.to_owned(), port))
    } else {
        Err(format!("has the address {host:?}, which HAProxy can't use"))
    }
}
