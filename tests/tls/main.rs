//! TLS towards Patroni: a fake Patroni behind every kind of certificate, files of every kind, a
//! slow handshake. And a real Patroni.

mod real_patroni;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use patroni_check::patroni::body::Body;
use patroni_check::patroni::{Client, Tls};
use rustls::ALL_VERSIONS;
use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;

use lab::agent::{Agent, binary_path};
use lab::certificates::{Authority, Issued, VERSION_1, authority, expired, not_yet_valid, self_signed};
use lab::fake_patroni::{Behaviour, FakePatroni, Step, primary};
use lab::process_guard::{self, Network};
use lab::tls_proxy::TlsProxy;
use lab::{await_that, requires};

const LOCALHOST: &[&str] = &["localhost", "127.0.0.1"];

/// What is left of the 120 bytes of a reply behind `MAINT DOWN # patroni: `.
const ROOM: usize = 97;

#[test]
fn a_handshake_that_takes_longer_than_the_deadline_is_not_begun_anew() {
    let patroni = FakePatroni::new(primary());
    let Issued { certificate, key } = self_signed("localhost", LOCALHOST, authority);
    let proxy = TlsProxy::new(patroni.address, &certificate, &key, ALL_VERSIONS, Duration::from_millis(500));
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("ca.crt");
    fs::write(&file, certificate).unwrap();
    let url = proxy.url("localhost");
    let options = ["--patroni", &url, "--deadline", "50ms", "--cacert", file.to_str().unwrap()];
    let agent = Agent::listening(&options);
    let mut replies = Vec::new();
    await_that("READY, or a second connection beside the first", || {
        replies.push(agent.check());
        proxy.most_open() > 1 || replies.ends_with(&["READY UP # primary timeline 3\n".to_owned()])
    });
    assert_eq!(proxy.most_open(), 1, "{replies:?}");
    assert!(replies.len() > proxy.connections(), "{} connections for {replies:?}", proxy.connections());
}

/// What comes of asking a fake Patroni with this certificate, where `--cacert` has these.
fn ask(proxy: &TlsProxy, host: &str, cacert: &str) -> Result<u16, String> {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("ca.crt");
    fs::write(&file, cacert).unwrap();
    let tls = Tls { cacert: Some(file), ..Tls::default() };
    let patroni = Client::new(proxy.url(host).parse().unwrap(), tls, Duration::from_secs(30)).unwrap();
    match patroni.get(&"/primary".parse().unwrap()) {
        Ok(answer) => Ok(answer.status),
        Err(failure) => Err(failure.to_string()),
    }
}

