//! haproxy-config --write: whatever a list, a command or a moment is like, the file is one that HAProxy
//! takes, and nothing is reloaded in vain.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::thread;

use super::*;
use lab::requires;

/// What `/cluster` answers; `a` is at 192.0.2.1, `b` at 192.0.2.2 and so on.
fn list(names: &str) -> Behaviour {
    let member = |name: char| {
        format!(r#"{{"name": "{name}", "role": "replica", "host": "192.0.2.{}", "port": 5432}}"#, name as u8 - b'a' + 1)
    };
    let members = names.chars().map(member).collect::<Vec<_>>().join(",");
    answer(200, &format!(r#"{{"scope": "demo", "members": [{members}]}}"#))
}

struct Site {
    patroni: FakePatroni,
    directory: TempDir,
}

impl Site {
    /// A cluster of these members, and their file.
    fn with(names: &str) -> Self {
        let site = Site { patroni: FakePatroni::new(list(names)), directory: TempDir::new().unwrap() };
        let (status, line) = site.write(&[]);
        assert_eq!(status, Some(0), "{line}");
        assert_eq!((site.servers(), site.reloads()), (names.to_owned(), 1));
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, options: &[&str]) -> Command {
        let given = |option: &str| options.contains(&option);
        let mut command = binary();
        command.arg("haproxy-config").arg("--write").arg(self.path("haproxy.cfg"));
        if !given("--stats-socket") {
            command.args(["--stats-socket", "none"]);
        }
        if !given("--patroni") {
            command.args(["--patroni", &self.patroni.url()]);
        }
        if !given("--check") {
            command.args(["--check", "test -s"]);
        }
        if !given("--reload") {
            command.args(["--reload", "echo >>reloads"]);
        }
        command.args(options).current_dir(self.directory.path());
        command
    }

    /// Exit status and the one line.
    fn write(&self, options: &[&str]) -> (Option<i32>, String) {
        let output = self.command(options).output().unwrap();
        let line = stdout(&output);
        assert!(output.status.code().is_none() || line.lines().count() == 1, "{output:?}");
        (output.status.code(), line)
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path("haproxy.cfg")).unwrap()
    }

    /// The servers of the backend for writes.
    fn servers(&self) -> String {
        let text = self.text();
        let writes = text.split("\n\n# Reads").next().unwrap();
        writes.lines().filter_map(|line| line.strip_prefix("    server ")?.chars().next()).collect()
    }

    fn reloads(&self) -> usize {
        fs::read_to_string(self.path("reloads")).map_or(0, |lines| lines.lines().count())
    }

    /// What is in the directory beside the file.
    fn others(&self) -> Vec<String> {
        let names = fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_file_follows_the_members_and_nothing_else() {
    let site = Site::with("abc");
    let text = site.text();
    assert!(!text.contains("2026") && !text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    for names in ["cba", "bac"] {
        site.patroni.now(list(names));
        assert_eq!(site.write(&[]), (Some(0), "OK: 3 members\n".into()));
    }
    assert_eq!((site.text(), site.reloads()), (text, 1));
    site.patroni.now(list("abcd"));
    assert_eq!(site.write(&[]), (Some(0), "OK: 4 members; new: d; written, reloaded\n".into()));
    assert_eq!((site.servers().as_str(), site.reloads()), ("abcd", 2));
    site.patroni.now(list("abd"));
    let (status, line) = site.write(&[]);
    assert!(status == Some(0) && line.starts_with("OK: 4 members; c absent for 0s"), "{line}");
    assert_eq!((site.servers().as_str(), site.reloads()), ("abcd", 2));
    assert_eq!(site.write(&["--leave-after", "0s"]).1, "OK: 3 members; gone: c; written, reloaded\n");
    assert_eq!((site.servers().as_str(), site.reloads()), ("abd", 3));
    // Another option makes another file.
    assert_eq!(site.write(&["--maxconn", "7"]).1, "OK: 3 members; written, reloaded\n");
    assert_eq!(site.others(), [".haproxy.cfg.state", "haproxy.cfg", "reloads"]);
}

#[test]
fn no_wrong_list_takes_a_member_away() {
    let site = Site::with("abc");
    let before = site.text();
    let members = r#"{"name": "a", "host": "192.0.2.1", "port": 5432}"#;
    let cut_short = r#"{"scope": "demo", "members": [{"name": "a", "host": "192.0.2.1", "port": 5432}, {"na"#;
    let wrong = [
        (Behaviour::Close, 1),
        (primary(), 1),
        (answer(503, r#"{"members": []}"#), 1),
        (answer(503, &format!(r#"{{"members": [{members}]}}"#)), 1),
        (answer(200, ""), 1),
        (answer(200, "[]"), 1),
        (answer(200, cut_short), 1),
        (answer(200, r#"{"members": []}"#), 1),
        (answer(200, r#"{"members": null}"#), 1),
        (answer(200, r#"{"members": [null, 7]}"#), 1),
        (answer(200, r#"{"members": [{"name": "a"}, {"name": "b", "host": "a..b", "port": 1}]}"#), 1),
        (answer(200, &format!(r#"{{"scope": "other", "members": [{members}]}}"#)), 1),
        (answer(200, &format!(r#"{{"members": [{members}]}}"#)), 0),
        (answer(200, &format!(r#"{{"members": [{members}, null, {{"name": "b"}}]}}"#)), 0),
    ];
    for (behaviour, status) in wrong {
        site.patroni.now(behaviour.clone());
        let (found, line) = site.write(&[]);
        assert_eq!((found, site.text() == before, site.reloads()), (Some(status), true, 1), "{behaviour:?}: {line}");
        assert!(line.starts_with(if status == 1 { "WARNING: " } else { "OK: 3 members; " }), "{line}");
    }
    // Not even where none is waited for, as long as something can't be read.
    site.patroni.now(answer(200, &format!(r#"{{"members": [{members}, null]}}"#)));
    site.write(&["--leave-after", "0s"]);
    assert_eq!(site.text(), before);
    // Of several the first counts that lists any.
    let closed = FakePatroni::new(Behaviour::Close);
    let empty = FakePatroni::new(answer(200, r#"{"members": []}"#));
    site.patroni.now(list("abcd"));
    let (closed, empty, good) = (closed.url(), empty.url(), site.patroni.url());
    let (status, line) = site.write(&["--patroni", &closed, "--patroni", &empty, "--patroni", &good]);
    assert!(status == Some(0) && line.contains("new: d"), "{line}");
    let (status, line) = site.write(&["--patroni", &closed, "--patroni", &empty]);
    assert!(status == Some(1) && line.contains(&closed) && line.contains(&empty), "{line}");
}

#[test]
fn a_file_that_the_check_refuses_is_not_written() {
    let site = Site::with("abc");
    let before = site.text();
    site.patroni.now(list("abcd"));
    let (status, line) = site.write(&["--check", "cp -t kept; false"]);
    assert_eq!((status, site.text() == before, site.reloads()), (Some(1), true, 1), "{line}");
    assert!(line.contains("is as it was: --check: exit status: 1"), "{line}");
    // A command that is not there, or that ends the program.
    for check in ["/nonexistent/haproxy", "kill -9 $PPID;"] {
        site.write(&["--check", check]);
        assert_eq!((site.text() == before, site.reloads()), (true, 1), "{check}");
    }
    // It is shown the new file, under another name in the same directory.
    let check =
        r#"test "$(dirname "$1")" = "$(pwd -P)" && grep -q 192.0.2.4 "$1" && ! grep -q 192.0.2.4 haproxy.cfg && test"#;
    let (status, line) = site.write(&["--check", &format!("{check} -s")]);
    assert_eq!((status, site.servers().as_str(), site.reloads()), (Some(0), "abcd", 2), "{line}");
    assert_eq!(site.others(), [".haproxy.cfg.state", "haproxy.cfg", "reloads"]);
}

#[test]
fn a_reload_that_failed_is_tried_again() {
    let site = Site::with("abc");
    site.patroni.now(list("abcd"));
    let (status, line) = site.write(&["--reload", "false"]);
    assert_eq!((status, site.servers().as_str(), site.reloads()), (Some(2), "abcd", 1), "{line}");
    assert!(line.starts_with("CRITICAL: ") && line.contains("the next run tries again"), "{line}");
    // Though there is no list now.
    site.patroni.now(Behaviour::Close);
    assert_eq!((site.write(&[]).0, site.reloads()), (Some(1), 2));
    site.patroni.now(list("abcd"));
    assert_eq!((site.write(&[]).0, site.reloads()), (Some(0), 2));
    // What HAProxy has after a failure is not known, so a way back is a change as well.
    site.patroni.now(list("abcde"));
    site.write(&["--reload", "false"]);
    site.patroni.now(list("abcd"));
    assert_eq!((site.write(&["--leave-after", "0s"]).0, site.reloads()), (Some(0), 3));
}

#[test]
fn a_run_that_is_killed_is_finished_by_the_next() {
    let site = Site::with("abc");
    site.patroni.now(list("abcd"));
    // Between the new file and the reload, and within the reload.
    let (status, _) = site.write(&["--reload", "kill -9 $PPID"]);
    assert_eq!((status, site.servers().as_str(), site.reloads()), (None, "abcd", 1));
    assert_eq!((site.write(&[]).0, site.reloads()), (Some(0), 2));
    assert_eq!((site.write(&[]).0, site.reloads()), (Some(0), 2));
    // The very first one.
    let site = Site { patroni: FakePatroni::new(list("abc")), directory: TempDir::new().unwrap() };
    site.write(&["--reload", "kill -9 $PPID"]);
    assert_eq!((site.servers().as_str(), site.reloads()), ("abc", 0));
    assert_eq!((site.write(&[]).0, site.reloads()), (Some(0), 1));
    // Without what is remembered beside the file nothing is taken for new; with what is damaged, it is.
    fs::remove_file(site.path(".haproxy.cfg.state")).unwrap();
    assert_eq!((site.write(&[]).0, site.reloads()), (Some(0), 1));
    fs::write(site.path(".haproxy.cfg.state"), b"\xff{").unwrap();
    assert_eq!((site.write(&[]).0, site.reloads()), (Some(0), 2));
}

#[test]
fn two_at_once_do_not_meet() {
    let site = Site::with("abc");
    site.patroni.now(list("abcd"));
    let slow = "mkdir busy && sleep 0.3 && rmdir busy && test -s";
    let outputs = thread::scope(|scope| {
        let run = || site.command(&["--check", slow]).output().unwrap();
        [(); 4].map(|()| scope.spawn(run)).map(|one| one.join().unwrap())
    });
    assert!(outputs.iter().all(|output| output.status.success()), "{outputs:?}");
    assert_eq!((site.servers().as_str(), site.reloads()), ("abcd", 2));
}

#[test]
fn a_file_keeps_its_mode_its_owner_and_its_place() {
    let site = Site::with("abc");
    let file = site.path("haproxy.cfg");
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o644);
    let there = site.path("there");
    fs::create_dir(&there).unwrap();
    fs::rename(&file, there.join("real.cfg")).unwrap();
    fs::rename(site.path(".haproxy.cfg.state"), there.join(".real.cfg.state")).unwrap();
    symlink("there/real.cfg", &file).unwrap();
    fs::set_permissions(there.join("real.cfg"), fs::Permissions::from_mode(0o640)).unwrap();
    // Needs root.
    let is_root = chown(there.join("real.cfg"), Some(1), Some(2)).is_ok();
    site.patroni.now(list("abcd"));
    assert_eq!((site.write(&[]).0, site.reloads()), (Some(0), 2));
    let found = there.join("real.cfg").symlink_metadata().unwrap();
    assert!(file.is_symlink() && found.is_file() && found.mode() & 0o7777 == 0o640);
    assert!(!is_root || (found.uid(), found.gid()) == (1, 2));
    assert_eq!(site.servers(), "abcd");
}

#[test]
fn what_somebody_else_has_written_is_left_alone() {
    let site = Site::with("abc");
    let table = ["", "global\n", "# Members: {\"members\": {\"a\": 7}}\n"];
    for text in table {
        fs::write(site.path("haproxy.cfg"), text).unwrap();
        fs::remove_file(site.path(".haproxy.cfg.state")).unwrap_or_default();
        let (status, line) = site.write(&[]);
        assert!(status == Some(1) && line.contains("move it away first"), "{line}");
        assert_eq!((site.text().as_str(), site.reloads()), (text, 1));
    }
    fs::remove_file(site.path("haproxy.cfg")).unwrap();
    fs::create_dir(site.path("haproxy.cfg")).unwrap();
    assert_eq!((site.write(&[]).0, site.reloads()), (Some(1), 1));
    // HAProxy would not start, and its own check does not say so.
    fs::remove_dir(site.path("haproxy.cfg")).unwrap();
    let (status, line) = site.write(&["--stats-socket", "/nonexistent/admin.sock"]);
    assert!(status == Some(1) && line.contains("the directory of /nonexistent/admin.sock is missing"), "{line}");
    for usage in [
        &["--write", "/x"][..],
        &["--write", "/x", "--check", "true"],
        &["--check", "true"],
        &["--write", "/x", "--check", "true", "--reload", "true", "--format", "json"],
        &["--write", "/x", "--check", "true", "--reload", "true", "--leave-after", "31d"],
    ] {
        assert_eq!(run(&[&["haproxy-config"], usage].concat()).status.code(), Some(2), "{usage:?}");
    }
    assert_eq!(run(&["explain", "--patroni", "http://a:1", "--patroni", "http://b:1"]).status.code(), Some(2));
}

#[test]
fn a_real_haproxy_takes_each_file() {
    if !requires(&["haproxy"]) {
        return;
    }
    let site = Site::with("abc");
    let section = ["--section", "--check", "haproxy -c -q -f main.cfg -f"];
    let defaults = "defaults\n    mode tcp\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n";
    fs::write(site.path("main.cfg"), defaults).unwrap();
    assert_eq!(site.write(&section).0, Some(0));
    assert_eq!(site.reloads(), 2);
    // Not while somebody else's part of the configuration is broken.
    fs::write(site.path("main.cfg"), format!("{defaults}    nonsense\n")).unwrap();
    let before = site.text();
    site.patroni.now(list("abcd"));
    let (status, line) = site.write(&section);
    assert_eq!((status, site.text() == before, site.reloads()), (Some(1), true, 2), "{line}");
    fs::write(site.path("main.cfg"), defaults).unwrap();
    assert_eq!((site.write(&section).0, site.servers().as_str(), site.reloads()), (Some(0), "abcd", 3));
    assert_eq!(site.write(&["--check", "haproxy -c -q -f"]).0, Some(0));
}

#[test]
fn what_somebody_has_changed_by_hand_is_reloaded_by_no_error_and_replaced_by_the_next_list() {
    let site = Site::with("abc");
    let good = site.text();
    let without_b: String =
        good.lines().filter(|line| !line.starts_with("    server b ")).map(|line| format!("{line}\n")).collect();
    for edited in [&without_b, &format!("{good}bogus\n"), "", "global\n bogus\n"] {
        fs::write(site.path("haproxy.cfg"), edited).unwrap();
        site.patroni.now(answer(500, "{}"));
        assert_eq!((site.write(&[]).0, site.reloads()), (Some(1), 1), "{edited}");
    }
    // HAProxy may have it meanwhile, so the file as it was is loaded once more.
    fs::write(site.path("haproxy.cfg"), &without_b).unwrap();
    site.patroni.now(list("abc"));
    assert_eq!(site.write(&[]), (Some(0), "OK: 3 members; written, reloaded\n".into()));
    assert_eq!((site.text(), site.reloads()), (good, 2));
    assert_eq!((site.write(&[]).0, site.reloads()), (Some(0), 2));
    // So is one that was removed.
    fs::remove_file(site.path("haproxy.cfg")).unwrap();
    let (status, line) = site.write(&[]);
    assert!(status == Some(0) && line.ends_with("; written, reloaded\n"), "{line}");
    assert_eq!(site.reloads(), 3);
}
