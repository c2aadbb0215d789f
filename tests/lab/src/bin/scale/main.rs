//! `make scale`: one agent that many HAProxies ask, one HAProxy that asks many agents, and by which
//! law each grows. `scale BINARY DIRECTORY [agent|haproxy]`; the tables go to the directory as
//! Markdown and JSON.
//!
//! HAProxies and database hosts are in networks of their own, with a cable between them, so that
//! packets are counted. All of it shares this machine's cores.

mod generator;
mod hosts;
mod one_agent;
mod one_haproxy;
mod stand_in;

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value, json};

use lab::process_guard::{self, Network};

use crate::hosts::Hosts;

fn main() -> ExitCode {
    process_guard::run(Network::Own, run)
}

struct Scale<'a> {
    binary: PathBuf,
    directory: &'a Path,
    hosts: Hosts,
    stop: &'a AtomicBool,
    report: String,
    raw: Map<String, Value>,
}

type Outcome = Result<(), Box<dyn Error>>;

fn run(directory: &Path, arguments: &[OsString], stop: &AtomicBool) -> Outcome {
    let [binary, out, part @ ..] = arguments else {
        return Err("usage: scale BINARY DIRECTORY [agent|haproxy]".into());
    };
    if !rustix::process::geteuid().is_root() {
        return Err("networks of their own for the hosts need root: sudo make scale".into());
    }
    lab::raise_descriptors();
    let hosts = Hosts::start(directory)?;
    let binary = fs::canonicalize(binary)?;
    let mut scale = Scale { binary, directory, hosts, stop, report: String::new(), raw: Map::new() };
    let is_wanted = |name: &str| part.is_empty() || part.iter().any(|part| part == name);
    if is_wanted("agent") {
        scale.one_agent()?;
    }
    if is_wanted("haproxy") {
        scale.one_haproxy()?;
    }
    let out = PathBuf::from(out);
    fs::create_dir_all(&out)?;
    fs::write(out.join("scale.md"), &scale.report)?;
    fs::write(out.join("scale.json"), format!("{:#}\n", json!(scale.raw)))?;
    println!("{}", scale.report);
    Ok(())
}

impl Scale<'_> {
    /// Says what comes, unless it is to stop.
    fn next(&self, what: &str) -> Outcome {
        if self.stop.load(Ordering::Relaxed) {
            return Err("stopped".into());
        }
        eprintln!("{what} …");
        Ok(())
    }

    fn table(&mut self, title: &str, columns: &[&str], rows: &[Vec<String>]) {
        let lines = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let head = lines(columns.iter().map(ToString::to_string).collect());
        let rule = format!("|{}\n", "---|".repeat(columns.len()));
        let rows: String = rows.iter().cloned().map(lines).collect();
        self.report += &format!("**{title}**\n\n{head}{rule}{rows}\n");
    }
}
