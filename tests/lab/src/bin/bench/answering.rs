//! What a check costs: from a fresh observation, after an idle second, with a Patroni that refuses.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use lab::any_port;
use serde_json::json;

use crate::checks::{Load, load, some_check, timed_check, timed_get, timed_http_check};
use crate::{Bench, Outcome, ROUNDS};
use lab::times::{Times, ms, spread};

/// What was measured in each round, as a multiple of what it is compared with.
fn beside(ours: &[Load], others: &[Load], what: fn(&Load) -> f64) -> Vec<f64> {
    ours.iter().zip(others).map(|(ours, other)| what(ours) / what(other)).collect()
}

fn middle(loads: &[Load], what: fn(&Load) -> f64) -> f64 {
    spread(&loads.iter().map(what).collect::<Vec<_>>()).0
}

impl Bench<'_> {
    pub fn throughput(&mut self) -> Outcome {
        let (floor_program, floor) = self.floor("listen")?;
        let (agent_program, agent) = self.agent(&self.patroni, &[])?;
        let original = SocketAddr::from(([127, 0, 0, 1], any_port()));
        let mut python = Command::new("python3");
        python.arg(lab::repository().join("tests/lab/src/bin/bench/original.py"));
        python.args([&original.port().to_string(), &self.patroni]);
        let python = self.start_process(&mut python, original)?;
        for (clients, wanted, goal) in [
            (1, 0.9, "0.9 of accept-write-close, none lost, p99 under 3 ms"),
            (16, 1.0, "1.0 of accept-write-close, none lost, p99 under 3 ms"),
        ] {
            let [mut ours, mut floors, mut originals] = [const { Vec::new() }; 3];
            for _ in 0..2 * ROUNDS {
                let time = Duration::from_secs(1);
                floors.push(load(&floor_program, || timed_check(floor), clients, time));
                ours.push(load(&agent_program, || timed_check(agent), clients, time));
                originals.push(load(&python, || timed_check(original), clients, time));
            }
            let ratios = beside(&ours, &floors, |load| load.a_second);
            let (ratio, low, high) = spread(&ratios);
            let (rate, p99) =
                (|loads: &[Load]| middle(loads, |load| load.a_second), |loads: &[Load]| middle(loads, |load| load.p99));
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
            let reached = ratio >= wanted && lost(&ours) == 0 && p99(&ours) < 0.003;
            let raw = json!({"ratios": ratios, "ours": rate(&ours), "floor": rate(&floors), "original": rate(&originals), "lost": lost(&ours), "p99": p99(&ours), "original_lost": lost(&originals), "original_p99": p99(&originals)});
            self.row(
                format!("checks/s, {clients} clients, from a fresh observation"),
                measured,
                goal,
                Some(reached),
                raw,
            );
            self.processor_time("the same, processor time of a check", &ours, &floors, (1.5, "1.5 × the C loop's"));
        }
        Ok(())
    }

    pub fn http(&mut self) -> Outcome {
        let address = SocketAddr::from(([127, 0, 0, 1], any_port()));
        let (program, agent) = self.agent(&self.patroni, &["--listen", &format!("{address}=http")])?;
        for clients in [1, 16] {
            let [mut by_http, mut by_agent] = [const { Vec::new() }; 2];
            for _ in 0..2 * ROUNDS {
                let time = Duration::from_secs(1);
                by_agent.push(load(&program, || timed_check(agent), clients, time));
                by_http.push(load(&program, || timed_http_check(address), clients, time));
            }
            let what = format!("a check by HTTP, {clients} clients, processor time");
            self.processor_time(what, &by_http, &by_agent, (1.3, "1.3 × an agent-check's"));
        }
        Ok(())
    }

    /// A row about the processor time of a check, beside that of what it is compared with.
    fn processor_time(
        &mut self,
        what: impl Into<String>,
        ours: &[Load],
        others: &[Load],
        (most, goal): (f64, &'static str),
    ) {
        let ratios = beside(ours, others, |load| load.processor_time);
        let (ratio, low, high) = spread(&ratios);
        let micros = |loads: &[Load]| middle(loads, |load| load.processor_time) * 1e6;
        let measured =
            format!("{ratio:.2} ({low:.2} to {high:.2}): {:.0} µs beside {:.0} µs", micros(ours), micros(others));
        self.row(
            what,
            measured,
            goal,
            Some(ratio <= most),
            json!({"ratios": ratios, "ours": micros(ours), "other": micros(others)}),
        );
    }

    pub fn after_pause(&mut self) -> Outcome {
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
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let ours = Times::of(400, || some_check(agent))?.p50();
            let refused = Times::of(400, || {
                let start = Instant::now();
                Ok(TcpStream::connect(nobody).map_or_else(|_| start.elapsed(), |_| Duration::ZERO))
            })?;
            rounds.push((ours, refused.p50() + Times::of(400, || some_check(floor))?.p50()));
        }
        self.wall_time(
            "a check that finds Patroni refusing",
            &rounds,
            (1.3, "1.3 × (refused connect + accept-write-close)"),
        );
        Ok(())
    }
}
