//! What is printed, and what is refused.

use std::collections::BTreeSet;

use super::*;
use crate::cli::{Command, CommandLine};

/// As an operator gives them.
fn choices(arguments: &[&str]) -> Result<Choices, String> {
    let line = CommandLine::parse(&[&["haproxy-config"], arguments].concat()).map_err(|e| e.to_string())?;
    let Some(Command::HaproxyConfig(order)) = line.command else { panic!("{line:?}") };
    Ok(order.choices)
}

fn config(members: &str, arguments: &[&str]) -> Result<String, String> {
    let cluster = Cluster::read(format!(r#"{{"scope":"demo\nglobal","members":[{members}]}}"#).as_bytes()).unwrap();
    config_text(&cluster, &choices(arguments).unwrap())
}

const DB2: &str = r#"{"name":"db2","role":"replica","state":"streaming","host":"192.0.2.2","port":5432,"lag":0}"#;
const DB1: &str = r#"{"name":"db1","role":"leader","state":"running","host":"192.0.2.1","port":5432}"#;

#[test]
fn the_readme_has_the_lines_that_are_printed() {
    let text = config(&format!("{DB2},{DB1}"), &["--section", "--read-only", "none"]).unwrap();
    let lines = text.split_once('\n').unwrap().1;
    assert!(include_str!("../../../README.md").contains(lines), "{lines}");
}

#[test]
fn what_is_asked_for_is_there() {
    let text = config(DB1, &[]).unwrap();
    assert!(text.starts_with("# For the Patroni cluster demo global, by"));
    assert!(text.contains("\nglobal\n") && text.contains("\nlisten stats\n") && text.contains("agent-port 5556"));
    let options = "--name pg --agent-port 1 --agent-inter 300ms --read-write [::1]:7 --resolvers dns";
    let text = config(DB1, &options.split(' ').collect::<Vec<_>>()).unwrap();
    for line in [
        "listen pg_read_write",
        "bind [::1]:7",
        "agent-port 1 agent-inter 300ms ",
        "\nresolvers dns\n",
        "server resolvers dns ",
    ] {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
    let text = config(DB1, &["--section", "--read-write", "none", "--maxconn", "7"]).unwrap();
    assert!(!text.contains("read_write") && !text.contains("global") && text.contains("maxconn 7\n"), "{text}");
}

#[test]
fn members_are_servers_that_haproxy_can_read() {
    let member = |name: &str, rest: &str| format!(r#"{{"name":{name},"role":null,"state":null{rest}}}"#);
    let servers = |members: &[String]| {
        let text = config(&members.join(","), &["--section", "--read-only", "none"]).unwrap();
        let lines = text.lines().skip_while(|line| !line.contains("agent-check")).skip(1);
        lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    let here = r#","host":"2001:db8::1","port":1"#;
    let at = "[2001:db8::1]:1";
    let table: [(&[&str], &[&str]); 5] = [
        (&[r#""b 1\"""#], &[r##"# Its name in Patroni is "b 1\""."##, "server b_1_ AT"]),
        // An own name stays, and a number tells the others apart, in the order of their names.
        (
            &[r#""a_b""#, r#""a b""#, r#""a,b""#, r#""a_b_2""#],
            &[
                r##"# Its name in Patroni is "a b"."##,
                "server a_b_3 AT",
                r##"# Its name in Patroni is "a,b"."##,
                "server a_b_4 AT",
                "server a_b AT",
                "server a_b_2 AT",
            ],
        ),
        (
            &[r#""ü""#, r#""é""#],
            &[
                r##"# Its name in Patroni is "é"."##,
                "server _ AT",
                r##"# Its name in Patroni is "ü"."##,
                "server __2 AT",
            ],
        ),
        (&[r#""""#], &[r##"# Its name in Patroni is ""."##, "server _ AT"]),
        (
            &[r#""a\nserver x \u009b\u202e""#],
            &[r##"# Its name in Patroni is "a\nserver x \u{9b}\u{202e}"."##, "server a_server_x___ AT"],
        ),
    ];
    for (names, lines) in table {
        let members: Vec<_> = names.iter().map(|name| member(name, here)).collect();
        let lines: Vec<_> = lines.iter().map(|line| line.replace("AT", at)).collect();
        assert_eq!(servers(&members), lines, "{names:?}");
    }
    let untold = r##"# Left out: "a" does not tell the address of its Postgres."##;
    for (rest, line) in [
        ("", untold),
        (r#","host":"h""#, untold),
        (r#","host":"h","port":0"#, untold),
        (r#","host":"h","port":65536"#, untold),
        (r#","host":7,"port":1"#, untold),
        (r#","host":"","port":1"#, r##"# Left out: "a" has the address "", which HAProxy can't use."##),
        (
            r#","host":"1.2.3.4:1\nlisten x","port":1"#,
            r##"# Left out: "a" has the address "1.2.3.4:1\nlisten x", which HAProxy can't use."##,
        ),
        (
            r#","host":"fe80::1%eth0","port":1"#,
            r##"# Left out: "a" has the address "fe80::1%eth0", which HAProxy can't use."##,
        ),
        (r#","host":"a..b","port":1"#, r##"# Left out: "a" has the address "a..b", which HAProxy can't use."##),
    ] {
        let a = member(r#""a""#, rest);
        config(&a, &[]).unwrap_err();
        assert_eq!(servers(&[member(r#""z""#, here), a]), [line.to_owned(), format!("server z {at}")]);
    }
    config("", &[]).unwrap_err();
    let many: Vec<_> = (0..5000).map(|n| member(&format!(r#""{}""#, ["é", "ü", "a"][n % 3]), here)).collect();
    let names: BTreeSet<_> = servers(&many).into_iter().filter(|line| line.starts_with("server")).collect();
    assert_eq!(names.len(), 5000, "no two servers have the same name");
}

#[test]
fn what_haproxy_would_not_take_or_take_at_random_is_refused() {
    for options in [
        &["--agent-port", "0"][..],
        &["--replica-port", "0"],
        &["--agent-inter", "0s"],
        &["--maxconn", "0"],
        &["--resolvers", "a b"],
        &["--resolvers", ""],
        &["--name", "é"],
        &["--read-write", ":0"],
        &["--read-only", "[::1:5000"],
        &["--read-only", "a@b:5000"],
        &["--stats", "a..b:5000"],
        &["--stats-socket", "admin.sock"],
        &["--stats-socket", "/run/a b"],
        &["--stats-socket", "/run/"],
        &["--stats-socket", &format!("/{}", "a".repeat(97))],
    ] {
        choices(options).err().unwrap_or_else(|| panic!("{options:?}"));
    }
    let check = |options: &[&str]| choices(options).unwrap().check();
    for options in [
        &["--read-only", ":5000"][..],
        &["--read-write", "192.0.2.1:5001"],
        &["--read-write", "[::]:1", "--read-only", "*:1"],
        &["--stats", "127.0.0.1:5001"],
        &["--agent-port", "5556"],
        &["--read-only", "none", "--read-write", "none"],
    ] {
        check(options).expect_err(&format!("{options:?}"));
    }
    for options in [
        &["--read-write", "192.0.2.1:1", "--read-only", "192.0.2.2:1"][..],
        &["--agent-port", "5556", "--read-only", "none"],
        &["--section", "--read-write", ":7000"],
        &["--read-write", "[::1]:1", "--read-only", "::2:1", "--stats", "localhost:7"],
    ] {
        check(options).unwrap_or_else(|e| panic!("{options:?}: {e}"));
    }
}

#[test]
fn without_the_agent_check_hosts_are_checked_by_http() {
    let text = config(DB1, &["--http", "--http-port", "7"]).unwrap();
    assert!(!text.contains("agent-check") && !text.contains("MAINT") && !text.contains("disabled"), "{text}");
    for line in [
        "    option httpchk GET /primary\n",
        "    option httpchk GET /replica\n",
        "    default-server check port 7 inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions maxconn 100\n",
    ] {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
    choices(&["--http", "--agent-port", "5556"]).unwrap().check().unwrap();
    assert!(!config(DB1, &["--http-port", "7"]).unwrap().contains("httpchk"), "only if asked for");
}

#[test]
fn the_stats_socket_is_where_it_is_wanted_and_the_state_beside_it() {
    for (directory, socket) in [("/run/haproxy", "admin.sock"), ("/var/lib/haproxy", "stats")] {
        let text = config(DB1, &["--stats-socket", &format!("{directory}/{socket}")]).unwrap();
        for line in [
            format!("    stats socket {directory}/{socket} mode 660 level admin\n"),
            format!("    server-state-file {directory}/server-state\n"),
            "    load-server-state-from-file global\n".into(),
        ] {
            assert!(text.contains(&line), "{line} is missing in:\n{text}");
        }
    }
    let text = config(DB1, &["--stats-socket", "none"]).unwrap();
    assert!(!text.contains("stats socket") && text.contains("group haproxy\n    # The first"), "{text}");
    assert!(!text.contains("server-state"), "{text}");
    // In the directory that is there.
    let socket = choices(&[]).unwrap().stats_socket.unwrap();
    let has = |directory: &str| std::path::Path::new(directory).is_dir();
    assert_eq!(socket == "/run/haproxy/admin.sock", has("/run/haproxy") || !has("/var/lib/haproxy"), "{socket}");
}

#[test]
fn clients_are_sent_to_another_port_if_one_is_named() {
    let text = config(&format!("{DB1},{DB2}"), &["--server-port", "6432"]).unwrap();
    let servers: Vec<_> = text.lines().filter(|line| line.contains("    server ")).collect();
    assert!(servers.len() == 6 && servers.iter().all(|line| line.ends_with(":6432")), "{text}");
    // A host without a Postgres that says its port may have a PgBouncer.
    let text = config(r#"{"name":"a","host":"h"}"#, &["--server-port", "6432"]).unwrap();
    assert!(text.contains("server a h:6432\n"), "{text}");
}

#[test]
fn reads_fall_back_to_the_primary_if_no_replica_is_left() {
    let members = format!("{DB1},{}", DB2.replace("db2", "db1_primary"));
    let reads = |arguments: &[&str]| {
        let text = config(&members, &[&["--section"], arguments].concat()).unwrap();
        text.split_once("\nlisten postgres_read_only\n").map(|(_, reads)| reads.to_owned()).unwrap()
    };
    // No two servers have one name.
    let backups = "    default-server port 5555 agent-port 5555 maxconn 20 backup
    server db1_primary_ 192.0.2.1:5432
    server db1_primary_primary_ 192.0.2.2:5432
";
    let text = reads(&[]);
    assert!(text.ends_with(backups) && text.contains("stay there") && !text.contains("shutdown-backup"), "{text}");
    let text = reads(&["--fallback", "cut", "--read-write", "none"]);
    assert!(text.ends_with(backups), "{text}");
    let cut = "    default-server on-marked-up shutdown-backup-sessions\n    server db1 ";
    assert!(text.contains(cut), "{text}");
    let text = reads(&["--agent-port", "7", "--fallback-maxconn", "3"]);
    assert!(text.contains("    default-server port 7 agent-port 7 maxconn 3 backup\n"), "{text}");
    let text = reads(&["--http"]);
    assert!(text.contains("    default-server no-check maxconn 20 backup\n"), "{text}");
    assert!(text.ends_with(" 192.0.2.2:5432 track postgres_read_write/db1_primary\n"), "{text}");
    for none in [&["--fallback", "none"][..], &["--http", "--read-write", "none"]] {
        assert!(!reads(none).contains("backup"), "{none:?}");
    }
    choices(&["--http", "--read-write", "none", "--fallback", "keep"]).unwrap().check().unwrap_err();
    choices(&["--read-write", "none", "--fallback", "keep"]).unwrap().check().unwrap();
}

#[test]
fn templates_get_the_members_as_json() {
    let members = format!(r#"{{"name":"a\u009b","host":"::1","port":1}},{DB1},{{"name":"gone"}}"#);
    let cluster = Cluster::read(format!(r#"{{"scope":"demo","members":[{members}]}}"#).as_bytes()).unwrap();
    let text = super::super::config_json::config_json(&cluster, &choices(&["--server-port", "6432"]).unwrap()).unwrap();
    assert!(text.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{text}");
    let member = |name: &str, server: &str, host: &str| {
        let ports = serde_json::json!({"port": 6432, "agent_port": 5555, "replica_port": 5556, "http_port": null});
        let mut all = serde_json::json!({"name": name, "server": server, "host": host});
        all.as_object_mut().unwrap().extend(ports.as_object().unwrap().clone());
        all
    };
    let expected = serde_json::json!({
        "scope": "demo",
        "members": [member("a\u{9b}", "a_", "::1"), member("db1", "db1", "192.0.2.1")],
        "left_out": [{"name": "gone", "why": "does not tell the address of its Postgres"}],
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), expected);
}
