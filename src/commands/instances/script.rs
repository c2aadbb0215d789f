//! The script. What is from Patroni's files gets into it as a comment in one line, or is made of
//! characters that mean nothing to a shell and to systemd.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::config::{Instance, PATRONI};
use crate::patroni::{BaseUrl, Configuration};
use crate::text::printable;

/// What a file was found to be.
pub(super) enum Found {
    Cluster(Cluster),
    /// Why it can't be read.
    Unread(PathBuf, String),
}

/// A cluster of this host.
pub(super) struct Cluster {
    pub(super) file: String,
    /// The name that its instance would have.
    pub(super) instance: Option<Instance>,
    pub(super) configuration: Configuration,
    /// The open sockets that answer for it.
    pub(super) answered: Vec<String>,
    /// Whom an instance of that name asks, if it is another Patroni.
    pub(super) asks_another: Option<String>,
}

const HEAD: &str = "\
#!/bin/sh
# The Patronis of this host, what answers for each, and what to enable for the others. Read it, then
# run it as root: sudo patroni-check instances | sudo sh
# It changes no file that is there.
";

const HELPERS: &str = "
set -eu
umask 022
put() {
    if [ -e \"$1\" ]; then echo \"kept as it is: $1\"; else mkdir -p \"${1%/*}\" && cat >\"$1\"; fi
}
";

/// Debian's clusters have Postgres' ports from 5432 on. For each of them there are ten ports from
/// 5555 on, in the order of those that the units without an instance have.
const POSTGRES: std::ops::RangeInclusive<u16> = 5432..=5499;
const FIRST_PORT: u16 = 5555;
const PORTS_EACH: u16 = 10;

/// The script. The ports in `taken` are somebody's; and a cluster that is alone needs no instance.
pub(super) fn script(found: &[Found], mut taken: BTreeSet<u16>, is_alone: bool) -> String {
    let mut names = BTreeSet::new();
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
        blocks += &format!("\n{}", cluster.comment());
        let instance = cluster.instance.as_ref().filter(|instance| names.insert((*instance).clone()));
        let steps = match instance {
            _ if !cluster.answered.is_empty() => {
                blocks += &cluster.answered.iter().map(|socket| comment(&format!("  {socket}"))).collect::<String>();
                continue;
            }
            _ if is_alone => cluster.plain(),
            None => {
                blocks += &comment("It has no name for an instance: give its file another one.");
                continue;
            }
            Some(instance) => {
                if let Some(other) = &cluster.asks_another {
                    let file = instance.settings();
                    blocks += &comment(&format!("But {file} has another Patroni, {other}. Correct it."));
                    continue;
                }
                let Some(port) = cluster.port(&taken) else {
                    blocks += &comment(
                        "No port follows from Postgres' port, or it is taken on this host. Put one that is free on all hosts \
                         of this cluster in place of PORT, and another one in place of PORT2:",
                    );
                    let steps = cluster.of_instance(instance, "PORT", "PORT2");
                    blocks += &(HELPERS.to_owned() + &steps).lines().map(comment).collect::<String>();
                    continue;
                };
                taken.extend([port, port + 1]);
                cluster.of_instance(instance, &port.to_string(), &(port + 1).to_string())
            }
        };
        blocks += &steps;
        is_done = false;
    }
    if found.is_empty() {
        blocks = format!("\n{}", comment("There is no configuration of a Patroni in /etc/patroni."));
    }
    HEAD.to_owned() + if is_done { "" } else { HELPERS } + &blocks
}

impl Cluster {
    fn comment(&self) -> String {
        let Configuration { scope, base, postgres_port, .. } = &self.configuration;
        let is = if self.answered.is_empty() { "nothing answers for it yet" } else { "answered by" };
        comment(&format!("{}: cluster {scope:?}, Patroni at {base}, Postgres at port {postgres_port}; {is}", self.file))
    }

    /// The first of the ports for an instance, the same on all hosts of a cluster.
    fn port(&self, taken: &BTreeSet<u16>) -> Option<u16> {
        let postgres = Some(self.configuration.postgres_port).filter(|port| POSTGRES.contains(port))?;
        let port = FIRST_PORT + PORTS_EACH * (postgres - POSTGRES.start());
        (!taken.contains(&port) && !taken.contains(&(port + 1))).then_some(port)
    }

    fn of_instance(&self, instance: &Instance, port: &str, replica_port: &str) -> String {
        let service = instance.service();
        let head = format!("# Settings of {service}. /etc/default/patroni-check shows what there is.\n");
        let mut text = put(&instance.settings(), &(head + &self.settings()));
        let sockets = [instance.socket(""), instance.socket("-replica")];
        for (socket, port) in sockets.iter().zip([port, replica_port]) {
            text += &put(&drop_in(socket, "port"), &format!("[Socket]\nListenStream={port}\n"));
        }
        text += &self.address(&service);
        text += &format!("systemctl daemon-reload\nsystemctl enable --now {}\n", sockets.join(" "));
        text + &format!("echo 'To see what it answers: patroni-check explain --instance {instance}'\n")
    }

    fn plain(&self) -> String {
        let mut text = comment("It is alone on this host, so it needs no instance.");
        let settings = self.settings();
        if settings != setting("PATRONI", PATRONI) {
            let file = "/etc/default/patroni-check";
            text += &format!("if grep -qs '^PATRONI_CHECK_PATRONI=' {file}; then echo 'kept as it is: {file}'; else\n");
            text += &format!("cat >>{file} <<'END'\n{settings}END\nfi\n");
        }
        text += &self.address("patroni-check.service");
        text += "systemctl daemon-reload\nsystemctl enable --now patroni-check.socket patroni-check-replica.socket\n";
        text + "echo 'To see what it answers: patroni-check explain'\n"
    }

    /// The lines of its settings file.
    fn settings(&self) -> String {
        let Configuration { base, cacert, asks_for_certificate, .. } = &self.configuration;
        let mut text = setting("PATRONI", &base.to_string());
        let is_plain = |path: &&String| {
            let is_good = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
            path.starts_with('/') && path.chars().all(is_good)
        };
        if base.is_https() {
            text += &match cacert.as_ref().filter(is_plain) {
                Some(path) => setting("CACERT", path),
                None => {
                    "# If the system does not know who signed Patroni's certificate: PATRONI_CHECK_CACERT=\n".into()
                }
            };
        }
        if *asks_for_certificate {
            text += "# restapi.verify_client is required, so set these: PATRONI_CHECK_CERT= PATRONI_CHECK_KEY=\n";
        }
        text
    }

    /// The drop-in that lets a service ask Patroni, where it is not at localhost.
    fn address(&self, service: &str) -> String {
        let base = &self.configuration.base;
        let file = drop_in(service, "patroni");
        match base.host().trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if address.is_loopback() => String::new(),
            Ok(address) => put(&file, &format!("[Service]\nIPAddressAllow={address}\n")),
            Err(_) if !base.is_looked_up() => String::new(),
            Err(_) => of_name(base, &file),
        }
    }
}

/// The addresses that a name has now, and those of the name servers.
fn of_name(base: &BaseUrl, file: &str) -> String {
    let host = base.host();
    format!(
        "# The addresses that {host} has now, and the name servers:\n\
         {{\n    echo '[Service]'\n    getent ahosts {host} | sed 's/ .*//' | sort -u | sed 's/^/IPAddressAllow=/'\n    \
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
