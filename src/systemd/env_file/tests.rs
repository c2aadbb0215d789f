use super::*;

type Pairs = [(&'static str, &'static str)];

fn map(pairs: &Pairs) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What systemd 252's own `load_env_file` and `strv_env_clean` make of each. tests/machines asks
/// booted ones.
#[test]
fn an_environment_file_is_read_as_systemd_reads_it() {
    let table: &[(&[u8], &Pairs)] = &[
        (b"A=1", &[("A", "1")]),
        (b"A = 1", &[("A", "1")]),
        (b"  A\t=\t 1 \t", &[("A", "1")]),
        (b"A=1 2  3 ", &[("A", "1 2  3")]),
        (b"A=\nB=", &[("A", ""), ("B", "")]),
        (b"A= \nB", &[("A", "")]),
        (b"export A=1\nB=2", &[("B", "2")]),
        (b"A='1 # 2' ;3", &[("A", "1 # 2;3")]),
        (b"A=1 # 2", &[("A", "1 # 2")]),
        (b"#A=1\n;B=2\n  # C=3\nD=4", &[("D", "4")]),
        (b"A='1'\"2\" '3'4 ", &[("A", "1234")]),
        (b"A=\"a\\\"b\\$c\\`d\\\\e\\xf\"", &[("A", "a\"b$c`d\\e\\xf")]),
        (b"A='a\\b'", &[("A", "a\\b")]),
        (b"A=a\\b\\\\c\\ ", &[("A", "ab\\c ")]),
        (b"A=1\\\n2\nB=3", &[("A", "12"), ("B", "3")]),
        (b"A=\"1\\\n2\n3\"\nB=4", &[("A", "12\n3"), ("B", "4")]),
        (b"A=1\r\nB=2\r\n", &[("A", "1"), ("B", "2")]),
        (b"A=1\\\r\nB=2", &[("A", "1"), ("B", "2")]),
        (b"A=1\nA=2\nB=3\nA=", &[("A", ""), ("B", "3")]),
        (b"\xef\xbb\xbfA=1\nB=2", &[("B", "2")]),
        (b"\xef\xbb\xbf# A=1\nB=2", &[("B", "2")]),
        (b"A=\xc3\xa9\nB=2", &[("A", "\u{e9}"), ("B", "2")]),
        (b"#\xff\nA=1", &[("A", "1")]),
        (b"1A=1\nA.B=2\nB=3", &[("B", "3")]),
        (b"=1\nA==2", &[("A", "=2")]),
        (b"A=a\"b\"c", &[("A", "a\"b\"c")]),
        (b"A='1\nB=2", &[("A", "1\nB=2")]),
        (b"A=1\\", &[("A", "1")]),
        (b"A=\"$B ${C}\"", &[("A", "$B ${C}")]),
        (b"A=\x01\x0c", &[("A", "\x01\x0c")]),
    ];
    for (text, found) in table {
        for comments_continue in [false, true] {
            let shown = String::from_utf8_lossy(text);
            assert_eq!(assignments(text, comments_continue), Some(map(found)), "{shown:?}");
        }
    }
    for refused in [&b"A=1\nB=\xff"[..], b"\xff=1\nA=1", b"A=1\0", b"A=1\n#\0"] {
        assert_eq!(assignments(refused, false), None, "{:?}", String::from_utf8_lossy(refused));
    }
    // The release decides.
    assert_eq!(assignments(b"# x \\\nA=1\nB=2", true), Some(map(&[("B", "2")])));
    assert_eq!(assignments(b"# x \\\nA=1\nB=2", false), Some(map(&[("A", "1"), ("B", "2")])));
}
