//! Which members a written configuration has, from one writing to the next.
//!
//! The file itself remembers them, in a comment. So a list that lacks some, for whatever reason, takes
//! none away before it was absent for long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config_text::{Choices, config_text};
use super::servers::address;
use crate::patroni::body::{Cluster, Member};
use crate::text::ascii;

/// What the line begins with that the members stand in.
const MARK: &str = "# Members: ";

/// Since when members are absent from Patroni's list, by name, in seconds of Unix time.
pub type Absent = BTreeMap<String, u64>;

/// The members of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    scope: Option<String>,
    members: BTreeMap<String, Address>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Address {
    host: String,
    port: Option<u16>,
}

/// What has become of it by a new list.
#[derive(Debug, PartialEq, Eq)]
pub struct Update {
    /// The members from now on.
    pub membership: Membership,
    /// Those of them that are not in the list.
    pub absent: Absent,
    /// Those that were not there before.
    pub new: Vec<String>,
    /// Those that are not there any more.
    pub gone: Vec<String>,
    /// Those in the list that HAProxy could not reach.
    pub left_out: Vec<String>,
}

impl Membership {
    /// That of a configuration that was written before; None where it has none.
    pub fn read(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix(MARK))?;
        serde_json::from_str(line).ok()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// A configuration for them.
    ///
    /// # Errors
    /// There are none.
    pub fn config_text(&self, choices: &Choices) -> Result<String, String> {
        let members = self.members.iter().map(|(name, address)| {
            let Address { host, port } = address.clone();
            Member { name: name.clone(), host: Some(host), port, ..Member::default() }
        });
        let cluster = Cluster { scope: self.scope.clone(), members: members.collect() };
        let members = ascii(&serde_json::to_string(self).map_err(|e| e.to_string())?);
        let config = config_text(&cluster, choices)?;
        Ok(format!(
            "# Written again and again: what is changed here by hand is lost. The next line is read at the next time.\n{MARK}{members}\n{config}"
        ))
    }

