//! What a request asks about, which makes it a check.

use std::time::Instant;

use mio::net::TcpStream;

use super::check::Check;
use super::hold_lookup::HoldLookup;
use super::request_reader::{PartialRequest, Protocol};
use super::views::ViewTable;
use crate::haproxy::agent_send;
use crate::haproxy::reply::ReplyPolicy;
use crate::http::{Method, Request, Response};
use crate::view::View;

/// What requests mean that do not say all.
pub(super) struct Dispatch {
    /// What a request asks about that names nothing.
    pub(super) default_view: View,
    /// For one that names no view that is served.
    pub(super) fallback_policy: ReplyPolicy,
}

/// A client that asks about no view that is served, and what it is sent.
pub(super) type Answered = (TcpStream, Option<Vec<u8>>);

impl Dispatch {
    /// The check that a request is.
    ///
    /// # Errors
    /// It asks about no view that is served.
    pub(super) fn check(
        &self,
        request: PartialRequest,
        views: &ViewTable,
        hold: &HoldLookup,
    ) -> Result<Check, Answered> {
        let PartialRequest { client, protocol, bytes } = request;
        match protocol {
            Protocol::AgentSend => match agent_send::find(&bytes, &self.default_view, |view| views.find(view)) {
                Ok(view) => Ok(Check::by_agent_check(client, view)),
                Err(verdict) => {
                    let reply = self.fallback_policy.reply(&hold.overriding_unnamed(verdict));
                    Err((client, reply.map(|reply| reply.line().into_bytes())))
                }
            },
            Protocol::Http | Protocol::Metrics => match self.by_head(protocol, &bytes, views, hold) {
                Ok((view, method)) => Ok(Check::by_http(client, view, method)),
                Err(response) => Err((client, Some(response.to_bytes()))),
            },
        }
    }

    /// By the head of an HTTP request, and how it is asked; or the metrics, or a 400.
    fn by_head(
        &self,
        protocol: Protocol,
        head: &[u8],
        views: &ViewTable,
        hold: &HoldLookup,
    ) -> Result<(usize, Method), Response> {
        let asked = Request::read(head).and_then(|request| {
            if protocol == Protocol::Metrics {
                return Err(views.metrics(Instant::now(), hold));
            }
            let index = request.find(&self.default_view, |view| views.find(view))?;
            Ok((index, request.method))
        });
        if asked.as_ref().is_err_and(Response::is_bad) {
            views.count_bad_request();
        }
        asked.map_err(|response| response.for_sender(head))
    }
}
