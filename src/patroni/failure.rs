//! How a GET fails.

use std::fmt;
use std::io;
use std::time::Duration;

use super::certificate;

/// How a GET failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was learnt.
    NoAnswer(NoAnswer),
    /// Something answered that does not speak HTTP, or not as Patroni does: what it did.
    BadAnswer(String),
}

/// Why nothing was learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nobody listens there.
    ConnectionRefused,
    /// The other side ended the connection with a reset.
    ConnectionReset,
    /// The port took no connection within the deadline.
    ConnectTimeout,
    /// The request was given up.
    Timeout,
    /// The request goes on, but not for whoever asked.
    NotWithin(Duration),
    /// The connection was closed before the end of the answer.
    CutShort,
    /// The host name has no address.
    NoAddress,
    /// No TLS session came about, for this reason.
    Tls(String),
    /// What the operating system, or the client, says.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NoAnswer(why) => why.fmt(f),
            Failure::BadAnswer(what) => f.write_str(what),
        }
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoAnswer::ConnectionRefused => f.write_str("connection refused"),
            NoAnswer::ConnectionReset => f.write_str("connection reset"),
            NoAnswer::ConnectTimeout => f.write_str("no connection in time"),
            NoAnswer::Timeout => f.write_str("no answer in time"),
            NoAnswer::NotWithin(time) => write!(f, "no answer within {time:?}"),
            NoAnswer::CutShort => f.write_str("answer cut short"),
            NoAnswer::NoAddress => f.write_str("host name has no address"),
            NoAnswer::Tls(why) => write!(f, "TLS: {why}"),
            NoAnswer::Other(why) => f.write_str(why),
        }
    }
}

impl From<NoAnswer> for Failure {
    fn from(why: NoAnswer) -> Self {
        Failure::NoAnswer(why)
    }
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Io(e) => no_answer(&e).into(),
            ureq::Error::Timeout(ureq::Timeout::Connect) => NoAnswer::ConnectTimeout.into(),
            ureq::Error::Timeout(_) => NoAnswer::Timeout.into(),
            ureq::Error::HostNotFound => NoAnswer::NoAddress.into(),
            ureq::Error::BodyExceedsLimit(_) => Failure::BadAnswer("endless answer".into()),
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) | ureq::Error::BodyStalled => {
                Failure::BadAnswer("not HTTP".into())
            }
            e => NoAnswer::Other(e.to_string()).into(),
        }
    }
}

fn no_answer(error: &io::Error) -> NoAnswer {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => NoAnswer::ConnectionRefused,
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => NoAnswer::ConnectionReset,
        Kind::UnexpectedEof => NoAnswer::CutShort,
        _ => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(inner) => NoAnswer::Tls(certificate::reason(inner)),
            None => NoAnswer::Other(error.to_string()),
        },
    }
}
