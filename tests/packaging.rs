//! The installed files: units that systemd takes without a complaint, pointing at the program where it was installed, and
//! packages that hold them. What happens when they are installed is in tests/machines.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use lab::requires;

/// `make install`, with a program that another profile has built.
fn install(root: &Path, prefix: &str) {
    let target = root.join("build");
    fs::create_dir_all(target.join("release")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_patroni-check"), target.join("release/patroni-check")).unwrap();
    let mut make = Command::new("make");
    make.arg("install").arg(format!("PREFIX={prefix}"));
    make.arg(format!("DESTDIR={}", root.display())).arg(format!("TARGET={}", target.display()));
    let done = make.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn systemd_has_nothing_to_say_against_the_units() {
    if !requires(&["make", "systemd-analyze"]) {
        return;
    }
    let root = TempDir::new().unwrap();
    install(root.path(), "/usr");
    let units = root.path().join("usr/lib/systemd/system");
    let verify = |unit: &str| {
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no", "--recursive-errors=no"]).arg(units.join(unit));
        let output = command.env("SYSTEMD_UNIT_PATH", format!("{}:", units.display())).output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        // The program is where DESTDIR has it, not where the unit says.
        complaints.lines().filter(|line| !line.contains("/usr/bin/patroni-check is not executable")).collect::<String>()
    };
    for unit in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd")).unwrap() {
        let unit = unit.unwrap().file_name().into_string().unwrap();
        if unit.ends_with(".socket") || unit.ends_with(".service") {
            assert_eq!(verify(&unit), "", "{unit}");
        }
    }
    // With the drop-in it is another unit.
    let drop_in = units.join("patroni-check.socket.d");
    fs::create_dir(&drop_in).unwrap();
    fs::copy(root.path().join("usr/share/doc/patroni-check/examples/accept-yes.conf"), drop_in.join("accept-yes.conf"))
        .unwrap();
    assert_eq!(verify("patroni-check.socket"), "");
    // That the command would tell.
    fs::write(drop_in.join("wrong.conf"), "[Socket]\nAccept=perhaps\n").unwrap();
    assert_ne!(verify("patroni-check.socket"), "");
}

/// No port brings in another one, and each can be started anew beside a running service. What that means is in
/// tests/machines/sockets.rs.
#[test]
fn the_service_steps_aside_for_each_socket_and_wants_none() {
    let service = include_str!("../systemd/patroni-check.service");
    let part_of: Vec<_> = service.lines().find_map(|line| line.strip_prefix("PartOf=")).unwrap().split(' ').collect();
    let uninstall = include_str!("../systemd/debian/prerm");
    let mut sockets = 0;
    for unit in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd")).unwrap() {
        let unit = unit.unwrap();
        let name = unit.file_name().into_string().unwrap();
        if name.ends_with(".socket") {
            sockets += 1;
            assert!(part_of.contains(&name.as_str()) && uninstall.contains(&name), "{name}");
        }
        if !name.ends_with(".socket") && !name.ends_with(".service") {
            continue;
        }
        let text = fs::read_to_string(unit.path()).unwrap();
        let pulls = ["Requires=", "Wants=", "BindsTo=", "Upholds=", "Sockets="];
        assert!(!text.lines().any(|line| pulls.iter().any(|pull| line.starts_with(pull))), "{name}");
        // A limit of either kind would close the port.
        assert!(name.contains('@') || text.contains("\nStartLimitIntervalSec=0\n"), "{name}");
    }
    assert_eq!(part_of.len(), sockets);
}

/// A process for one check has the same sandbox on each port.
#[test]
fn the_templates_differ_in_their_endpoint_only() {
    let lines = |text: &'static str| text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>();
    let of_the_primary = lines(include_str!("../systemd/patroni-check@.service"));
    let of_replicas = lines(include_str!("../systemd/patroni-check-replica@.service"));
    assert_eq!(of_the_primary.len(), of_replicas.len());
    for (one, other) in of_the_primary.iter().zip(of_replicas) {
        match one.split_once('=') {
            Some(("Description", _)) => {}
            Some(("ExecStart", command)) => assert_eq!(other, format!("ExecStart={command} --endpoint /replica")),
            _ => assert_eq!(*one, other),
        }
    }
}

#[test]
fn a_prefix_is_heeded_in_the_units() {
    if !requires(&["make"]) {
        return;
    }
    let root = TempDir::new().unwrap();
    install(root.path(), "/opt/pc");
    for unit in ["patroni-check.service", "patroni-check@.service", "patroni-check-replica@.service"] {
        let text = fs::read_to_string(root.path().join("opt/pc/lib/systemd/system").join(unit)).unwrap();
        assert!(text.lines().any(|line| line.starts_with("ExecStart=/opt/pc/bin/patroni-check")), "{text}");
    }
    assert!(root.path().join("opt/pc/bin/patroni-check").exists());
}

