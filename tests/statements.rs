//! What the documents say stands in one place, from which the others are generated (`make man`), or
//! it is compared here with what the program does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use patroni_check::cli;
use patroni_check::endpoint::Endpoint;
use patroni_check::haproxy::reply::{ReplyFormat, ReplyPolicy};
use patroni_check::verdict::{Sessions, Verdict};
use patroni_check::view::{OnFailure, OnStandby};

/// A file of the repository.
fn text(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patroni-check"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PATRONI_CHECK_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The `--help` of an option, without line breaks.
fn help(option: &str) -> String {
    let command = cli::command();
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(option)).unwrap();
    arg.get_long_help().or(arg.get_help()).unwrap().to_string()
}

fn default(command: &clap::Command, option: &str) -> String {
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(option)).unwrap();
    arg.get_default_values()[0].to_str().unwrap().to_owned()
}

/// The cells of each row of a document's tables.
fn rows(document: &str) -> Vec<Vec<String>> {
    let rows = document.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    rows.map(|row| row.split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The value of a unit's setting.
fn setting(unit: &str, name: &str) -> Option<String> {
    let line = text(&format!("systemd/{unit}"));
    line.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

/// `READY UP` and `READY`, for each verdict and each choice of words; `refused` where plain words
/// refuse it.
fn replies() -> BTreeSet<(String, String)> {
    let replica: Endpoint = "/replica".parse().unwrap();
    let standbys = [OnStandby::Maint, OnStandby::Drain, OnStandby::Down];
    let failures = [OnFailure::Maint, OnFailure::Down, OnFailure::Drain];
    let stand_by = || Verdict::StandBy("why".into(), Sessions::MayStay);
    let fail = || Verdict::Fail("why".into());
    let held = [Sessions::Cut, Sessions::MayStay].map(|sessions| (Verdict::held("why", sessions), None, None));
    let all = [(Verdict::Serve("why".into()), None, None)].into_iter().chain(held);
    let all = all.chain(standbys.map(|words| (stand_by(), Some(words), None)));
    let all = all.chain(failures.map(|words| (fail(), None, Some(words))));
    let words = |verdict: &Verdict, format, on_standby, on_failure| {
        let policy = ReplyPolicy::new(&replica, format, on_standby, on_failure);
        policy.map_or("refused", |policy| policy.reply(verdict).unwrap().words()).to_owned()
    };
    all.map(|(verdict, on_standby, on_failure)| {
        (
            words(&verdict, ReplyFormat::Full, on_standby, on_failure),
            words(&verdict, ReplyFormat::Plain, on_standby, on_failure),
        )
    })
    .collect()
}

#[test]
fn the_replies_of_the_documents_are_those_of_the_program() {
    let word = |cell: &str| cell.trim_start_matches('`').split([' ', '`', ',']).next().unwrap().to_owned();
    let shown: BTreeSet<_> = rows(&text("README.md"))
        .iter()
        .flat_map(|row| row.iter().zip(row.iter().skip(1)).map(|(full, plain)| (full.clone(), plain.clone())))
        .filter_map(|(full, plain)| Some((full.strip_prefix('`')?.split_once(" # ")?.0.to_owned(), word(&plain))))
        .collect();
    assert!(shown.is_subset(&replies()), "README.md has {shown:?}, the program {:?}", replies());
    for always in [("READY UP", "READY"), ("MAINT UP", "MAINT"), ("MAINT DOWN", "MAINT"), ("READY DOWN", "refused")] {
        assert!(shown.contains(&(always.0.into(), always.1.into())), "README.md lacks {always:?}: {shown:?}");
    }
    // What each does to sessions.
    let guide = rows(&text("docs/guide.md"));
    for (full, _) in replies() {
        let all_of_it = format!("`{} …`", full.split(' ').next().unwrap());
        let is_there = guide.iter().any(|row| row[0] == format!("`{full}`") || row[0] == all_of_it);
        assert!(is_there, "docs/guide.md does not say what {full} does to open sessions");
    }
}

#[test]
fn the_exit_statuses_of_the_help_are_those_of_the_program() {
    let statuses = |help: &str| -> BTreeMap<i32, String> {
        let lines = help.split("Exit status").nth(1).unwrap_or_default().lines();
        lines
            .filter_map(|line| line.strip_prefix("  ")?.split_once("  "))
            .filter_map(|(status, meaning)| Some((status.parse().ok()?, meaning.to_owned())))
            .collect()
    };
    let of = |arguments: &[&str]| run(arguments).status.code().unwrap();
    let service = r#"SYSTEMD_EXEC_PID=$$ NOTIFY_SOCKET=@nobody exec "$0""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", service, env!("CARGO_BIN_EXE_patroni-check")]).stdin(Stdio::null());
    let without_a_socket = shell.output().unwrap().status.code().unwrap();
    let given = [
        of(&["--version"]),
        of(&["haproxy-config", "--patroni", "http://127.0.0.1:1"]),
        of(&["--words", "none"]),
        without_a_socket,
    ];
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    assert_eq!(statuses(&help).into_keys().collect::<Vec<_>>(), given, "{help}");
    assert_eq!(setting("patroni-check.service", "RestartPreventExitStatus"), Some(without_a_socket.to_string()));
    // As a monitoring plugin has them.
    let help = String::from_utf8(run(&["explain", "--help"]).stdout).unwrap();
    let words: Vec<_> =
        statuses(&help).into_iter().map(|(status, meaning)| (status, meaning.replace(':', " "))).collect();
    for (status, (number, word)) in [(0, "OK"), (1, "WARNING"), (2, "CRITICAL")].iter().enumerate() {
        assert_eq!((words[status].0, words[status].1.split(' ').next()), (*number, Some(*word)), "{help}");
    }
    let broken = run(&["explain", "--patroni", "http://127.0.0.1:1", "--hold-file", "/nonexistent/hold"]);
    assert!(broken.status.code() == Some(2) && broken.stdout.starts_with(b"CRITICAL: "), "{broken:?}");
}

/// Another name of an endpoint is left out.
#[test]
fn the_help_names_the_endpoints_that_are_for_one_node() {
    let text = help("on-failure");
    let named: BTreeSet<_> = text.split('`').filter(|code| code.starts_with('/')).map(str::to_owned).collect();
    let for_one = Endpoint::all().filter(Endpoint::is_for_one).map(|endpoint| endpoint.to_string());
    assert_eq!(named, for_one.filter(|name| !name.contains('_')).collect(), "{text}");
}

#[test]
fn the_limits_of_the_help_are_those_of_the_program() {
    for (option, other) in [("deadline", "0s"), ("max-age", "1h"), ("grace", "1h")] {
        let refused = run(&[&format!("--{option}"), other]);
        let line = String::from_utf8(refused.stderr).unwrap();
        let most = line.trim_end().rsplit(" to ").next().unwrap();
        assert!(help(option).contains(&format!("{most} at most")), "--{option}, {line}: {}", help(option));
    }
    for (option, value, what) in [("also", "/sync", "endpoints"), ("listen", "127.0.0.1:1", "ports")] {
        let most: usize =
            help(option).split(" times at most").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
        let line = |count| vec![format!("--{option}={value}"); count];
        let refused = run(&line(most + 1).iter().map(String::as_str).collect::<Vec<_>>());
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(error.contains(&format!("{most} {what} at most")), "{error}");
    }
}

#[test]
fn the_durations_of_the_documents_are_those_of_the_program() {
    let spaced = |duration: &str| {
        let unit = duration.find(|c: char| !c.is_ascii_digit()).unwrap();
        format!("{} {}", &duration[..unit], &duration[unit..])
    };
    let command = cli::command();
    let guide = rows(&text("docs/guide.md"));
    let row = guide.iter().find(|row| row[0].starts_with("`--deadline`")).unwrap();
    // The service, and one process for each check.
    assert!(row[1..3].iter().all(|cell| cell.starts_with(&spaced(&default(&command, "deadline")))), "{row:?}");
    // Such as: 5 s (`--grace`).
    let mut found = 0;
    for path in ["README.md", "docs/guide.md"] {
        for option in ["deadline", "max-age", "grace"] {
            let (text, mark) = (text(path), format!(" (`--{option}`)"));
            for before in text.split(&mark).take(text.matches(&mark).count()) {
                found += 1;
                assert!(before.ends_with(&spaced(&default(&command, option))), "{path}: --{option}");
            }
        }
    }
    assert!(found > 0);
}

/// Where the ports are said: the sockets, both manuals, the options of `haproxy-config`.
#[test]
fn the_ports_of_the_documents_are_those_of_the_sockets() {
    let units = [
        "patroni-check",
        "patroni-check-replica",
        "patroni-check-agent-send",
        "patroni-check-http",
        "patroni-check-metrics",
    ];
    let units = units.map(|name| format!("{name}.socket"));
    let guide = [rows(&text("README.md")), rows(&text("docs/guide.md"))].concat();
    let page = text("man/patroni-check.socket.5.md");
    for unit in &units {
        let port = setting(unit, "ListenStream").unwrap();
        let line = page.lines().find(|line| line.trim_start().starts_with(&format!("{unit} "))).unwrap();
        let (words, name) = (line.split_whitespace().collect::<Vec<_>>(), setting(unit, "FileDescriptorName"));
        assert_eq!(words[1], port, "{line}");
        if let Some(endpoint) = name.filter(|name| name.starts_with('/')) {
            assert_eq!(words[2], endpoint, "{line}");
        }
        for row in guide.iter().filter(|row| row.iter().any(|cell| *cell == format!("`{unit}`"))) {
            let said = row.iter().find(|cell| !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit()));
            assert!(said.is_none_or(|said| *said == port), "{row:?}");
        }
    }
    let command = cli::command();
    let config = command.find_subcommand("haproxy-config").unwrap();
    for (option, unit) in [("agent-port", &units[0]), ("replica-port", &units[1])] {
        assert_eq!(Some(default(config, option)), setting(unit, "ListenStream"), "--{option}");
    }
}

/// A field of the journal and a metric of the manuals that nothing in the code is called by would
/// be looked for in vain.
#[test]
fn the_names_of_metrics_and_fields_are_those_of_the_program() {
    let mut code = String::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                directories.push(entry);
            } else {
                code += &fs::read_to_string(entry).unwrap();
            }
        }
    }
    let names = |text: &str, prefix: &str| -> BTreeSet<String> {
        let is_of_name = |c: &char| c.is_ascii_alphabetic() || *c == '_';
        text.split(prefix).skip(1).map(|rest| rest.chars().take_while(is_of_name).collect()).collect()
    };
    let page = text("man/patroni-check.8.md");
    let journal = page.split("# JOURNAL").nth(1).unwrap().split("\n# ").next().unwrap();
    let fields: Vec<_> =
        names(journal, "PATRONI_CHECK_").into_iter().map(|name| format!("PATRONI_CHECK_{name}")).collect();
    let metrics = names(&text("man/patroni-check.socket.5.md"), "patroni_check_");
    assert!(fields.len() == 8 && metrics.len() == 7, "{fields:?} {metrics:?}");
    for name in fields.into_iter().chain(metrics) {
        assert!(code.contains(&format!("\"{name}\"")), "no {name} in src/");
    }
}
