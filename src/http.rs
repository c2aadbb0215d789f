//! HTTP, as load balancers and scripts ask by it: the head of a request, and the response. Bytes
//! in, bytes out.
//!
//! There are three statuses only. Some load balancers take a 404 for health, others a 429 for a
//! reason to wait.

use httparse::{EMPTY_HEADER, Status};

use crate::haproxy::reply::Reply;
use crate::verdict::Verdict;
use crate::view::View;

/// A head is not longer than this.
pub(crate) const HEAD_LIMIT: usize = 8 << 10;

/// Load balancers send a handful.
const HEADERS_LIMIT: usize = 64;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Status and body.
    Get,
    /// The same without the body.
    Head,
    /// As `Get`: HAProxy's `option httpchk` asks so.
    Options,
}

/// The first line of a request. What stands in its headers changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What for.
    pub method: Method,
    /// The path with its query, as it was sent.
    pub target: String,
}

/// A whole response, after which the connection is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    status: &'static str,
    content_type: &'static str,
    body: String,
    is_head: bool,
}

impl Request {
    /// Reads a head up to its empty line (RFC 9112). Bytes behind it are not looked at.
    ///
    /// # Errors
    /// The response to what is no such head.
    pub fn read(head: &[u8]) -> Result<Self, Response> {
        let mut headers = [EMPTY_HEADER; HEADERS_LIMIT];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(head) {
            Ok(Status::Complete(_)) => {}
            Ok(Status::Partial) if head.len() >= HEAD_LIMIT => {
                return Err(Response::bad(&format!("the head is longer than {HEAD_LIMIT} bytes")));
            }
            Ok(Status::Partial) => return Err(Response::bad("the head has no end")),
            Err(e) => return Err(Response::bad(&format!("not HTTP: {e}"))),
        }
        let method = match request.method.unwrap_or_default() {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "OPTIONS" => Method::Options,
            _ => return Err(Response::bad("the methods are GET, HEAD and OPTIONS")),
        };
        Ok(Request { method, target: path(request.path.unwrap_or_default()).to_owned() })
    }

    /// Whether no more is to come that could make another request of this one.
    pub(crate) fn is_whole(head: &[u8]) -> bool {
        let mut headers = [EMPTY_HEADER; HEADERS_LIMIT];
        !matches!(httparse::Request::new(&mut headers).parse(head), Ok(Status::Partial))
    }

    /// What `find` finds of the view that is asked about, if it is on the list.
    ///
    /// # Errors
    /// The response to one that is not, or that Patroni does not have.
    pub(crate) fn find<T>(&self, default: &View, find: impl FnOnce(&View) -> Option<T>) -> Result<T, Response> {
        let view = self.view(default)?;
        find(&view).ok_or_else(|| Response::bad(&format!("not in PATRONI_CHECK_ALSO: {view}")))
    }

    /// The view that is asked about; `/` is the default one.
    ///
    /// # Errors
    /// The response to one that Patroni does not have.
    pub fn view(&self, default: &View) -> Result<View, Response> {
        match self.target.as_str() {
            "/" => Ok(default.clone()),
            target => target.parse().map_err(|why: String| Response::bad(&why)),
        }
    }
}

/// A proxy is sent the whole URI (RFC 9112, 3.2.2); whose it is does not matter.
fn path(target: &str) -> &str {
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    match rest {
        Some(rest) => rest.find('/').map_or("/", |start| &rest[start..]),
        None => target,
    }
}

impl Response {
    /// 200 where the node may take the traffic, 503 where it may not, with the line that HAProxy is
    /// told, if any.
    pub(crate) fn of(verdict: &Verdict, reply: Option<&Reply>) -> Self {
        let serves = matches!(verdict, Verdict::Serve(_));
        let status = if serves { "200 OK" } else { "503 Service Unavailable" };
        let body = reply.map_or_else(String::new, Reply::line);
        Response { status, content_type: "text/plain", body, is_head: false }
    }

    /// 400, with the reason.
    pub(crate) fn bad(why: &str) -> Self {
        let body = format!("{why}\n");
        Response { status: "400 Bad Request", content_type: "text/plain", body, is_head: false }
    }

    /// 200 with something of another type.
    pub(crate) fn of_type(content_type: &'static str, body: String) -> Self {
        Response { status: "200 OK", content_type, body, is_head: false }
    }

