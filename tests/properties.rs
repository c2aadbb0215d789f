//! What holds for every input, tried on many made at random; the fuzz targets try more.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use lab::properties;
use patroni_check::memory::file::MemoryFile;

/// The recorded answers of real Patronis.
fn recorded() -> Vec<Vec<u8>> {
    let sections = lab::recorded::all().into_iter().flat_map(|(_, sections)| sections);
    let all: Vec<_> = sections.map(|section| section.answer).collect();
    assert!(all.len() > 200);
    all
}

/// Bytes that matter to a parser, and others.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let telling = [
        "\r\n",
        "\n",
        "\r\n\r\n",
        "{",
        "}",
        "[",
        "\"",
        ",",
        "null",
        "200",
        "503",
        "running",
        "\"state\"",
        "\"role\"",
        "primary",
        "master",
        "replica",
        "standby_leader",
        "Content-Length: 7\r\n",
        "Transfer-Encoding: chunked\r\n",
        "\0",
        "\u{1b}[31m",
    ];
    let telling = prop::sample::select(telling.to_vec()).prop_map(|text| text.as_bytes().to_vec());
    prop_oneof![3 => telling, 1 => prop::collection::vec(any::<u8>(), 0..20)]
}

/// A recorded answer with some of its bytes exchanged.
fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), 0..12_usize, piece());
    (prop::sample::select(recorded()), prop::collection::vec(edit, 0..5)).prop_map(|(mut bytes, edits)| {
        for (at, cut, piece) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, piece);
        }
        bytes
    })
}

fn endpoint() -> impl Strategy<Value = String> {
    let known = "/(primary|replica|read-only|sync|health|leader|quorum)";
    let parameters = "(lag=[0-9]{1,20}(|B|kB|MB|GB|TB|mb|K)|tag_[a-z%#&=]{0,5}=[ -~]{0,8}|[ -~]{0,8})";
    let likely = prop::string::string_regex(&format!("{known}(\\?{parameters}(&{parameters}){{0,3}})?"));
    prop_oneof![any::<String>(), likely.expect("a regular expression")]
}

/// Pieces of a request's head, and others.
fn head_piece() -> impl Strategy<Value = Vec<u8>> {
    let telling = [
        "GET ",
        "HEAD ",
        "OPTIONS ",
        "POST ",
        "/primary",
        "/",
        "/replica?lag=1MB",
        "http://db1:5559/sync",
        "*",
        " HTTP/1.1",
        " HTTP/1.0",
        " HTTP/2",
        "\r\n",
        "\n",
        "\r\n\r\n",
        "Host: db1\r\n",
        "Content-Length: 7\r\n",
        " ",
        "\0",
        "%70",
        "\u{1b}[31m",
    ];
    let telling = prop::sample::select(telling.to_vec()).prop_map(|text| text.as_bytes().to_vec());
    prop_oneof![6 => telling, 1 => prop::collection::vec(any::<u8>(), 0..20)]
}

/// Where a memory was left, and what is in its file.
static MEMORY: LazyLock<(TempDir, MemoryFile, Vec<u8>)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let (file, bytes) = properties::memory_file(directory.path());
    (directory, file, bytes)
});

/// Pieces of a memory's file, and others.
fn memory_piece() -> impl Strategy<Value = Vec<u8>> {
    let telling =
        ["{", "}", "[", "\"", ",", ":", "null", "true", "0", "1", "9", "18446744073709551615", "-1", "\"Serve\"", "\0"];
    let telling = prop::sample::select(telling.to_vec()).prop_map(|text| text.as_bytes().to_vec());
    prop_oneof![3 => telling, 1 => prop::collection::vec(any::<u8>(), 0..20)]
}

/// Pieces of a hold's file, and others.
fn hold_piece() -> impl Strategy<Value = Vec<u8>> {
    let telling = [
        "\n",
        "\n",
        "\r\n",
        " ",
        "new disk",
        "drain",
        "until ",
        "until",
        "boot ",
        "\nuntil 2020-01-01T00:00:00Z\n",
        "2026-11-28T14:00:00Z",
        "1970-01-01T00:00:00Z",
        "9999-12-31T23:59:60Z",
        "0123456789abcdef0123456789abcdef",
        " 3600",
        "18446744073709551615",
        "\0",
        "\u{1b}[31m",
        "\u{a0}",
    ];
    let telling = prop::sample::select(telling.to_vec()).prop_map(|text| text.as_bytes().to_vec());
    let many = Just(vec![b'x'; 4090]);
    prop_oneof![40 => telling, 10 => prop::collection::vec(any::<u8>(), 0..20), 1 => many]
}

/// Pieces of an environment file, and others.
fn settings_piece() -> impl Strategy<Value = Vec<u8>> {
    let telling = [
        "\nPATRONI_CHECK_PATRONI=",
        "\nPATRONI_CHECK_ENDPOINT=",
        "\nPATRONI_CHECK_ALSO=",
        "\nPATRONI_CHECK_LISTEN=",
        "\nPATRONI_CHECK_INSTANCE=",
        "\nPATRONI_CHECK_PROBE=",
        "\nPATRONI_CHECK_GRACE=",
        "\nPATRONI_CHECK_HOLD_FILE=",
        "\nPATRONI_CHECK_WORDS=plain",
        "http://db1:8008",
        "/replica?lag=1MB&calm=90s",
        "127.0.0.1:5555=",
        "agent-send",
        "16-main",
        "/run/postgresql:5432",
        "5s",
        "0.5ms",
        "\n# ",
        "\n",
        "\r\n",
        " ",
        "=",
        "'",
        "\"",
        "\\",
        "\0",
        "é",
    ];
    let telling = prop::sample::select(telling.to_vec()).prop_map(|text| text.as_bytes().to_vec());
    prop_oneof![12 => telling, 1 => prop::collection::vec(any::<u8>(), 0..8)]
}

