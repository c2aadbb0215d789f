//! `is`: exit statuses, one line, waiting.

use std::fs::{self, File};
use std::thread;
use std::time::{Duration, Instant};

use lab::agent::binary;
use lab::fake_patroni::{Behaviour, FakePatroni, node, primary, replica};

use crate::{run, stdout};

/// Exit status and output.
fn is(patroni: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(&[&["--patroni", patroni, "is"], arguments].concat());
    (output.status.code(), stdout(&output))
}

#[test]
fn the_exit_status_is_the_verdict() {
    let table = [
        (primary(), Some(0), "/primary: serve, primary timeline 3\n"),
        (replica(), Some(1), "/primary: standby, replica timeline 3\n"),
        (node(200, "running", "replica"), Some(1), "/primary: standby, replica timeline 3, being promoted\n"),
        (node(503, "stopping", "primary"), Some(2), "/primary: fail, postgres: stopping\n"),
        (Behaviour::Close, Some(2), "/primary: fail, patroni: answer cut short\n"),
    ];
    for (behaviour, status, line) in table {
        let patroni = FakePatroni::new(behaviour);
        let url = patroni.url();
        assert_eq!(is(&url, &["/primary"]), (status, line.to_owned()));
        let quiet = if status == Some(2) { line } else { "" };
        assert_eq!(is(&url, &["/primary", "--quiet"]), (status, quiet.to_owned()), "{line}");
        let strict = if status == Some(2) { Some(255) } else { status };
        assert_eq!(is(&url, &["--strict", "/primary"]).0, strict, "{line}");
    }
}

#[test]
fn a_hold_is_a_no() {
    let patroni = FakePatroni::new(primary());
    let directory = tempfile::tempdir().unwrap();
    let hold = directory.path().join("hold");
    fs::write(&hold, "new disk\n").unwrap();
    let hold = hold.to_str().unwrap();
    let held = (Some(1), "/primary: held, held: new disk\n".to_owned());
    assert_eq!(is(&patroni.url(), &["/primary", "--hold-file", hold]), held);
}

#[test]
fn wrong_usage_is_no_answer() {
    for (arguments, status) in [
        (&["is"][..], 2),
        (&["is", "/standby"], 2),
        (&["is", "primary"], 2),
        (&["is", "/primary", "--wait", "2h"], 2),
        (&["is", "/primary", "--deadline", "1m"], 2),
        (&["is", "/standby", "--strict"], 255),
        (&["--patroni", "db1", "is", "/primary", "--strict"], 255),
        (&["is", "--strict", "/primary", "--nonsense"], 255),
    ] {
        let output = run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {error}");
        assert!(error.lines().count() == 1 && output.stdout.is_empty(), "{arguments:?}: {error}");
    }
    // A certificate that can't be read by whoever asks.
    let output = run(&["--patroni", "https://localhost:1", "--cacert", "/nonexistent", "is", "/primary"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn it_waits_for_a_yes_and_no_longer_than_it_may() {
    let patroni = FakePatroni::new(replica());
    let url = patroni.url();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| is(&url, &["/primary", "--wait", "60s"]));
        lab::await_that("some questions", || patroni.requests().len() >= 3);
        patroni.now(primary());
        assert_eq!(waiting.join().unwrap(), (Some(0), "/primary: serve, primary timeline 3\n".to_owned()));
    });
    patroni.now(replica());
    let before = patroni.requests().len();
    let start = Instant::now();
    assert_eq!(is(&url, &["/primary", "--wait", "1s"]).0, Some(1));
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    let asked = patroni.requests().len() - before;
    assert!((2..=11).contains(&asked), "{asked} requests in a second");
}

#[test]
fn a_patroni_that_hangs_is_no_answer_in_time_and_asked_once() {
    let patroni = FakePatroni::new(Behaviour::Hang);
    let got = is(&patroni.url(), &["/primary", "--deadline", "100ms"]);
    assert_eq!(got, (Some(2), "/primary: fail, patroni: no answer within 100ms\n".to_owned()));
    assert_eq!(patroni.requests().len(), 1);
    // Nor asked again beside it.
    assert_eq!(is(&patroni.url(), &["/primary", "--deadline", "100ms", "--wait", "1s"]).0, Some(2));
    assert_eq!(patroni.requests().len(), 2);
}

#[test]
fn a_closed_standard_output_does_not_change_the_answer() {
    let patroni = FakePatroni::new(primary());
    for (behaviour, status) in [(primary(), 0), (replica(), 1)] {
        patroni.now(behaviour);
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = binary();
        command.args(["--patroni", &patroni.url(), "is", "/primary"]).stdout(full);
        assert_eq!(command.status().unwrap().code(), Some(status));
    }
}