#[test]
fn who_is_taken_for_patroni_and_why_not() {
    let patroni = FakePatroni::new(primary());
    let (ours, other) = (Authority::new("authority"), Authority::new("another"));
    let namesake = Authority::new("authority");
    let below = ours.intermediate("below");
    let plain = |_: &mut rcgen::CertificateParams| {};
    let good = ours.sign("patroni", LOCALHOST, plain);
    let self_made = self_signed("db1", LOCALHOST, authority);
    // As `openssl req -x509 -subj /CN=localhost` makes it.
    let by_name = self_signed("localhost", &[], authority);
    let of_another_host = self_signed("db2", &["db2"], authority);
    let by_another_name = self_signed("db2", &[], authority);
    let old = self_signed("localhost", LOCALHOST, |params| {
        authority(params);
        expired(params);
    });
    let early = self_signed("localhost", LOCALHOST, |params| {
        authority(params);
        not_yet_valid(params);
    });
    let old_leaf = ours.sign("patroni", LOCALHOST, expired);
    let leaf_by_name = ours.sign("localhost", &[], plain);
    let below_us = below.sign("patroni", LOCALHOST, plain);
    let for_clients = ours.sign("patroni", LOCALHOST, |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    let by_no_authority = Issued { certificate: VERSION_1.to_owned(), key: good.key.clone() };
    let stolen = Issued { certificate: self_made.certificate.clone(), key: good.key.clone() };
    let whole_chain = Issued { certificate: below_us.certificate.clone() + &below.pem(), key: below_us.key.clone() };
    let all = format!("{}{}{}", of_another_host.certificate, self_made.certificate, by_another_name.certificate);

    type Case<'a> = (&'a str, &'a Issued, &'a str, String, Result<u16, &'a str>);
    let cases: Vec<Case> = vec![
        ("signed by our authority", &good, "localhost", ours.pem(), Ok(200)),
        ("by address", &good, "127.0.0.1", ours.pem(), Ok(200)),
        ("several authorities", &good, "localhost", other.pem() + &ours.pem(), Ok(200)),
        ("with the one between", &whole_chain, "localhost", ours.pem(), Ok(200)),
        (
            "without the one between",
            &below_us,
            "localhost",
            ours.pem(),
            Err("by nobody in --cacert or its certfile lacks"),
        ),
        ("by another authority", &good, "localhost", other.pem(), Err("by nobody in --cacert")),
        ("by a namesake", &good, "localhost", namesake.pem(), Err("wrong signature: another authority of that name")),
        ("expired", &old_leaf, "localhost", ours.pem(), Err("expired at 2021-01-01T00:00:00Z")),
        (
            "no subjectAltName",
            &leaf_by_name,
            "localhost",
            ours.pem(),
            Err("no subjectAltName in Patroni's certificate"),
        ),
        ("not for servers", &for_clients, "localhost", ours.pem(), Err("extendedKeyUsage lacks serverAuth")),
        // Pinned.
        ("self-signed, pinned", &self_made, "localhost", self_made.certificate.clone(), Ok(200)),
        ("self-signed, pinned, by address", &self_made, "127.0.0.1", self_made.certificate.clone(), Ok(200)),
        ("self-signed, pinned among others", &self_made, "localhost", all.clone(), Ok(200)),
        ("self-signed, pinned, by its common name", &by_name, "localhost", by_name.certificate.clone(), Ok(200)),
        (
            "by its common name, and no address",
            &by_name,
            "127.0.0.1",
            by_name.certificate.clone(),
            Err("it is for localhost"),
        ),
        ("another member's", &of_another_host, "localhost", all.clone(), Err("is not for localhost; it is for db2")),
        ("another member's by common name", &by_another_name, "localhost", all.clone(), Err("it is for db2")),
        (
            "another one of the same names",
            &self_made,
            "localhost",
            self_signed("db1", LOCALHOST, authority).certificate,
            Err(""),
        ),
        ("a leaf, pinned", &good, "localhost", good.certificate.clone(), Ok(200)),
        ("a leaf by its common name, pinned", &leaf_by_name, "localhost", leaf_by_name.certificate.clone(), Ok(200)),
        ("a leaf without the one between, pinned", &below_us, "localhost", below_us.certificate.clone(), Ok(200)),
        ("pinned with a chain", &whole_chain, "localhost", below_us.certificate.clone(), Ok(200)),
        ("pinned, not for servers", &for_clients, "localhost", for_clients.certificate.clone(), Err("serverAuth")),
        ("expired, pinned", &old, "localhost", old.certificate.clone(), Err("expired at 2021-01-01T00:00:00Z")),
        (
            "not yet valid, pinned",
            &early,
            "localhost",
            early.certificate.clone(),
            Err("valid only from 2099-01-01T00:00:00Z"),
        ),
        ("an expired leaf, pinned", &old_leaf, "localhost", old_leaf.certificate.clone(), Err("expired at 2021")),
        (
            "pinned, but the key is another's",
            &stolen,
            "localhost",
            self_made.certificate.clone(),
            Err("wrong signature"),
        ),
        ("self-signed, not pinned", &self_made, "localhost", ours.pem(), Err("(CA:TRUE): give it itself by --cacert")),
        ("version 1", &by_no_authority, "localhost", VERSION_1.to_owned(), Err("X.509 version 1")),
    ];
    for (what, issued, host, cacert, wanted) in cases {
        for version in [&TLS12, &TLS13] {
            let Issued { certificate, key } = issued;
            let proxy = TlsProxy::new(patroni.address, certificate, key, &[version], Duration::ZERO);
            let found = ask(&proxy, host, &cacert);
            let is_so = match (&found, wanted) {
                (Ok(found), Ok(wanted)) => *found == wanted,
                (Err(found), Err(wanted)) => {
                    found.starts_with("TLS: ") && found.contains(wanted) && found.len() <= ROOM
                }
                _ => false,
            };
            assert!(is_so, "{what}, {:?}: {found:?}, wanted {wanted:?}", version.version);
        }
    }
}

#[test]
fn what_comes_in_is_bounded_by_tls_too() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".into();
    let trailers = Step::Endless("X-More: trailers\r\n".repeat(1000).into_bytes());
    let patroni = FakePatroni::new(Behaviour::Script(vec![Step::Send(head), trailers]));
    let Issued { certificate, key } = self_signed("localhost", LOCALHOST, authority);
    let proxy = TlsProxy::new(patroni.address, &certificate, &key, ALL_VERSIONS, Duration::ZERO);
    let tls = Tls { insecure: true, ..Tls::default() };
    let patroni = Client::new(proxy.url("localhost").parse().unwrap(), tls, Duration::from_secs(30)).unwrap();
    let answer = patroni.get(&"/primary".parse().unwrap()).unwrap();
    assert_eq!(answer.body, Body::Unreadable("endless body".into()));
}

#[test]
fn with_insecure_anybody_is() {
    let patroni = FakePatroni::new(primary());
    let Issued { key, .. } = self_signed("x", &[], expired);
    for certificate in [self_signed("x", &[], expired).certificate, VERSION_1.to_owned()] {
        for version in [&TLS12, &TLS13] {
            let proxy = TlsProxy::new(patroni.address, &certificate, &key, &[version], Duration::ZERO);
            let tls = Tls { insecure: true, ..Tls::default() };
            let patroni = Client::new(proxy.url("localhost").parse().unwrap(), tls, Duration::from_secs(30)).unwrap();
            assert_eq!(patroni.get(&"/primary".parse().unwrap()).unwrap().status, 200);
        }
    }
}

