//! `hold` and `release`: of single views, that drain, that end by themselves.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::Output;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use lab::agent::{Agent, binary, check};
use lab::fake_patroni::{Behaviour, FakePatroni, answer, node, primary, replica};
use lab::programs::write_script;
use lab::{any_port, await_that, recorded, requires};

use crate::stdout;

/// A directory for holds, and a Patroni.
struct Host {
    directory: TempDir,
    patroni: FakePatroni,
}

impl Host {
    fn new(behaviour: Behaviour) -> Self {
        Host { directory: TempDir::new().unwrap(), patroni: FakePatroni::new(behaviour) }
    }

    fn file(&self, suffix: &str) -> String {
        self.directory.path().join(format!("hold{suffix}")).display().to_string()
    }

    /// A command on this host, without any systemd.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = binary();
        command.env("PATH", self.directory.path());
        command.args(["--hold-file", &self.file(""), "--patroni", &self.patroni.url()]).args(arguments);
        command.output().unwrap()
    }

    /// What a command prints that does what it is to do.
    fn does(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
        stdout(&output)
    }

    /// What it says when it refuses.
    fn refuses(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.stdout.is_empty() && error.lines().count() == 1, "{arguments:?}: {output:?}");
        (output.status.code(), error)
    }

    /// Exit status and what was printed.
    fn explains(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.run(&[&["explain"], arguments].concat());
        (output.status.code(), stdout(&output))
    }

    /// The names of the files that are there.
    fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The service, for /primary, and for these views, each at the address that comes with it.
    fn service(&self, views: &[&str]) -> (Agent, Vec<SocketAddr>) {
        let addresses: Vec<_> = views.iter().map(|_| SocketAddr::from(([127, 0, 0, 1], any_port()))).collect();
        let listen: Vec<_> =
            addresses.iter().zip(views).map(|(address, view)| format!("--listen={address}={view}")).collect();
        let listen: Vec<_> = listen.iter().map(String::as_str).collect();
        let (file, url) = (self.file(""), self.patroni.url());
        let options = ["--patroni", &url, "--hold-file", &file, "--deadline", "5s", "--max-age", "0s"];
        (Agent::listening(&[&options[..], &listen].concat()), addresses)
    }

    /// What a process for one check says about an endpoint.
    fn one_shot(&self, endpoint: &str) -> String {
        self.does(&["--endpoint", endpoint, "--deadline", "5s"])
    }
}

const READY: &str = "READY UP # primary timeline 3\n";