    /// As a request with this method wants it.
    pub(crate) fn to(mut self, method: Method) -> Self {
        self.is_head = method == Method::Head;
        self
    }

    /// As the sender of this head wants it, whatever else is wrong with it.
    pub(crate) fn for_sender(self, head: &[u8]) -> Self {
        let start = head.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(head.len());
        let is_head = head[start..].starts_with(b"HEAD ");
        self.to(if is_head { Method::Head } else { Method::Get })
    }

    pub(crate) fn is_bad(&self) -> bool {
        self.code() == "400"
    }

    /// The status code.
    pub(crate) fn code(&self) -> &str {
        self.status.split(' ').next().unwrap_or_default()
    }

    /// What is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Response { status, content_type, body, is_head } = self;
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        );
        let body = if *is_head { "" } else { body };
        (head + body).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::reply::{ReplyFormat, ReplyPolicy};
    use crate::verdict::Sessions;

    #[test]
    fn a_head_is_a_method_and_a_target_or_a_400_with_the_reason() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(HEAD_LIMIT));
        let table: [(&[u8], &str); 22] = [
            (b"GET /primary HTTP/1.1\r\nHost: evil\r\n\r\n", "Get /primary"),
            (b"OPTIONS / HTTP/1.0\r\n\r\n", "Options /"),
            (b"HEAD /replica?lag=16MB HTTP/1.1\n\n", "Head /replica?lag=16MB"),
            (b"GET http://db1:5559/sync?x HTTP/1.1\r\n\r\n", "Get /sync?x"),
            (b"GET https://db1 HTTP/1.1\r\n\r\n", "Get /"),
            (b"OPTIONS * HTTP/1.1\r\n\r\n", "Options *"),
            (b"GET /%70rimary HTTP/1.1\r\n\r\n", "Get /%70rimary"),
            (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", "Get /"),
            (b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "Get /"),
            (b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "Get /"),
            (b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n", "Get /a"),
            (b"POST /primary HTTP/1.1\r\n\r\n", "the methods are"),
            (b"get /primary HTTP/1.1\r\n\r\n", "the methods are"),
            (b"CONNECT db1:5432 HTTP/1.1\r\n\r\n", "the methods are"),
            (b"GET /primary HTTP/2.0\r\n\r\n", "not HTTP"),
            (b"GET /primary\r\n\r\n", "not HTTP"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "not HTTP"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "not HTTP"),
            (b"GET / HTTP/1.1\r\nHost: x\r\n", "the head has no end"),
            (b"", "the head has no end"),
            (many.as_bytes(), "not HTTP"),
            (&long.as_bytes()[..HEAD_LIMIT], "the head is longer than 8192 bytes"),
        ];
        for (head, expected) in table {
            let got = match Request::read(head) {
                Ok(Request { method, target }) => format!("{method:?} {target}"),
                Err(response) => {
                    assert_eq!(response.code(), "400");
                    String::from_utf8(response.to_bytes()).unwrap()
                }
            };
            let fits = if expected.contains(' ') && expected.contains(['/', '*']) {
                got == expected
            } else {
                got.contains(expected)
            };
            assert!(fits, "{}: {got}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn a_response_has_its_length_and_ends_the_connection() {
        let policy = ReplyPolicy::new(&"/primary".parse().unwrap(), ReplyFormat::Full, None, None).unwrap();
        let of = |verdict: Verdict| Response::of(&verdict, policy.reply(&verdict).as_ref());
        let ready = of(Verdict::Serve("primary".into()));
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 19\r\n\
                    Cache-Control: no-store\r\nConnection: close\r\n\r\n";
        assert_eq!(ready.to_bytes(), format!("{head}READY UP # primary\n").as_bytes());
        assert_eq!(ready.to(Method::Head).to_bytes(), head.as_bytes(), "the length is that of the body");
        for verdict in [Verdict::stand_by("x"), Verdict::Fail("x".into()), Verdict::held("x", Sessions::Cut)] {
            assert_eq!(of(verdict).code(), "503");
        }
        assert_eq!(Response::bad("why").code(), "400");
        for (head, has_body) in
            [(&b"HEAD /x HTTP/1.1"[..], false), (b"\r\nHEAD /\0", false), (b"GET /x", true), (b"", true)]
        {
            let sent = Response::bad("why").for_sender(head).to_bytes();
            assert_eq!(sent.ends_with(b"why\n"), has_body, "{head:?}");
        }
    }
}
