//! With each of Patroni's `verify_client` settings.

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use rustix::process::Signal;

use lab::agent::check;
use lab::certificates::{Authority, authority, self_signed};
use lab::cluster::Cluster;
use lab::host::Host;
use lab::programs::Unprivileged;
use lab::{Process, any_port, await_that};

const READY: &str = "READY UP # ";

/// The work of a process guard: `BINARY`.
pub fn run(directory: &Path, arguments: &[OsString], _: &AtomicBool) -> Result<(), Box<dyn Error>> {
    let [binary] = arguments else { return Err("usage: BINARY".into()) };
    let files = directory.join("tls");
    fs::create_dir(&files)?;
    let (ours, theirs) = (Authority::new("our authority"), Authority::new("another authority"));
    ours.write(&files.join("ca.crt"));
    theirs.write(&files.join("other-ca.crt"));
    ours.issue(&files, "patroni", &["localhost", "127.0.0.1"], false);
    ours.issue(&files, "patroni-elsewhere", &["db1.example"], false);
    ours.issue(&files, "patroni-expired", &["localhost", "127.0.0.1"], true);
    self_signed("localhost", &[], authority).write(&files, "patroni-self-signed");
    ours.issue(&files, "client", &["haproxy-agent"], false);
    ours.issue(&files, "client-expired", &["haproxy-agent"], true);
    theirs.issue(&files, "client-unknown", &["haproxy-agent"], false);
    // Patroni runs as somebody else.
    let readable = Command::new("chmod").args(["-R", "a+rX"]).arg(&files).status()?;
    assert!(readable.success());

    let mut cluster = Cluster::start(directory, Unprivileged::choose(), Path::new("patroni"), Host::on_loopback(1))?;
    cluster.heal();
    let port = cluster.patroni_port;
    let good = format!("https://127.0.0.1:{port}");
    let plain_configuration = fs::read_to_string(cluster.members[0].configuration())?;

    let file = |name: &str| files.join(name).display().to_string();
    let options = |options: &[(&str, &str)]| -> Vec<String> {
        options.iter().flat_map(|(option, name)| [format!("--{option}"), file(name)]).collect()
    };
    let ask = |url: &str, options: &[String]| {
        let mut command = Command::new(binary);
        command.args(["--deadline", "5s", "--patroni", url]).args(options).stdin(Stdio::null());
        let output = command.output().expect("the binary runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let expect = |what: &str, url: &str, options: &[String], wanted: &[&str]| {
        let (code, reply) = ask(url, options);
        assert_eq!(code, Some(0), "{what}: {reply}");
        assert!(wanted.iter().any(|wanted| reply.starts_with(wanted)), "{what}: {reply:?}, wanted one of {wanted:?}");
        println!("{what}: {}", reply.trim_end());
    };

    let ca = options(&[("cacert", "ca.crt")]);
    let with = |client: &str| {
        options(&[("cacert", "ca.crt"), ("cert", &format!("{client}.crt")), ("key", &format!("{client}.key"))])
    };
    // A server refuses our certificate with an alert, or by a reset that overtakes it.
    let refused = ["MAINT DOWN # patroni: TLS: ", "MAINT DOWN # patroni: connection reset"];
    for (server, verify) in [
        ("patroni", "none"),
        ("patroni-elsewhere", "none"),
        ("patroni-expired", "none"),
        ("patroni-self-signed", "none"),
        ("patroni", "optional"),
        ("patroni", "required"),
    ] {
        let (certificate, key) = (file(&format!("{server}.crt")), file(&format!("{server}.key")));
        let restapi = format!(
            "restapi: {{certfile: '{certificate}', keyfile: '{key}', cafile: '{}', verify_client: {verify}, ",
            file("ca.crt")
        );
        fs::write(cluster.members[0].configuration(), plain_configuration.replace("restapi: {", &restapi))?;
        cluster.members[0].end_patroni(Signal::TERM);
        cluster.start_patroni(0)?;
        let mut insecure = with("client");
        insecure.push("--insecure".into());
        await_that("a Patroni that speaks TLS", || {
            let (_, reply) = ask(&good, &insecure);
            reply.lines().any(|line| line.starts_with(READY))
        });
        let what = |case: &str| format!("{server}.crt, verify_client {verify}: {case}");
        match server {
            "patroni-elsewhere" => {
                let wanted =
                    "MAINT DOWN # patroni: TLS: Patroni's certificate is not for 127.0.0.1; it is for db1.example";
                expect(&what("the wrong name"), &good, &ca, &[wanted]);
                continue;
            }
            "patroni-expired" => {
                let wanted = "MAINT DOWN # patroni: TLS: Patroni's certificate or its issuer's expired at 2021-01-01";
                expect(&what("expired"), &good, &ca, &[wanted]);
                continue;
            }
            "patroni-self-signed" => {
                let pinned = options(&[("cacert", "patroni-self-signed.crt")]);
                let wanted =
                    "MAINT DOWN # patroni: TLS: Patroni's certificate is not for 127.0.0.1; it is for localhost";
                expect(&what("pinned"), &format!("HTTPS://LOCALHOST:{port}"), &pinned, &[READY]);
                expect(&what("pinned, by another name"), &good, &pinned, &[wanted]);
                let wanted = "MAINT DOWN # patroni: TLS: Patroni's certificate is an authority (CA:TRUE)";
                expect(&what("not pinned"), &good, &ca, &[wanted]);
                continue;
            }
            _ => {}
        }
        if verify == "required" {
            expect(&what("no certificate of ours"), &good, &ca, &refused);
            expect(&what("an expired one of ours"), &good, &with("client-expired"), &refused);
            expect(&what("one of ours that it does not know"), &good, &with("client-unknown"), &refused);
        } else {
            expect(&what("no certificate of ours"), &good, &ca, &[READY]);
            expect(&what("by name"), &format!("https://localhost:{port}"), &ca, &[READY]);
        }
        expect(&what("a good certificate of ours"), &good, &with("client"), &[READY]);
        let wanted = "MAINT DOWN # patroni: TLS: Patroni's certificate is by nobody in --cacert";
        let identity = [("cert", "client.crt"), ("key", "client.key")];
        let other = options(&[&[("cacert", "other-ca.crt")], &identity[..]].concat());
        expect(&what("the wrong authority"), &good, &other, &[wanted]);
        let wanted = [
            "MAINT DOWN # patroni: TLS: no authority of the system's",
            "MAINT DOWN # patroni: TLS: this host knows no",
        ];
        expect(&what("the system's authorities"), &good, &options(&identity), &wanted);
        // Patroni closes on what is no TLS.
        let plain = ["MAINT DOWN # patroni: answer cut short", "MAINT DOWN # patroni: connection reset"];
        expect(&what("http and not https"), &format!("http://127.0.0.1:{port}"), &[], &plain);
    }

    // What can't be right is said at the start.
    let unfit = options(&[("cacert", "ca.crt"), ("cert", "client.crt"), ("key", "patroni.key")]);
    let missing = options(&[("cacert", "no-such-file")]);
    let no_certificate = options(&[("cacert", "client.key")]);
    for (what, options, wanted) in [
        ("a key that does not fit", unfit, "do not belong together"),
        ("no such file", missing, "No such file"),
        ("no certificate in it", no_certificate, "no certificate in it"),
    ] {
        let (code, text) = ask(&good, &options);
        assert!(code == Some(2) && text.lines().count() == 1 && text.contains(wanted), "{what}: {code:?} {text}");
        println!("{what}: {}", text.trim_end());
    }

    // Renewed on disk, in place, under a service that runs on: first the wrong ones, then the right
    // ones.
    let (renewed, address) = (directory.join("renewed"), format!("127.0.0.1:{}", any_port()));
    fs::create_dir(&renewed)?;
    let copy = |from: &str, to: &str| fs::copy(files.join(from), renewed.join(to)).expect("the file can be copied");
    for (from, to) in [("other-ca.crt", "ca"), ("client-unknown.crt", "cert"), ("client-unknown.key", "key")] {
        copy(from, to);
    }
    let mut command = Command::new(binary);
    command.args(["--max-age", "0s", "--deadline", "5s", "--grace", "0s", "--patroni", &good, "--listen", &address]);
    for option in ["cacert", "cert", "key"] {
        command.arg(format!("--{option}")).arg(renewed.join(if option == "cacert" { "ca" } else { option }));
    }
    let _agent = Process::start(command.stdin(Stdio::null()), &directory.join("agent.log"))?;
    let address = address.parse()?;
    await_that("the service", || std::net::TcpStream::connect(address).is_ok());
    assert!(check(address).contains("by nobody in --cacert"), "{}", check(address));
    copy("ca.crt", "ca");
    assert!(refused.iter().any(|refused| check(address).starts_with(refused)), "{}", check(address));
    copy("client.crt", "cert");
    // In between the two files do not fit, which must not end the program.
    assert!(check(address).contains("renewed"), "{}", check(address));
    copy("client.key", "key");
    await_that("READY with the renewed certificates", || check(address).starts_with(READY));
    println!("renewed on disk: {}", check(address).trim_end());
    Ok(())
}
