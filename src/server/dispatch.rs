//! What a request asks about: an endpoint of the table, by its index.

use std::time::Instant;

use super::endpoints::EndpointTable;
use super::request_reader::Protocol;
use crate::endpoint::Endpoint;
use crate::haproxy::agent_send;
use crate::http::{Method, Request, Response};
use crate::verdict::Verdict;

/// By a line of agent-send.
///
/// # Errors
/// The verdict on a line that names no endpoint of the table.
pub(super) fn by_line(line: &[u8], default: &Endpoint, endpoints: &EndpointTable) -> Result<usize, Verdict> {
    agent_send::find(line, default, |endpoint| endpoints.find(endpoint))
}

/// By the head of an HTTP request, and how it is asked.
///
/// # Errors
/// The response to a request that asks about no endpoint of the table: the metrics, or a 400.
pub(super) fn by_head(
    protocol: Protocol,
    head: &[u8],
    default: &Endpoint,
    endpoints: &EndpointTable,
) -> Result<(usize, Method), Response> {
    let asked = Request::read(head).and_then(|request| {
        if protocol == Protocol::Metrics {
            return Err(endpoints.metrics(Instant::now()));
        }
        let index = request.find(default, |endpoint| endpoints.find(endpoint))?;
        Ok((index, request.method))
    });
    if asked.as_ref().is_err_and(Response::is_bad) {
        endpoints.count_bad_request();
    }
    asked.map_err(|response| response.for_sender(head))
}
