//! The service's settings, for the person who asks by hand: what is meant is what the service does.

use std::os::unix::process::CommandExt;
use std::process;

/// The service's settings (`EnvironmentFile=` of the units).
const SETTINGS: &str = "/etc/default/patroni-check";

/// Says that they are in the environment already.
const SETTINGS_READ: &str = "PATRONI_CHECK_SETTINGS_READ";

/// Our own command line with the settings of the service added to the environment, where that does not have them yet: a
/// person who asks the program means what the service does. None where there is nothing to add.
pub fn with_the_settings() -> Option<process::Command> {
    if std::env::var_os(SETTINGS_READ).is_some() {
        return None;
    }
    let text = std::fs::read_to_string(SETTINGS).ok()?;
    let mut arguments = std::env::args_os();
    let mut command = process::Command::new(std::env::current_exe().ok()?);
    command.arg0(arguments.next()?).args(arguments).env(SETTINGS_READ, SETTINGS);
    for (name, value) in settings(&text) {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    Some(command)
}

/// Our settings in an environment file (systemd.exec(5), `EnvironmentFile=`), without its escapes, which none of them needs.
fn settings(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let assignments = text.lines().filter_map(|line| line.trim().split_once('='));
    assignments.filter(|(name, _)| name.starts_with("PATRONI_CHECK_")).map(|(name, value)| {
        let value = value.trim();
        let unquoted = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
        (name, unquoted('"').or_else(|| unquoted('\'')).unwrap_or(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_systemd_reads_them() {
        let text =
            "# PATRONI_CHECK_A=1\n\nPATRONI_CHECK_B= 2 \n;x\nPATRONI_CHECK_C=\"a b\"\nPATH=/x\nPATRONI_CHECK_D='c'\n";
        let found: Vec<_> = settings(text).collect();
        assert_eq!(found, [("PATRONI_CHECK_B", "2"), ("PATRONI_CHECK_C", "a b"), ("PATRONI_CHECK_D", "c")]);
    }
}
