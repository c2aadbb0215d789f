//! What Prometheus reads.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use lab::agent::{Agent, binary, check, check_after_sending};
use lab::fake_patroni::{Behaviour, FakePatroni, primary, replica};
use lab::{any_port, requires};

#[test]
fn a_socket_named_metrics_is_for_prometheus() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(primary());
    let second = any_port();
    let listen = format!("127.0.0.1:{second}");
    let activate = ["-l", &listen, "--fdname=/primary:metrics"];
    let agent = Agent::activated(&activate, &["--patroni", &patroni.url(), "--deadline", "5s", "--max-age", "0s"]);
    for behaviour in [primary(), primary(), Behaviour::Close, replica()] {
        patroni.now(behaviour);
        agent.check();
    }
    let url = format!("http://{listen}/metrics");
    let mut response = ureq::get(&url).call().unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4");
    let text = response.body_mut().read_to_string().unwrap();
    for line in [
        r#"patroni_check_answers_total{endpoint="/primary",reply="READY UP"} 3"#,
        r#"patroni_check_answers_total{endpoint="/primary",reply="MAINT UP"} 1"#,
        r#"patroni_check_verdict{endpoint="/primary",verdict="standby"} 1"#,
        r#"patroni_check_patroni_failures_total{endpoint="/primary",kind="no_answer"} 1"#,
        r#"patroni_check_patroni_seconds_count{endpoint="/primary"} 4"#,
    ] {
        assert!(text.lines().any(|candidate| candidate == line), "{line} is missing in:\n{text}");
    }
    assert!(!text.contains(r#"verdict="serve""#), "what was said before:\n{text}");
    assert!(text.contains("patroni_check_unchanged_seconds{endpoint=\"/primary\"} "), "{text}");
    if requires(&["promtool"]) {
        prometheus_takes(&text);
    }
    let address = ([127, 0, 0, 1], second).into();
    assert!(check_after_sending(address, b"POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert_eq!(patroni.requests().len(), 4, "to look is not to ask");
    // One process for each check has no counts.
    let agent = Agent::activated(&["--accept", "--fdname=metrics"], &["--patroni", &patroni.url()]);
    assert_eq!(check(agent.address), "");
}

#[test]
fn a_hold_is_told_whether_anybody_checks_or_not() {
    let patroni = FakePatroni::new(primary());
    let directory = tempfile::tempdir().unwrap();
    let hold = directory.path().join("hold").display().to_string();
    let [metrics, replica] = [any_port(), any_port()];
    let listen = [format!("--listen=127.0.0.1:{metrics}=metrics"), format!("--listen=127.0.0.1:{replica}=/replica")];
    let _agent = Agent::listening(&["--patroni", &patroni.url(), "--hold-file", &hold, &listen[0], &listen[1]]);
    let held = || {
        let text = ureq::get(format!("http://127.0.0.1:{metrics}/metrics")).call().unwrap().body_mut().read_to_string();
        let text = text.unwrap();
        if requires(&["promtool"]) {
            prometheus_takes(&text);
        }
        let lines = text.lines().filter(|line| line.starts_with("patroni_check_held"));
        lines.map(|line| line.replace("patroni_check_", "")).collect::<Vec<_>>()
    };
    let free = [r#"held{endpoint="/primary"} 0"#, r#"held{endpoint="/replica"} 0"#];
    assert_eq!(held(), free);
    let does = |arguments: &[&str]| {
        let output = binary().args(arguments).args(["--hold-file", &hold]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    does(&["hold", "--on", "/replica", "--drain"]);
    assert_eq!(held(), [free[0], r#"held{endpoint="/replica"} 1"#]);
    does(&["hold", "--for", "1h"]);
    let lines = held();
    // Of two the one that counts: it cuts the sessions.
    for endpoint in ["/primary", "/replica"] {
        let until = format!(r#"held_until_timestamp_seconds{{endpoint="{endpoint}"}} "#);
        let until = lines.iter().find_map(|line| line.strip_prefix(&until)).unwrap().parse::<f64>().unwrap();
        let left = until - SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((3500.0..=3601.0).contains(&left), "{left}");
        assert!(lines.contains(&format!(r#"held{{endpoint="{endpoint}"}} 1"#)), "{lines:?}");
    }
    does(&["release"]);
    assert_eq!(held(), free);
    assert_eq!(patroni.requests().len(), 0, "to look is not to ask");
}

/// By its own tool, which has nothing to say.
fn prometheus_takes(text: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty() && output.stdout.is_empty(), "{output:?}");
}
