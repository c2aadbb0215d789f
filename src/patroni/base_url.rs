//! Where Patroni's REST API is.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use rustls::pki_types::ServerName;

/// The name that needs no lookup (RFC 6761, 6.3).
pub(super) const LOCALHOST: &str = "localhost";

/// The base address of Patroni's REST API: scheme, host and port, and nothing else, because
/// anything behind them would change what is asked: after `http://host:8008#x` each endpoint is
/// `/`, for which a replica may say 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    is_https: bool,
    /// In lower case; an IPv6 address in brackets.
    host: String,
    port: u16,
}

impl BaseUrl {
    /// Whether Patroni is spoken to by TLS.
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// The port, by default the scheme's.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host, in lower case; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether its host is a name that a lookup has to tell the address of.
    pub(crate) fn is_looked_up(&self) -> bool {
        let is_address = self.host.starts_with('[') || self.host.parse::<Ipv4Addr>().is_ok();
        self.host != LOCALHOST && !is_address
    }

    /// The other scheme at the same host and port.
    pub fn in_the_other_scheme(&self) -> Self {
        BaseUrl { is_https: !self.is_https, ..self.clone() }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.is_https { "https" } else { "http" }, self.host, self.port)
    }
}

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | ';' | '"' | '\'')) {
            return Err(like("one address is needed, without blanks, commas and quotes"));
        }
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| like("it needs http:// or https:// before the host"))?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(like("Patroni speaks http or https")),
        };
        let rest = rest.trim_end_matches('/');
        if rest.contains('@') {
            return Err("health checks need no user and no password; leave them out".into());
        }
        if let Some(end) = rest.find(['/', '\\', '?', '#']) {
            let (address, more) = rest.split_at(end);
            return Err(format!(
                "the address ends before {more}: write {scheme}://{address}, and the endpoint elsewhere"
            ));
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(|| like("the bracket has no end"))?;
                let host: Ipv6Addr = host.parse().map_err(|_| format!("{host} is no IPv6 address"))?;
                let port = match port.strip_prefix(':') {
                    None if !port.is_empty() => return Err(like("a colon and a port may follow the bracket")),
                    port => port,
                };
                (format!("[{host}]"), port)
            }
            None => {
                let (host, port) = match rest.split_once(':') {
                    Some((host, port)) => (host, Some(port)),
                    None => (rest, None),
                };
                if host.is_empty() && port.is_none_or(|port| !port.contains(':')) {
                    return Err(like("it names no host"));
                }
                if port.is_some_and(|port| port.contains(':')) {
                    return Err("an IPv6 address needs brackets, like http://[::1]:8008".into());
                }
                ServerName::try_from(host).map_err(|_| {
                    like(&format!("{host} is no host name (letters, digits, hyphens and dots) and no IP address"))
                })?;
                (host.to_ascii_lowercase(), port)
            }
        };
        let port = match port {
            None if is_https => 443,
            None => 80,
            Some(port) => {
                let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
                let port = port.parse().ok().filter(|port| is_number && *port > 0);
                port.ok_or_else(|| like("a port is a number from 1 to 65535"))?
            }
        };
        Ok(BaseUrl { is_https, host, port })
    }
}

