//! Settings: what an environment file assigns, and what its values mean.

use std::collections::BTreeMap;

use humantime::format_duration;
use patroni_check::cli::{CommandLine, DEADLINES};
use patroni_check::config::{Config, Instance, ListenerRole};
use patroni_check::systemd::env_file::assignments;
use patroni_check::view::{CALMS, View};

type Assignments = BTreeMap<String, String>;

/// Whatever is in an environment file, what it assigns is written so that it is read again; and its
/// settings are refused in one line, or mean something within bounds that is written so that it is
/// meant again.
pub fn settings(bytes: &[u8]) {
    let (of_now, of_old) = (assignments(bytes, false), assignments(bytes, true));
    assert!(!bytes.contains(&0) || of_now.is_none() && of_old.is_none(), "{bytes:?}");
    if std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0')) {
        assert!(of_now.is_some() && of_old.is_some(), "{bytes:?}");
    }
    assert!(of_now == of_old || bytes.contains(&b'\\'), "{bytes:?}");
    let other = of_old.filter(|old| of_now.as_ref() != Some(old));
    for found in of_now.into_iter().chain(other) {
        let is_in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for name in found.keys() {
            assert!(name.chars().all(is_in_name) && !name.starts_with(|c: char| c.is_ascii_digit()), "{name:?}");
        }
        let again = written(&found).into_bytes();
        assert_eq!((assignments(&again, false), assignments(&again, true)), (Some(found.clone()), Some(found.clone())));
        if let Some(config) = meant(&found) {
            check(&config);
            let again = again_as_settings(&config);
            let meant = meant(&again).unwrap_or_else(|| panic!("{again:?} is refused"));
            assert_eq!(format!("{meant:?}"), format!("{config:?}"));
        }
    }
}

/// As it can be written, whatever is in a value.
fn written(found: &Assignments) -> String {
    let quoted = |value: &str| -> String {
        value.chars().flat_map(|c| ['\\'].into_iter().filter(move |_| "\"\\`$".contains(c)).chain([c])).collect()
    };
    found.iter().map(|(name, value)| format!("{name}=\"{}\"\n", quoted(value))).collect()
}

/// What these settings mean, as words of a command line, which the program reads alike.
fn meant(settings: &Assignments) -> Option<Config> {
    let option = |(name, value): (&String, &String)| {
        let name = name.strip_prefix("PATRONI_CHECK_").filter(|name| !matches!(*name, "HELP" | "VERSION" | "INSECURE"));
        let name = name?.to_ascii_lowercase().replace('_', "-");
        (!value.is_empty()).then(|| format!("--{name}={value}"))
    };
    let line: Vec<_> = settings.iter().filter_map(option).collect();
    if line.is_empty() {
        return None;
    }
    match CommandLine::parse(&line.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(line) => Some(line.config),
        Err(e) => {
            let why = e.to_string();
            assert!(!why.is_empty() && !why.contains('\n'), "{line:?}: {why:?}");
            None
        }
    }
}

fn check(config: &Config) {
    let limits = config.limits;
    assert!(DEADLINES.contains(&limits.deadline) && CALMS.contains(&config.calm), "{config:?}");
    assert!(limits.max_age.as_secs_f64() <= 1.0 && limits.grace.as_secs_f64() <= 20.0, "{config:?}");
    assert!(config.listen.len() <= 64 && config.also.len() <= 64 && config.others.is_empty(), "{config:?}");
    assert!(config.hold_file.is_absolute(), "{config:?}");
    for view in config.listed_views() {
        if let Err(e) = config.reply_policy(view) {
            assert!(!e.to_string().contains('\n'), "{e}");
        }
    }
    if let Some(instance) = &config.instance {
        let name = instance.to_string();
        assert!(name.len() <= 24 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert_eq!(Instance::of_file(format!("/etc/patroni/{name}.yml").as_ref()).as_ref(), Some(instance));
    }
}

/// What a configuration means, as settings.
fn again_as_settings(config: &Config) -> Assignments {
    let join = |all: Vec<String>| all.join(" ");
    let words = |text: String| text.to_ascii_lowercase();
    let path = |path: &std::path::Path| path.display().to_string();
    let of_tls = |which: fn(&(std::path::PathBuf, std::path::PathBuf)) -> &std::path::PathBuf| {
        config.tls.identity.as_ref().map_or_else(String::new, |identity| path(which(identity)))
    };
    let listen = |(address, role): &(std::net::SocketAddr, ListenerRole)| format!("{address}={role}");
    let all = [
        ("INSTANCE", config.instance.as_ref().map_or_else(String::new, Instance::to_string)),
        ("PATRONI", config.patroni.to_string()),
        ("CACERT", config.tls.cacert.as_deref().map_or_else(String::new, path)),
        ("CERT", of_tls(|identity| &identity.0)),
        ("KEY", of_tls(|identity| &identity.1)),
        ("ENDPOINT", config.view.to_string()),
        ("CONNECTION", config.connection.as_ref().map_or_else(String::new, ListenerRole::to_string)),
        ("ALSO", join(config.also.iter().map(View::to_string).collect())),
        ("LISTEN", join(config.listen.iter().map(listen).collect())),
        ("WORDS", words(format!("{:?}", config.format))),
        ("ON_STANDBY", config.on_standby.map_or_else(String::new, |word| words(format!("{word:?}")))),
        ("ON_FAILURE", config.on_failure.map_or_else(String::new, |word| words(format!("{word:?}")))),
        ("CALM", format_duration(config.calm).to_string()),
        ("PROBE", config.probe.as_ref().map_or_else(String::new, ToString::to_string)),
        ("DEADLINE", format_duration(config.limits.deadline).to_string()),
        ("MAX_AGE", format_duration(config.limits.max_age).to_string()),
        ("GRACE", format_duration(config.limits.grace).to_string()),
        ("HOLD_FILE", path(&config.hold_file)),
    ];
    all.into_iter().map(|(name, value)| (format!("PATRONI_CHECK_{name}"), value)).collect()
}
