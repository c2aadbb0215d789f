//! What Prometheus is told, on a socket named `metrics`.

use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    Result, TextEncoder,
};

use crate::haproxy::reply::Reply;
use crate::hold::Held;
use crate::http::Response;
use crate::observe::Look;
use crate::patroni::body::Body;
use crate::probe::Probed;
use crate::verdict::Verdict;
use crate::view::View;

/// Seconds. Patroni takes some milliseconds, a busy one half a second, and is given up after 30 s.
const BUCKETS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 2.0, 10.0];

/// The meters of all endpoints.
pub(super) struct Metrics {
    registry: Registry,
    bad_requests: IntCounter,
}

/// The meters of one endpoint.
pub(super) struct FetchMeter {
    fetches: Histogram,
    failures: IntCounterVec,
}

/// The meters of one view.
pub(super) struct AnswerMeter {
    answers: IntCounterVec,
    http_answers: IntCounterVec,
    verdict: IntGaugeVec,
    unchanged: Gauge,
    held: IntGauge,
    /// Without labels; absent where no hold ends by itself.
    held_until: GaugeVec,
    /// When the verdict changed.
    changed: Instant,
}

impl Metrics {
    /// None of an endpoint yet.
    ///
    /// # Errors
    /// A name that Prometheus does not take.
    pub(super) fn new() -> Result<Self> {
        let registry = Registry::new();
        let bad_requests = opts("http_bad_requests_total", "HTTP requests that were answered with 400.");
        let bad_requests = IntCounter::with_opts(bad_requests)?;
        registry.register(Box::new(bad_requests.clone()))?;
        Ok(Metrics { registry, bad_requests })
    }

    /// The meter of a view.
    ///
    /// # Errors
    /// Another one for the same view.
    pub(super) fn answer_meter(&self, view: &View) -> Result<AnswerMeter> {
        let about = |name: &str, help: &str| opts(name, help).const_label("endpoint", view.to_string());
        let answers = IntCounterVec::new(about("answers_total", "Agent checks answered, by reply."), &["reply"])?;
        let http_answers =
            IntCounterVec::new(about("http_answers_total", "Checks answered by HTTP, by status."), &["status"])?;
        let verdict = IntGaugeVec::new(about("verdict", "1 for the last verdict."), &["verdict"])?;
        let unchanged = Gauge::with_opts(about("unchanged_seconds", "Time since the verdict changed."))?;
        let held = IntGauge::with_opts(about("held", "1 while a hold stands."))?;
        let held_until = about("held_until_timestamp_seconds", "When the hold ends by itself, in Unix time.");
        let held_until = GaugeVec::new(held_until, &[])?;
        let changed = Instant::now();
        let meter = AnswerMeter { answers, http_answers, verdict, unchanged, held, held_until, changed };
        let collectors: [Box<dyn Collector>; 6] = [
            Box::new(meter.answers.clone()),
            Box::new(meter.http_answers.clone()),
            Box::new(meter.verdict.clone()),
            Box::new(meter.unchanged.clone()),
            Box::new(meter.held.clone()),
            Box::new(meter.held_until.clone()),
        ];
        collectors.into_iter().try_for_each(|collector| self.registry.register(collector))?;
        Ok(meter)
    }

    /// The meter of an endpoint.
    ///
    /// # Errors
    /// Another one for the same endpoint.
    pub(super) fn fetch_meter(&self, endpoint: &str) -> Result<FetchMeter> {
        let about = |name: &str, help: &str| opts(name, help).const_label("endpoint", endpoint);
        let fetches = about("patroni_seconds", "How long Patroni took to answer, or to fail to.");
        let fetches = Histogram::with_opts(HistogramOpts::from(fetches).buckets(BUCKETS.into()))?;
        let failures = about(
            "patroni_failures_total",
            "Requests to Patroni without an answer, or with an answer that means a failure.",
        );
        let failures = IntCounterVec::new(failures, &["kind"])?;
        self.registry.register(Box::new(fetches.clone()))?;
        self.registry.register(Box::new(failures.clone()))?;
        Ok(FetchMeter { fetches, failures })
    }

    pub(super) fn count_bad_request(&self) {
        self.bad_requests.inc();
    }

    /// The text that Prometheus reads.
    pub(super) fn response(&self) -> Response {
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(text) => Response::of_type(prometheus::TEXT_FORMAT, text),
            Err(e) => Response::bad(&e.to_string()),
        }
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("patroni_check_{name}"), help)
}

impl FetchMeter {
    /// Somebody has looked.
    pub(super) fn fetched(&self, took: Duration, look: &Look) {
        if look.observation.is_some() {
            self.fetches.observe(took.as_secs_f64());
        }
        let kind = match (&look.observation, &look.judgement.verdict) {
            (Some(Ok(_)), Verdict::Serve(_) | Verdict::StandBy(..)) => return,
            _ if matches!(look.probed, Some(Probed::Gone(_))) => "probe",
            (Some(Ok(answer)), _) if matches!(answer.body, Body::Node(_)) => "postgres",
            (Some(Ok(_)), _) => "bad_answer",
            _ => "no_answer",
        };
        self.failures.with_label_values(&[kind]).inc();
    }
}

impl AnswerMeter {
    /// A check by HTTP was answered so.
    pub(super) fn answered_by_http(&self, verdict: &Verdict) {
        self.http_answers.with_label_values(&[Response::of(verdict, None).code()]).inc();
    }

    /// An agent-check was answered with this.
    pub(super) fn answered(&self, reply: Option<&Reply>) {
        self.answers.with_label_values(&[reply.map_or("(nothing)", Reply::words)]).inc();
    }

    /// The verdict has become another one.
    pub(super) fn changed(&mut self, now: Instant, verdict: &Verdict) {
        self.changed = now;
        self.verdict.reset();
        self.verdict.with_label_values(&[verdict.word()]).set(1);
    }

    /// Brings up to date what changes without a check: by the time alone, or by an operator.
    pub(super) fn refresh(&self, now: Instant, held: Option<&Held>) {
        self.held.set(i64::from(held.is_some()));
        self.held_until.reset();
        if let Some(until) = held.and_then(|held| held.until) {
            self.held_until.with_label_values::<&str>(&[]).set(until.as_secs_f64());
        }
        self.unchanged.set(now.saturating_duration_since(self.changed).as_secs_f64());
    }
}
