//! Memory and size.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use lab::agent::Manager;
use lab::{any_port, process};
use serde_json::json;

use crate::checks::timed_check;
use crate::{Bench, Outcome};
use lab::times::ms;

impl Bench<'_> {
    pub fn memory(&mut self) -> Outcome {
        let (agent, address) = self.agent(&self.patroni, &[])?;
        let resident = || process::status(agent.id(), "VmRSS").map(|kilobytes| kilobytes * 1024).ok_or("no VmRSS");
        let first = resident()?;
        let answered = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while answered.load(Ordering::Relaxed) < 1_000_000 && !self.stop.load(Ordering::Relaxed) {
                        answered.fetch_add(usize::from(timed_check(address).is_ok()), Ordering::Relaxed);
                    }
                });
            }
        });
        let million = resident()?;
        // Answered, and lingering until they close.
        let clients: Vec<TcpStream> = (0..1000).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
        thread::sleep(Duration::from_millis(100));
        let open = resident()?;
        drop(clients);
        #[expect(clippy::cast_precision_loss)]
        let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        self.row(
            "resident memory after a million checks",
            format!("{} ({} at the start)", mb(million), mb(first)),
            "4 MB",
            Some(million <= 4_000_000),
            json!({"bytes": million, "start": first}),
        );
        self.row(
            "resident memory with 1,000 open clients",
            mb(open),
            "6 MB",
            Some(open <= 6_000_000),
            json!({"bytes": open}),
        );
        Ok(())
    }

    pub fn idle_minute(&mut self) -> Outcome {
        let manager = Manager::bind();
        let address = SocketAddr::from(([127, 0, 0, 1], any_port()));
        let mut command = Command::new(self.binary);
        command.args(["--patroni", &self.patroni, "--listen", &address.to_string()]);
        // As patroni-check.service has it: WatchdogSec=10s, and a ping in half of it.
        command.env("NOTIFY_SOCKET", manager.socket()).env("WATCHDOG_USEC", "10000000");
        let agent = self.start_process(&mut command, address)?;
        timed_check(address)?;
        thread::sleep(Duration::from_secs(1));
        let (before, time) = (agent.context_switches(), agent.processor_time());
        thread::sleep(Duration::from_secs(60));
        let (turns, time) = (agent.context_switches() - before, agent.processor_time() - time);
        self.row(
            "an idle minute: how often a thread was put on a processor",
            format!("{turns}, of which 12 for the watchdog; {} of processor time", ms(time.as_secs_f64())),
            "the watchdog's alone",
            Some(turns <= 13),
            json!({"turns": turns, "seconds": time.as_secs_f64()}),
        );
        Ok(())
    }

    pub fn size(&mut self) -> Outcome {
        let bytes = fs::metadata(self.binary)?.len();
        let mut tree = Command::new(env!("CARGO"));
        tree.args(["tree", "--locked", "--package", "patroni-check", "-e", "normal", "--prefix", "none"]);
        tree.current_dir(lab::repository());
        let text = String::from_utf8(tree.output()?.stdout)?;
        let mut crates: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        crates.sort_unstable();
        crates.dedup();
        self.row(
            "binary, with TLS",
            format!("{bytes} bytes; {} crates", crates.len() - 1),
            "2.5 MB",
            Some(bytes <= 2_500_000),
            json!({"bytes": bytes, "crates": crates.len() - 1}),
        );
        Ok(())
    }
}