    /// That of this list. A member leaves only if it was absent for so long, or if another one is at its
    /// address; and none does by a list of which something can't be read.
    ///
    /// # Errors
    /// A list that is none, or of another cluster.
    pub fn update(
        &self,
        list: &Cluster,
        port: Option<u16>,
        absent: &Absent,
        now: u64,
        leave_after: Duration,
    ) -> Result<Update, String> {
        if let (Some(ours), Some(theirs)) = (&self.scope, &list.scope) {
            if ours != theirs {
                return Err(format!("the members are of the cluster {theirs:?}, and those of the file of {ours:?}"));
            }
        }
        let mut membership = Membership { scope: list.scope.clone().or(self.scope.clone()), members: BTreeMap::new() };
        let mut left_out = Vec::new();
        for member in &list.members {
            match (&member.host, address(member, port)) {
                (Some(host), Ok(_)) if !member.name.is_empty() => {
                    let address = Address { host: host.clone(), port: member.port };
                    membership.members.entry(member.name.clone()).or_insert(address);
                }
                _ => left_out.push(member.name.clone()),
            }
        }
        if membership.members.is_empty() {
            return Err("no member in the list tells the address of its Postgres".into());
        }
        let is_readable =
            |member: &Member| !member.name.is_empty() && member.host.is_some() && port.or(member.port).is_some();
        let is_whole = list.members.iter().all(is_readable);
        let (mut still_absent, mut gone) = (Absent::new(), Vec::new());
        for (name, address) in &self.members {
            if membership.members.contains_key(name) {
                continue;
            }
            // Listed without an address that could be used, it keeps the one that is known.
            if left_out.contains(name) {
                membership.members.insert(name.clone(), address.clone());
                continue;
            }
            let is_replaced = membership.members.values().any(|other| other == address);
            let since = absent.get(name).copied().filter(|since| *since <= now).unwrap_or(now);
            if is_replaced || is_whole && now - since >= leave_after.as_secs() {
                gone.push(name.clone());
            } else {
                membership.members.insert(name.clone(), address.clone());
                still_absent.insert(name.clone(), since);
            }
        }
        let names = |members: &BTreeMap<String, Address>| members.keys().cloned().collect::<BTreeSet<_>>();
        let new = names(&membership.members).difference(&names(&self.members)).cloned().collect();
        left_out.retain(|name| !name.is_empty() && !membership.members.contains_key(name));
        Ok(Update { membership, absent: still_absent, new, gone, left_out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Known members, absent since when, the list at second 10,000; members and absent ones then.
    type Row = (&'static str, &'static [(&'static str, u64)], String, &'static str, &'static [(&'static str, u64)]);

    fn list(members: &str) -> Cluster {
        Cluster::read(format!(r#"{{"scope": "demo", "members": [{members}]}}"#).as_bytes()).unwrap()
    }

    /// `a` is at 192.0.2.1, `b` at 192.0.2.2 and so on, unless it is said.
    fn members(names: &str) -> String {
        let member = |name: &str| {
            let (name, host) = name.split_once('=').unwrap_or((name, name));
            format!(r#"{{"name": "{name}", "host": "192.0.2.{}", "port": 5432}}"#, host.as_bytes()[0] - b'a' + 1)
        };
        names.split_whitespace().map(member).collect::<Vec<_>>().join(",")
    }

    fn known(names: &str) -> Membership {
        Membership::default().update(&list(&members(names)), None, &Absent::new(), 0, HOUR).unwrap().membership
    }

    fn names(membership: &Membership) -> String {
        membership.members.keys().cloned().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_member_leaves_only_after_it_was_absent_for_long() {
        let absent = |absent: &[(&str, u64)]| absent.iter().map(|(name, since)| ((*name).to_owned(), *since)).collect();
        let not_whole = |names: &str, other: &str| format!("{},{other}", members(names));
        let table: [Row; 15] = [
            ("", &[], members("b a"), "a b", &[]),
            ("a b", &[], members("b a"), "a b", &[]),
            ("a b", &[], members("a b c"), "a b c", &[]),
            ("a b c", &[], members("a"), "a b c", &[("b", 10_000), ("c", 10_000)]),
            ("a b c", &[("b", 6_401), ("c", 9_999)], members("a"), "a b c", &[("b", 6_401), ("c", 9_999)]),
            ("a b c", &[("b", 6_400)], members("a c"), "a c", &[]),
            // It was back meanwhile.
            ("a b", &[("b", 6_400)], members("a b"), "a b", &[]),
            // The clock was set back.
            ("a b", &[("b", 10_001)], members("a"), "a b", &[("b", 10_000)]),
            // What can't be read of a list may be the one that is absent.
            ("a b", &[("b", 0)], not_whole("a", "null"), "a b", &[("b", 0)]),
            ("a b", &[("b", 0)], not_whole("a", r#"{"name": 7, "host": "h", "port": 1}"#), "a b", &[("b", 0)]),
            ("a b c", &[("c", 0)], not_whole("a", r#"{"name": "b"}"#), "a b c", &[("c", 0)]),
            // It is there, and tells nothing that could be used in the place of what is known.
            ("a b", &[("b", 0)], not_whole("a", r#"{"name": "b", "host": "a..b", "port": 1}"#), "a b", &[]),
            // What HAProxy can't use is not what can't be read.
            ("a b", &[("b", 0)], not_whole("a", r#"{"name": "c", "host": "a..b", "port": 1}"#), "a", &[]),
            // The same host by another name.
            ("a b", &[], members("a c=b"), "a c", &[]),
            ("a b", &[], members("a b=c"), "a b", &[]),
        ];
        for (before, since, list_of, after, still) in table {
            let update = known_or_none(before).update(&list(&list_of), None, &absent(since), 10_000, HOUR).unwrap();
            assert_eq!(
                (names(&update.membership).as_str(), update.absent),
                (after, absent(still)),
                "{before}, {list_of}"
            );
        }
    }

    fn known_or_none(names: &str) -> Membership {
        if names.is_empty() { Membership::default() } else { known(names) }
    }

    #[test]
    fn what_is_no_list_of_this_cluster_changes_nothing() {
        let update = |list: &Cluster| known("a b").update(list, None, &Absent::new(), 0, Duration::ZERO);
        for members in ["", "null", r#"{"name": "a"}"#, r#"{"name": "a", "host": "a..b", "port": 1}"#] {
            update(&list(members)).unwrap_err();
        }
        let mut other = list(&members("a b"));
        other.scope = Some("other".into());
        update(&other).unwrap_err();
        // Patroni before 3.1 does not say it, and it is not forgotten.
        other.scope = None;
        assert_eq!(update(&other).unwrap().membership, known("a b"));
    }

    #[test]
    fn a_change_is_told() {
        let list = list(&format!("{},{}", members("a c"), r#"{"name": "d", "host": "a..b", "port": 1}"#));
        let update = known("a b").update(&list, None, &Absent::new(), 0, HOUR).unwrap();
        assert_eq!(
            (update.new.join(" "), update.gone.join(" "), update.left_out.join(" ")),
            ("c".into(), String::new(), "d".into())
        );
        let update = known("a b").update(&list, Some(6432), &Absent::new(), 0, HOUR).unwrap();
        assert_eq!(names(&update.membership), "a b c");
    }

    #[test]
    fn a_configuration_tells_its_members_whatever_they_are_called() {
        let mut list = list(&members("b a"));
        list.members[0].name = "ü\n# Members: {}\u{9b}".into();
        let membership = Membership::default().update(&list, None, &Absent::new(), 0, HOUR).unwrap().membership;
        let order = crate::cli::CommandLine::parse(&["haproxy-config"]).unwrap();
        let Some(crate::cli::Command::HaproxyConfig(order)) = order.command else { panic!("{order:?}") };
        let text = membership.config_text(&order.choices).unwrap();
        assert_eq!(Membership::read(&text), Some(membership));
        assert_eq!(Membership::read("# Members: {\"members\": 7}\n"), None);
        assert_eq!(Membership::read("global\n"), None);
        // Only the members count, and not in which order they are listed, or who leads.
        list.members.reverse();
        let again = Membership::default().update(&list, None, &Absent::new(), 0, HOUR).unwrap().membership;
        assert_eq!(again.config_text(&order.choices).unwrap(), text);
    }
}