#[test]
fn a_hold_on_an_endpoint_leaves_the_others_alone() {
    let host = Host::new(node(200, "running", "replica"));
    let (agent, addresses) = host.service(&["/replica?lag=1MB", "/replica", "/read-only"]);
    let all = || {
        let service: Vec<_> = addresses.iter().map(|address| check(*address)).collect();
        let shots: Vec<_> = ["/replica?lag=1MB", "/replica", "/read-only"].iter().map(|on| host.one_shot(on)).collect();
        assert_eq!(service, shots);
        service.iter().map(|reply| reply.split(" #").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let old = "MAINT UP # replica timeline 3, being promoted\n";
    assert_eq!(agent.check().replace(" being", ", being").replace(" ,", ","), old);
    // The fake Patroni tells no version.
    let too_old = "READY DOWN";
    assert_eq!(all(), [too_old, "READY UP", "READY UP"]);
    let said = host.does(&["hold", "--on", "/replica", "new", "disk"]);
    let first = "Held: from the next check on this node answers MAINT on /replica, until you run: patroni-check release --on '/replica'\n";
    assert_eq!(said, first);
    assert_eq!(all(), ["MAINT UP", "MAINT UP", "READY UP"]);
    assert_eq!(check(addresses[1]), "MAINT UP # held: new disk\n");
    host.does(&["hold", "--drain", "--on", "/replica?lag=1024kB", "--on=/read-only"]);
    assert_eq!(host.files(), ["hold.read-only", "hold.replica", "hold.replica?lag=1048576"]);
    assert_eq!(all(), ["MAINT UP", "MAINT UP", "DRAIN UP"]);
    let released = host.does(&["release", "--on", "/replica"]);
    assert_eq!(released, "Released: Patroni decides again on /replica.\n");
    assert_eq!(all(), ["DRAIN UP", "READY UP", "DRAIN UP"]);
    assert_eq!(host.does(&["release", "--on", "/replica"]), "This node had no hold on /replica.\n");
    host.does(&["hold", "rack", "moves"]);
    assert_eq!(all(), ["MAINT UP"; 3]);
    let still = "Released: Patroni decides again on /read-only.\nBut /read-only is still held by another hold: held: rack moves\n";
    assert_eq!(host.does(&["release", "--on", "/read-only"]), still);
    let all_of_them = "Released: Patroni decides again on all endpoints, /replica?lag=1048576.\n";
    assert_eq!(host.does(&["release"]), all_of_them);
    assert!(host.files().is_empty());
    assert_eq!(all(), [too_old, "READY UP", "READY UP"]);
    assert_eq!(host.does(&["release"]), "This node was not held.\n");
}

#[test]
fn draining_is_refused_where_this_node_serves_writes() {
    let mut refused = 0;
    for (version, sections) in recorded::all() {
        let of = |node: &str| {
            let section =
                sections.iter().find(|section| section.node == node && section.endpoint == "/primary").unwrap();
            Behaviour::Send(section.answer.clone())
        };
        let host = Host::new(of("primary"));
        for arguments in [
            &["hold", "--drain"][..],
            &["hold", "--drain", "--on", "/primary"],
            &["hold", "--drain", "--on=/sync", "--on=/master"],
        ] {
            let (status, error) = host.refuses(arguments);
            assert!(status == Some(1) && error.contains("not held: this node serves /"), "{version}: {error}");
            assert!(host.files().is_empty());
            refused += 1;
        }
        host.patroni.now(of("replica"));
        let said = host.does(&["hold", "--drain", "new", "disk"]);
        assert!(said.contains("this node answers DRAIN, until you run") && !said.contains("primary"), "{said}");
        host.does(&["release"]);
    }
    assert!(refused >= 21, "{refused}");
}

#[test]
fn draining_is_refused_where_patroni_can_not_say_and_never_with_force() {
    let host = Host::new(Behaviour::Close);
    let pause =
        |flags: &str| answer(503, &format!(r#"{{"state": "running", "role": "primary", "timeline": 3{flags}}}"#));
    let table = [
        (Behaviour::Close, "does not say"),
        (node(503, "unknown", "primary"), "does not say"),
        (node(503, "starting", "replica"), "does not say"),
        (answer(500, "{}"), "does not say"),
        // The service may know better who had the lock.
        (pause(r#", "pause": true"#), "does not say"),
        (pause(r#", "cluster_unlocked": true"#), "does not say"),
        (node(200, "running", "replica"), "serves /primary (replica timeline 3, being promoted)"),
        (primary(), "serves /primary"),
    ];
    for (behaviour, why) in table {
        host.patroni.now(behaviour.clone());
        let (status, error) = host.refuses(&["hold", "--drain"]);
        assert!(status == Some(1) && error.contains(why), "{behaviour:?}: {error}");
        assert!(host.files().is_empty());
        // Nobody asks what does not matter.
        let asked = host.patroni.requests().len();
        host.does(&["hold", "--drain", "--on", "/replica"]);
        host.does(&["hold", "--drain", "--force", "new", "disk"]);
        assert_eq!(host.patroni.requests().len(), asked, "{behaviour:?}");
        host.does(&["release"]);
    }
    // With --force a primary drains, until it is none.
    host.patroni.now(primary());
    let (agent, _) = host.service(&[]);
    let said = host.does(&["hold", "--drain", "--force", "new", "disk"]);
    assert!(said.ends_with("If this node is the primary, no node takes new sessions for writes now.\n"), "{said}");
    assert_eq!(
        (agent.check(), host.one_shot("/primary")),
        ("DRAIN UP # held: new disk\n".into(), "DRAIN UP # held: new disk\n".into())
    );
    host.patroni.now(replica());
    assert_eq!(
        (agent.check(), host.one_shot("/primary")),
        ("MAINT UP # held: new disk\n".into(), "MAINT UP # held: new disk\n".into())
    );
    // A Patroni that hangs is waited for, and for no second answer.
    host.does(&["release"]);
    host.patroni.now(Behaviour::Hang);
    let asked = host.patroni.requests().len();
    assert!(host.refuses(&["hold", "--drain"]).1.contains("no answer within 2s"));
    assert_eq!(host.patroni.requests().len(), asked + 1);
}

#[test]
fn a_hold_ends_by_itself() {
    let host = Host::new(primary());
    let (agent, _) = host.service(&[]);
    let said = host.does(&["hold", "--for", "2s", "new", "disk"]);
    assert!(said.contains("answers MAINT, until 20") && said.contains("Z, in 2s, or until you run"), "{said}");
    assert!(said.contains("It ends by itself. A clock that is set ahead does not end it early.\n"), "{said}");
    let text = fs::read_to_string(host.file("")).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let [reason, until, boot] = lines[..] else { panic!("{text}") };
    assert!(reason == "new disk" && until.starts_with("until 20") && boot.starts_with("boot "), "{text}");
    let held = format!("MAINT UP # held {until}: new disk\n");
    assert_eq!((agent.check(), host.one_shot("/primary")), (held.clone(), held));
    await_that("the end of the hold", || agent.check() == READY);
    assert_eq!(host.one_shot("/primary"), READY);
    // The entry says what has come to its end.
    let over = format!("/primary -> {} (the hold is over: held {until}: new disk)\n", READY.trim_end());
    await_that("an entry", || agent.process.output().contains(&over));
    let list = host.does(&["hold", "--list"]);
    assert!(list.contains(&format!("(all)     maint  {}, over  new disk\n", &until[6..])), "{list}");
    assert_eq!(host.does(&["release"]), "Released: Patroni decides again on all endpoints (it was over).\n");
    assert!(host.files().is_empty());
}

#[test]
fn the_end_of_a_hold_is_told_where_each_check_has_a_process() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let host = Host::new(primary());
    let variable = format!("RUNTIME_DIRECTORY={}", host.directory.path().display());
    let (file, url) = (host.file(""), host.patroni.url());
    let options = ["--patroni", &url, "--hold-file", &file, "--deadline", "5s", "--max-age", "0s"];
    let agent = Agent::activated(&["--accept", "-E", &variable], &options);
    host.does(&["hold", "--for", "2s", "--drain", "--force", "new", "disk"]);
    assert!(agent.check().starts_with("DRAIN UP # held until 20"));
    await_that("the end of the hold", || agent.check() == READY);
    await_that("an entry", || agent.process.output().contains("timeline 3 (the hold is over: held until 20"));
}

/// As if the wall clock had been set ahead: the boot's says that the time has not come.
#[test]
fn a_clock_that_jumps_ends_no_hold() {
    let host = Host::new(primary());
    host.does(&["hold", "--for", "1h", "new", "disk"]);
    let text = fs::read_to_string(host.file("")).unwrap();
    let until = text.lines().nth(1).unwrap();
    fs::write(host.file(""), text.replace(until, "until 2020-01-01T00:00:00Z")).unwrap();
    File::options()
        .write(true)
        .open(host.file(""))
        .unwrap()
        .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
        .unwrap();
    let held = "MAINT UP # held until 2020-01-01T00:00:00Z (clock jumped): new disk\n";
    let (agent, _) = host.service(&[]);
    assert_eq!((agent.check(), host.one_shot("/primary")), (held.into(), held.into()));
    let list = host.does(&["hold", "--list"]);
    assert!(list.contains("(all)     maint  2020-01-01T00:00:00Z  (clock jumped) new disk\n"), "{list}");
    let (status, text) = host.explains(&["/primary"]);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(status, Some(1));
    assert!(
        words.contains("The hold ends by itself in ") && words.contains("set ahead, past 2020-01-01T00:00:00Z,"),
        "{text}"
    );
    // In another boot the clock alone decides.
    let text = fs::read_to_string(host.file("")).unwrap();
    let id = text.lines().nth(2).unwrap().split(' ').nth(1).unwrap();
    fs::write(host.file(""), text.replace(id, &"0".repeat(32))).unwrap();
    File::options()
        .write(true)
        .open(host.file(""))
        .unwrap()
        .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
        .unwrap();
    assert_eq!((agent.check(), host.one_shot("/primary")), (READY.into(), READY.into()));
}

#[test]
fn holds_are_listed_and_explained() {
    let host = Host::new(primary());
    assert_eq!(host.does(&["hold", "--list"]), "no hold\n");
    host.does(&["hold", "--on=/replica", "--drain", "--for=2h", "new", "disk"]);
    host.does(&["hold", "--on=/sync?tag_a=b"]);
    fs::write(host.file(".replica?lag=1MB"), "x\n").unwrap();
    fs::write(host.file(".sync"), "für x\nuntil then\n").unwrap();
    let list = host.does(&["hold", "--list"]);
    let lines: Vec<_> = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let until = fs::read_to_string(host.file(".replica")).unwrap().lines().nth(2).unwrap()[6..].to_owned();
    let expected = [
        "ENDPOINT WORDS UNTIL REASON",
        &format!("/replica drain {until} new disk"),
        "hold.replica?lag=1MB - - holds nothing: write",
        "replica?lag=1048576",
        "/sync maint - (until unreadable) für x",
        "/sync?tag_a=b maint -",
    ];
    assert_eq!(lines, expected);
    // explain shows them with the endpoints.
    let file = host.file("");
    let (status, text) = host.explains(&["/primary", "/replica", "/health"]);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(status, Some(1));
    assert!(
        text.starts_with(&format!("WARNING: primary running, timeline 3, /replica held until {until}: new disk\n")),
        "{text}"
    );
    assert!(words.contains("/primary 200 serve READY UP READY primary timeline 3 "), "{text}");
    assert!(words.contains(&format!("/replica 200 held DRAIN UP DRAIN held until {until}: new disk ")), "{text}");
    assert!(words.contains(&format!("The hold on /replica ends by itself at {until}, in ")), "{text}");
    assert!(words.contains(&format!("{file}.replica?lag=1MB holds nothing: write replica?lag=1048576.")), "{text}");
    assert!(!text.contains("/sync"), "{text}");
    assert_eq!(host.explains(&["/primary"]).0, Some(0), "another endpoint's is none of its business");
    let (_, json) = host.explains(&["/primary", "/replica", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let until = serde_json::Value::from(until);
    assert_eq!(
        [&json["endpoints"][0]["held_until"], &json["endpoints"][1]["held_until"]],
        [&serde_json::Value::Null, &until]
    );
}

#[test]
fn what_can_not_be_meant_is_refused() {
    let host = Host::new(replica());
    for arguments in [
        &["--for", "0s"][..],
        &["--for", "999ms"],
        &["--for", "367d"],
        &["--for", "99999999999999999999y"],
        &["--for", "2"],
        &["--for", "-1h"],
        &["--for="],
        &["--for=1h", "--for=2h"],
        &["--on", "/primry"],
        &["--on", "replica"],
        &["--on", "/replica?calm=1s"],
        &["--on", ""],
        &["--force"],
        &["--list", "--drain"],
        &["--list", "--on=/replica"],
        &["--list", "--for=1h"],
        &["--list", "reason"],
        &["--list", "--drain", "--force"],
    ] {
        let (status, error) = host.refuses(&[&["hold"], arguments].concat());
        assert_eq!(status, Some(2), "{arguments:?}: {error}");
    }
    assert_eq!(host.refuses(&["release", "--on", "/primry"]).0, Some(2));
    // Too long for the name of a file, and for nothing else.
    let long = format!("/replica?tag_a={}", "x".repeat(238));
    assert_eq!(host.refuses(&["hold", "--on", &long]).0, Some(1));
    assert_eq!(host.does(&["release", "--on", &long]), format!("This node had no hold on {long}.\n"));
    assert!(host.one_shot(&long).starts_with("READY DOWN"), "no hold of it is there");
    assert!(host.files().is_empty());
    host.does(&["hold", "--for", "366d", "--on=/health", "--on=/health"]);
    assert_eq!(host.files(), ["hold.health"]);
}

/// By a systemd that shows these sockets.
#[test]
fn a_hold_says_where_no_socket_is() {
    let host = Host::new(replica());
    let unit = |id: &str, name: &str| {
        format!(
            "Id={id}.socket\nActiveState=active\nListen=[::]:1 (Stream)\nFileDescriptorName={name}\nLoadState=loaded\n\n"
        )
    };
    let show = |units: &str| {
        write_script(&host.directory.path().join("systemctl"), &format!("#!/bin/sh\n/bin/cat <<'END'\n{units}END\n"))
    };
    let shown = |on: &str| on.replace("2MB", "2097152");
    let says = |on: &str| {
        host.does(&["hold", "--on", on]).contains(&format!("No socket of this host answers for {}", shown(on)))
    };
    show(&(unit("patroni-check", "/primary") + &unit("patroni-check-replica", "/replica?lag=1MB&on-standby=drain")));
    for (on, is_said) in [
        ("/primary", false),
        ("/master", false),
        ("/replica", false),
        ("/replica?lag=1MB", false),
        ("/replica?lag=2MB", true),
        ("/sync", true),
    ] {
        assert_eq!(says(on), is_said, "{on}");
    }
    // A check may name what is listed.
    show(&unit("patroni-check-http", "http"));
    assert!(says("/sync") && !says("/primary"));
}
