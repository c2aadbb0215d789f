//! The script. What is from Patroni's files gets into it as a comment in one line, or is made of
//! characters that mean nothing to a shell and to systemd.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use super::ports::Ports;
use crate::config::Instance;
use crate::patroni::{BaseUrl, Configuration};
use crate::text::printable;

/// What a file was found to be.
pub(super) enum Found {
    Cluster(Cluster),
    /// Why it can't be relied on.
    Unread(PathBuf, String),
}

/// A cluster of this host.
pub(super) struct Cluster {
    pub(super) file: PathBuf,
    /// The name that its instance would have.
    pub(super) instance: Option<Instance>,
    pub(super) configuration: Configuration,
    /// The open sockets that answer for it.
    pub(super) answered: Vec<String>,
    /// Where the service that is no instance asks it, if it does.
    pub(super) plain: Option<BaseUrl>,
    /// What the settings of an instance of that name have, if it is not this Patroni.
    pub(super) asks_another: Option<String>,
}

const HEAD: &str = "\
#!/bin/sh
# The Patronis of this host, what answers for each, and what to enable for the
# others. Read it, then run it as root: sudo patroni-check instances | sudo sh
# It changes no file that is there.
";

const HELPERS: &str = "
set -u
umask 022
status=0
put() {
    if [ -e \"$1\" ]; then echo \"kept as it is: $1\"; else mkdir -p \"${1%/*}\" && cat >\"$1\"; fi
}
told() {
    if [ \"$1\" != 0 ]; then echo \"not done: $2\" >&2; status=1; fi
}
";

/// Debian's clusters have Postgres' ports from 5432 on. For each of them there are ten ports from
/// 5555 on, in the order of those that the units without an instance have.
const POSTGRES: std::ops::RangeInclusive<u16> = 5432..=5499;
const FIRST_PORT: u16 = 5555;
const PORTS_EACH: u16 = 10;

/// The settings of the service that is no instance.
const PLAIN_SETTINGS: &str = "/etc/default/patroni-check";

/// Where no service of ours sees anything (`ProtectHome=`, `PrivateTmp=`).
const HIDDEN: [&str; 5] = ["/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"];

/// The script. The ports are those that are somebody's; a cluster that is alone needs no instance.
pub(super) fn script(found: &[Found], mut ports: Ports, is_alone: bool) -> String {
    let clusters: Vec<_> = found.iter().filter_map(Found::cluster).collect();
    clusters.iter().flat_map(|cluster| cluster.configuration.ports()).for_each(|port| ports.take(port, ""));
    let names = names(&clusters);
    let mut blocks = String::new();
    let mut is_done = true;
    for found in found {
        let cluster = match found {
            Found::Cluster(cluster) => cluster,
            Found::Unread(file, why) => {
                blocks += &format!("\n{}", comment(&format!("{}: {why}. Nothing is done for it.", file.display())));
                continue;
            }
        };
        blocks += &format!("\n{}", cluster.comments());
        let in_the_way = clusters
            .iter()
            .find(|other| other.file != cluster.file && other.configuration.is_in_the_way_of(&cluster.configuration));
        let steps = if let Some(other) = in_the_way {
            Err(format!(
                "But {} has the same address for its Patroni, and only one can be there. Nothing is done for either.",
                other.file.display()
            ))
        } else if !cluster.answered.is_empty() {
            continue;
        } else if is_alone {
            blocks += &comment("It is alone on this host, so it needs no instance.");
            cluster.of_plain(&ports)
        } else {
            match cluster.instance.as_ref().filter(|name| names.get(name) == Some(&&cluster.file)) {
                Some(instance) => cluster.of_instance(instance, &mut ports),
                None => Err("It has no name for an instance: give its file another one.".to_owned()),
            }
        };
        match steps {
            Ok(steps) => {
                blocks += &steps;
                is_done = false;
            }
            Err(why) => blocks += &why.lines().map(comment).collect::<String>(),
        }
    }
    if found.is_empty() {
        blocks = format!("\n{}", comment("There is no configuration of a Patroni in /etc/patroni."));
    }
    let (helpers, end) = if is_done { ("", "") } else { (HELPERS, "\nexit $status\n") };
    HEAD.to_owned() + helpers + &blocks + end
}

/// Whose each name is: it goes to the file that has just this name before those that have one like
/// it.
fn names<'a>(clusters: &[&'a Cluster]) -> BTreeMap<&'a Instance, &'a PathBuf> {
    let mut names = BTreeMap::new();
    for is_exact in [true, false] {
        for cluster in clusters {
            let Some(instance) = &cluster.instance else { continue };
            if !is_exact || cluster.file.file_stem().is_some_and(|stem| stem == instance.to_string().as_str()) {
                names.entry(instance).or_insert(&cluster.file);
            }
        }
    }
    names
}

