//! The installed files: units that systemd takes without a complaint, pointing at the program where
//! it was installed, and packages that hold them. What happens when they are installed is in
//! tests/machines.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
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
        if unit.ends_with("@.socket") {
            // Without a port it is none, and that is all there is to say.
            assert!(verify(&unit).contains("no Listen setting"), "{unit}");
            let instance = unit.replace('@', "@16-main");
            fs::create_dir(units.join(format!("{instance}.d"))).unwrap();
            fs::write(units.join(format!("{instance}.d/port.conf")), "[Socket]\nListenStream=5565\n").unwrap();
            fs::copy(units.join(&unit), units.join(&instance)).unwrap();
            assert_eq!(verify(&instance), "", "{instance}");
            fs::remove_file(units.join(&instance)).unwrap();
        } else if unit.ends_with(".socket") || unit.ends_with(".service") {
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

/// No port brings in another one, and each can be started anew beside a running service. What that
/// means is in tests/machines/sockets.rs.
#[test]
fn the_service_steps_aside_for_each_socket_and_wants_none() {
    let service = include_str!("../systemd/patroni-check.service");
    let part_of: Vec<_> = service.lines().find_map(|line| line.strip_prefix("PartOf=")).unwrap().split(' ').collect();
    let instance = include_str!("../systemd/patroni-check-cluster@.service");
    let part_of_an_instance: Vec<_> =
        instance.lines().find_map(|line| line.strip_prefix("PartOf=")).unwrap().split(' ').collect();
    let (mut sockets, mut instances) = (0, 0);
    for unit in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd")).unwrap() {
        let unit = unit.unwrap();
        let name = unit.file_name().into_string().unwrap();
        if name.ends_with("@.socket") {
            instances += 1;
            let own = name.replace('@', "@%i");
            assert!(part_of_an_instance.contains(&own.as_str()), "{name}");
        } else if name.ends_with(".socket") {
            sockets += 1;
            assert!(part_of.contains(&name.as_str()), "{name}");
        }
        if !name.ends_with(".socket") && !name.ends_with(".service") {
            continue;
        }
        let text = fs::read_to_string(unit.path()).unwrap();
        let pulls = ["Requires=", "Wants=", "BindsTo=", "Upholds=", "Sockets="];
        assert!(!text.lines().any(|line| pulls.iter().any(|pull| line.starts_with(pull))), "{name}");
        // A limit of either kind would close the port.
        let is_of_a_connection = name.ends_with("@.service") && !name.contains("-cluster");
        assert!(is_of_a_connection || text.contains("\nStartLimitIntervalSec=0\n"), "{name}");
    }
    assert_eq!((part_of.len(), part_of_an_instance.len()), (sockets, instances));
    assert_eq!(sockets, instances);
}

/// The lines of a unit that mean something.
fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect()
}

