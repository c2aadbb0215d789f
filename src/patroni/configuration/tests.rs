use super::*;

/// The reading of a configuration with these sections.
fn read(sections: &str) -> Result<Option<Configuration>, String> {
    Configuration::read(&format!("scope: demo\npostgresql:\n  listen: '*:5433'\n{sections}"))
}

fn base_of(restapi: &str) -> Result<String, String> {
    Ok(read(&format!("restapi: {restapi}\n"))?.ok_or("none")?.base.to_string())
}

#[test]
fn debians_file_is_read() {
    let text = include_str!("debian.yml");
    let read = Configuration::read(text).unwrap().unwrap();
    assert_eq!((read.scope.as_str(), read.postgres_port), ("15-main", Some(5432)));
    assert_eq!(read.base.to_string(), "http://10.0.0.1:8008");
    assert_eq!((read.cacert, read.asks_for_certificate), (None, false));
}

#[test]
fn patroni_is_asked_where_it_listens_and_by_tls_where_its_certificate_is_for() {
    for (restapi, base) in [
        ("{listen: '10.0.0.1:8009', connect_address: 'db1:8008'}", "http://10.0.0.1:8009"),
        ("{listen: '0.0.0.0:8008', connect_address: 'db1:8008'}", "http://localhost:8008"),
        ("{listen: '*:8008'}", "http://localhost:8008"),
        ("{listen: '[::]:8008'}", "http://localhost:8008"),
        ("{listen: ':::8008'}", "http://localhost:8008"),
        ("{listen: '[FD00::1]:8008'}", "http://[fd00::1]:8008"),
        ("{listen: 'localhost:8008'}", "http://localhost:8008"),
        ("{listen: '0.0.0.0:8008', connect_address: 'db1:8443', certfile: /a}", "https://db1:8008"),
        ("{listen: '0.0.0.0:8008', connect_address: 'db1', certfile: /a}", "https://db1:8008"),
        ("{listen: '10.0.0.1:8008', certfile: /a}", "https://10.0.0.1:8008"),
        ("{listen: '10.0.0.1:8008', connect_address: 'db1:8008', certfile: }", "http://10.0.0.1:8008"),
        ("{listen: '10.0.0.1:8008', connect_address: '*:8008', certfile: /a}", "https://10.0.0.1:8008"),
        ("{listen: '::0:8008'}", "http://localhost:8008"),
        ("{listen: '[0:0:0:0:0:0:0:0]:8008'}", "http://localhost:8008"),
        ("{listen: '[::ffff:0.0.0.0]:8008'}", "http://localhost:8008"),
        ("{listen: '[::ffff:10.0.0.1]:8008'}", "http://10.0.0.1:8008"),
        ("{listen: '[::1]:8008', certfile: no}", "http://[::1]:8008"),
        ("{listen: 'a:8008', certfile: False}", "http://a:8008"),
        ("{listen: 'a:8008', certfile: 0}", "http://a:8008"),
        ("{listen: 'a:8008', certfile: ''}", "http://a:8008"),
        ("{listen: 'a:8008', certfile: null}", "http://a:8008"),
        ("{listen: 'a:8008', certfile: 'no'}", "https://a:8008"),
    ] {
        assert_eq!(base_of(restapi).as_deref(), Ok(base), "{restapi}");
    }
}

#[test]
fn what_can_not_be_read_is_not_guessed() {
    for (restapi, why) in [
        ("", "no restapi.listen"),
        ("{}", "no restapi.listen"),
        ("{listen: }", "no restapi.listen"),
        ("{listen: null}", "no restapi.listen"),
        ("{listen: [a]}", "no restapi.listen"),
        ("[listen]", "no restapi.listen"),
        ("{listen: 'db1'}", "has no port"),
        ("{listen: 'db1:0'}", "has no port"),
        ("{listen: 'db1:x'}", "has no port"),
        ("{listen: 'd b:8008'}", "without blanks"),
        ("{listen: \"$(reboot):8008\"}", "no host name"),
        ("{listen: 'a:1', connect_address: 'b:c'}", "connect_address: b:c has no port"),
        ("{<<: {listen: 'a:1'}}", "<<"),
        ("{? {a: b} : c}", "no word"),
        ("{listen: 'a:1'", "line"),
    ] {
        let found = base_of(restapi);
        assert!(found.as_ref().is_err_and(|e| e.contains(why)), "{restapi}: {found:?}, wanted {why}");
    }
    for (text, why) in [
        ("scope: a\nrestapi: &x {listen: 'a:1'}\npostgresql: *x\n", "alias"),
        ("scope: &s a\nrestapi: {listen: *s}\n", "alias"),
        ("restapi: {listen: 'a:1'}\n", "it has no scope"),
        ("scope: {}\npostgresql: {}\n", "it has no scope"),
        ("scope:\nrestapi:\n", "it has no scope"),
        ("scope: a\nrestapi: {listen: 'a:1'}\nrestapi:\n", "no restapi.listen"),
        ("scope: a\nrestapi: {listen: 'a:1'}\nrestapi: {certfile: /c}\n", "no restapi.listen"),
        ("scope: a\nrestapi: {listen: 'a:1'}\n---\nscope: b\n", "second document"),
        ("\tscope: a\nrestapi: {}\n", "line"),
    ] {
        let found = Configuration::read(text);
        assert!(found.as_ref().is_err_and(|e| e.contains(why)), "{text}: {found:?}, wanted {why}");
    }
}

