//! One agent, and the checks of many HAProxies: by agent-check those with an even number, by HTTP
//! the others.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lab::fake_patroni::{Behaviour, FakePatroni, answer};
use lab::times::{exponent, ms};
use lab::{Process, await_that, process};
use serde_json::{Value, json};

use crate::generator::{self, Load, View, generate};
use crate::hosts::{Meter, Used, counter, most_descriptors, program, time_wait};
use crate::{Outcome, Scale};

/// As Patroni is asked, and whether a primary serves it.
const VIEWS: [(&str, bool); 10] = [
    ("/primary", true),
    ("/replica", false),
    ("/read-only", true),
    ("/leader", true),
    ("/replica?lag=16777216", false),
    ("/sync", false),
    ("/async", false),
    ("/read-only?lag=1048576", true),
    ("/standby-leader", false),
    ("/health", true),
];

const PRIMARY: &str = r#"{"state": "running", "role": "primary", "timeline": 1, "patroni": {"version": "4.1.5"}}"#;

/// Patroni's own time for an answer, a p50 of which was measured.
const PATRONI_TAKES: Duration = Duration::from_millis(2);

/// The checks that must go through before anything counts.
const WARMING_UP: Duration = Duration::from_millis(500);

struct Agent {
    process: Process,
    patroni: FakePatroni,
    by_agent: Vec<View>,
    by_http: Vec<View>,
}

/// Views, HAProxies, and their checks a second.
type ViewsHaproxiesRate = (usize, u32, u32);

/// What a load came to.
struct Measured {
    views: usize,
    haproxies: u32,
    outcome: generator::Outcome,
    used: Used,
    /// Patroni's requests a second: of the view with the least, with the most, of all.
    requests: [f64; 3],
    in_flight: usize,
    descriptors: usize,
    /// Checks for which there was no place in a backlog.
    dropped: u64,
    time_wait: u64,
    resident: u64,
}

