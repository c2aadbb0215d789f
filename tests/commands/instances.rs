//! Several clusters on one host: `instances`, and `--instance`. What it takes systemd for is in
//! tests/machines.

use std::fs;
use std::process::Output;

use tempfile::TempDir;

use lab::agent::binary;
use lab::fake_patroni::{FakePatroni, answer, primary};
use lab::programs::write_script;

use crate::stdout;

/// On a host without any systemd.
fn run(arguments: &[&str]) -> Output {
    let nothing = TempDir::new().unwrap();
    binary().env("PATH", nothing.path()).args(arguments).output().unwrap()
}

/// Where systemd has these units, whichever it is asked for.
fn run_with(units: &str, arguments: &[&str]) -> Output {
    let host = TempDir::new().unwrap();
    write_script(&host.path().join("systemctl"), &format!("#!/bin/sh\n/bin/cat <<'END'\n{units}END\n"));
    binary().env("PATH", host.path()).args(arguments).output().unwrap()
}

fn refused(arguments: &[&str]) -> String {
    line_of(arguments, &run(arguments))
}

fn line_of(arguments: &[&str], output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && output.stdout.is_empty(), "{arguments:?}: {output:?}");
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn a_host_with_two_clusters_is_told_what_to_enable() {
    let directory = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let main =
        write("16-main.yml", "scope: 16-main\nrestapi: {listen: '10.0.0.1:54854'}\npostgresql: {listen: '*:5478'}\n");
    let test =
        write("17-test.yml", "scope: 17-test\nrestapi: {listen: '127.0.0.1:54855'}\npostgresql: {listen: '*:5479'}\n");
    let others = [
        write("dcs.yml", "etcd3: {host: '127.0.0.1:2379'}\n"),
        write("half.yml", "restapi: {listen: '127.0.0.1:1'}\n"),
        write("broken.yml", "scope: {\n"),
        write("long.yml", &"#".repeat(1 << 20)),
        directory.path().display().to_string(),
        directory.path().join("none.yml").display().to_string(),
    ];
    let others: Vec<_> = others.iter().map(String::as_str).collect();
    let output = run(&[&["instances", &main, &test], &others[..]].concat());
    let (text, errors) = (stdout(&output), String::from_utf8_lossy(&output.stderr).into_owned());
    // A file that was named is of no use.
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for line in [
        "PATRONI_CHECK_PATRONI=http://10.0.0.1:54854\n",
        "PATRONI_CHECK_PATRONI=http://127.0.0.1:54855\n",
        "IPAddressAllow=10.0.0.1\n",
        "\nsystemctl enable --now patroni-check-cluster@16-main.socket patroni-check-cluster-replica@16-main.socket\n",
        "\nsystemctl enable --now patroni-check-cluster@17-test.socket patroni-check-cluster-replica@17-test.socket\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    // One that is no Patroni's is nobody's business. What is not read is said, on the terminal too.
    assert!(!text.contains("dcs.yml"), "{text}");
    for (file, why) in [
        ("broken.yml", "line"),
        ("long.yml", "longer than 262144 bytes"),
        ("none.yml", "No such file"),
        ("", "a directory"),
        ("half.yml", "no scope"),
    ] {
        let is_said = |text: &str| text.lines().any(|line| line.contains(file) && line.contains(why));
        assert!(is_said(&text) && is_said(&errors), "{file}: {text}{errors}");
    }
    // One that is alone.
    let output = run(&["instances", &main]);
    assert!(output.status.success(), "{output:?}");
    let text = stdout(&output);
    assert!(
        text.contains("\n# PATRONI_CHECK_PATRONI=http://10.0.0.1:54854\n") && !text.contains("\nsystemctl"),
        "{text}"
    );
    // Whom the service without a name asks, here by its command line.
    for (line, is_enabled) in
        [("--patroni http://10.0.0.1:54854", true), ("--patroni=http://10.0.0.1:54854", true), ("--words plain", false)]
    {
        let start = format!("ExecStart={{ path=/patroni-check ; argv[]=/patroni-check {line} ; ignore_errors=no ; }}");
        let unit = format!("Id=patroni-check.service\nLoadState=loaded\n{start}\n");
        let text = stdout(&run_with(&unit, &["instances", &main, &main]));
        assert_eq!(text.contains("\nsystemctl enable --now patroni-check.socket "), is_enabled, "{text}");
    }
    // It is about all.
    for option in [["--instance", "16-main"], ["--patroni", "http://localhost:1"]] {
        assert!(refused(&[&["instances"], &option[..]].concat()).contains("instances is about all clusters"));
    }
}

/// Patroni's environment wins over its configuration.
#[test]
fn a_configuration_that_is_not_the_last_word_gets_nothing() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("16-main.yml").display().to_string();
    fs::write(&file, "scope: a\nrestapi: {listen: '127.0.0.1:54854'}\npostgresql: {listen: '*:5478'}\n").unwrap();
    let env = directory.path().join("env.conf");
    fs::write(&env, "PATRONI_RESTAPI_PASSWORD=x\nPATRONI_RESTAPI_LISTEN=127.0.0.1:8009\nPATRONI_SCOPE=\n").unwrap();
    let env = env.display();
    for (unit, is) in [
        (format!("Id=patroni@16-main.service\nLoadState=loaded\nEnvironmentFiles={env} (ignore_errors=yes)\n"), true),
        ("Id=patroni.service\nLoadState=loaded\nEnvironment=A=b PATRONI_SCOPE=x\n".to_owned(), true),
        ("Id=patroni.service\nLoadState=loaded\nEnvironmentFiles=/etc/x*.conf (ignore_errors=yes)\n".to_owned(), true),
        ("Id=patroni.service\nLoadState=loaded\nEnvironment=PATRONI_RESTAPI_PASSWORD=x\n".to_owned(), false),
        ("Id=patroni@17-x.service\nLoadState=loaded\nEnvironment=PATRONI_SCOPE=x\n".to_owned(), false),
    ] {
        let output = run_with(&unit, &["instances", &file]);
        let text = stdout(&output);
        assert_eq!(text.contains("overrid") && text.contains("Nothing is done for it."), is, "{unit}{text}");
        assert_eq!(output.status.code(), Some(i32::from(is)), "{unit}");
        assert!(!is || !text.contains("PATRONI_CHECK_PATRONI"), "{text}");
    }
}

