//! A real Postgres and a real PgBouncer: what they make of a thousand probes, and what becomes of a
//! node without them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use lab::agent::Agent;
use lab::certificates::Authority;
use lab::fake_patroni::{FakePatroni, primary};
use lab::programs::{Unprivileged, postgres_bin};
use lab::{Process, any_port, await_that, requires};

use crate::READY;

/// Both, with sockets in one directory.
struct Servers {
    home: TempDir,
    postgres_port: u16,
    pgbouncer_port: u16,
    postgres: Process,
    pgbouncer: Process,
}

impl Servers {
    fn start(settings: &[&str]) -> Self {
        let (user, bin) = (Unprivileged::choose(), postgres_bin().unwrap());
        let home = tempfile::Builder::new().prefix("patroni-check-lab.").tempdir().unwrap();
        user.make_dir(home.path()).unwrap();
        let data = home.path().join("data");
        let mut initdb = user.command(&bin.join("initdb"), "KILL");
        let done = initdb.args(["--auth=trust", "--username=postgres", "-D"]).arg(&data).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        certificate(&data);
        let (postgres_port, pgbouncer_port) = (any_port(), any_port());
        let mut command = user.command(&bin.join("postgres"), "KILL");
        command.arg("-D").arg(&data).arg("-p").arg(postgres_port.to_string());
        command.arg("-c").arg(format!("unix_socket_directories={}", home.path().display()));
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        settings.iter().for_each(|setting| {
            command.args(["-c", setting]);
        });
        let postgres = Process::start(&mut command, &home.path().join("postgres.log")).unwrap();
        let file = home.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={home} port={postgres_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {pgbouncer_port}\nunix_socket_dir = {home}\nauth_type = any\nstats_period = 3600\n",
            home = home.path().display()
        );
        fs::write(&file, text).unwrap();
        let mut command = user.command(Path::new("/usr/sbin/pgbouncer"), "KILL");
        let pgbouncer = Process::start(command.arg(&file), &home.path().join("pgbouncer.log")).unwrap();
        let servers = Servers { home, postgres_port, pgbouncer_port, postgres, pgbouncer };
        await_that("both", || {
            servers.postgres.output().contains("ready to accept") && servers.pgbouncer.output().contains("process up")
        });
        servers
    }

    /// Their lines so far.
    fn logged(&self) -> [usize; 2] {
        [&self.postgres, &self.pgbouncer].map(|server| server.output().lines().count())
    }

    fn targets(&self) -> [String; 4] {
        let home = self.home.path().display();
        let (postgres, pgbouncer) = (self.postgres_port, self.pgbouncer_port);
        [
            format!("{home}:{postgres}"),
            format!("127.0.0.1:{postgres}"),
            format!("{home}:{pgbouncer}"),
            format!("127.0.0.1:{pgbouncer}"),
        ]
    }
}

/// For `ssl=on`.
fn certificate(data: &Path) {
    Authority::new("ca").issue(data, "server", &["localhost"], false);
    for file in ["server.crt", "server.key"].map(|name| data.join(name)) {
        let done = Command::new("chown").arg("--reference").arg(data).arg(&file).status().unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(done.success());
    }
}

fn agent(patroni: &FakePatroni, target: &str) -> Agent {
    Agent::listening(&["--patroni", &patroni.url(), "--deadline", "5s", "--max-age", "0s", "--probe", target])
}

#[test]
fn a_thousand_probes_leave_no_line_in_any_log() {
    if !requires(&["postgresql", "/usr/sbin/pgbouncer", "setpriv"]) {
        return;
    }
    let patroni = FakePatroni::new(primary());
    for ssl in ["ssl=off", "ssl=on"] {
        let servers = Servers::start(&[ssl]);
        let before = servers.logged();
        for target in servers.targets() {
            let agent = agent(&patroni, &target);
            (0..250).for_each(|_| assert_eq!(agent.check(), READY, "{ssl} {target}"));
        }
        assert_eq!(servers.logged(), before, "{ssl}\n{}\n{}", servers.postgres.output(), servers.pgbouncer.output());
    }
}

#[test]
fn full_or_stopped_is_there_and_killed_is_not() {
    if !requires(&["postgresql", "/usr/sbin/pgbouncer", "setpriv"]) {
        return;
    }
    let patroni = FakePatroni::new(primary());
    let mut servers = Servers::start(&["max_connections=4", "superuser_reserved_connections=0", "max_wal_senders=0"]);
    let agents = servers.targets().map(|target| agent(&patroni, &target));
    let mut config = postgres::Config::new();
    config.host_path(servers.home.path()).port(servers.postgres_port).user("postgres").dbname("postgres");
    let mut clients = Vec::new();
    while let Ok(client) = config.connect(postgres::NoTls) {
        clients.push(client);
    }
    assert!(!clients.is_empty(), "it was full before anybody came");
    agents.iter().for_each(|agent| assert_eq!(agent.check(), READY, "full"));
    servers.postgres.signal(Signal::STOP);
    agents.iter().for_each(|agent| assert_eq!(agent.check(), READY, "stopped"));
    servers.postgres.signal(Signal::CONT);
    // The first check after the kill, in the order of the targets.
    servers.pgbouncer.signal(Signal::KILL);
    servers.pgbouncer.wait();
    let refused = "MAINT DOWN # postgres: connection refused\n";
    let said = |agents: &[Agent]| agents.iter().map(Agent::check).collect::<Vec<_>>();
    assert_eq!(said(&agents), [READY, READY, refused, refused]);
    servers.postgres.signal(Signal::KILL);
    servers.postgres.wait();
    assert_eq!(said(&agents), [refused; 4]);
}
