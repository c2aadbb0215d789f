//! What people have at hand: curl, wget, Python's http.client, and `patroni-check is` in a shell.

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use lab::agent::{Agent, binary_path, without_settings};
use lab::cluster::Member;
use lab::fake_patroni::{Behaviour, FakePatroni, answer, primary, replica};
use lab::page;
use lab::requires;
use lab::requires::is_there;

use super::switchover::{Asker, Look, World};

/// A status and a body; an error is a connection that did not end as it should.
type Told = Result<(u16, String), String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Curl,
    Wget,
    Python,
}

/// Prints the status and the body, and fails where something is not as promised: the head's lines,
/// a close in good order.
const PYTHON: &str = r#"
import http.client, os, socket, sys
host, port, method, path = sys.argv[1:]
connection = http.client.HTTPConnection(host, int(port), timeout=20)
connection.connect()
end = socket.socket(fileno=os.dup(connection.sock.fileno()))
connection.request(method, path)
response = connection.getresponse()
body = response.read().decode("ascii")
head = {name.lower(): value for name, value in response.getheaders()}
assert head["connection"] == "close" and head["cache-control"] == "no-store", head
assert head["content-type"].startswith("text/plain"), head
assert method == "HEAD" or int(head["content-length"]) == len(body), (head, body)
end.settimeout(20)
assert end.recv(1) == b"", "more than was announced"
print(response.status, body, sep="\n", end="")
"#;

impl Program {
    fn name(self) -> &'static str {
        match self {
            Program::Curl => "curl",
            Program::Wget => "wget",
            Program::Python => "python3",
        }
    }

    fn ask(self, method: &str, address: SocketAddr, path: &str) -> Told {
        let url = format!("http://{address}{path}");
        let mut command = Command::new(self.name());
        match (self, method) {
            (Program::Curl, "HEAD") => command.args(["--head", "--output", "/dev/null"]),
            (Program::Curl, _) => command.args(["--request", method]),
            (Program::Wget, "HEAD") => command.arg("--spider"),
            (Program::Wget, _) => command.arg(format!("--method={method}")),
            (Program::Python, _) => command.args(["-c", PYTHON]),
        };
        match self {
            Program::Curl => {
                let status = ["--write-out", "\n%{http_code}", "--max-time", "20"];
                command.args(["--silent", "--show-error", "--noproxy", "*"]).args(status).arg(url)
            }
            Program::Wget => {
                let whole = ["--server-response", "--content-on-error", "--output-document=-"];
                command.args(["--quiet", "--no-proxy", "--tries=1", "--timeout=20"]).args(whole).arg(url)
            }
            Program::Python => command.args([&address.ip().to_string(), &address.port().to_string(), method, path]),
        };
        let output = command.stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
        self.told(&output).ok_or_else(|| format!("{}: {method} {path}: {output:?}", self.name()))
    }

    fn told(self, output: &Output) -> Option<(u16, String)> {
        let (printed, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let code = output.status.code()?;
        match self {
            Program::Curl => {
                let (body, status) = printed.rsplit_once('\n')?;
                (code == 0).then(|| Some((status.parse().ok()?, body.to_owned())))?
            }
            Program::Wget => {
                let status: u16 = log.trim_start().split(' ').nth(1)?.parse().ok()?;
                // 8: "Server issued an error response."
                (code == if status == 200 { 0 } else { 8 }).then(|| (status, printed.into_owned()))
            }
            Program::Python => {
                let (status, body) = printed.split_once('\n')?;
                (code == 0).then(|| Some((status.parse().ok()?, body.to_owned())))?
            }
        }
    }
}

/// A line of shell that asks one member, and what it comes to: whether the member takes writes, or
/// none for what it should not come to.
struct Line {
    name: &'static str,
    text: String,
    means: fn(Option<i32>, &str) -> Option<bool>,
}

impl Asker for Line {
    fn name(&self) -> &str {
        self.name
    }

    fn asks_in_the_moment(&self) -> bool {
        true
    }

    fn look(&mut self, world: &World) -> Result<Look, String> {
        let ask = |(n, member): (usize, &Member)| {
            let (ip, port) = (world.http(n).ip(), world.http_port);
            let text = self.text.replace("http://db1:5559", &format!("http://{ip}:{port}"));
            let text = text.replace(r#""db1", 5559"#, &format!(r#""{ip}", {port}"#));
            // The program under test before any that is installed.
            let directory = binary_path().with_file_name("");
            let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap_or_default());
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(text).env("PATH", path).env("no_proxy", "*");
            without_settings(&mut shell).env("PATRONI_CHECK_PATRONI", world.testbed.cluster.url(member, ""));
            let output = shell.stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
            let means = (self.means)(output.status.code(), &String::from_utf8_lossy(&output.stdout));
            means.map(|chosen| (n, chosen)).ok_or_else(|| format!("{output:?}"))
        };
        world.testbed.cluster.members.iter().enumerate().map(ask).collect()
    }
}

