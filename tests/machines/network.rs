//! Names, addresses, TLS and who is let in, under the sandbox of the units.

use super::*;

on_each_release! {
    names_and_addresses: with_agent,
    the_units_are_hardened_and_all_works_under_it: with_agent,
    only_the_haproxies_are_let_in: with_agent,
    a_key_that_only_root_can_read_reaches_the_service: with_agent,
}

/// What a name server knows: of each first label, how long it takes, and the address, if it has
/// one.
type Names = Arc<Mutex<HashMap<&'static str, (Duration, Option<Ipv4Addr>)>>>;

/// It says that there is nothing to questions for other than A records (RFC 1035, 4.1).
fn name_server(names: &Names) {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:53").unwrap());
    let names = Arc::clone(names);
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let name_length = buffer[12..length].iter().position(|byte| *byte == 0).unwrap();
            let first_label = &buffer[13..13 + usize::from(buffer[12])];
            let (pause, address) = names.lock().unwrap()[std::str::from_utf8(first_label).unwrap()];
            let question_end = 12 + name_length + 5;
            let is_a = buffer[question_end - 3] == 1;
            let address = address.filter(|_| is_a);
            let mut answer = buffer[..question_end].to_vec();
            // A response without error; one question, one answer or none, nothing else.
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
            if let Some(address) = address {
                // The name of the question, A, IN, a minute, four bytes.
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(address.octets());
            }
            let socket = Arc::clone(&socket);
            thread::spawn(move || {
                thread::sleep(pause);
                socket.send_to(&answer, client).unwrap();
            });
        }
    });
}

