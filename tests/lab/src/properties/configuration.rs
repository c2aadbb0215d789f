//! Patroni's configurations, and the script that `patroni-check instances` makes of them for root's shell.

use std::path::PathBuf;

use patroni_check::commands::instances::script_for;
use patroni_check::config::Instance;
use patroni_check::patroni::{BaseUrl, Configuration};
use serde_json::Value;

/// What a here-document of the script may have, but comments.
const SETTINGS: [&str; 6] = [
    "[Socket]",
    "[Service]",
    "ListenStream=WORD",
    "IPAddressAllow=WORD",
    "PATRONI_CHECK_PATRONI=WORD",
    "PATRONI_CHECK_CACERT=WORD",
];

/// What else it may have.
const ORDERS: [&str; 27] = [
    "",
    "set -u",
    "umask 022",
    "status=0",
    "put() {",
    r#"    if [ -e "$1" ]; then echo "kept as it is: $1"; else mkdir -p "${1%/*}" && cat >"$1"; fi"#,
    "}",
    "told() {",
    r#"    if [ "$1" != 0 ]; then echo "not done: $2" >&2; status=1; fi"#,
    "(",
    "set -e",
    "put /etc/patroni-check/WORD.env <<'END'",
    "put /etc/systemd/system/WORD.d/WORD.conf <<'END'",
    "END",
    "found=$(getent ahosts WORD) || { echo 'no address of WORD is known now' >&2; exit 1; }",
    "{",
    "    echo '[Service]'",
    r#"    echo "$found" | sed 's/ .*//' | sort -u | sed 's/^/IPAddressAllow=/'"#,
    r"    sed -n 's/^nameserver  *\([0-9a-fA-F.:]*\).*/IPAddressAllow=\1/p' /etc/resolv.conf",
    "} | put /etc/systemd/system/WORD.d/WORD.conf",
    "systemctl daemon-reload",
    "systemctl enable --now WORD WORD",
    "echo 'To see what it answers: patroni-check explain --instance WORD'",
    ") </dev/null",
    "told $? 'the instance WORD'",
    "told $? 'patroni-check.socket'",
    "exit $status",
];

/// Files with a NUL between them, each with its name in its first line: whatever they are, the script has
/// no order but those that are known here, and nothing of a file is in them but plain words.
pub fn configuration(text: &str) {
    let file = |piece: &str| {
        let (name, text) = piece.split_once('\n').unwrap_or((piece, ""));
        (PathBuf::from(name), text.to_owned())
    };
    let files: Vec<_> = text.split('\0').take(4).map(file).collect();
    let script = script_for(&files);
    let mut is_settings = false;
    for line in script.split_terminator('\n') {
        assert!(!line.contains(char::is_control), "{line:?}");
        if line.starts_with('#') {
            // To an old systemd a backslash at the end of a comment means that it goes on.
            assert!(!is_settings || !line.ends_with('\\'), "{line:?}");
            continue;
        }
        let known = if is_settings && line != "END" { &SETTINGS[..] } else { &ORDERS[..] };
        assert!(known.iter().any(|pattern| fits(line, pattern)), "{line:?} in\n{script}");
        is_settings = line.ends_with("<<'END'") || is_settings && line != "END";
    }
    assert!(!is_settings, "{script}");
    for (file, text) in &files {
        if let Some(instance) = Instance::of_file(file) {
            assert_eq!(instance.to_string().parse().as_ref(), Ok(&instance));
            assert_eq!(Instance::of_file(format!("/{instance}.yml").as_ref()), Some(instance));
        }
        match Configuration::read(text) {
            Ok(Some(read)) => check(&read, text),
            Ok(None) => {}
            Err(why) => assert!(!why.is_empty(), "{text:?}"),
        }
    }
}

fn check(read: &Configuration, text: &str) {
    assert_eq!(read.base.to_string().parse::<BaseUrl>().as_ref(), Ok(&read.base));
    assert!(!read.scope.is_empty() && read.is_at(&read.base) && read.is_in_the_way_of(read), "{read:?}");
    assert!(read.ports().all(|port| port > 0), "{read:?}");
    assert!(!read.asks_for_certificate || read.base.is_https(), "{read:?}");
    // JSON is YAML, and another one reads that.
    if let Ok(json) = serde_json::from_str::<Value>(text) {
        let port = |address: &Value| address.as_str().and_then(|text| text.rsplit(':').next()?.trim().parse().ok());
        if let Some(scope) = json["scope"].as_str() {
            assert_eq!(read.scope, scope, "{text:?}");
        }
        if json["restapi"]["listen"].is_string() {
            assert_eq!(Some(read.base.port()), port(&json["restapi"]["listen"]), "{text:?}");
        }
        let certificate = &json["restapi"]["certfile"];
        let is_https =
            certificate.as_str().map_or(certificate.is_number() || *certificate == true, |file| !file.is_empty());
        assert!(read.base.is_https() == is_https || certificate.is_number(), "{text:?}");
    }
}

/// Whether a line is this one, with a plain word in the place of each WORD.
fn fits(line: &str, pattern: &str) -> bool {
    let is_plain = |word: &str| {
        let is_good = |c: char| c.is_ascii_alphanumeric() || "-_./:@[]+".contains(c);
        !word.is_empty() && !word.starts_with('-') && word.chars().all(is_good)
    };
    let mut pieces = pattern.split("WORD");
    let Some(mut rest) = line.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        let end = if pieces.peek().is_none() { rest.strip_suffix(piece).map(str::len) } else { rest.find(piece) };
        let Some(end) = end.filter(|end| is_plain(&rest[..*end])) else { return false };
        rest = &rest[end + piece.len()..];
    }
    rest.is_empty()
}
