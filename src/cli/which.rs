//! Which of several clusters on this host a command is about.

use super::options::Options;
use super::subcommands::{HaproxyConfig, TypedCommand};
use crate::commands::haproxy_config::ConfigFormat;
use crate::config::BadConfiguration;
use crate::systemd::journal::complain;
use crate::systemd::socket_units::{instances, is_plain_in_use};

impl Options {
    /// Refuses a command that does not say which of several clusters it is about. A hold that no
    /// service reads must not look like one, wherever it is.
    pub(super) fn check_which(&self, command: &TypedCommand) -> Result<(), BadConfiguration> {
        let (is_named, is_address_said) = (self.settings.instance.is_some(), !self.settings.unset.patroni);
        if !command.is_of_one_cluster() {
            return match is_named || is_address_said {
                true => {
                    Err(BadConfiguration("instances is about all clusters: without --instance and --patroni".into()))
                }
                false => Ok(()),
            };
        }
        let is_about_hold = matches!(command, TypedCommand::Hold(_) | TypedCommand::Release(_));
        if is_named || is_address_said && !is_about_hold {
            return Ok(());
        }
        let names = match instances() {
            Ok(names) if names.is_empty() => return Ok(()),
            Ok(names) => names.iter().map(|name| format!("--instance {name}")).collect(),
            Err(why) => vec![format!("--instance NAME, which can't be listed ({why})")],
        };
        if !is_plain_in_use() {
            return Err(BadConfiguration(format!("which cluster of this host? Say {}", names.join(" or "))));
        }
        if is_about_hold {
            let names = names.join(", ");
            complain(&format!("this is about patroni-check.socket alone; this host also has {names}"));
        }
        Ok(())
    }

    /// Refuses to write the ports of another cluster: those of an instance have no default.
    pub(super) fn check_ports(&self, known: &[(&str, u16)]) -> Result<(), BadConfiguration> {
        let (Some(instance), Some(TypedCommand::HaproxyConfig(wanted))) = (&self.settings.instance, &self.command)
        else {
            return Ok(());
        };
        // One without an address is refused for that.
        if self.settings.unset.patroni {
            return Ok(());
        }
        let is_missing = |option: &&str| {
            self.settings.unset.ports.contains(option) && known.iter().all(|(known, _)| known != option)
        };
        let missing: Vec<_> = wanted.ports().into_iter().filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let options: Vec<_> = missing.iter().map(|option| format!("--{}", option.replace('_', "-"))).collect();
        let options = options.join(" and ");
        Err(BadConfiguration(format!("the ports of instance {instance} are not known on this host: say {options}")))
    }
}

impl HaproxyConfig {
    /// The options whose ports are in what is written.
    fn ports(&self) -> Vec<&'static str> {
        let are_agents_asked = !self.http || self.format == ConfigFormat::Json;
        let needed = [
            ("agent_port", are_agents_asked && self.read_write.0.is_some()),
            ("replica_port", are_agents_asked && self.read_only.0.is_some()),
            ("http_port", self.http),
        ];
        needed.into_iter().filter_map(|(option, is_needed)| is_needed.then_some(option)).collect()
    }
}
