//! A real HAProxy, and what it thinks of its servers.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::Process;
use crate::cluster::Cluster;

pub struct Haproxy {
    process: Process,
    socket: PathBuf,
}

/// A row of `show stat`, by column name (HAProxy's management guide, 9.1).
pub type Row = HashMap<String, String>;

impl Haproxy {
    /// Starts HAProxy with these sections beside a `global` with a stats socket. `command` is
    /// `haproxy`, perhaps as somebody else.
    pub fn start(mut command: Command, directory: &Path, sections: &str) -> Result<Self, Box<dyn Error>> {
        let socket = directory.join("haproxy.sock");
        let configuration = directory.join("haproxy.cfg");
        let global = format!("global\n    stats socket {} mode 666 level admin\n\n", socket.display());
        fs::write(&configuration, global + sections)?;
        command.arg("-db").arg("-f").arg(&configuration).stdin(Stdio::null());
        let mut process = Process::start(&mut command, &directory.join("haproxy.log"))?;
        crate::await_that("HAProxy's stats socket", || {
            assert!(process.try_wait().is_none(), "HAProxy has ended:\n{}", process.output());
            UnixStream::connect(&socket).is_ok()
        });
        Ok(Haproxy { process, socket })
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Runs a command on the stats socket.
    pub fn command(&self, command: &str) -> Result<String, Box<dyn Error>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        writeln!(stream, "{command}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// What it says of one server.
    pub fn server(&self, backend: &str, server: &str) -> Result<Row, Box<dyn Error>> {
        let answer = self.command("show stat")?;
        let rows = parse_csv(&answer);
        let row = rows.into_iter().find(|row| row["pxname"] == backend && row["svname"] == server);
        row.ok_or_else(|| format!("HAProxy knows no {backend}/{server}:\n{answer}").into())
    }

    /// The same, but not while HAProxy asks the agent: it has no last answer then.
    pub fn server_between_checks(&self, backend: &str, server: &str) -> Result<Row, Box<dyn Error>> {
        for _ in 0..20 {
            let row = self.server(backend, server)?;
            if !row["last_agt"].is_empty() {
                return Ok(row);
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.server(backend, server)
    }

    /// Its status in one word or a few: `UP`, `DOWN (agent)`, `MAINT`.
    pub fn status(&self, backend: &str, server: &str) -> Result<String, Box<dyn Error>> {
        Ok(self.server(backend, server)?["status"].clone())
    }
}

/// The defaults of Patroni's template.
pub const DEFAULTS: &str = "defaults
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s
";

/// The HAProxy configurations in the documents: the article's in the guide, and the recommended one
/// in the README.
pub fn readme() -> Vec<String> {
    let document = |name| fs::read_to_string(crate::repository().join(name)).expect("a document");
    let readme = document("docs/guide.md") + &document("README.md");
    readme.split("```haproxy\n").skip(1).map(|block| block.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// A block as the README has them, for this cluster.
pub fn listen(cluster: &Cluster, agent_port: u16, block: &str, name: &str, port: u16) -> String {
    let mut lines = Vec::new();
    for line in block.lines() {
        if line.trim_start().starts_with("server db1 ") {
            lines.extend(cluster.members.iter().map(|member| {
                let address = format!("{}:{}", member.ip, cluster.postgres_port);
                line.replace("db1", &member.name).replace("192.0.2.1:5432", &address)
            }));
        } else if line.starts_with("listen ") {
            lines.push(format!("listen {name}"));
        } else if !line.trim_start().starts_with("server db") {
            lines.push(line.to_owned());
        }
    }
    lines
        .join("\n")
        .replace("bind :5000", &format!("bind 127.0.0.1:{port}"))
        .replace("port 5555", &format!("port {agent_port}"))
        .replace("port 8008", &format!("port {}", cluster.patroni_port))
}

/// Reads `show stat`; the first line names the columns.
pub fn parse_csv(text: &str) -> Vec<Row> {
    let mut lines = text.lines();
    let header: Vec<_> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let row = |line: &str| header.iter().map(|name| (*name).to_owned()).zip(fields(line)).collect();
    lines.filter(|line| !line.is_empty()).map(row).collect()
}

/// The fields of a CSV line, of which some are quoted.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match (c, fields.last_mut()) {
            ('"', _) => quoted = !quoted,
            (',', _) if !quoted => fields.push(String::new()),
            (c, Some(field)) => field.push(c),
            (_, None) => {}
        }
    }
    fields
}

#[test]
fn show_stat_is_read_by_column() {
    let rows = parse_csv("# pxname,svname,last_agt\na,b,\"READY, it said\"\n\nc,d,\n");
    let row = |columns: [(&str, &str); 3]| -> Row {
        columns.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let first = row([("pxname", "a"), ("svname", "b"), ("last_agt", "READY, it said")]);
    assert_eq!(rows, [first, row([("pxname", "c"), ("svname", "d"), ("last_agt", "")])]);
}
