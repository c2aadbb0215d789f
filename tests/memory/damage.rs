//! A memory that is damaged or not to be had, and a log that takes nothing.

use super::*;

#[test]
fn a_damaged_memory_is_told_of_once_and_costs_no_answer() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let host = Host::new(primary());
    let agent = host.each_check(&PATIENT);
    assert_eq!(agent.check(), READY);
    fs::write(host.file(), "{").unwrap();
    assert_eq!(agent.check(), READY);
    host.patroni.now(Behaviour::Close);
    fs::write(host.file(), "{").unwrap();
    assert_eq!(agent.check(), CLOSED, "it grants nothing");
    let told = || agent.process.output().matches("primary.json: EOF while parsing").count();
    await_that("a line for each damage", || told() >= 2);
    assert_eq!(agent.check(), CLOSED);
    assert_eq!(told(), 2, "{}", agent.process.output());
    // The service says it as well.
    fs::write(host.file(), "{").unwrap();
    let port = Port::bind();
    let service = host.service(&port, &PATIENT);
    assert_eq!(service.check(), CLOSED);
    await_that("a line", || service.process.output().contains("primary.json: EOF while parsing"));
}

/// Then there is no memory, one line says so, and the checks are answered.
#[test]
fn a_directory_that_takes_nothing_is_told_of() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let host = Host::new(primary());
    let nowhere = host.directory.path().join("nowhere");
    let url = host.patroni.url();
    let port = Port::bind();
    let mut command = port.command(&Manager::bind(), &["--patroni", &url, "--max-age", "0s", "--deadline", "5s"]);
    let service = Agent::start(command.env("RUNTIME_DIRECTORY", &nowhere), port.address);
    for _ in 0..5 {
        assert_eq!(service.check(), READY);
    }
    let told = || service.process.output().matches("nothing is remembered").count();
    await_that("a line", || told() > 0);
    assert_eq!(told(), 1, "{}", service.process.output());
    let variable = format!("RUNTIME_DIRECTORY={}", nowhere.display());
    let each = Agent::activated(&["--accept", "-E", &variable], &["--patroni", &url, "--deadline", "5s"]);
    assert_eq!((each.check(), each.check()), (READY.into(), READY.into()));
    let said = || each.process.output();
    await_that("a line", || said().contains("primary.lock: No such file"));
    assert!(!said().contains(" -> "), "{}", said());
}

/// As under inetd: there is no earlier word to stand, and nothing is left behind.
#[test]
fn without_a_directory_there_is_no_memory() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(primary());
    let agent = Agent::activated(&["--accept"], &["--patroni", &patroni.url(), "--deadline", "5s"]);
    assert_eq!(agent.check(), READY);
    assert_eq!(agent.check(), READY);
    assert_eq!(patroni.requests().len(), 2);
    patroni.now(Behaviour::Close);
    assert_eq!(agent.check(), CLOSED);
}

/// Whoever comes later must not wait for somebody's journal.
#[test]
fn a_process_whose_log_takes_nothing_keeps_no_lock() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let host = Host::new(primary());
    let (_unread, full) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&full, 4096).unwrap();
    (&full).write_all(&[b'.'; 4096]).unwrap();
    let (its, client) = connection();
    let mut hangs = binary();
    hangs.args(["--patroni", &host.patroni.url(), "--deadline", "5s"]).stdout(Stdio::null()).stderr(full);
    hangs.env("RUNTIME_DIRECTORY", host.directory.path()).stdin(OwnedFd::from(its));
    // What is damaged is to be told of, and so is the verdict.
    fs::write(host.file(), "{").unwrap();
    let mut hangs = hangs.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(client).read_line(&mut line).unwrap();
    assert_eq!(line, READY);
    let agent = host.each_check(&[&PATIENT[..], &["--max-age", "0s"]].concat());
    assert_eq!((agent.check(), agent.check()), (READY.into(), READY.into()));
    assert_eq!(host.requests(), 3);
    assert!(hangs.try_wait().unwrap().is_none(), "it waits for its log");
    hangs.kill().unwrap();
    hangs.wait().unwrap();
}
