//! What an administrator asks for by hand: explain, hold and release, haproxy-config.

mod haproxy_config;
mod haproxy_write;
mod hold;
mod instances;
mod is;
mod remembered;

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use lab::agent::{Agent, binary};
use lab::any_port;
use lab::fake_patroni::{Behaviour, FakePatroni, answer, node, primary, replica};
use lab::programs::write_script;

fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Exit status and what was printed.
fn explain(patroni: &str, arguments: &[&str]) -> (Option<i32>, String) {
    // A file that is nowhere: the machine's own hold is none of the test's business.
    let output = run(&[&["explain", "--hold-file", "/nonexistent/hold", "--patroni", patroni], arguments].concat());
    (output.status.code(), stdout(&output))
}

#[test]
fn the_short_help_fits_on_one_screen_and_the_version_says_what_is_built_in() {
    for arguments in [
        &["-h"][..],
        &["explain", "-h"],
        &["haproxy-config", "-h"],
        &["hold", "-h"],
        &["instances", "-h"],
        &["release", "-h"],
    ] {
        let output = binary().args(arguments).env("COLUMNS", "80").output().unwrap();
        let text = stdout(&output);
        let fits = text.lines().count() <= 24 && text.lines().all(|line| line.len() <= 80);
        assert!(output.status.success() && fits, "{text}");
        // One line an option.
        let options = text.lines().skip_while(|line| *line != "Options:").skip(1);
        assert!({ options }.all(|line| line.trim_start().starts_with('-')), "{text}");
    }
    let long = stdout(&run(&["--help"]));
    assert!(long.contains("--cacert") && long.contains("PATRONI_CHECK_ON_FAILURE=drain"), "{long}");
    let version = stdout(&run(&["-V"]));
    assert!(version.contains(env!("CARGO_PKG_VERSION")) && version.contains("TLS"), "{version}");
}

#[test]
fn explain_shows_each_endpoint_in_both_vocabularies() {
    let patroni = FakePatroni::new(primary());
    let (status, text) = explain(&patroni.url(), &[]);
    // That the fake Patroni's probes have a body is the only thing odd.
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.starts_with("WARNING: primary running, timeline 3, but /readiness: 200 vetoed: patroni: not"),
        "{text}"
    );
    assert!(text.contains("/primary                200   serve    READY UP    READY  primary timeline 3\n"), "{text}");
    assert!(text.lines().skip(1).all(|line| line.len() <= 80) && !text.contains('\x1b'), "{text}");
    assert_eq!(patroni.most_in_flight(), 1, "one request at a time");
    assert!(explain(&patroni.url(), &["/primary"]).1.starts_with("OK: primary running, timeline 3\n"));
    let (status, text) = explain(&patroni.url(), &["/primary", "/replica", "--json"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, json["health"].as_str()), (Some(0), Some("ok")));
    let row = &json["endpoints"][1];
    assert_eq!(row["endpoint"], "/replica");
    assert_eq!((&row["full"], &row["plain"]), (&"READY UP # primary timeline 3".into(), &"READY".into()));
    patroni.now(replica());
    let (status, text) = explain(&patroni.url(), &["/primary"]);
    assert_eq!(status, Some(0));
    assert!(text.contains("/primary  503   standby  MAINT UP  MAINT  replica timeline 3"), "{text}");
}

#[test]
fn explain_tells_a_veto_and_what_is_broken() {
    let patroni = FakePatroni::new(node(200, "stopping", "primary"));
    let (status, text) = explain(&patroni.url(), &["/primary"]);
    assert_eq!(status, Some(2));
    assert!(text.starts_with("CRITICAL: postgres: stopping\n"), "{text}");
    assert!(text.contains("200 vetoed: postgres:"), "{text}");
    // An endpoint that this Patroni is too old for matters where it was asked for only.
    let old = r#"{"state": "running", "role": "primary", "patroni": {"version": "3.0.2"}}"#;
    patroni.now(answer(200, old));
    assert_eq!(explain(&patroni.url(), &["/primary"]).0, Some(0));
    assert_eq!(explain(&patroni.url(), &["/quorum"]).0, Some(2));
    // That the fake Patroni's probes have a body is the only thing odd.
    let (status, text) = explain(&patroni.url(), &[]);
    assert_eq!(status, Some(1));
    assert!(text.starts_with("WARNING: primary running, but /readiness: 200 vetoed: patroni: not a probe's"), "{text}");
    patroni.now(Behaviour::Close);
    assert_eq!(explain(&patroni.url(), &[]).0, Some(2));
    assert_eq!(run(&["explain", "/primry"]).status.code(), Some(2));
}

/// What Patroni says to one request that it answers.
fn said(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.0 {status} X\r\nContent-Type: application/json\r\n\r\n{body}").into_bytes()
}

const REPLICA: &str =
    r#"{"state": "running", "role": "replica", "timeline": 3, "patroni": {"version": "4.1.5", "name": "db1"}}"#;

