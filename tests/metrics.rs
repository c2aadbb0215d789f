//! What Prometheus reads.

use std::io::Write;
use std::process::{Command, Stdio};

use lab::agent::{Agent, check, check_after_sending};
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

/// By its own tool, which has nothing to say.
fn prometheus_takes(text: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty() && output.stdout.is_empty(), "{output:?}");
}