impl Scale<'_> {
    pub fn one_agent(&mut self) -> Outcome {
        let second = Duration::from_secs(1);
        self.next("One agent, ten views, 1,000 HAProxies")?;
        let full = self.agent_under(10, Load { haproxies: 1000, interval: second, time: 20 * second })?;
        self.table(
            "One agent with ten views that 1,000 HAProxies ask each second",
            &["what", "measured"],
            &full.rows(),
        );
        self.raw.insert("one agent".into(), full.json());
        self.next("One host of many: two views, two HAProxies, each 100 ms")?;
        let tenth = second / 10;
        let few = self.agent_under(2, Load { haproxies: 2, interval: tenth, time: 20 * second })?;
        self.table("One agent with two views that two HAProxies ask each 100 ms", &["what", "measured"], &few.rows());
        self.raw.insert("one host of many".into(), few.json());
        let columns = ["checks asked/s", "answered/s", "wrong or lost", "p50", "p99", "our core", "both cores"];
        let (mut rows, mut raw) = (Vec::new(), Vec::new());
        for rate in [10.0, 14.0, 18.0, 22.0, 26.0, 30.0, 35.0, 40.0, 50.0].map(|thousands| thousands * 1000.0) {
            self.next(&format!("One agent, ten views, {rate:.0} checks/s"))?;
            let interval = Duration::from_secs_f64(10_000.0 / rate);
            let measured = self.agent_under(10, Load { haproxies: 1000, interval, time: 4 * second })?;
            rows.push(measured.limit_row(rate));
            raw.push(measured.json());
            if measured.rate() < 0.95 * rate {
                break;
            }
        }
        self.table("What one agent answers at most", &columns, &rows);
        self.raw.insert("limit of one agent".into(), raw.into());
        // Which quantity grows, of how many views, how many HAProxies, at which rate.
        let series: [(&str, &[ViewsHaproxiesRate]); 4] = [
            (
                "checks/s, 100 HAProxies, ten views",
                &[(10, 100, 100), (10, 100, 1000), (10, 100, 3000), (10, 100, 10_000)],
            ),
            (
                "HAProxies, each ten views each second",
                &[(10, 10, 100), (10, 100, 1000), (10, 300, 3000), (10, 1000, 10_000)],
            ),
            ("HAProxies, together 3,000 checks/s, ten views", &[(10, 10, 3000), (10, 100, 3000), (10, 1000, 3000)]),
            (
                "views, 100 HAProxies, 3,000 checks/s",
                &[(1, 100, 3000), (2, 100, 3000), (5, 100, 3000), (10, 100, 3000)],
            ),
        ];
        let (mut rows, mut raw) = (Vec::new(), Vec::new());
        for (what, loads) in series {
            let mut series = Vec::new();
            for (views, haproxies, rate) in loads.iter().copied() {
                self.next(&format!("{what}: {views} views, {haproxies} HAProxies, {rate} checks/s"))?;
                let each = f64::from(rate) / f64::from(haproxies) / f64::from(u32::try_from(views)?);
                let interval = Duration::from_secs_f64(1.0 / each);
                // At a low rate long enough for the clock of processor time, which counts by 10 ms.
                let time = if rate < 1000 { 8 } else { 4 } * second;
                let measured = self.agent_under(views, Load { haproxies, interval, time })?;
                #[expect(clippy::cast_precision_loss)]
                let x = match what.split([' ', ',']).next() {
                    Some("views") => views as f64,
                    Some("HAProxies") => f64::from(haproxies),
                    _ => f64::from(rate),
                };
                raw.push(json!({"series": what, "x": x, "measured": measured.json()}));
                series.push((x, measured));
            }
            let of = |y: fn(&Measured) -> f64| -> Vec<(f64, f64)> { series.iter().map(|(x, m)| (*x, y(m))).collect() };
            rows.push(growth(what, "our processor time, ms/s", &of(|m| m.busy() * 1000.0)));
            rows.push(growth(what, "Patroni's requests/s", &of(|m| m.requests[2])));
        }
        self.raw.insert("growth of one agent".into(), raw.into());
        self.table("How one agent grows", &["with", "what", "measured", "exponent"], &rows);
        Ok(())
    }

    fn agent(&self, views: usize) -> Result<Agent, Box<dyn Error>> {
        let host = &self.hosts.databases;
        let said = VIEWS.map(|(endpoint, serves)| match answer(if serves { 200 } else { 503 }, PRIMARY) {
            Behaviour::Send(bytes) => (endpoint, bytes),
            _ => unreachable!("an answer is sent"),
        });
        let patroni = host.inside(|| FakePatroni::at("127.0.0.1:0", Behaviour::Only(said.to_vec())));
        patroni.delay(PATRONI_TAKES);
        let http = SocketAddr::new(host.ip, 5559);
        // As systemd does: a backlog of 4,096, where the program by itself has 128.
        let mut command = program(host, Path::new("systemd-socket-activate"));
        command.arg(format!("--listen={http}"));
        let mut names = "--fdname=http".to_owned();
        let (mut by_agent, mut by_http) = (Vec::new(), Vec::new());
        for (port, (endpoint, serves)) in (5600..).zip(VIEWS).take(views) {
            let address = SocketAddr::new(host.ip, port);
            command.arg(format!("--listen={address}"));
            names += &format!(":{endpoint}");
            by_agent.push(View { address, request: None, right: if serves { "READY UP #" } else { "MAINT UP #" } });
            let request = Some(format!("GET {endpoint} HTTP/1.0\r\n\r\n"));
            by_http.push(View { address: http, request, right: if serves { "HTTP/1.1 200" } else { "HTTP/1.1 503" } });
        }
        command.arg(names).arg(&self.binary).args(["--patroni", &patroni.url()]);
        let mut process = Process::start(&mut command, &self.directory.join("agent.log"))?;
        await_that("an agent", || {
            assert!(process.try_wait().is_none(), "the agent has ended: {}", process.output());
            self.hosts.clients.inside(|| std::net::TcpStream::connect(http).is_ok())
        });
        Ok(Agent { process, patroni, by_agent, by_http })
    }

    fn agent_under(&self, views: usize, load: Load) -> Result<Measured, Box<dyn Error>> {
        let agent = self.agent(views)?;
        let id = agent.process.id();
        let views_of = |haproxy: u32| &if haproxy % 2 == 0 { &agent.by_agent } else { &agent.by_http }[..];
        let run = |load: &Load| self.hosts.clients.inside(|| generate(load, views_of));
        run(&Load { time: WARMING_UP, ..load })?;
        let asked = || {
            let requests = agent.patroni.requests();
            let of = |(endpoint, _): &(&str, bool)| {
                requests.iter().filter(|line| line.split(' ').nth(1) == Some(endpoint)).count()
            };
            VIEWS[..views].iter().map(of).collect::<Vec<_>>()
        };
        let dropped = || counter(id, "netstat", "TcpExt", "ListenDrops").unwrap_or_default();
        let (before, dropped_before) = (asked(), dropped());
        let meter = Meter::start(&[id]);
        let (descriptors, outcome) = most_descriptors(id, || run(&load));
        let (outcome, used) = (outcome?, meter.end());
        let time_wait = time_wait(id).unwrap_or_default();
        #[expect(clippy::cast_precision_loss)]
        let requests: Vec<f64> =
            asked().iter().zip(before).map(|(after, before)| (after - before) as f64 / used.seconds).collect();
        Ok(Measured {
            views,
            haproxies: load.haproxies,
            outcome,
            used,
            requests: [
                requests.iter().copied().fold(f64::INFINITY, f64::min),
                requests.iter().copied().fold(0.0, f64::max),
                requests.iter().sum(),
            ],
            in_flight: agent.patroni.most_in_flight(),
            descriptors,
            dropped: dropped() - dropped_before,
            time_wait,
            resident: process::status(id, "VmHWM").unwrap_or_default(),
        })
    }
}

