//! patroni-check beside each member, in both modes at once: the persistent service, and one process
//! for each check. Each mode has a runtime directory of its own.

use std::error::Error;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::recorder::Traffic;
use super::timeline::RULES;
use crate::Process;
use crate::cluster::Member;
use crate::process_guard::descendants;
use crate::testbed::Testbed;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Service,
    EachCheck,
}

pub const MODES: [Mode; 2] = [Mode::Service, Mode::EachCheck];

impl Mode {
    /// Which of the rules it is.
    pub fn rule(self) -> usize {
        2 + self as usize
    }

    /// Its name as a rule.
    pub fn name(self) -> &'static str {
        RULES[self.rule()]
    }

    /// HAProxy's backend with the recommended lines that asks it.
    pub fn backend(self) -> &'static str {
        super::WRITE_BACKENDS[2 + self as usize]
    }
}

/// Where they answer, by mode and by the kind of traffic.
#[derive(Clone, Copy)]
pub struct AgentPorts([[u16; 3]; 2]);

const TRAFFIC: [Traffic; 3] = [Traffic::Writes, Traffic::FreshReads, Traffic::Reads];

impl AgentPorts {
    pub fn choose(testbed: &Testbed) -> Self {
        AgentPorts([[5555, 5556, 5557], [5558, 5559, 5560]].map(|ports| ports.map(|port| testbed.port(port))))
    }

    pub fn of(&self, mode: Mode, traffic: Traffic) -> u16 {
        self.0[mode as usize][traffic as usize]
    }
}

/// Those of one member.
pub struct Agents {
    processes: Vec<Process>,
    /// In memory, as /run is: a rename on a busy disk waits for the disk.
    _runtime_directories: TempDir,
}

impl Agents {
    /// As after a boot: nothing is remembered.
    pub fn start(testbed: &Testbed, member: &Member, ports: &AgentPorts) -> Result<Self, Box<dyn Error>> {
        let directories = tempfile::Builder::new().prefix("patroni-check-lab.").tempdir_in("/dev/shm")?;
        testbed.user.make_dir(directories.path())?;
        let runtime_directory = |mode: Mode| -> Result<String, Box<dyn Error>> {
            let directory = directories.path().join(format!("{mode:?}"));
            testbed.user.make_dir(&directory)?;
            Ok(format!("RUNTIME_DIRECTORY={}", directory.display()))
        };
        let names = format!("--fdname={}", TRAFFIC.map(Traffic::endpoint).join(":"));
        let service = ports.0[Mode::Service as usize];
        let activate = ["-E", &runtime_directory(Mode::Service)?, &names];
        // The other mode goes without, so that one run shows what a probe changes.
        let probe = format!("{}:{}", member.home.display(), testbed.cluster.postgres_port);
        let probe = ["--probe", &probe];
        let options = if std::env::var_os("PROBE").is_some() { &probe[..] } else { &[] };
        let mut processes = vec![testbed.activated(member, &service, &activate, options)?];
        let directory = runtime_directory(Mode::EachCheck)?;
        for traffic in TRAFFIC {
            let (port, options) = (ports.of(Mode::EachCheck, traffic), ["--endpoint", traffic.endpoint()]);
            processes.push(testbed.activated(member, &[port], &["-E", &directory, "--accept"], &options)?);
        }
        Ok(Agents { processes, _runtime_directories: directories })
    }

    /// All of their processes, with those that answer a check just now.
    pub fn ids(&self) -> Vec<Pid> {
        let tree = |process: &Process| [vec![process.id()], descendants(process.id())].concat();
        let ids = self.processes.iter().flat_map(tree);
        ids.filter_map(|id| Pid::from_raw(i32::try_from(id).ok()?)).collect()
    }

    pub fn kill(&mut self) {
        // So that no further one is begun.
        self.processes.iter().for_each(|process| process.signal(Signal::STOP));
        for id in self.ids() {
            // One that answers a check may be gone.
            let _ = kill_process(id, Signal::KILL);
        }
        for process in &mut self.processes {
            process.wait();
        }
    }
}
