//! The views that the service answers for: what each is told, and what the operator is told of it.

use std::error::Error;
use std::time::{Duration, Instant};

use super::check::Check;
use super::endpoints::EndpointTable;
use super::fetcher::Work;
use super::hold_lookup::HoldLookup;
use super::metrics::{AnswerMeter, Metrics};
use crate::clock::Moment;
use crate::config::Config;
use crate::haproxy::reply::ReplyPolicy;
use crate::hold::file::HoldFile;
use crate::http::Response;
use crate::memory::file::Noted;
use crate::patroni::Observation;
use crate::verdict::Verdict;
use crate::view::View;

/// One view's state.
pub(super) struct ViewState {
    pub(super) view: View,
    /// The files that may hold it.
    pub(super) hold_files: Vec<HoldFile>,
    /// The index of its endpoint.
    endpoint: usize,
    pub(super) policy: ReplyPolicy,
    calm: Duration,
    /// What its checks were told last.
    last_told: Option<Verdict>,
    /// How many checks were answered.
    answered: u64,
    pub(super) meter: AnswerMeter,
}

/// All views, and their endpoints. None is ever removed, so that an index stays good.
pub(super) struct ViewTable {
    states: Vec<ViewState>,
    pub(super) endpoints: EndpointTable,
    metrics: Metrics,
    config: Config,
}

impl ViewTable {
    /// None yet.
    ///
    /// # Errors
    /// A name that Prometheus does not take.
    pub(super) fn new(config: &Config, endpoints: EndpointTable) -> Result<Self, Box<dyn Error>> {
        Ok(ViewTable { states: Vec::new(), endpoints, metrics: Metrics::new()?, config: config.clone() })
    }

    /// The index of a view, which is added if it is new.
    ///
    /// # Errors
    /// Settings that do not go together for it, or no thread to be had.
    pub(super) fn get_or_insert(&mut self, view: &View) -> Result<usize, Box<dyn Error>> {
        if let Some(index) = self.find(view) {
            return Ok(index);
        }
        self.states.push(ViewState {
            view: view.clone(),
            hold_files: self.config.holds().files(Some(&view.endpoint)),
            policy: self.config.reply_policy(view)?,
            endpoint: self.endpoints.get_or_insert(&self.config.subject(view), &self.metrics)?,
            calm: self.config.calm(view),
            last_told: None,
            answered: 0,
            meter: self.metrics.answer_meter(view)?,
        });
        Ok(self.states.len() - 1)
    }

    /// The index of a view, if it is on the list.
    pub(super) fn find(&self, view: &View) -> Option<usize> {
        self.states.iter().position(|state| state.view == *view)
    }

    /// A check of this view arrives. It is given back with its verdict if there is one fresh enough;
    /// otherwise it waits.
    pub(super) fn look_up_or_wait(&mut self, now: Moment, check: Check) -> Option<(Check, Verdict)> {
        let endpoint = self.states[check.view].endpoint;
        self.endpoints.get_mut(endpoint).cache.look_up_or_wait(now, check)
    }

    /// The endpoint's verdict as it is for this view.
    pub(super) fn after_calm(&self, view: usize, now: Moment, verdict: Verdict) -> Verdict {
        let ViewState { endpoint, calm, .. } = self.states[view];
        self.endpoints.get(endpoint).cache.memory().after_calm(now, calm, verdict)
    }

    pub(super) fn get(&self, view: usize) -> &ViewState {
        &self.states[view]
    }

    /// A check of this view is told this. Says so if it is another verdict than the last one.
    pub(super) fn note_told(&mut self, view: usize, verdict: &Verdict) -> Option<Noted> {
        let state = &mut self.states[view];
        state.answered += 1;
        let told = verdict.without_countdown();
        if state.last_told.as_ref() == Some(&told) {
            return None;
        }
        let work = Work::Told(state.view.clone(), Moment::now(), told.clone());
        self.endpoints.get_mut(state.endpoint).fetcher.begin(work);
        state.meter.changed(Instant::now(), verdict);
        Some(Noted { before: state.last_told.replace(told) })
    }

    /// What Patroni said last about this view's endpoint, if it was ever asked.
    pub(super) fn last_observation(&self, view: usize) -> Option<&Observation> {
        self.endpoints.get(self.states[view].endpoint).last_observation.as_ref()
    }

    /// The line in `systemctl status`.
    pub(super) fn status(&self) -> String {
        let lines = self.states.iter().map(|state| {
            let reply = state.last_told.as_ref().and_then(|verdict| state.policy.reply(verdict));
            let reply = reply.map_or("nothing said yet".to_owned(), |reply| reply.to_string());
            format!("{}: {reply} ({} checks)", state.view, state.answered)
        });
        lines.collect::<Vec<_>>().join("; ")
    }

    /// What Prometheus is told.
    pub(super) fn metrics(&self, now: Instant, hold: &HoldLookup) -> Response {
        for ViewState { hold_files, meter, .. } in &self.states {
            meter.refresh(now, hold.held(hold_files).as_ref());
        }
        self.metrics.response()
    }

    /// Counts an HTTP request that got a 400.
    pub(super) fn count_bad_request(&self) {
        self.metrics.count_bad_request();
    }
}