#[test]
fn explain_warns_of_a_holder_of_the_lock_that_is_still_in_recovery() {
    let patroni = FakePatroni::new(answer(200, REPLICA));
    for (endpoint, exit) in [("/primary", 1), ("/leader", 1), ("/standby-leader", 1), ("/replica", 0)] {
        let (status, text) = explain(&patroni.url(), &[endpoint]);
        let why = format!("but {endpoint}: 200 vetoed: replica timeline 3, being promoted\n");
        assert_eq!((status, text.lines().next().unwrap().contains(why.trim_end())), (Some(exit), exit == 1), "{text}");
    }
    patroni.now(answer(200, &REPLICA.replace("running", "unknown").replace("4.1.5", "3.2.0")));
    let (status, text) = explain(&patroni.url(), &["/primary"]);
    assert!(status == Some(2) && text.contains("a fault of Patroni 3.2.0"), "{text}");
}

#[test]
fn explain_asks_nothing_more_of_a_patroni_that_hangs() {
    let answers = [("/health", said(200, REPLICA)), ("/primary", said(503, REPLICA)), ("/replica", said(200, REPLICA))];
    let patroni = FakePatroni::new(Behaviour::Only(answers.to_vec()));
    let (status, text) = explain(&patroni.url(), &["/primary", "/sync", "/replica", "/health"]);
    assert_eq!((status, patroni.most_in_flight()), (Some(2), 1), "{text}");
    let asked: Vec<_> = patroni.requests().iter().map(|line| line.replace(" HTTP/1.1", "")).collect();
    assert_eq!(asked, ["GET /health", "GET /primary", "GET /sync"]);
    assert!(text.starts_with("CRITICAL: /sync: patroni: no answer within 5s\n"), "{text}");
    assert_eq!(text.matches("patroni: not asked: Patroni did not").count(), 2, "{text}");
    assert!(text.contains("Patroni accepted the connection and does not answer"), "{text}");
    // One that never answers at all is asked once.
    let patroni = FakePatroni::new(Behaviour::Hang);
    assert_eq!(explain(&patroni.url(), &[]).0, Some(2));
    assert_eq!(patroni.requests(), ["GET /health HTTP/1.1"]);
}

#[test]
fn explain_ends_in_time_however_slow_patroni_is() {
    let patroni = FakePatroni::new(primary());
    patroni.delay(std::time::Duration::from_secs(3));
    let (status, text) = explain(&patroni.url(), &[]);
    // Three answers in ten seconds, a fourth request that was not answered in the last one, and no
    // other.
    assert!(status == Some(1) && patroni.requests().len() <= 4 && patroni.most_in_flight() == 1, "{text}");
    assert!(
        text.split_whitespace().collect::<Vec<_>>().join(" ").contains("not asked: Patroni did not answer /"),
        "{text}"
    );
}