/// What is said at the start of these files.
fn said(cacert: Option<&Path>, identity: Option<(&Path, &Path)>) -> Result<(), String> {
    let identity = identity.map(|(cert, key)| (cert.to_owned(), key.to_owned()));
    let tls = Tls { cacert: cacert.map(Path::to_owned), identity, insecure: false };
    Client::new("https://localhost:8008".parse().unwrap(), tls, Duration::from_secs(1)).map(drop)
}

#[test]
fn what_is_wrong_with_which_file_is_said_at_the_start() {
    let directory = TempDir::new().unwrap();
    let place = directory.path();
    let write = |name: &str, text: &str| -> PathBuf {
        let file = place.join(name);
        fs::write(&file, text).unwrap();
        file
    };
    let ours = Authority::new("authority");
    let issued = ours.sign("agent", &["agent"], |_| {});
    let (cert, key) = issued.write(place, "agent");
    let (_, other_key) = ours.sign("other", &["other"], |_| {}).write(place, "other");
    let full = write("full", &(issued.certificate.clone() + &ours.pem()));
    let upside_down = write("upside-down", &(ours.pem() + &issued.certificate));
    let version_1 = write("version-1", VERSION_1);
    let half = |text: &str| text[..text.len() / 2].to_owned();
    let damaged = |text: &str| text.replacen("\nMI", "\n!!", 1);
    let pkcs8 = issued.key.replace(" PRIVATE", " ENCRYPTED PRIVATE");
    let legacy = issued.key.replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1);
    let ed448 = "-----BEGIN PRIVATE KEY-----\nMEcCAQAwBQYDK2VxBDsEObh07no/HxukwaysYi1zVyqjw+/HeO+RvT1m+6n8givg\n\
        TsEAZj4l428wnoI5FziwvyZULcNK2lWmKQ==\n-----END PRIVATE KEY-----\n";
    let fifo = place.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let empty = write("empty", "");
    let missing = place.join("missing");

    for (cert, key) in [(&cert, &key), (&full, &key), (&version_1, &key)] {
        assert_eq!(said(None, Some((cert, key))), Ok(()), "{cert:?}");
    }
    for cacert in [&cert, &full, &version_1] {
        assert_eq!(said(Some(cacert), None), Ok(()), "{cacert:?}");
    }
    for (wrong, why) in [
        (&key, "no certificate in it"),
        (&empty, "it is empty"),
        (&missing, "No such file"),
        (&place.to_owned(), "a directory, not a file; a PEM file is expected"),
        (&fifo, "a FIFO, not a file"),
        (&PathBuf::from("/dev/zero"), "a device, not a file"),
        (&write("text", "here is no certificate\n"), "no certificate in it (PEM is expected"),
        (&write("half", &half(&issued.certificate)), "its end is missing"),
        (&write("damaged", &damaged(&issued.certificate)), "damaged"),
        (&write("no-der", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "can be read"),
        (&write("huge", &"x".repeat(9 << 20)), "larger than any"),
    ] {
        let error = said(Some(wrong), None).unwrap_err();
        assert!(error.starts_with(wrong.to_str().unwrap()) && error.contains(why), "{error:?}, wanted {why:?}");
        assert!(said(None, Some((wrong, &key))).unwrap_err().starts_with(wrong.to_str().unwrap()), "{wrong:?}");
    }
    for (key, why) in [
        (&other_key, "they do not belong together"),
        (&cert, "no private key in it"),
        (&empty, "it is empty"),
        (&missing, "No such file"),
        (&place.to_owned(), "a directory, not a file; a PEM file is expected"),
        (&fifo, "a FIFO, not a file"),
        (&write("encrypted", &pkcs8), "the key is encrypted"),
        (&write("encrypted-legacy", &legacy), "the key is encrypted"),
        (&write("half-key", &half(&issued.key)), "its end is missing"),
        (&write("damaged-key", &damaged(&issued.key)), "damaged"),
        (&write("ed448", ed448), "of an unknown kind (RSA of 2048 bits or more"),
    ] {
        let error = said(None, Some((&cert, key))).unwrap_err();
        assert!(error.contains(key.to_str().unwrap()) && error.contains(why), "{error:?}, wanted {why:?}");
        assert_eq!(error.lines().count(), 1);
        let secret = issued.key.lines().nth(1).unwrap();
        assert!(!error.contains(&secret[..16]), "{error}");
    }
    let error = said(None, Some((&upside_down, &key))).unwrap_err();
    assert!(error.contains("has to be the first one"), "{error}");
}

#[test]
fn certificates_good_and_bad_for_each_verify_client() {
    if !requires(&["patroni", "etcd", "postgresql", "setpriv"]) {
        return;
    }
    let test = "certificates_good_and_bad_for_each_verify_client";
    let binary = || vec![binary_path().into()];
    let printed = process_guard::run_test(test, Network::Ours, binary, real_patroni::run);
    // It came to its end.
    assert!(printed.contains("renewed on disk: READY UP"), "{printed}");
}