impl Found {
    fn cluster(&self) -> Option<&Cluster> {
        match self {
            Found::Cluster(cluster) => Some(cluster),
            Found::Unread(..) => None,
        }
    }
}

impl Cluster {
    fn comments(&self) -> String {
        let Configuration { scope, base, postgres_port, is_host_announced, .. } = &self.configuration;
        let is = if self.answered.is_empty() { "nothing answers for it yet" } else { "answered by" };
        let postgres = postgres_port.map_or_else(String::new, |port| format!(", Postgres at port {port}"));
        let file = self.file.display();
        let mut text = comment(&format!("{file}: cluster {scope:?}, Patroni at {base}{postgres}; {is}"));
        text += &self.answered.iter().map(|socket| comment(&format!("  {socket}"))).collect::<String>();
        if *is_host_announced && self.answered.is_empty() {
            text += &comment(
                "The host is that of restapi.connect_address, as the certificate should be for that. It must be this host.",
            );
        }
        text
    }

    /// The steps for an instance, or why there are none.
    fn of_instance(&self, instance: &Instance, ports: &mut Ports) -> Result<String, String> {
        if let Some(other) = &self.asks_another {
            return Err(format!("But {} {other}. Correct it.", instance.settings()));
        }
        let sockets = [instance.socket(""), instance.socket("-replica")];
        let derived = self.derived_port();
        // What is there is kept, and has to be free, too.
        let owned = sockets.each_ref().map(|socket| ports.of(socket));
        let wanted = [0, 1].map(|which: u16| owned[usize::from(which)].or(derived.map(|port| port + which)));
        let free = [0, 1].map(|which| wanted[which].filter(|port| ports.is_free(*port, &sockets[which])));
        let is_placed = |which: usize| owned[which].is_none();
        if let [Some(first), Some(second)] = free {
            ports.take(first, &sockets[0]);
            ports.take(second, &sockets[1]);
            let numbers = [(0, first), (1, second)].map(|(which, port)| is_placed(which).then(|| port.to_string()));
            return Ok(self.steps(instance, &sockets, &numbers));
        }
        let taken = [0, 1].into_iter().filter_map(|which| owned[which].filter(|_| free[which].is_none()));
        let taken: Vec<_> = taken.map(|port| port.to_string()).collect();
        if !taken.is_empty() {
            return Err(format!(
                "But port {} of its sockets is somebody else's, too. Correct it.",
                taken.join(" and ")
            ));
        }
        let names = [(0, "PORT"), (1, "PORT2")].map(|(which, name)| is_placed(which).then(|| name.to_owned()));
        Err("No port follows from Postgres' port, or it is taken on this host. Put one that is free on all hosts of this cluster \
             in place of PORT, and another one in place of PORT2:\n"
            .to_owned()
            + HELPERS
            + &self.steps(instance, &sockets, &names))
    }

    /// The first of the ports for an instance, the same on all hosts of a cluster.
    fn derived_port(&self) -> Option<u16> {
        let postgres = self.configuration.postgres_port.filter(|port| POSTGRES.contains(port))?;
        Some(FIRST_PORT + PORTS_EACH * (postgres - POSTGRES.start()))
    }

    fn steps(&self, instance: &Instance, sockets: &[String; 2], ports: &[Option<String>; 2]) -> String {
        let service = instance.service();
        let head = format!("# Settings of {service}. {PLAIN_SETTINGS} shows what there is.\n");
        // What may fail is first.
        let mut text = address(&self.configuration.base, &service);
        text += &put(&instance.settings(), &(head + &self.settings()));
        for (socket, port) in sockets.iter().zip(ports) {
            if let Some(port) = port {
                text += &put(&drop_in(socket, "port"), &format!("[Socket]\nListenStream={port}\n"));
            }
        }
        text += &format!("systemctl daemon-reload\nsystemctl enable --now {}\n", sockets.join(" "));
        text += &format!("echo 'To see what it answers: patroni-check explain --instance {instance}'\n");
        part(&format!("the instance {instance}"), &text)
    }