/// Pieces of Patroni's configurations, and others.
fn configuration_piece() -> impl Strategy<Value = String> {
    let telling = [
        "a.yml\nscope: a\n",
        "/b/-c d.yaml\n",
        "\0",
        "\nrestapi:",
        "\npostgresql:",
        "\nctl:",
        "\nscope: ",
        "\n  listen: ",
        "\n  certfile: /c",
        "\n  verify_client: required",
        "\n  connect_address: ",
        "\n  cacert: /tmp/x\\",
        "db1:8008",
        "'*:5432'",
        "\"[::1]:8008\"",
        "'; reboot; #:1'",
        "\"$(reboot)\\nEND\"",
        "{",
        "}",
        ", ",
        ": ",
        "- ",
        "&a ",
        "*a",
        "|\n  x",
        "\n---\n",
        "\n\t",
        "\u{2028}",
    ];
    let telling = prop::sample::select(telling.to_vec()).prop_map(str::to_owned);
    prop_oneof![12 => telling, 1 => any::<String>()]
}

/// Pieces of what `/cluster` lists, and others, under a line of choices.
fn members() -> impl Strategy<Value = Vec<u8>> {
    let choices = ["", "--http", "--fallback=cut", "--name=a_primary --server-port=6432", "--section --stats=none"];
    let names = ["db1", "db_1", "db 1", "db1_primary", "ü", "", "a\nserver", "#", "\u{9b}"].map(|name| json!(name));
    let names =
        prop_oneof![9 => prop::sample::select(names.to_vec()), 1 => any::<String>().prop_map(|name| json!(name))];
    let hosts = ["192.0.2.1", "fd00::1", "fe80::1%eth0", "db1.example.", "a..b", "a b", ""].map(|host| json!(host));
    let hosts = prop_oneof![7 => prop::sample::select(hosts.to_vec()), 1 => Just(json!(null))];
    let ports = prop::sample::select(vec![json!(5432), json!(0), json!(65536), json!("1"), json!(null)]);
    let member = (names, hosts, ports).prop_map(|(name, host, port)| json!({"name": name, "host": host, "port": port}));
    let member = prop_oneof![9 => member, 1 => Just(json!([]))];
    let list = prop::collection::vec(member, 0..6).prop_map(|members| json!({"scope": "a\nb", "members": members}));
    (prop::sample::select(choices.to_vec()), list).prop_map(|(choices, list)| format!("{choices}\n{list}").into_bytes())
}

#[test]
fn words_that_are_names() {
    for name in ["agent-send", "http", "metrics", "https"] {
        properties::name(name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn endpoints(text in endpoint()) {
        properties::endpoint(&text);
        properties::name(&text);
        properties::name(&format!("{text}\n"));
    }

    #[test]
    fn http_heads(bytes in prop::collection::vec(head_piece(), 0..8)) {
        properties::http_head(&bytes.concat());
    }

    #[test]
    fn mangled_answers(which: u8, bytes in mangled()) {
        properties::reply(which, &bytes);
    }

    #[test]
    fn mangled_memories(edits in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, memory_piece()), 0..4)) {
        let (_, file, bytes) = &*MEMORY;
        let mut bytes = bytes.clone();
        for (at, cut, piece) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, piece);
        }
        properties::memory(file, &bytes);
    }

    #[test]
    fn holds(bytes in prop::collection::vec(hold_piece(), 0..16)) {
        properties::hold(&bytes.concat());
    }

    #[test]
    fn settings(bytes in prop::collection::vec(settings_piece(), 0..12)) {
        properties::settings(&bytes.concat());
    }

    #[test]
    fn reasons(why in prop_oneof![any::<String>(), "[ -~]{0,140}"]) {
        properties::words(&why);
    }

    #[test]
    fn configurations(pieces in prop::collection::vec(configuration_piece(), 0..16)) {
        properties::configuration(&pieces.concat());
    }

    #[test]
    fn lists_of_members(bytes in members()) {
        properties::members(&bytes);
    }

    #[test]
    fn any_bytes(which: u8, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        properties::reply(which, &bytes);
        properties::hold(&bytes);
        properties::settings(&bytes);
        properties::members(&bytes);
    }
}

#[test]
fn the_recorded_answers_themselves() {
    let mut ready = 0;
    for (which, bytes) in (0..8).cycle().zip(recorded()) {
        (0..8).for_each(|which| properties::reply(which, &bytes));
        // What is odd and good, and was found by fuzzing.
        properties::reply(which, &[&b"\n\r\n\n"[..], &bytes].concat());
        let text = String::from_utf8_lossy(&bytes);
        for number in ["1e999", "-Infinity"] {
            let odd = text.replacen("\"timeline\"", &format!("\"x\": {number}, \"timeline\""), 1);
            properties::reply(which, odd.as_bytes());
        }
        ready += usize::from(lab::replay::replay(&bytes).is_ok());
    }
    assert!(ready > 200, "{ready} could be read");
}
