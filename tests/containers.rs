//! The image of docs/containers.md, as its lines say: nothing but the program, as a user that is not
//! root, with no right, a root that can't be written, and the program as PID 1. bubblewrap stands for
//! Podman.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use lab::agent::{check, without_settings};
use lab::archive;
use lab::fake_patroni::{FakePatroni, in_role, primary};
use lab::{Process, await_some, await_that, page, requires};

/// What an image is made of, by its Containerfile.
struct Image {
    root: TempDir,
    environment: Vec<(String, String)>,
    user: String,
    entrypoint: Vec<String>,
    health: Vec<String>,
}

impl Image {
    fn build(containerfile: &str, context: &Path) -> Self {
        let root = TempDir::new().unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        // What each runtime mounts.
        ["dev", "etc", "memory", "proc"].iter().for_each(|name| fs::create_dir(root.path().join(name)).unwrap());
        let (mut environment, mut user) = (Vec::new(), String::new());
        let (mut entrypoint, mut health) = (Vec::new(), Vec::new());
        let list = |json: &str| serde_json::from_str(json).unwrap();
        for line in containerfile.lines() {
            match line.split_once(' ').unwrap() {
                ("FROM", base) => assert_eq!(base, "scratch"),
                ("COPY", files) => {
                    let (from, to) = files.split_once(" /").unwrap();
                    fs::copy(context.join(from), root.path().join(to)).unwrap();
                }
                ("USER", id) => user = id.to_owned(),
                ("ENV", variable) => {
                    let (name, value) = variable.split_once('=').unwrap();
                    environment.push((name.to_owned(), value.trim_matches('"').to_owned()));
                }
                ("ENTRYPOINT", command) => entrypoint = list(command),
                ("HEALTHCHECK", command) => health = list(command.strip_prefix("CMD ").unwrap()),
                other => panic!("{other:?}"),
            }
        }
        Image { root, environment, user, entrypoint, health }
    }

    /// A command in a container of it, in the network that this is called in.
    fn run(&self, command: &[String], more: &[&str]) -> Command {
        let (user, group) = self.user.split_once(':').unwrap();
        let mut run = Command::new("setpriv");
        run.args([&format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups", "--"]);
        run.args(["bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--as-pid-1"]);
        run.args(["--die-with-parent", "--cap-drop", "ALL", "--ro-bind"]).arg(self.root.path()).arg("/");
        run.args(["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/", "--clearenv"]).args(more);
        for (name, value) in &self.environment {
            run.args(["--setenv", name, value]);
        }
        without_settings(run.arg("--").args(command)).stdin(Stdio::null());
        run
    }
}

/// The process that bubblewrap has started.
fn first_of(container: &Process) -> Pid {
    let children = |id: u32| fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    await_some("a process in the container", || {
        let id: u32 = children(container.id()).split(' ').next()?.parse().ok()?;
        let is_ours = fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.starts_with(b"/patroni-check"));
        Pid::from_raw(i32::try_from(id).ok()?).filter(|_| is_ours)
    })
}

#[test]
fn the_image_answers_without_any_right_and_ends_in_time() {
    if !requires(&["root", "bwrap", "ip", archive::NEEDS]) {
        return;
    }
    let directory = TempDir::new().unwrap();
    let unpacked = archive::unpack(directory.path());
    let image = Image::build(&page::lines_of("containers.md", "An image with nothing but the program"), &unpacked);
    let mut network = Command::new("unshare");
    network.args(["--net", "--", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"]);
    let network = Process::start(&mut network, &directory.path().join("network.log")).unwrap();
    await_that("a network of its own", || network.output() == "up\n");
    lab::host::inside(network.id(), || {
        let patroni = FakePatroni::at("127.0.0.1:8008", in_role("primary"));
        let log = directory.path().join("container.log");
        let start = || Process::start(&mut image.run(&image.entrypoint, &[]), &log).unwrap();
        let mut container = start();
        let first = first_of(&container);
        let status = fs::read_to_string(format!("/proc/{}/status", first.as_raw_nonzero())).unwrap();
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(line("NSpid:").last().unwrap(), "1");
        assert_eq!(line("Uid:"), ["65532"; 4]);
        for set in ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:"] {
            assert_eq!(line(set), ["0000000000000000"], "{set}");
        }
        assert_eq!(line("NoNewPrivs:"), ["1"]);

        let [port, replica_port] = [5555, 5556].map(|port| ([127, 0, 0, 1], port).into());
        await_that("a port", || std::net::TcpStream::connect(replica_port).is_ok());
        await_that("READY", || check(port) == "READY UP # primary timeline 3\n");
        await_that("MAINT", || check(replica_port) == "MAINT UP # primary timeline 3\n");
        // A check of the node's health, whoever is primary.
        patroni.now(primary());
        let run = |command: &[&str], more: &[&str]| {
            let command: Vec<_> = command.iter().map(|word| (*word).to_owned()).collect();
            image.run(&command, more).output().unwrap()
        };
        let health: Vec<_> = image.health.iter().map(String::as_str).collect();
        assert_eq!(run(&health, &[]).status.code(), Some(0), "{:?}", run(&health, &[]));
        // Nothing can be written, so there is no hold; with a directory there is.
        let hold = ["/patroni-check", "hold", "new disk"];
        let refused = run(&hold, &[]);
        assert!(!refused.status.success(), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("/etc/patroni-check"), "{refused:?}");

        kill_process(first, Signal::TERM).unwrap();
        assert_eq!(container.wait().code(), Some(0), "{}", container.output());
        // A dead Patroni is 2, and what is remembered on a volume is not lost by a new start.
        patroni.now(in_role("primary"));
        let memory = directory.path().join("memory");
        fs::create_dir(&memory).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(&memory, Some(65532), Some(65532)).unwrap();
        let volume = ["--bind", memory.to_str().unwrap(), "/memory", "--setenv", "RUNTIME_DIRECTORY", "/memory"];
        let start = || Process::start(&mut image.run(&image.entrypoint, &volume), &log).unwrap();
        let mut container = start();
        let first = first_of(&container);
        await_that("READY", || std::net::TcpStream::connect(port).is_ok() && check(port).starts_with("READY"));
        kill_process(first, Signal::TERM).unwrap();
        container.wait();
        assert!(fs::read_dir(&memory).unwrap().next().is_some(), "{}", container.output());
        patroni.now(lab::fake_patroni::Behaviour::Close);
        assert_eq!(run(&health, &[]).status.code(), Some(2));
    });
}
