//! One check: a client that wants to hear of a view, and in which form.

use mio::net::TcpStream;

use crate::haproxy::reply::Reply;
use crate::http::{Method, Response};
use crate::verdict::Verdict;

/// A client, from when it is known what it asks about until its answer is sent.
pub(super) struct Check {
    pub(super) client: TcpStream,
    /// What it asks about, by its index in the table of views.
    pub(super) view: usize,
    form: Form,
}

/// The form of an answer.
enum Form {
    AgentCheck,
    Http(Method),
}

impl Check {
    pub(super) fn by_agent_check(client: TcpStream, view: usize) -> Self {
        Check { client, view, form: Form::AgentCheck }
    }

    pub(super) fn by_http(client: TcpStream, view: usize, method: Method) -> Self {
        Check { client, view, form: Form::Http(method) }
    }

    pub(super) fn is_http(&self) -> bool {
        matches!(self.form, Form::Http(_))
    }

    /// What the client is sent; nothing where HAProxy is told nothing (`--on-failure silent`).
    pub(super) fn answer(&self, verdict: &Verdict, reply: Option<&Reply>) -> Option<Vec<u8>> {
        match self.form {
            Form::AgentCheck => reply.map(|reply| reply.line().into_bytes()),
            Form::Http(method) => Some(Response::of(verdict, reply).to(method).to_bytes()),
        }
    }
}
