//! The members of the cluster as HAProxy's servers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use super::syntax::{haproxy_name, is_host_name};
use crate::patroni::body::{Cluster, Member};

/// A `server` line for each member, sorted by name, so that a switchover changes nothing. A comment
/// above it says what differs from Patroni. Names in comments are quoted as Rust does it: no
/// newline ends the comment, and no escape reaches a terminal.
pub(super) fn servers(cluster: &Cluster) -> Result<Vec<String>, String> {
    let mut members: Vec<&Member> = cluster.members.iter().collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let mut is_any = false;
    let lines = names(&members).into_iter().zip(&members).map(|(name, member)| match address(member) {
        Ok(address) => {
            is_any = true;
            let other = if name == member.name {
                String::new()
            } else {
                format!("    # Its name in Patroni is {:?}.\n", member.name)
            };
            format!("{other}    server {name} {address}\n")
        }
        Err(why) => format!("    # Left out: {:?} {why}.\n", member.name),
    });
    let lines = lines.collect();
    if is_any { Ok(lines) } else { Err("no member of the cluster tells the address of its Postgres".into()) }
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
fn address(member: &Member) -> Result<String, String> {
    let untold = "does not tell the address of its Postgres";
    let host = member.host.as_deref().ok_or(untold)?;
    let port = member.port.filter(|port| *port > 0).ok_or(untold)?;
    if host.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("[{host}]:{port}"));
    }
    // A zone (fe80::1%eth0) is one of that host.
    if is_host_name(host) {
        Ok(format!("{host}:{port}"))
    } else {
        Err(format!("has the address {host:?}, which HAProxy can't use"))
    }
}