#[test]
fn settings_that_are_there_are_kept() {
    if !requires(&["make"]) {
        return;
    }
    let root = TempDir::new().unwrap();
    install(root.path(), "/usr");
    let settings = root.path().join("etc/default/patroni-check");
    fs::write(&settings, "PATRONI_CHECK_WORDS=plain\n").unwrap();
    install(root.path(), "/usr");
    assert_eq!(fs::read_to_string(settings).unwrap(), "PATRONI_CHECK_WORDS=plain\n");
}

/// Else a stop would lose the checks that were accepted.
#[test]
fn the_longest_deadline_is_over_before_systemd_loses_its_patience() {
    let seconds = |text: &str, setting: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(setting)?.strip_prefix('=')).unwrap();
        humantime::parse_duration(value).unwrap()
    };
    let deadline = *patroni_check::cli::DEADLINES.end();
    let service = seconds(include_str!("../systemd/patroni-check.service"), "TimeoutStopSec");
    assert!(service >= deadline + Duration::from_secs(2), "{service:?}");
    // One deadline for the answer, another one until the client has closed.
    let instance = seconds(include_str!("../systemd/patroni-check@.service"), "RuntimeMaxSec");
    assert!(instance >= 2 * deadline + Duration::from_secs(2), "{instance:?}");
}

/// A setting without its line in the file would be hard to find.
#[test]
fn the_settings_file_has_a_line_for_every_option() {
    let help = Command::new(env!("CARGO_BIN_EXE_patroni-check")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let options = help.lines().filter_map(|line| line.trim_start().strip_prefix("--")?.split(' ').next());
    let options: Vec<_> = options.collect();
    assert!(options.len() > 10, "{help}");
    for option in options {
        let variable = format!("\n#PATRONI_CHECK_{}=", option.to_uppercase().replace('-', "_"));
        assert!(include_str!("../systemd/default").contains(&variable), "{variable}");
        assert!(include_str!("../man/patroni-check.8.md").contains(&format!("**\\--{option}**")), "--{option}");
    }
}

/// What is checked in is what its sources give; else `make man`.
#[test]
fn manual_pages_and_completions_are_those_of_their_sources() {
    if !requires(&["make", "pandoc"]) {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = TempDir::new().unwrap();
    let pandoc = String::from_utf8(Command::new("pandoc").arg("--version").output().unwrap().stdout).unwrap();
    let pandoc = pandoc.lines().next().unwrap().trim_start_matches("pandoc ");
    let mut make = Command::new("make");
    make.arg("pages").arg(format!("PAGES={}", directory.path().display()));
    let made = make.current_dir(root).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    lab::completions::write(directory.path()).unwrap();
    let same = |checked_in: &str| {
        let name = Path::new(checked_in).file_name().unwrap();
        fs::read_to_string(root.join(checked_in)).unwrap() == fs::read_to_string(directory.path().join(name)).unwrap()
    };
    for page in ["man/patroni-check.8", "man/patroni-check.socket.5"] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        let version = text.lines().find_map(|line| line.split_once("generated by Pandoc ")).unwrap().1;
        if version == pandoc {
            assert!(same(page), "{page} is not what its source gives: make man");
        } else {
            println!("LEFT OUT: {page} was made by pandoc {version}; {pandoc} writes it in another way");
        }
    }
    for file in ["completions/patroni-check", "completions/_patroni-check", "completions/patroni-check.fish"] {
        assert!(same(file), "{file} is of another program: make man");
    }
    // That bash takes it, and offers what there is.
    let script = r#"source completions/patroni-check; COMP_WORDS=(patroni-check --on-failure ""); COMP_CWORD=2
        $(complete -p patroni-check | sed 's/.*-F \([^ ]*\) .*/\1/') patroni-check "" --on-failure; echo "${COMPREPLY[*]}""#;
    let output = Command::new("bash").args(["-c", script]).current_dir(root).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "maint down drain silent\n", "{output:?}");
}

#[test]
fn the_rpm_holds_the_same_and_keeps_settings() {
    if !requires(&["make", "rpm", "target/release/patroni-check", "target/tools/bin/cargo-generate-rpm"]) {
        return;
    }
    let mut make = Command::new("make");
    // What cargo builds `make test` has built.
    let made = make.args(["rpm", "CARGO=true"]).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/generate-rpm");
    let package = fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
    let query = |what: &str| {
        let output = Command::new("rpm").arg(what).arg("-p").arg(&package).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let root = TempDir::new().unwrap();
    install(root.path(), "/usr");
    let list = Command::new("find").args([".", "-type", "f", "-not", "-path", "./build/*"]).current_dir(&root).output();
    for file in String::from_utf8(list.unwrap().stdout).unwrap().lines() {
        let file = file.trim_start_matches('.');
        assert!(query("-ql").lines().any(|line| line == file), "{file}");
    }
    assert_eq!(query("-qc"), "/etc/default/patroni-check\n");
    // RPM knows no purge.
    let scripts = Command::new("rpm").args(["-q", "--scripts", "-p"]).arg(&package).output().unwrap();
    assert!(String::from_utf8(scripts.stdout).unwrap().contains("rm -f /etc/patroni-check/hold"));
}