#[test]
fn an_instance_is_named_before_or_behind_the_command_and_has_its_own_hold() {
    let patroni = FakePatroni::new(primary());
    let url = patroni.url();
    for arguments in [
        ["--instance", "16-main", "is", "/primary", "--patroni", &url],
        ["is", "/primary", "--patroni", &url, "--instance", "16-main"],
        ["is", "/primary", "--instance=16-main", "--patroni", &url, "--quiet"],
    ] {
        let output = run(&arguments);
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
    // By what can't be written: its directory is where nobody makes one.
    let error = run(&["--instance", "16-main", "--hold-file", "/proc/hold", "hold"]);
    assert!(String::from_utf8_lossy(&error.stderr).contains("/etc/patroni-check/16-main.env"), "{error:?}");
    let list = ["hold", "--list", "--instance", "16-main", "--patroni", &url];
    assert_eq!(stdout(&run(&list)), "no hold\n");
}

#[test]
fn an_instance_without_an_address_answers_for_no_patroni() {
    let expected = "instance 17-x has no PATRONI_CHECK_PATRONI, and there is no default for one of several clusters; it is set \
                    in /etc/patroni-check/17-x.env (see patroni-check instances)\n";
    for arguments in [
        &["--instance", "17-x"][..],
        &["--instance", "17-x", "--listen", "127.0.0.1:1"],
        &["--instance", "17-x", "explain"],
        &["hold", "--instance", "17-x", "disk"],
        &["release", "--instance", "17-x"],
        &["is", "/primary", "--instance", "17-x"],
        &["haproxy-config", "--instance", "17-x"],
    ] {
        assert!(refused(arguments).ends_with(expected), "{arguments:?}: {}", refused(arguments));
    }
    for name in ["", "../x", "a/b", "a.b", "-x", "hold", "abcdefghijklmnopqrstuvwxy"] {
        let error = refused(&[&format!("--instance={name}"), "explain"]);
        assert!(error.contains("instance"), "{name}: {error}");
    }
    let output = binary().env("PATRONI_CHECK_INSTANCE", "17-x").env("PATRONI_CHECK_PATRONI", "").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).ends_with(expected), "{output:?}");
}