    /// The steps for the units that are no instance's, or why there are none. A file that is there is
    /// not changed, so the settings have to be there before.
    fn of_plain(&self, ports: &Ports) -> Result<String, String> {
        let Some(base) = &self.plain else {
            return Err(format!("Write this into {PLAIN_SETTINGS}, then run me again:\n{}", self.settings()));
        };
        for (socket, port) in [("patroni-check.socket", FIRST_PORT), ("patroni-check-replica.socket", FIRST_PORT + 1)] {
            let port = ports.of(socket).unwrap_or(port);
            if !ports.is_free(port, socket) {
                return Err(format!(
                    "But port {port} of {socket} is taken. Choose another one with systemctl edit {socket}, then run me again."
                ));
            }
        }
        let mut text = address(base, "patroni-check.service");
        text += "systemctl daemon-reload\nsystemctl enable --now patroni-check.socket patroni-check-replica.socket\n";
        text += "echo 'To see what it answers: patroni-check explain'\n";
        Ok(part("patroni-check.socket", &text))
    }

    /// The lines of its settings file.
    fn settings(&self) -> String {
        let Configuration { base, cacert, asks_for_certificate, .. } = &self.configuration;
        let mut text = setting("PATRONI", &base.to_string());
        let is_plain = |path: &str| {
            let is_good = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
            path.starts_with('/') && path.chars().all(is_good) && !path.contains("..")
        };
        let is_hidden = |path: &str| HIDDEN.iter().any(|hidden| path.starts_with(hidden));
        if base.is_https() {
            text += &match cacert.as_deref() {
                Some(path) if is_hidden(path) => comment(&format!(
                    "ctl.cacert is {path}, which the service can't see. Copy it, and say where: PATRONI_CHECK_CACERT="
                )),
                Some(path) if is_plain(path) => setting("CACERT", path),
                _ => comment("If the system does not know who signed Patroni's certificate: PATRONI_CHECK_CACERT="),
            };
        }
        if *asks_for_certificate {
            text += "# restapi.verify_client is required, so set these: PATRONI_CHECK_CERT= PATRONI_CHECK_KEY=\n";
        }
        text
    }
}

/// Steps that end at the first one that fails, and that alone. Nothing in them reads the rest of the
/// script, which comes by the standard input.
fn part(what: &str, steps: &str) -> String {
    format!("(\nset -e\n{steps}) </dev/null\ntold $? '{what}'\n")
}

/// The drop-in that lets a service ask Patroni, where it is not at localhost.
fn address(base: &BaseUrl, service: &str) -> String {
    let file = drop_in(service, "patroni");
    match base.host().trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => String::new(),
        Ok(address) => put(&file, &format!("[Service]\nIPAddressAllow={address}\n")),
        Err(_) if !base.is_looked_up() => String::new(),
        Err(_) => of_name(base, &file),
    }
}

/// The addresses that a name has now, and those of the name servers.
fn of_name(base: &BaseUrl, file: &str) -> String {
    let host = base.host();
    format!(
        "# The addresses that {host} has now, and the name servers:\n\
         found=$(getent ahosts {host}) || {{ echo 'no address of {host} is known now' >&2; exit 1; }}\n\
         {{\n    echo '[Service]'\n    echo \"$found\" | sed 's/ .*//' | sort -u | sed 's/^/IPAddressAllow=/'\n    \
         sed -n 's/^nameserver  *\\([0-9a-fA-F.:]*\\).*/IPAddressAllow=\\1/p' /etc/resolv.conf\n}} | put {file}\n"
    )
}

fn setting(name: &str, value: &str) -> String {
    format!("PATRONI_CHECK_{name}={value}\n")
}

fn drop_in(unit: &str, name: &str) -> String {
    format!("/etc/systemd/system/{unit}.d/{name}.conf")
}

fn put(file: &str, text: &str) -> String {
    format!("put {file} <<'END'\n{text}END\n")
}

/// One line, whatever the text has in it.
fn comment(text: &str) -> String {
    format!("# {}\n", printable(text))
}

#[cfg(test)]
mod tests;
