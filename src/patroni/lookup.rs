//! From a host's name to its addresses.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// Looks it up as this host does. What is not found has no address; it is an error only if nothing
/// could be asked.
#[cfg(not(target_feature = "crt-static"))]
pub(super) fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(by_the_c_library(host, port))
}

/// The same with the C library in the program. What nsswitch.conf(5) calls `files` and `dns` is in
/// it, too. For anything else it loads modules of the host, which belong to another C library, and
/// crashes in them: glibc 2.36 does on Debian 13 in all, and on Debian 12 in myhostname. The host's
/// own getent does it then.
#[cfg(target_feature = "crt-static")]
pub(super) fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    use std::path::Path;

    // Far more than any has.
    const LIMIT: u64 = 64 << 10;

    let has_both = match crate::file::read_at_most(Path::new("/etc/nsswitch.conf"), LIMIT) {
        Ok(conf) => (conf.len() as u64) < LIMIT && asks_files_and_dns_alone(&conf),
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    };
    if has_both { Ok(by_the_c_library(host, port)) } else { by_getent(host, port) }
}

fn by_the_c_library(host: &str, port: u16) -> Vec<SocketAddr> {
    (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default()
}

#[cfg(target_feature = "crt-static")]
fn by_getent(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    use std::net::IpAddr;
    use std::process::{Command, Stdio};

    const GETENT: &str = "/usr/bin/getent";
    // Pipes, as there is no /dev/null in the root of patroni-check@.service.
    let found = Command::new(GETENT).args(["ahosts", host]).stdin(Stdio::piped()).output();
    let found = found.map_err(|e| io::Error::new(e.kind(), format!("names are looked up by {GETENT}: {e}")))?;
    // A line for each address and type of socket: `192.0.2.1  STREAM host.example`.
    let text = String::from_utf8_lossy(&found.stdout);
    let words = text.lines().map(|line| line.split_whitespace());
    let addresses = words.filter_map(|mut words| {
        let address: IpAddr = words.next()?.parse().ok()?;
        (words.next()? == "STREAM").then(|| (address, port).into())
    });
    Ok(addresses.collect())
}

/// Whether host names are looked up by nothing else, by this nsswitch.conf as glibc reads it
/// (nss/nss_database.c, process_line): blanks may stand before the name and for its colon, a `#`
/// behind services is one more, and without the line it is `files dns`.
#[cfg(any(test, target_feature = "crt-static"))]
fn asks_files_and_dns_alone(conf: &[u8]) -> bool {
    let is_between = |c: char| c == ':' || c == '\x0b' || c.is_ascii_whitespace();
    String::from_utf8_lossy(conf).lines().all(|line| {
        let Some((name, services)) = line.trim_start().split_once(is_between) else { return true };
        // Of `a [action] b` the services are what is behind each bracket.
        let services = services.split('[').enumerate().flat_map(|(at, part)| match part.split_once(']') {
            Some((_, rest)) if at > 0 => rest.split(is_between),
            None if at > 0 => "no end".split(is_between),
            _ => part.split(is_between),
        });
        name != "hosts" || services.into_iter().all(|service| matches!(service, "" | "files" | "dns"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_else_looks_names_up_is_found_in_nsswitch_conf() {
        let table = [
            ("hosts: files dns", true),
            ("", true),
            ("passwd: files systemd\nhosts:\tfiles\n", true),
            ("  hosts   dns [!UNAVAIL=return] files\r\n", true),
            ("hosts:files[NOTFOUND=return]dns", true),
            ("hosts:", true),
            ("#hosts: resolve", true),
            ("hosts: files dns myhostname", false),
            ("hosts: files dns # myhostname", false),
            ("hosts: files mdns4_minimal [NOTFOUND=return] dns", false),
            ("hosts: resolve [!UNAVAIL=return] files dns", false),
            ("hosts: files [NOTFOUND=return]resolve", false),
            ("hosts: files [dns", false),
            ("hosts: FILES dns", false),
            ("hosts: files dns\n hosts: files wins\n", false),
            ("hosts\x0bfiles wins", false),
        ];
        for (conf, is_so) in table {
            assert_eq!(asks_files_and_dns_alone(conf.as_bytes()), is_so, "{conf:?}");
        }
    }

    #[test]
    fn a_name_without_an_address_has_none() {
        assert_eq!(lookup("name.invalid", 8008).unwrap(), []);
        assert_eq!(lookup("127.0.0.1", 8008).unwrap(), [SocketAddr::from(([127, 0, 0, 1], 8008))]);
    }
}
