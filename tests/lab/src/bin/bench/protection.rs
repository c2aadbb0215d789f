//! How often Patroni is asked, however many clients there are.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::any_port;
use lab::fake_patroni::{FakePatroni, answer, primary};
use serde_json::json;

use crate::checks::timed_check;
use crate::{Bench, Outcome};

impl Bench<'_> {
    pub fn protection(&mut self) -> Outcome {
        let patroni = FakePatroni::new(primary());
        let newer = r#"{"state": "running", "role": "primary", "timeline": 1, "patroni": {"version": "4.0.6"}}"#;
        patroni.now(answer(200, newer));
        // Patroni's own time, a p50 of which was measured.
        patroni.delay(Duration::from_millis(2));
        let endpoints = ["/primary", "/replica", "/read-only", "/sync"];
        for views in [1, 4] {
            let addresses: Vec<SocketAddr> =
                (0..views).map(|_| SocketAddr::from(([127, 0, 0, 1], any_port()))).collect();
            let mut command = Command::new(self.binary);
            command.args(["--patroni", &patroni.url()]);
            for (address, endpoint) in addresses.iter().zip(endpoints) {
                command.args(["--listen", &format!("{address}={endpoint}")]);
            }
            let agent = self.start_process(&mut command, addresses[0])?;
            for (rate, clients) in [(1, 1), (10, 10), (100, 100), (1000, 200)] {
                let time = Duration::from_secs(5);
                let (before, ticks) = (patroni.requests().len(), agent.ticks());
                let start = Instant::now();
                let answered = AtomicUsize::new(0);
                thread::scope(|scope| {
                    for client in 0..clients {
                        let (addresses, answered) = (&addresses, &answered);
                        scope.spawn(move || {
                            let pause = Duration::from_secs(clients) / rate;
                            let mut next = start
                                + pause * u32::try_from(client).unwrap_or(0) / u32::try_from(clients).unwrap_or(1);
                            for turn in 0.. {
                                thread::sleep(next.saturating_duration_since(Instant::now()));
                                if next > start + time {
                                    break;
                                }
                                let view = (usize::try_from(client).unwrap_or(0) + turn) % addresses.len();
                                answered
                                    .fetch_add(usize::from(timed_check(addresses[view]).is_ok()), Ordering::Relaxed);
                                next += pause;
                            }
                        });
                    }
                });
                let elapsed = start.elapsed().as_secs_f64();
                #[expect(clippy::cast_precision_loss)]
                let (asked, cpu, answered) = (
                    (patroni.requests().len() - before) as f64 / elapsed / views as f64,
                    (agent.ticks() - ticks) as f64 / elapsed,
                    answered.into_inner() as f64 / elapsed,
                );
                let flight = patroni.most_in_flight();
                let reached = asked <= 10.0 && flight <= views && (rate < 1000 || cpu < 5.0);
                let measured = format!(
                    "{asked:.1} a second and view, at most {flight} at once; {answered:.0} answered/s, {cpu:.1} % of a core"
                );
                self.row(
                    format!("requests to Patroni: {views} views, {clients} clients, {rate} checks/s"),
                    measured,
                    "10 a second and view, one in flight each; 5 % of a core at 1,000/s",
                    Some(reached),
                    json!({"asked": asked, "in_flight": flight, "cpu_percent": cpu}),
                );
            }
        }
        Ok(())
    }
}