fn like(what: &str) -> String {
    format!("{what}; write it like http://localhost:8008")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ureq::http::Uri;

    #[test]
    fn scheme_host_and_port_are_the_base_address() {
        for (text, meant) in [
            ("http://localhost:8008", "http://localhost:8008"),
            ("HTTPS://DB1.Example:8008", "https://db1.example:8008"),
            ("Http://localhost:8008/", "http://localhost:8008"),
            ("https://db1", "https://db1:443"),
            ("http://db1", "http://db1:80"),
            ("http://db_1.example.:8008", "http://db_1.example.:8008"),
            ("http://10.0.0.1:8008", "http://10.0.0.1:8008"),
            ("https://[::1]:8008", "https://[::1]:8008"),
            ("http://[FD00:0:0::1]", "http://[fd00::1]:80"),
            ("http://h:00080", "http://h:80"),
        ] {
            let base: BaseUrl = text.parse().expect(text);
            assert_eq!(base.to_string(), meant);
            let uri: Uri = format!("{base}/replica?lag=1").parse().expect(text);
            assert_eq!(uri.path_and_query().map(ToString::to_string).as_deref(), Some("/replica?lag=1"), "{text}");
            assert_eq!(base.to_string().parse::<BaseUrl>(), Ok(base));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_is_asked_as_it_is_meant(text in r"(http|https|HTTP)://[a-c0-9A:/@#?\[\]\\.%* _,é-]{0,24}") {
            if let Ok(base) = text.parse::<BaseUrl>() {
                let uri: Uri = format!("{base}/replica?lag=1").parse().expect(&text);
                assert_eq!(uri.path_and_query().map(ToString::to_string).as_deref(), Some("/replica?lag=1"), "{text}");
                assert_eq!((uri.host(), uri.port_u16()), (Some(base.host.as_str()), Some(base.port)), "{text}");
                assert_eq!(base.to_string().parse::<BaseUrl>(), Ok(base), "{text}");
            }
        }
    }

    #[test]
    fn nothing_else_is_and_the_error_says_what_would_be_right() {
        for (text, why) in [
            ("", "http:// or https://"),
            ("localhost", "http:// or https://"),
            ("localhost:8008", "http:// or https://"),
            ("//localhost:8008", "http:// or https://"),
            ("/primary", "http:// or https://"),
            ("http:/localhost:8008", "http:// or https://"),
            ("http:localhost:8008", "http:// or https://"),
            ("ftp://a", "speaks http or https"),
            ("httpss://a", "speaks http or https"),
            ("http+unix://a", "speaks http or https"),
            ("://a", "speaks http or https"),
            ("http://", "no host"),
            ("http:///", "no host"),
            ("http:///primary", "write http://"),
            ("http://:8008", "no host"),
            ("http://:", "no host"),
            ("http://h:8008#x", "before #x: write http://h:8008"),
            ("http://h:8008/#x", "before /#x"),
            ("http://h:8008?", "before ?"),
            ("http://h:8008?lag=1", "before ?lag=1"),
            ("http://h:8008/primary", "before /primary: write http://h:8008"),
            ("http://h:8008/patroni/", "before /patroni"),
            ("http://h:8008//x", "before //x"),
            ("http://h\\x", "before \\x"),
            ("http://u:p@h:8008", "no user"),
            ("http://u@h", "no user"),
            ("http://h:8008@evil/", "no user"),
            ("http://h:8008 ", "without blanks"),
            (" http://h:8008", "without blanks"),
            ("http://h:8008\n", "without blanks"),
            ("http://h\t:8008", "without blanks"),
            ("http://h\0:8008", "without blanks"),
            ("\"http://h:8008\"", "without blanks, commas and quotes"),
            ("http://a:8008,http://b:8008", "one address"),
            ("http://a:8008;http://b:8008", "one address"),
            ("http://a:8008 http://b:8008", "one address"),
            ("http://h:", "1 to 65535"),
            ("http://h:0", "1 to 65535"),
            ("http://h:65536", "1 to 65535"),
            ("http://h:+8008", "1 to 65535"),
            ("http://h:-1", "1 to 65535"),
            ("http://h:http", "1 to 65535"),
            ("http://h:٨", "1 to 65535"),
            ("http://[::1]:0", "1 to 65535"),
            ("http://::1", "brackets"),
            ("http://::1:8008", "brackets"),
            ("http://fd00::1", "brackets"),
            ("http://h:8008:8008", "brackets"),
            ("http://[::1", "no end"),
            ("http://[]:8008", "no IPv6 address"),
            ("http://[db1]:8008", "no IPv6 address"),
            ("http://[fe80::1%eth0]:8008", "no IPv6 address"),
            ("http://[::1]8008", "follow the bracket"),
            ("http://*:8008", "no host name"),
            ("http://d%62:8008", "no host name"),
            ("http://db1..example", "no host name"),
            ("http://bücher", "no host name"),
            ("http://1.2.3.4.5", "no host name"),
            ("http://300.1.1.1", "no host name"),
            ("http://.", "no host name"),
            ("http://$HOST:8008", "no host name"),
            ("http://{{ host }}:8008", "without blanks"),
        ] {
            let error = text.parse::<BaseUrl>().expect_err(text);
            assert!(error.contains(why), "{text:?}: {error:?}, wanted {why:?}");
            assert!(error.contains("http") || error.contains("no user") || error.contains("IPv6"), "{error}");
        }
    }
}