#[test]
fn ports_of_an_instance_that_are_not_known_are_not_written() {
    let patroni = FakePatroni::new(answer(
        200,
        r#"{"members": [{"name": "db1", "role": "leader", "state": "running", "host": "127.0.0.1", "port": 5432}]}"#,
    ));
    let url = patroni.url();
    let line = |more: &[&'static str]| [&["haproxy-config", "--instance", "17-x", "--patroni", &url], more].concat();
    for (more, missing) in [
        (&[][..], "say --agent-port and --replica-port\n"),
        (&["--agent-port", "1"], "say --replica-port\n"),
        (&["--read-write", "none", "--fallback", "none"], "say --replica-port\n"),
        (&["--http", "--agent-port", "1"], "say --http-port\n"),
        (&["--format", "json"], "say --agent-port and --replica-port\n"),
    ] {
        let error = refused(&line(more));
        assert!(error.contains("instance 17-x") && error.ends_with(missing), "{more:?}: {error}");
    }
    for more in [
        &["--agent-port", "7777", "--replica-port", "5556"][..],
        &["--read-only", "none", "--agent-port", "7777"],
        &["--http", "--http-port", "7777"],
    ] {
        let output = run(&line(more));
        assert!(output.status.success() && stdout(&output).contains("port 7777"), "{more:?}: {output:?}");
    }
    // As systemd has them.
    let units = "Id=patroni-check-cluster@17-x.socket\nListen=[::]:7777 (Stream)\n";
    let output = run_with(units, &line(&["--replica-port", "7778"]));
    assert!(stdout(&output).contains("agent-port 7777") && stdout(&output).contains("agent-port 7778"), "{output:?}");
    assert!(line_of(&[], &run_with(units, &line(&[]))).ends_with("say --replica-port\n"));
}

/// Its settings may be in its unit.
#[test]
fn a_hold_is_that_of_an_instance_where_systemd_has_only_these() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("hold").display().to_string();
    let units = "Id=patroni-check-cluster@17-x.socket\nLoadState=loaded\nActiveState=active\n";
    for arguments in [
        &["hold", "--hold-file", &file, "disk"][..],
        &["release", "--hold-file", &file],
        &["is", "/primary"],
        &["explain"],
    ] {
        let error = line_of(arguments, &run_with(units, arguments));
        assert!(error.ends_with("which cluster of this host? Say --instance 17-x\n"), "{arguments:?}: {error}");
    }
    assert!(!std::path::Path::new(&file).exists());
    // The service runs behind a socket of the administrator's own, too.
    for unit in ["patroni-check.socket", "patroni-check.service"] {
        let plain = format!("{units}\nId={unit}\nActiveState=active\n");
        let output = run_with(&plain, &["hold", "--hold-file", &file, "disk"]);
        assert!(String::from_utf8_lossy(&output.stderr).contains("also has --instance 17-x\n"), "{output:?}");
    }
    let output =
        run_with(units, &["hold", "--instance", "17-x", "--patroni", "http://localhost:1", "--hold-file", &file]);
    assert!(stdout(&output).contains("until you run: patroni-check release --instance 17-x\n"), "{output:?}");
}