/// Those that this machine has, with the lines of the page.
pub fn installed() -> Vec<Box<dyn Asker>> {
    // A time limit that no machine is too slow for.
    let by_hand = page::lines("By hand: curl, wget, Python").replace("--max-time 1", "--max-time 20");
    let by_hand = by_hand.replace("-T 1 ", "-T 20 ").replace("timeout=1)", "timeout=20)");
    let lines: Vec<&str> = by_hand.lines().collect();
    let [curl, wget, python @ ..] = lines.as_slice() else { panic!("{by_hand}") };
    let script = page::lines("A shell script");
    assert!(script.contains("/usr/local/bin/reports\n"), "{script}");
    let lines = [
        Line {
            name: "curl",
            text: (*curl).to_owned(),
            means: |code, printed| match (code, printed) {
                (Some(0), "db1 takes writes\n") => Some(true),
                // Of -f: an HTTP status of 400 and more.
                (Some(22), "") => Some(false),
                _ => None,
            },
        },
        Line {
            name: "wget",
            text: (*wget).to_owned(),
            means: |code, printed| match (code, printed) {
                (Some(0), "db1 takes writes\n") => Some(true),
                (Some(8), "") => Some(false),
                _ => None,
            },
        },
        Line {
            name: "python3",
            text: python.join("\n"),
            means: |code, printed| match (code, printed) {
                (Some(0), "200\n") => Some(true),
                (Some(0), "503\n") => Some(false),
                _ => None,
            },
        },
        Line {
            name: "is",
            text: "patroni-check is /primary".to_owned(),
            means: |code, printed| match (code, printed.lines().count()) {
                // 2 while it stops or starts.
                (Some(code @ 0..=2), 1) => Some(code == 0),
                _ => None,
            },
        },
        Line {
            name: "sh",
            text: script.replace("/usr/local/bin/reports", "echo ran"),
            means: |code, printed| match (code, printed.lines().next_back()) {
                (Some(0), Some("ran")) => Some(true),
                (Some(0), None) | (Some(1), Some(_)) => Some(false),
                _ => None,
            },
        },
    ];
    let there = lines.into_iter().filter(|line| line.name == "is" || is_there(line.name));
    there.map(|line| Box::new(line) as Box<dyn Asker>).collect()
}

/// Makes a behaviour of the fake Patroni.
type Make = fn() -> Behaviour;

fn each_verdict(program: Program) {
    if !requires(&[program.name()]) {
        return;
    }
    let broken = || answer(500, "no Patroni says this");
    let streams = || answer(200, r#"{"state": "running", "role": "replica", "patroni": {"version": "4.1.5"}}"#);
    let table: [(Make, &str, u16, &str); 7] = [
        (primary, "/primary", 200, "READY UP # primary timeline 3\n"),
        (primary, "/", 200, "READY UP # primary timeline 3\n"),
        (replica, "/primary", 503, "MAINT UP # replica timeline 3\n"),
        (streams, "/replica?lag=16MB", 200, "READY UP # replica\n"),
        (streams, "/primary", 503, "MAINT UP # replica being promoted\n"),
        (broken, "/primary", 503, "MAINT DOWN # "),
        (primary, "/no-such-endpoint", 400, ""),
    ];
    for (behaviour, path, status, body) in table {
        let patroni = FakePatroni::new(behaviour());
        let address = SocketAddr::from(([127, 0, 0, 1], lab::any_port()));
        let http = format!("{address}=http");
        // Deadline: one that no machine is too slow for.
        let options =
            ["--patroni", &patroni.url(), "--also", "/replica?lag=16MB", "--deadline", "5s", "--listen", &http];
        let _agent = Agent::listening(&options);
        for method in ["GET", "HEAD", "OPTIONS"] {
            let (said, text) = program.ask(method, address, path).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(said, status, "{program:?}: {method} {path}: {text:?}");
            assert!(text.starts_with(body) || method == "HEAD", "{program:?}: {method} {path}: {text:?}");
            // Of a refusal it is the reason.
            assert_eq!(text.trim().is_empty(), method == "HEAD", "{program:?}: {method} {path}: {text:?}");
        }
    }
}

#[test]
fn curl_is_told_each_verdict() {
    each_verdict(Program::Curl);
}

#[test]
fn wget_is_told_each_verdict() {
    each_verdict(Program::Wget);
}

#[test]
fn python_is_told_each_verdict() {
    each_verdict(Program::Python);
}
