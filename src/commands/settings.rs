//! `patroni-check explain --settings`: whether the service would start with its settings. For those
//! who change them, and for the package, which asks the new program before an upgrade restarts the
//! service.

use std::io::{Write, stdout};

use crate::config::{BadConfiguration, Config};
use crate::systemd::service_settings::ServiceSettings;
use crate::systemd::socket_units::passed_names;

/// Checks what is checked at a start, asks nobody, and prints one line.
///
/// # Errors
/// What keeps the service from starting.
pub fn run(config: &Config) -> Result<(), BadConfiguration> {
    let service = ServiceSettings::find(config.instance.as_ref());
    let of_service = |e: BadConfiguration| BadConfiguration(format!("{}: {e}", service.from));
    let roles = match passed_names(&service.from).map_err(BadConfiguration)? {
        // One process for each check is passed a connection, which has no name.
        None => config.connection_role("").map(|role| vec![role]),
        Some(names) if names.is_empty() => config.role_named("").map(|role| vec![role]),
        Some(names) => names.iter().map(|name| config.role_named(name)).collect(),
    };
    let roles: Vec<_> = roles.map_err(of_service)?;
    config.check(&roles).map_err(of_service)?;
    let mut files = config.tls.files().filter(|_| config.patroni.is_https());
    if let Some((file, why)) = files.find_map(|file| Some((file, service.why_unreadable(file)?))) {
        return Err(of_service(BadConfiguration(format!("it can't read {} ({why})", file.display()))));
    }
    // The status is the answer, whether anybody reads the line or not.
    let _ = writeln!(stdout(), "{}: would start with its settings", service.from);
    Ok(())
}