#[test]
fn other_files_are_none_of_its() {
    for text in ["", "# nothing\n", "etcd3:\n  host: 127.0.0.1:2379\n", "scope: a\n", "- a\n", "a"] {
        assert_eq!(Configuration::read(text), Ok(None), "{text}");
    }
}

#[test]
fn what_is_nested_elsewhere_counts_for_nothing() {
    let text = "a: [{scope: x, restapi: {listen: 'x:1'}}, [b]]\nc: {restapi: {listen: 'x:1'}, scope: y}\n\
        ? [k]\n: v\n";
    assert!(Configuration::read(text).is_err_and(|e| e.contains("no word")));
    let text = "a: [{scope: x, restapi: {listen: 'x:1'}}, [b]]\nc: {restapi: {listen: 'x:1'}, scope: y}\n\
        scope: demo\nrestapi:\n  authentication: {listen: 'x:1', a: [b]}\n  listen: 10.0.0.1:8008\n  tags: []\n\
        postgresql: {parameters: {listen: 1}, listen: '10.0.0.1,127.0.0.1:5444'}\nctl: {cacert: /ca}\n";
    let read = Configuration::read(text).unwrap().unwrap();
    assert_eq!((read.scope.as_str(), read.postgres_port), ("demo", Some(5444)));
    assert_eq!((read.base.to_string().as_str(), read.cacert.as_deref()), ("http://10.0.0.1:8008", Some("/ca")));
    // As deep as a file can be.
    let deep = "[".repeat(100_000);
    assert!(Configuration::read(&deep).is_err());
}

#[test]
fn who_asks_it_is_known() {
    let is_at = |restapi: &str, base: &str| {
        read(&format!("restapi: {restapi}\n")).unwrap().unwrap().is_at(&base.parse().unwrap())
    };
    for (restapi, base, is) in [
        ("{listen: '10.0.0.1:8008'}", "http://10.0.0.1:8008", true),
        ("{listen: '10.0.0.1:8008'}", "https://10.0.0.1:8008", true),
        ("{listen: '10.0.0.1:8008'}", "http://10.0.0.1:8009", false),
        ("{listen: '10.0.0.1:8008'}", "http://localhost:8008", false),
        ("{listen: '10.0.0.1:8008', connect_address: 'DB1:8008'}", "http://db1:8008", true),
        ("{listen: '127.0.0.1:8008'}", "http://localhost:8008", true),
        ("{listen: '[::1]:8008'}", "http://[::1]:8008", true),
        ("{listen: '0.0.0.0:8008'}", "http://db1.example:8008", true),
        ("{listen: '0.0.0.0:8008'}", "http://db1.example:8009", false),
    ] {
        assert_eq!(is_at(restapi, base), is, "{restapi} {base}");
    }
}

#[test]
fn a_certificate_may_be_for_a_host_that_is_another_and_wanted_in_any_case() {
    for (restapi, is_announced, is_wanted) in [
        ("{listen: '10.0.0.1:8008', connect_address: 'lb:443', certfile: /a, verify_client: REQUIRED}", true, true),
        (
            "{listen: '10.0.0.1:8008', connect_address: '10.0.0.1:443', certfile: /a, verify_client: optional}",
            false,
            false,
        ),
        ("{listen: '10.0.0.1:8008', connect_address: 'lb:443', verify_client: required}", false, false),
    ] {
        let read = read(&format!("restapi: {restapi}\n")).unwrap().unwrap();
        assert_eq!((read.is_host_announced, read.asks_for_certificate), (is_announced, is_wanted), "{restapi}");
        assert!(!read.is_at(&"https://lb:443".parse().unwrap()), "{restapi}");
    }
}

#[test]
fn postgres_port_is_not_guessed() {
    let port = |postgresql: &str| {
        let text = format!("scope: a\nrestapi: {{listen: 'a:1'}}\npostgresql: {postgresql}\n");
        Configuration::read(&text).map(|read| read.unwrap().postgres_port)
    };
    for (postgresql, found) in [
        ("{listen: '*:5433'}", Some(5433)),
        ("{listen: '10.0.0.1'}", Some(5432)),
        ("{listen: 5433}", None),
        ("{}", None),
        ("", None),
    ] {
        assert_eq!(port(postgresql), Ok(found), "{postgresql}");
    }
    assert!(port("{listen: 'a:b'}").is_err());
}

#[test]
fn only_one_of_two_can_listen_at_a_port_of_an_address() {
    let of = |listen: &str| read(&format!("restapi: {{listen: '{listen}'}}\n")).unwrap().unwrap();
    for (one, other, is) in [
        ("10.0.0.1:8008", "10.0.0.1:8008", true),
        ("0.0.0.0:8008", "127.0.0.1:8008", true),
        ("localhost:8008", "[::1]:8008", true),
        // A name may be either.
        ("db1:8008", "10.0.0.1:8008", true),
        ("10.0.0.1:8008", "10.0.0.2:8008", false),
        ("localhost:8008", "10.0.0.2:8008", false),
        ("0.0.0.0:8008", "0.0.0.0:8009", false),
    ] {
        assert_eq!(
            (of(one).is_in_the_way_of(&of(other)), of(other).is_in_the_way_of(&of(one))),
            (is, is),
            "{one} {other}"
        );
    }
}
