//! `haproxy-config --write` on a real cluster, whose members come and go, whose store and Patronis go
//! away, beside an HAProxy that is reloaded.

use std::cell::Cell;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use rustix::process::Signal;

use lab::agent::binary_path;
use lab::process_guard::{self, Network};
use lab::testbed::Testbed;
use lab::{Process, any_port, await_that, requires};

const MAIN: &str = "defaults
    mode tcp
    timeout connect 2s
    timeout client 30s
    timeout server 30s
";

#[test]
fn the_file_follows_the_members_of_a_real_cluster_and_no_reload_is_in_vain() {
    if !requires(&["etcd", "patroni", "postgresql", "setpriv", "haproxy"]) {
        return;
    }
    let test = "the_file_follows_the_members_of_a_real_cluster_and_no_reload_is_in_vain";
    process_guard::run_test(test, Network::Own, || vec![binary_path().into()], members_come_and_go);
}

/// The hosts of HAProxy: a file that is kept, and an HAProxy that reads it.
struct Site<'a> {
    directory: &'a Path,
    program: &'a Path,
    binds: [String; 2],
    patronis: Vec<String>,
    /// The file's inode, the number of reloads.
    last: Cell<(u64, usize)>,
}

impl Site<'_> {
    /// One run: its exit status, the line, the servers for writes. Whatever it was, HAProxy takes the
    /// file, and there was a reload if and only if there is another file.
    fn write(&self, options: &[&str]) -> (i32, String, usize) {
        let file = self.directory.join("members.cfg");
        let mut command = Command::new(self.program);
        command.args(["haproxy-config", "--section", "--check", "haproxy -c -q -f main.cfg -f"]);
        command.args(["--reload", "echo >>reloads; ! [ -e haproxy.pid ] || kill -USR2 $(cat haproxy.pid)"]);
        command.args(["--read-write", &self.binds[0], "--read-only", &self.binds[1]]).arg("--write").arg(&file);
        self.patronis.iter().for_each(|url| _ = command.args(["--patroni", url]));
        let output = command.args(options).current_dir(self.directory).stdin(Stdio::null()).output().unwrap();
        let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        println!("{line}");
        let checked = Command::new("haproxy").args(["-c", "-q", "-f"]).arg(&file).output().unwrap();
        assert!(checked.status.code() != Some(1) || !self.is_sound(), "{line}: {checked:?}");
        let reloads = fs::read_to_string(self.directory.join("reloads")).map_or(0, |lines| lines.lines().count());
        let now = (fs::metadata(&file).unwrap().ino(), reloads);
        let last = self.last.replace(now);
        assert_eq!(now.0 != last.0, now.1 == last.1 + 1, "{line}");
        let text = fs::read_to_string(&file).unwrap();
        let servers = text.split("\n\n# Reads").next().unwrap().matches("\n    server ").count();
        (output.status.code().unwrap(), line, servers)
    }

    /// Whether HAProxy takes what is before our part.
    fn is_sound(&self) -> bool {
        fs::read_to_string(self.directory.join("main.cfg")).unwrap() == MAIN
    }
}

/// The work of a process guard: `BINARY`.
fn members_come_and_go(directory: &Path, arguments: &[OsString], _: &AtomicBool) -> Result<(), Box<dyn Error>> {
    let [binary] = arguments else { return Err("usage: BINARY".into()) };
    let mut testbed = Testbed::start_apart(directory, Path::new(binary), Path::new("patroni"))?;
    let program = testbed.program.clone();
    let cluster = &mut testbed.cluster;
    cluster.heal();
    let home = directory.join("haproxy");
    fs::create_dir(&home)?;
    fs::write(home.join("main.cfg"), MAIN)?;
    let site = Site {
        directory: &home,
        program: &program,
        binds: [(); 2].map(|()| format!("127.0.0.1:{}", any_port())),
        patronis: cluster.members.iter().map(|member| cluster.url(member, "")).collect(),
        last: Cell::default(),
    };
    let is = |found: (i32, String, usize), status: i32, servers: usize, says: &str| {
        assert!((found.0, found.2) == (status, servers) && found.1.contains(says), "{found:?}, not {says}");
    };
    is(site.write(&[]), 0, 3, "new: member1, member2, member3; written, reloaded");
    let mut haproxy = Command::new("haproxy");
    haproxy.args(["-W", "-p", "haproxy.pid", "-f", "main.cfg", "-f", "members.cfg"]).current_dir(&home);
    let mut haproxy = Process::start(haproxy.stdin(Stdio::null()), &directory.join("haproxy.log"))?;
    await_that("HAProxy", || home.join("haproxy.pid").exists());
    is(site.write(&[]), 0, 3, "3 members");
    // One goes, as in an upgrade, and comes back.
    cluster.members[2].end_patroni(Signal::TERM);
    await_that("a member that is not listed", || site.write(&[]).1.contains("member3 absent for"));
    is(site.write(&[]), 0, 3, "absent");
    is(site.write(&["--leave-after", "0s"]), 0, 2, "gone: member3; written, reloaded");
    cluster.start_patroni(2)?;
    await_that("a member that is back", || site.write(&[]).2 == 3);
    cluster.heal();
    // Another primary is no other member.
    let from = cluster.leader().ok_or("no leader")?;
    let to = (from + 1) % 3;
    cluster.switch_over(&cluster.members[from], &cluster.members[to])?;
    is(site.write(&[]), 0, 3, "3 members");
    cluster.heal();
    is(site.write(&[]), 0, 3, "3 members");
    // The store is away, at once and for long.
    cluster.stop_etcd();
    for _ in 0..4 {
        let found = site.write(&["--leave-after", "0s"]);
        assert_eq!(found.2, 3, "{found:?}");
    }
    cluster.start_etcd()?;
    cluster.heal();
    is(site.write(&["--leave-after", "0s"]), 0, 3, "3 members");
    // A Patroni that hangs, one that is away, all.
    cluster.members[0].signal_patroni(Signal::STOP);
    is(site.write(&[]), 0, 3, "3 members");
    cluster.members[0].signal_patroni(Signal::CONT);
    cluster.members[1].end_patroni(Signal::KILL);
    is(site.write(&[]), 0, 3, "3 members");
    cluster.members[0].end_patroni(Signal::KILL);
    cluster.members[2].end_patroni(Signal::KILL);
    is(site.write(&["--leave-after", "0s"]), 1, 3, "is as it was");
    (0..3).try_for_each(|member| cluster.start_patroni(member))?;
    cluster.heal();
    // HAProxy's configuration is broken while a member leaves. Its Postgres is nobody's child by now, and
    // Patroni may wait for its end in vain.
    fs::write(home.join("main.cfg"), format!("{MAIN}    nonsense\n"))?;
    cluster.members[2].end_patroni(Signal::KILL);
    await_that("a file that is refused", || site.write(&["--leave-after", "0s"]).1.contains("--check: exit status"));
    is(site.write(&["--leave-after", "0s"]), 1, 3, "is as it was");
    fs::write(home.join("main.cfg"), MAIN)?;
    is(site.write(&["--leave-after", "0s"]), 0, 2, "gone: member3; written, reloaded");
    assert!(haproxy.try_wait().is_none(), "{}", haproxy.output());
    Ok(())
}