/// What holds for the units without an instance holds for those of instances, but for what makes an
/// instance one.
#[test]
fn an_instance_differs_from_what_is_none_in_what_it_has_of_its_own() {
    let own = [
        ("Description=Answers HAProxy's agent-check from Patroni's REST API", ", for %i"),
        ("ExecStart=/usr/bin/patroni-check", " --instance %i"),
        (
            "EnvironmentFile=-/etc/default/patroni-check",
            "EnvironmentFile=-/etc/patroni-check/%i.env\nSyslogIdentifier=patroni-check@%i",
        ),
        ("User=patroni-check", "User=pcheck-%i"),
        ("RuntimeDirectory=patroni-check", "-cluster/%i"),
    ];
    let service: Vec<String> = lines(include_str!("../systemd/patroni-check.service"))
        .into_iter()
        .map(|line| match own.iter().find(|(before, _)| *before == line) {
            Some((_, whole)) if whole.contains('=') => (*whole).to_owned(),
            Some((_, more)) => format!("{line}{more}"),
            None if line.starts_with("PartOf=") => {
                line.replace("patroni-check", "patroni-check-cluster").replace(".socket", "@%i.socket")
            }
            None => line.to_owned(),
        })
        .collect();
    assert_eq!(service.join("\n"), lines(include_str!("../systemd/patroni-check-cluster@.service")).join("\n"));
    for which in ["", "-replica", "-agent-send", "-http", "-metrics"] {
        let (plain, instance) = (
            file(&format!("systemd/patroni-check{which}.socket")),
            file(&format!("systemd/patroni-check-cluster{which}@.socket")),
        );
        let (plain, instance) = (lines(&plain), lines(&instance));
        // A port is each instance's own, and there is no Accept=yes.
        let left_out =
            ["ListenStream=", "MaxConnections=", "MaxConnectionsPerSource=", "LogLevelMax=", "Documentation="];
        let is_kept = |line: &&&str| !left_out.iter().any(|setting| line.starts_with(setting));
        for line in plain.iter().filter(is_kept) {
            let line = match line.split_once('=') {
                Some(("Service", _)) => "Service=patroni-check-cluster@%i.service",
                Some(("Description", _)) => continue,
                _ => line,
            };
            assert!(instance.contains(&line), "{which}: {line}");
        }
        assert!(
            !instance.iter().any(|line| line.starts_with("ListenStream=") || line.starts_with("Accept=")),
            "{which}"
        );
        assert!(instance.contains(&"Service=patroni-check-cluster@%i.service"), "{which}");
        assert!(instance.iter().any(|line| line.starts_with("Description=") && line.contains("of %i")), "{which}");
    }
}

