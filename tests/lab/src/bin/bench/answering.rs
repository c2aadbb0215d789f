//! What a check costs: from a fresh observation, after an idle second, with a Patroni that refuses.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use lab::any_port;
use serde_json::json;

use crate::checks::{Load, load, some_check, timed_check, timed_get};
use crate::times::{Times, ms, spread};
use crate::{Bench, Outcome, ROUNDS};

impl Bench<'_> {
    pub fn throughput(&mut self) -> Outcome {
        let (_floor, floor) = self.floor("listen")?;
        let (_agent, agent) = self.agent(&self.patroni, &[])?;
        let original = SocketAddr::from(([127, 0, 0, 1], any_port()));
        let mut python = Command::new("python3");
        python.arg(lab::repository().join("tests/lab/src/bin/bench/original.py"));
        python.args([&original.port().to_string(), &self.patroni]);
        let _python = self.start_process(&mut python, original)?;
        for clients in [1, 16] {
            let (mut ratios, mut ours, mut floors, mut originals) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let time = Duration::from_secs(2);
                let bare = load(floor, clients, time);
                let agent = load(agent, clients, time);
                ratios.push(agent.a_second / bare.a_second);
                ours.push(agent);
                floors.push(bare);
                originals.push(load(original, clients, time));
            }
            let (ratio, low, high) = spread(&ratios);
            let rate = |loads: &[Load]| spread(&loads.iter().map(|load| load.a_second).collect::<Vec<_>>()).0;
            let p99 = |loads: &[Load]| spread(&loads.iter().map(|load| load.p99).collect::<Vec<_>>()).0;
            let lost = |loads: &[Load]| loads.iter().map(|load| load.lost).sum::<usize>();
            let measured = format!(
                "{ratio:.2} ({low:.2} to {high:.2}) of the floor: {:.0} of {:.0}; lost {}; p99 {}; the original {:.0}, lost {}, p99 {}",
                rate(&ours),
                rate(&floors),
                lost(&ours),
                ms(p99(&ours)),
                rate(&originals),
                lost(&originals),
                ms(p99(&originals)),
            );
            let reached = ratio >= 0.8 && lost(&ours) == 0 && (clients == 1 || p99(&ours) < 0.005);
            let raw = json!({"ratios": ratios, "ours": rate(&ours), "floor": rate(&floors), "original": rate(&originals), "lost": lost(&ours), "p99": p99(&ours), "original_lost": lost(&originals), "original_p99": p99(&originals)});
            self.row(
                format!("checks/s, {clients} clients, from a fresh observation"),
                measured,
                "0.8 of accept-write-close, none lost, p99 at 16 under 5 ms",
                Some(reached),
                raw,
            );
        }
        Ok(())
    }

    pub fn idle(&mut self) -> Outcome {
        let (_floor, floor) = self.floor("listen")?;
        let (_agent, agent) = self.agent(&self.patroni, &[])?;
        let (mut ours, mut get, mut bare) = (Times::default(), Times::default(), Times::default());
        for _ in 0..25 {
            thread::sleep(Duration::from_secs(1));
            ours.0.push(timed_check(agent)?);
            thread::sleep(Duration::from_secs(1));
            get.0.push(timed_get(&self.patroni)?);
            bare.0.push(timed_check(floor)?);
        }
        let floor = get.p50() + bare.p50();
        let ratio = ours.p50() / floor;
        let measured = format!("{ratio:.2}: p50 {} beside {}", ms(ours.p50()), ms(floor));
        self.row(
            "one check after an idle second",
            measured,
            "1.2 × (GET + accept-write-close)",
            Some(ratio <= 1.2),
            json!({"ours": ours.p50(), "get": get.p50(), "bare": bare.p50(), "ours_p90": ours.quantile(0.9)}),
        );
        Ok(())
    }

    pub fn refused(&mut self) -> Outcome {
        let nobody = SocketAddr::from(([127, 0, 0, 1], any_port()));
        let (_floor, floor) = self.floor("listen")?;
        let (_agent, agent) = self.agent(&format!("http://{nobody}"), &["--max-age", "0s", "--grace", "0s"])?;
        let mut ratios = Vec::new();
        let (mut all_ours, mut all_floor) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let ours = Times::of(400, || some_check(agent))?.p50();
            let refused = Times::of(400, || {
                let start = Instant::now();
                Ok(TcpStream::connect(nobody).map_or_else(|_| start.elapsed(), |_| Duration::ZERO))
            })?;
            let floor = refused.p50() + Times::of(400, || some_check(floor))?.p50();
            ratios.push(ours / floor);
            all_ours.push(ours);
            all_floor.push(floor);
        }
        let (ratio, low, high) = spread(&ratios);
        let (ours, floor) = (spread(&all_ours).0, spread(&all_floor).0);
        let measured = format!("{ratio:.2} ({low:.2} to {high:.2}): p50 {} beside {}", ms(ours), ms(floor));
        self.row(
            "a check that finds Patroni refusing",
            measured,
            "1.3 × (refused connect + accept-write-close)",
            Some(ratio <= 1.3),
            json!({"ratios": ratios, "ours": ours, "floor": floor}),
        );
        Ok(())
    }
}