/// A row of the table of growth.
pub fn growth(with: &str, what: &str, points: &[(f64, f64)]) -> Vec<String> {
    let measured: Vec<_> = points.iter().map(|(x, y)| format!("{x:.0}: {y:.1}")).collect();
    let exponent = exponent(points).map_or("–".to_owned(), |k| format!("{k:.2}"));
    vec![with.to_owned(), what.to_owned(), measured.join(", "), exponent]
}

impl Measured {
    /// The share of a core that the agent has.
    fn busy(&self) -> f64 {
        self.used.ours / self.used.seconds
    }

    #[expect(clippy::cast_precision_loss)]
    fn answered(&self) -> f64 {
        (self.outcome.right + self.outcome.wrong) as f64
    }

    /// Rightly answered a second.
    #[expect(clippy::cast_precision_loss)]
    fn rate(&self) -> f64 {
        self.outcome.right as f64 / self.outcome.elapsed.as_secs_f64()
    }

    fn limit_row(&self, rate: f64) -> Vec<String> {
        let (outcome, used) = (&self.outcome, &self.used);
        vec![
            format!("{rate:.0}"),
            format!("{:.0}", self.rate()),
            (outcome.wrong + outcome.lost).to_string(),
            ms(outcome.times.p50()),
            ms(outcome.times.quantile(0.99)),
            format!("{:.0} %", self.busy() * 100.0),
            format!("{:.2}", used.all / used.seconds),
        ]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let (outcome, used) = (&self.outcome, &self.used);
        let row = |what: &str, measured: String| vec![what.to_owned(), measured];
        let checks = self.answered();
        vec![
            row(
                "checks",
                format!(
                    "{} sent in {:.0} s, {} answered as is right, {} wrongly, {} lost",
                    outcome.sent, used.seconds, outcome.right, outcome.wrong, outcome.lost
                ),
            ),
            row("checks answered a second", format!("{:.0}", checks / outcome.elapsed.as_secs_f64())),
            row(
                "from connect to answer",
                format!(
                    "p50 {}, p99 {}, at most {}",
                    ms(outcome.times.p50()),
                    ms(outcome.times.quantile(0.99)),
                    ms(outcome.times.quantile(1.0))
                ),
            ),
            row("the generator was late by", format!("p99 {}", ms(outcome.behind.quantile(0.99)))),
            row(
                "our processor time",
                format!("{:.1} µs a check, {:.0} % of a core", used.ours / checks * 1e6, self.busy() * 100.0),
            ),
            row(
                "of the whole machine, generator and stand-in included",
                format!("{:.1} µs a check, {:.2} cores", used.all / checks * 1e6, used.all / used.seconds),
            ),
            row(
                "packets on the cable",
                format!("{:.2} a check, {:.0} a second", used.packets / checks, used.packets / used.seconds),
            ),
            row(
                "requests to Patroni",
                format!(
                    "{:.1} to {:.1} a second and view, {:.0} in all; at most {} at once",
                    self.requests[0], self.requests[1], self.requests[2], self.in_flight
                ),
            ),
            row("descriptors", format!("at most {}", self.descriptors)),
            row("resident memory", format!("at most {:.1} MB", self.megabytes())),
            row("connections in TIME_WAIT on the host", self.time_wait.to_string()),
        ]
    }

    #[expect(clippy::cast_precision_loss)]
    fn megabytes(&self) -> f64 {
        (self.resident * 1024) as f64 / 1e6
    }

    fn json(&self) -> Value {
        let outcome = &self.outcome;
        json!({
            "views": self.views,
            "haproxies": self.haproxies,
            "sent": outcome.sent,
            "right": outcome.right,
            "wrong": outcome.wrong,
            "lost": outcome.lost,
            "seconds": self.used.seconds,
            "p50 s": outcome.times.p50(),
            "p99 s": outcome.times.quantile(0.99),
            "most s": outcome.times.quantile(1.0),
            "generator late, p99 s": outcome.behind.quantile(0.99),
            "processor s": self.used.ours,
            "processor of the machine s": self.used.all,
            "packets": self.used.packets,
            "requests/s, least, most, all": self.requests,
            "in flight": self.in_flight,
            "descriptors": self.descriptors,
            "dropped": self.dropped,
            "lost because": outcome.lost_because,
            "stolen s": self.used.stolen,
            "wrong answers": outcome.wrong_answers,
            "time wait": self.time_wait,
            "resident MB": self.megabytes(),
        })
    }
}