/// The lines of a unit's sandbox.
fn sandbox(unit: &'static str) -> Vec<&'static str> {
    let lines = unit.lines().skip_while(|line| !line.starts_with("# The sandbox:"));
    lines.filter(|line| !line.starts_with('#')).collect()
}

/// What a process for one check does without is what its empty root makes moot, or what another of
/// its lines does.
#[test]
fn the_services_are_protected_alike() {
    let of_the_service = sandbox(include_str!("../systemd/patroni-check.service"));
    let of_each_check = sandbox(include_str!("../systemd/patroni-check@.service"));
    assert!(of_the_service.len() > 20 && of_each_check.contains(&"RootDirectory=/run/patroni-check.root"));
    let left_out: Vec<_> = of_the_service.iter().filter(|line| !of_each_check.contains(line)).copied().collect();
    let moot = [
        "LockPersonality=yes",
        "NoNewPrivileges=yes",
        "PrivateDevices=yes",
        "PrivateMounts=yes",
        "PrivateTmp=yes",
        "PrivateUsers=yes",
        "ProcSubset=pid",
        "ProtectClock=yes",
        "ProtectControlGroups=yes",
        "ProtectHome=yes",
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "ProtectProc=invisible",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
    ];
    assert_eq!(left_out, moot);
    // The page says why, of each of them.
    let page = include_str!("../docs/performance.md");
    for line in moot {
        assert!(page.contains(line.split_inclusive('=').next().unwrap()), "{line}");
    }
    // The directory and the user of the memory.
    for line in ["User=patroni-check", "RuntimeDirectory=patroni-check", "RuntimeDirectoryPreserve=yes"] {
        assert!(of_the_service.contains(&line) && of_each_check.contains(&line), "{line}");
    }
    assert!(include_str!("../systemd/tmpfiles").contains("\nd /run/patroni-check.root 0755 root root\n"));
}

/// A process for one check is the same on each port.
#[test]
fn the_templates_differ_in_their_role_only() {
    let of_the_primary = lines(include_str!("../systemd/patroni-check@.service"));
    let others = [
        (include_str!("../systemd/patroni-check-replica@.service"), "--endpoint /replica"),
        (include_str!("../systemd/patroni-check-http@.service"), "--connection http"),
    ];
    for (other, role) in others {
        let other = lines(other);
        assert_eq!(of_the_primary.len(), other.len());
        for (one, other) in of_the_primary.iter().zip(other) {
            match one.split_once('=') {
                Some(("Description", _)) => {}
                Some(("ExecStart", command)) => assert_eq!(other, format!("ExecStart={command} {role}")),
                _ => assert_eq!(*one, other),
            }
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
    for unit in [
        "patroni-check.service",
        "patroni-check-cluster@.service",
        "patroni-check@.service",
        "patroni-check-replica@.service",
        "patroni-check-http@.service",
    ] {
        let text = fs::read_to_string(root.path().join("opt/pc/lib/systemd/system").join(unit)).unwrap();
        assert!(text.lines().any(|line| line.starts_with("ExecStart=/opt/pc/bin/patroni-check")), "{text}");
        // Where the root is another one, the program is in it.
        let bound = text.lines().find_map(|line| line.strip_prefix("BindReadOnlyPaths="));
        assert_eq!(bound.is_none(), ["patroni-check.service", "patroni-check-cluster@.service"].contains(&unit));
        assert!(bound.is_none_or(|bound| bound.split(' ').any(|path| path == "/opt/pc")), "{text}");
    }
    assert!(root.path().join("opt/pc/bin/patroni-check").exists());
    let tls = fs::read_to_string(root.path().join("opt/pc/share/doc/patroni-check/examples/tls.conf")).unwrap();
    assert!(tls.contains("ExecStart=/opt/pc/bin/patroni-check ") && !tls.contains("/usr/bin/patroni-check"), "{tls}");
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

/// What is checked in is what its sources give; else `make man`.
#[test]
fn manual_pages_settings_and_completions_are_those_of_their_sources() {
    if !requires(&["make", "pandoc"]) {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = TempDir::new().unwrap();
    let pandoc = String::from_utf8(Command::new("pandoc").arg("--version").output().unwrap().stdout).unwrap();
    let pandoc = pandoc.lines().next().unwrap().trim_start_matches("pandoc ");
    let mut make = Command::new("make");
    lab::generate::write(directory.path(), directory.path(), directory.path()).unwrap();
    make.arg("pages").args(["PAGES", "PAGE_SOURCES"].map(|what| format!("{what}={}", directory.path().display())));
    let made = make.current_dir(root).output().unwrap();
    assert!(made.status.success(), "{made:?}");
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
    assert!(same("systemd/default"), "the options have other texts than systemd/default: make man");
    // That bash takes it, and offers what there is.
    let script = r#"source completions/patroni-check; COMP_WORDS=(patroni-check --on-failure ""); COMP_CWORD=2
        $(complete -p patroni-check | sed 's/.*-F \([^ ]*\) .*/\1/') patroni-check "" --on-failure; echo "${COMPREPLY[*]}""#;
    let output = Command::new("bash").args(["-c", script]).current_dir(root).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "maint down drain silent\n", "{output:?}");
}

/// A package of what is built already, with this release number.
fn rpm(release: &str, to: &Path) -> PathBuf {
    let package = to.join(format!("{release}.rpm"));
    let mut make = Command::new("target/tools/bin/cargo-generate-rpm");
    make.arg("--set-metadata").arg(format!("release = \"{release}\"")).arg("--output").arg(&package);
    let made = make.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    package
}

const RPM: [&str; 3] = ["rpm", "target/release/patroni-check", "target/tools/bin/cargo-generate-rpm"];

#[test]
fn the_rpm_holds_the_same_and_says_what_it_is() {
    if !requires(&["make"]) || !requires(&RPM) {
        return;
    }
    let root = TempDir::new().unwrap();
    let package = rpm("1", root.path());
    let query = |what: &[&str]| {
        let output = Command::new("rpm").arg("-qp").args(what).arg(&package).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    install(root.path(), "/usr");
    let list = Command::new("find").args([".", "-type", "f", "-not", "-path", "./build/*"]).current_dir(&root).output();
    let packed = query(&["-l"]);
    for file in String::from_utf8(list.unwrap().stdout).unwrap().lines().filter(|file| *file != "./1.rpm") {
        let file = file.trim_start_matches('.');
        assert!(packed.lines().any(|line| line == file), "{file}");
    }
    assert_eq!(query(&["-c"]), "/etc/default/patroni-check\n");
    let documents = query(&["-d"]);
    let is_document = |file: &str| {
        ["doc", "licenses", "man"].iter().any(|directory| file.starts_with(&format!("/usr/share/{directory}/")))
    };
    for file in packed.lines() {
        assert_eq!(documents.lines().any(|line| line == file), is_document(file), "{file}");
    }
    // The scripts need a shell, and nothing else that could be missing.
    let needs = query(&["--requires"]);
    let of_the_system = ["config(", "ld-linux", "libc.so", "libgcc_s.so", "libm.so", "rpmlib(", "rtld("];
    for need in needs.lines().filter(|need| !of_the_system.iter().any(|known| need.starts_with(known))) {
        assert_eq!(need, "/bin/sh");
    }
    assert!(needs.contains("/bin/sh\n"));
    assert_eq!(query(&["--recommends"]), "systemd >= 249\n");
    // Of each licence that a crate in the program may have.
    let licence = query(&["--queryformat", "%{LICENSE}"]);
    let (deny, copyright) = (file("deny.toml"), file("debian/copyright"));
    let allowed = deny.lines().find_map(|line| line.strip_prefix("allow = [")).unwrap();
    for allowed in allowed.trim_end_matches(']').split(", ").map(|allowed| allowed.trim_matches('"')) {
        assert!(licence.contains(allowed), "{allowed}: {licence}");
        assert!(copyright.contains(&format!("\nLicense: {allowed}\n ")), "debian/copyright: {allowed}");
    }
}

/// An empty root with a shell in it and what the program needs, and a systemctl and a systemd-tmpfiles that note in `/log` how
/// they were called.
fn root_with_a_shell() -> TempDir {
    let root = TempDir::new().unwrap();
    let copied = Command::new("sh")
        .args(["-euc", "for file in /bin/sh /bin/env /bin/rm /bin/rmdir $(ldd /bin/sh /bin/env /bin/rm $2 | grep -o '/[^ :]*so[^ :]*'); do cp -L --parents $file $1; done"])
        .arg("sh")
        .arg(root.path())
        .arg(env!("CARGO_BIN_EXE_patroni-check"))
        .status();
    assert!(copied.unwrap().success());
    fs::create_dir(root.path().join("dev")).unwrap();
    fs::write(root.path().join("dev/null"), "").unwrap();
    for program in ["systemctl", "systemd-tmpfiles"] {
        let path = root.path().join("bin").join(program);
        fs::write(&path, format!("#!/bin/sh\necho \"{program} $*\" >>/log\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    root
}

/// With a database of its own. What the scripts do to systemd is what Fedora's macros would do.
#[test]
fn the_rpm_comes_and_goes() {
    if !requires(&["root"]) || !requires(&RPM) {
        return;
    }
    let root = root_with_a_shell();
    let (first, next) = (rpm("1", root.path()), rpm("2", root.path()));
    let at = |path: &str| root.path().join(path);
    // What rpm has said, and how systemd was called.
    let run = |arguments: &[&str], package: &std::ffi::OsStr| {
        let _ = fs::remove_file(at("log"));
        let mut rpm = Command::new("rpm");
        // Debian's rpm wants to be told that this is meant. The root has no package that could meet a need.
        rpm.args(["--force-debian", "--nodeps", "--root"]).arg(root.path()).args(arguments).arg(package);
        // What whoever upgrades has set for a command is no setting of the service.
        rpm.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("PATRONI_CHECK_GRACE", "rubbish");
        let output = rpm.output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        let is_clean = complaints.lines().all(|line| line.ends_with(" saved as /etc/default/patroni-check.rpmsave"));
        assert!(output.status.success() && is_clean, "{output:?}");
        let log = fs::read_to_string(at("log")).unwrap_or_default();
        // But for questions.
        let is_question = |line: &&str| ["show", "is-active", "list-units"].iter().any(|verb| line.contains(verb));
        log.split_inclusive('\n').filter(|line| !is_question(line)).collect::<String>()
    };
    assert_eq!(
        run(&["--install"], first.as_os_str()),
        "systemd-tmpfiles --create patroni-check.conf\nsystemctl daemon-reload\n"
    );
    assert!(at("usr/lib/systemd/system/patroni-check.socket").exists());
    // Where systemd does not run nothing is restarted.
    assert_eq!(
        run(&["--upgrade", "--replacepkgs", "--force"], first.as_os_str())
            .lines()
            .filter(|line| line.contains("restart"))
            .count(),
        0
    );
    fs::create_dir_all(at("run/systemd/system")).unwrap();
    fs::write(at("etc/default/patroni-check"), "PATRONI_CHECK_WORDS=plain\n").unwrap();
    let wants = at("etc/systemd/system/sockets.target.wants");
    fs::create_dir_all(&wants).unwrap();
    std::os::unix::fs::symlink("/usr/lib/systemd/system/patroni-check.socket", wants.join("patroni-check.socket"))
        .unwrap();
    fs::create_dir_all(at("etc/patroni-check/16-main")).unwrap();
    for hold in ["hold", "hold.replica", "16-main/hold"] {
        fs::write(at("etc/patroni-check").join(hold), "new disk\n").unwrap();
    }
    // A restart of the service, whose settings are in order, and no word to a socket.
    assert_eq!(
        run(&["--upgrade"], next.as_os_str()),
        "systemd-tmpfiles --create patroni-check.conf\nsystemctl daemon-reload\n\
         systemctl try-restart patroni-check.service\nsystemctl daemon-reload\n"
    );
    assert_eq!(fs::read_to_string(at("etc/default/patroni-check")).unwrap(), "PATRONI_CHECK_WORDS=plain\n");
    assert!(wants.join("patroni-check.socket").is_symlink() && at("etc/patroni-check/hold").exists());
    assert_eq!(
        run(&["--erase"], "patroni-check".as_ref()),
        "systemctl stop patroni-check*.socket patroni-check.service patroni-check-cluster@*.service\n\
         systemctl daemon-reload\n"
    );
    let left = Command::new("find").args([".", "-name", "*patroni-check*"]).current_dir(&root).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "./etc/default/patroni-check.rpmsave\n");
}

/// Of the repository.
fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The release checklist in CONTRIBUTING.md names these places.
#[test]
fn every_place_that_holds_a_version_holds_this_one() {
    let version = env!("CARGO_PKG_VERSION");
    let locked = format!("\nname = \"patroni-check\"\nversion = \"{version}\"\n");
    let places = [
        ("Cargo.toml", format!("\nversion = \"{version}\"\n")),
        ("Cargo.lock", locked.clone()),
        ("fuzz/Cargo.lock", locked),
        ("debian/changelog", format!("patroni-check ({version}-1) ")),
    ];
    for (place, text) in places {
        // The newest entry of a changelog is its first one.
        let beginning = if place.ends_with("changelog") { 1 } else { usize::MAX };
        let found = file(place).split_inclusive('\n').take(beginning).collect::<String>();
        assert!(found.contains(&text), "{place} has another version than Cargo.toml, {version}");
        assert!(
            file("CONTRIBUTING.md").contains(&format!("`{place}`")),
            "CONTRIBUTING.md, Release: {place} is missing"
        );
    }
    let pages = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("man")).unwrap();
    for page in pages.map(|page| format!("man/{}", page.unwrap().file_name().to_string_lossy())) {
        let (text, own) = (file(&page), format!("patroni-check {version}"));
        let title = text.lines().find(|line| line.starts_with("% ") || line.starts_with(".TH ")).unwrap_or_default();
        let is_own = title.split_once(&own).is_some_and(|(_, rest)| rest.starts_with([' ', '"']));
        assert!(is_own, "{page} is not of {own}: {title}");
    }
    // What is not released yet has no version there.
    let changes = file("CHANGELOG.md");
    let newest = changes.lines().find_map(|line| line.strip_prefix("## ")).unwrap_or_default();
    let is_newest = newest == "Unreleased" || newest.split(' ').next() == Some(version);
    assert!(is_newest, "CHANGELOG.md begins with {newest}, not with Unreleased or {version}");

    let rust = env!("CARGO_PKG_RUST_VERSION");
    assert!(file("README.md").contains(&format!("Rust {rust} ")), "README.md names another Rust than {rust}");
}