fn names_and_addresses(machine: &Machine) {
    let _patroni = patroni(machine, primary());
    let _sixth = machine.inside(|| FakePatroni::at("[::1]:8009", primary()));
    let _elsewhere = machine.inside(|| FakePatroni::at("127.0.0.2:8008", replica()));
    let set = |url: &str| {
        set(machine, &format!("PATRONI_CHECK_PATRONI={url}\n"));
        machine.sh("systemctl restart patroni-check.service");
    };
    let becomes = |what: &str, said: &str| machine.inside(|| await_that(what, || check(PORT).contains(said)));
    // One process that lives for one answer.
    let once = |url: &str| machine.sh(&format!("patroni-check --patroni {url}"));
    for hosts in ["127.0.0.1 localhost\n::1 localhost\n", "::1 localhost\n127.0.0.1 localhost\n", "::1 localhost\n", ""]
    {
        fs::write(machine.path("/etc/hosts"), hosts).unwrap();
        for url in ["http://localhost:8008", "http://localhost:8009", "http://[::1]:8009", "HTTP://127.0.0.1:8008/"] {
            set(url);
            becomes(&format!("{url} with {hosts:?}"), READY);
            machine.inside(|| await_that(url, || once(url) == READY.trim_end()));
        }
    }

    let slow = Duration::from_millis(1500);
    let names =
        [("none", (Duration::ZERO, None)), ("silent", (PATIENCE, None)), ("slow", (slow, Some(Ipv4Addr::LOCALHOST)))];
    let names = Arc::new(Mutex::new(HashMap::from(names)));
    machine.inside(|| name_server(&names));
    fs::write(machine.path("/etc/resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    let (none, late) = ("patroni: host name has no address", "patroni: no answer within 80ms");
    set("http://none.example:8008");
    becomes("no address", none);
    machine.inside(|| await_that("no address", || once("http://none.example:8008").contains(none)));

    set("http://silent.example:8008");
    let tasks = || machine.sh("systemctl show -P TasksCurrent patroni-check.service");
    becomes("a name server that does not answer", late);
    let before = tasks();
    machine.inside(|| (0..20).for_each(|_| assert!(check(PORT).contains(late))));
    assert_eq!(tasks(), before, "lookups that hang do not pile up");
    assert!(once("http://silent.example:8008").contains(late));

    // What it finds out too late for one check is news for the next.
    set("http://slow.example:8008");
    assert!(machine.inside(|| check(PORT)).contains(late));
    becomes("a name that is looked up slowly", READY);
    assert!(once("http://slow.example:8008").contains(late));

    let now = Duration::ZERO;
    names.lock().unwrap().insert("moving", (now, Some(Ipv4Addr::LOCALHOST)));
    set("http://moving.example:8008");
    becomes("the first address", READY);
    names.lock().unwrap().insert("moving", (now, Some(Ipv4Addr::new(127, 0, 0, 2))));
    becomes("the next address", "MAINT UP # replica");
}

fn the_units_are_hardened_and_all_works_under_it(machine: &Machine) {
    let files = "/usr/lib/systemd/system";
    // One process for each check has an empty root instead of lines, which the score counts: each_check.rs.
    for unit in [
        "patroni-check.service",
        // What the file says, without a systemd that fills in what follows from it.
        &format!("--offline=true {files}/patroni-check.service"),
    ] {
        let score = machine.sh(&format!("systemd-analyze security --no-pager {unit} | tail -n 1"));
        println!("{}: {score}", machine.sh("systemctl --version | head -n 1"));
        let number = score.split("service: ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        assert!(number.parse::<f64>().unwrap() <= 0.9, "{unit}: {score}");
    }
    let _patroni = patroni(machine, primary());
    let _sixth = machine.inside(|| FakePatroni::at("[::1]:8009", primary()));
    let url = |url: &str| {
        set(machine, &format!("PATRONI_CHECK_DEADLINE=5s\nPATRONI_CHECK_PATRONI={url}\n"));
        machine.sh("systemctl restart patroni-check.service");
        machine.inside(|| check(PORT))
    };
    fs::write(machine.path("/etc/hosts"), "127.0.0.1 patroni.example\n::1 six.example\n").unwrap();
    for good in ["http://localhost:8008", "http://localhost:8009", "http://[::1]:8009"] {
        assert_eq!(url(good), READY, "{good}");
    }
    for named in ["http://patroni.example:8008", "http://six.example:8009"] {
        assert_eq!(url(named), READY, "{named}");
    }
    let names = HashMap::from([("only-in-the-dns", (Duration::ZERO, Some(Ipv4Addr::LOCALHOST)))]);
    machine.inside(|| name_server(&Arc::new(Mutex::new(names))));
    fs::write(machine.path("/etc/resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    assert_eq!(url("http://only-in-the-dns.example:8008"), READY);
    machine.sh("mkdir /root/tls; cd /root/tls; printf 'HTTP/1.0 200 OK\\r\\n\\r\\n' >primary; \
         printf '{\"state\": \"running\", \"role\": \"primary\", \"timeline\": 3}' >>primary; \
         openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out /etc/patroni.pem -days 2 -subj /CN=patroni \
             -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:patroni.example; \
         systemd-run --working-directory=/root/tls \
             openssl s_server -accept 8443 -cert /etc/patroni.pem -key key.pem -HTTP");
    let https = "https://patroni.example:8443";
    machine.inside(|| await_that("a TLS server", || TcpStream::connect("127.0.0.1:8443").is_ok()));
    assert_eq!(url(&format!("{https}\nPATRONI_CHECK_CACERT=/etc/patroni.pem")), READY);
    // What the same Patroni said before stands for the grace.
    url(https);
    let refused = || check(PORT).starts_with("MAINT DOWN # patroni: TLS: ");
    machine.inside(|| await_that("a refusal, without the authority", refused));
    // Nothing is reached from there but what is allowed.
    set(machine, "PATRONI_CHECK_PATRONI=http://127.0.0.1:8008\n");
    fs::create_dir_all(machine.path("/etc/systemd/system/patroni-check.service.d")).unwrap();
    let drop_in = machine.path("/etc/systemd/system/patroni-check.service.d/patroni.conf");
    for (allowed, reply) in [("::1", "MAINT DOWN # patroni: no "), ("127.0.0.1", READY)] {
        fs::write(&drop_in, format!("[Service]\nIPAddressAllow=\nIPAddressAllow={allowed}\n")).unwrap();
        machine.sh("systemctl daemon-reload; systemctl restart patroni-check.service");
        machine.inside(|| await_that(reply, || check(PORT).starts_with(reply)));
    }
}

fn only_the_haproxies_are_let_in(machine: &Machine) {
    set_patient(machine);
    let _patroni = patroni(machine, primary());
    fs::create_dir(machine.path("/etc/systemd/system/patroni-check.socket.d")).unwrap();
    let drop_in = "[Socket]\nIPAddressDeny=any\nIPAddressAllow=127.0.0.1\n";
    fs::write(machine.path("/etc/systemd/system/patroni-check.socket.d/haproxies.conf"), drop_in).unwrap();
    machine.sh("systemctl daemon-reload; systemctl restart patroni-check.socket");
    machine.inside(|| {
        assert_eq!(check(PORT), READY);
        let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        other.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
        other.connect_timeout(&PORT.into(), Duration::from_secs(2)).expect_err("another address is not let in");
    });
}

fn a_key_that_only_root_can_read_reaches_the_service(machine: &Machine) {
    let directory = machine.path("/etc/patroni");
    fs::create_dir_all(&directory).unwrap();
    let authority = Authority::new("an authority");
    authority.write(&directory.join("ca.crt"));
    authority.issue(&directory, "patroni", &["localhost"], false);
    authority.issue(&directory, "client", &["haproxy-agent"], false);
    machine.sh("chmod 600 /etc/patroni/*.key");
    // Says what a primary says to whoever has a certificate.
    let patroni = r#"
import http.server, ssl
class Patroni(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"state": "running", "role": "primary", "timeline": 3}')
tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile="/etc/patroni/ca.crt")
tls.load_cert_chain("/etc/patroni/patroni.crt", "/etc/patroni/patroni.key")
tls.verify_mode = ssl.CERT_REQUIRED
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8008), Patroni)
server.socket = tls.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;
    fs::write(machine.path("/root/patroni.py"), patroni).unwrap();
    machine.sh("systemd-run --unit=patroni-with-tls --quiet python3 /root/patroni.py");
    let settings = "PATRONI_CHECK_PATRONI=https://localhost:8008\nPATRONI_CHECK_DEADLINE=5s\n";

    // Its own user can't read the key, and says so at the start.
    let files = "PATRONI_CHECK_CACERT=/etc/patroni/ca.crt\nPATRONI_CHECK_CERT=/etc/patroni/client.crt\nPATRONI_CHECK_KEY=/etc/patroni/client.key\n";
    set(machine, &format!("{settings}{files}"));
    machine.try_sh("systemctl restart patroni-check.service");
    let said = "/etc/patroni/client.key: permission denied";
    await_that("a complaint about the key", || {
        String::from_utf8_lossy(&machine.try_sh("journalctl -u patroni-check.service").stdout).contains(said)
    });

    set(machine, settings);
    for (unit, accept_yes) in [("patroni-check.service", false), ("patroni-check@.service", true)] {
        machine.sh(&format!(
            "install -D -m 644 /usr/share/doc/patroni-check/examples/tls.conf /etc/systemd/system/{unit}.d/tls.conf"
        ));
        if accept_yes {
            self::accept_yes(machine);
        } else {
            machine.sh("systemctl daemon-reload && systemctl restart patroni-check.service");
        }
        await_that("READY over TLS", || machine.inside(|| check(PORT)) == READY);
        // The files are there while a service runs, for root.
        let explained = machine.try_sh("patroni-check explain /primary");
        let told = String::from_utf8_lossy(&explained.stderr).contains("--key ${CREDENTIALS_DIRECTORY}/client.key");
        assert_eq!((explained.status.success(), told), (!accept_yes, accept_yes), "{explained:?}");
    }
}
