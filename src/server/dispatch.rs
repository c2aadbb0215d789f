//! What a request asks about: a view of the table, by its index.

use std::time::Instant;

use super::hold_lookup::HoldLookup;
use super::request_reader::Protocol;
use super::views::ViewTable;
use crate::haproxy::agent_send;
use crate::http::{Method, Request, Response};
use crate::verdict::Verdict;
use crate::view::View;

/// By a line of agent-send.
///
/// # Errors
/// The verdict on a line that names no view of the table.
pub(super) fn by_line(line: &[u8], default: &View, views: &ViewTable) -> Result<usize, Verdict> {
    agent_send::find(line, default, |view| views.find(view))
}

/// By the head of an HTTP request, and how it is asked.
///
/// # Errors
/// The response to a request that asks about no view of the table: the metrics, or a 400.
pub(super) fn by_head(
    protocol: Protocol,
    head: &[u8],
    default: &View,
    views: &ViewTable,
    hold: &HoldLookup,
) -> Result<(usize, Method), Response> {
    let asked = Request::read(head).and_then(|request| {
        if protocol == Protocol::Metrics {
            return Err(views.metrics(Instant::now(), hold));
        }
        let index = request.find(default, |view| views.find(view))?;
        Ok((index, request.method))
    });
    if asked.as_ref().is_err_and(Response::is_bad) {
        views.count_bad_request();
    }
    asked.map_err(|response| response.for_sender(head))
}