#[test]
fn explain_shows_nothing_that_a_terminal_obeys() {
    let evil = "\u{9b}31m\u{1b}[31m\u{202e}\u{200b}\u{7f}";
    let list = serde_json::json!({"members": [{"name": "db1", "lag": format!("{evil}\nOK")}]}).to_string();
    let patroni = FakePatroni::new(Behaviour::Only(vec![
        ("/health", said(200, REPLICA)),
        ("/replica", said(200, REPLICA)),
        ("/cluster", said(200, &list)),
    ]));
    let directory = TempDir::new().unwrap();
    let hold = directory.path().join("hold");
    fs::write(&hold, format!("für Wartung {evil}")).unwrap();
    let systemctl = directory.path().join("systemctl");
    let unit =
        format!("Id=patroni-check-{evil}.socket\nActiveState=active{evil}\nListen=[::]:1 {evil}\nLoadState=loaded\n");
    write_script(&systemctl, &format!("#!/bin/sh\ncat <<'END'\n{unit}END\n"));
    let show = |arguments: &[&str]| {
        let mut command = binary();
        command
            .args(["explain", "--patroni", &patroni.url(), "/replica"])
            .arg("--hold-file")
            .arg(&hold)
            .args(arguments);
        command.env("PATH", format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap()));
        stdout(&command.output().unwrap())
    };
    let text = show(&[]);
    let is_shown = |c: char| c == '\n' || c == 'ü' || (' '..='~').contains(&c);
    assert!(text.chars().all(is_shown) && text.contains("; lag unknown\n"), "{text:?}");
    // A hold has no control characters from the beginning.
    assert!(text.starts_with("WARNING: replica running, timeline 3, held: für Wartung 31m [31m??\n"), "{text:?}");
    assert!(text.contains("patroni-check-?31m?[31m???.socket  active?31m?[31m???  [::]:1 ?31m?[31m???"), "{text:?}");
    let json = show(&["--json"]);
    assert!(json.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{json:?}");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["sockets"][0]["state"].as_str().unwrap().ends_with(evil), "{json}");
    // A systemd that does not answer keeps nobody waiting.
    fs::write(&systemctl, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    assert!(show(&[]).contains("systemctl has not answered within"), "{text:?}");
}

#[test]
fn explain_says_in_its_first_line_whether_anybody_holds_the_lock() {
    let primary = |flags: &str| {
        let body = format!(
            r#"{{"state": "running", "role": "primary", "timeline": 3, "patroni": {{"version": "4.1.5"}}{flags}}}"#
        );
        answer(200, &body)
    };
    let table = [
        (r#", "pause": true"#, Some(0), "OK: primary running, timeline 3, paused\n"),
        (
            r#", "pause": true, "cluster_unlocked": true"#,
            Some(1),
            "WARNING: primary running, timeline 3, nobody holds the lock, paused\n",
        ),
        (
            r#", "cluster_unlocked": true, "failsafe_mode_is_active": true"#,
            Some(1),
            "WARNING: primary running, timeline 3, nobody holds the lock, failsafe\n",
        ),
    ];
    let patroni = FakePatroni::new(primary(""));
    patroni.now(answer(503, r#"{"state": "stopped", "role": "demoted", "cluster_unlocked": true}"#));
    assert!(explain(&patroni.url(), &[]).1.starts_with("CRITICAL: postgres: stopped, nobody holds the lock\n"));
    for (flags, status, first) in table {
        patroni.now(primary(flags));
        let (exit, text) = explain(&patroni.url(), &["/primary"]);
        assert!(text.starts_with(first) && text.lines().all(|line| line.len() <= 80), "{text}");
        assert_eq!(exit, status, "{text}");
        // The service judges by what it remembers, this does not.
        let may_differ = flags.contains("unlocked") && !flags.contains("failsafe");
        assert_eq!(text.contains("explain judges without"), may_differ, "{text}");
    }
}

#[test]
fn explain_says_where_to_look_when_patroni_does_not_answer() {
    let port = any_port();
    let url = format!("http://127.0.0.1:{port}");
    let (status, text) = explain(&url, &[]);
    assert_eq!(status, Some(2));
    assert!(text.starts_with("CRITICAL: patroni: connection refused\n"), "{text}");
    assert!(text.contains(&format!("Nothing on this host listens at port {port}.")), "{text}");
    let _elsewhere = FakePatroni::at(&format!("127.0.0.2:{port}"), primary());
    let (_, text) = explain(&url, &[]);
    assert!(text.contains(&format!("something listens at 127.0.0.2:{port}: set PATRONI_CHECK_PATRONI")), "{text}");
}

#[test]
fn a_hold_says_maint_until_it_is_released_whatever_restarts() {
    let patroni = FakePatroni::new(primary());
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("etc/hold").display().to_string();
    let url = patroni.url();
    let options = ["--patroni", &url, "--deadline", "5s", "--hold-file", &file];
    let (ready, held) = ("READY UP # primary timeline 3\n", "MAINT UP # held: new disk\n");
    let agent = Agent::listening(&options);
    assert_eq!(agent.check(), ready);
    let hold = run(&["hold", "new", "disk", "--hold-file", &file]);
    assert!(hold.status.success(), "{hold:?}");
    assert_eq!(agent.check(), held);
    // Neither a node that is taken apart nor another word for a standby makes it anything else.
    patroni.now(node(503, "stopping", "primary"));
    assert_eq!(Agent::listening(&[&options[..], &["--on-standby", "down", "--max-age", "0s"]].concat()).check(), held);
    assert_eq!(Agent::listening(&[&options[..], &["--words", "plain"]].concat()).check(), "MAINT\n");
    patroni.now(primary());
    assert_eq!(stdout(&run(&options)), held);
    let output = run(&["explain", "--patroni", &url, "--hold-file", &file]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).starts_with("WARNING: primary running, timeline 3, held: new disk\n"));
    assert!(stdout(&run(&["release", "--hold-file", &file])).starts_with("Released"));
    assert_eq!(agent.check(), ready);
    assert!(run(&["release", "--hold-file", &file]).status.success(), "twice is no error");
    assert_eq!(run(&["hold", "--hold-file", "/proc/none/hold"]).status.code(), Some(1));
}

/// Whatever root's umask, the service can look where a hold is made.
#[test]
fn a_hold_makes_directories_that_the_service_can_enter() {
    let directory = TempDir::new().unwrap();
    let mode = |path: &str| directory.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"umask 077; mkdir "$1/there"; exec "$0" hold --hold-file "$1/there/a/b/hold""#]);
    assert!(shell.arg(binary().get_program()).arg(directory.path()).stdin(Stdio::null()).status().unwrap().success());
    let modes = ["there", "there/a", "there/a/b", "there/a/b/hold"].map(mode);
    assert_eq!(modes, [0o700, 0o755, 0o755, 0o644]);
}

/// Whose other end is closed.
fn closed() -> Stdio {
    let (end, _) = UnixStream::pair().unwrap();
    OwnedFd::from(end).into()
}

#[test]
fn an_output_that_takes_nothing_is_no_panic() {
    let directory = TempDir::new().unwrap();
    let hold = directory.path().join("hold").display().to_string();
    for command in ["hold", "release"] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        for to in [Stdio::from(full), closed()] {
            let output = binary().args([command, "--hold-file", &hold]).stdout(to).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        assert_eq!(Path::new(&hold).exists(), command == "hold");
    }
    // Nor is a complaint that nobody can read.
    let status = binary().args(["--grace", "x"]).stderr(closed()).status().unwrap();
    assert_eq!(status.code(), Some(2));
}
