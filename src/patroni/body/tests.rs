//! Bodies as Patroni writes them, and as it never would.

use super::*;

fn unreadable(why: &str) -> Option<Body> {
    Some(Body::Unreadable(why.into()))
}

#[test]
fn a_body_is_a_node_or_nothing_or_unreadable_or_cut_short() {
    let node = |state: &str, role: &str| Node { state: state.into(), role: role.into(), ..Node::default() };
    let table = [
        ("", Some(Body::Empty)),
        (r#"{"state":"running","role":"primary"}"#, Some(Body::Node(node("running", "primary")))),
        (r#"{"role":"replica","state":"starting","new":[{}]}"#, Some(Body::Node(node("starting", "replica")))),
        (r#"{"state":"running","role":"pri"#, None),
        ("<html>", unreadable("not JSON")),
        (r#"{"state":"running","role":"primary"}}"#, unreadable("not JSON")),
        ("[]", unreadable("not a health check's JSON")),
        (r#"["running","primary"]"#, unreadable("not a health check's JSON")),
        (r#" ["running","primary"]"#, unreadable("not a health check's JSON")),
        (r#"{"state":"running"}"#, unreadable("not a health check's JSON")),
        (r#"{"state":"running","role":7}"#, unreadable("not a health check's JSON")),
        (r#"{"state":"running","role":NaN}"#, unreadable("not a health check's JSON")),
        (r#"{"state":"running","role":"a","role":"primary"}"#, unreadable("not a health check's JSON")),
        (r#"{"state":"running","role":"\ud800"}"#, unreadable("not a health check's JSON")),
        (r#"{"state":"running","role":"\u001b[31m"}"#, unreadable("no state or role that a Patroni has")),
        (r#"{"state":"running","role":"é"}"#, unreadable("no state or role that a Patroni has")),
    ];
    for (body, expected) in table {
        assert_eq!(Body::read(body.as_bytes()), expected, "{body}");
    }
    assert_eq!(Body::read(b"{\"state\":\"running\",\"role\":\"primary\",\"x\":\"\xff\"}"), unreadable("not JSON"));
}

#[test]
fn what_pythons_json_adds_to_json_is_read_and_nothing_else() {
    let body = |value: &str| format!(r#"{{"state":"running","role":"primary","tags":{{"a":{value}}}}}"#);
    for good in [
        "Infinity",
        "-Infinity",
        "NaN",
        " NaN\n",
        "[NaN, -Infinity,{\"b\":Infinity}]",
        r#""Infinity""#,
        r#""\" Infinity""#,
        r#""\\","c":Infinity"#,
        r#""a\\\" NaN ","c":NaN"#,
    ] {
        assert!(matches!(Body::read(body(good).as_bytes()), Some(Body::Node(_))), "{good}");
    }
    for bad in [
        "nan",
        "inf",
        "infinity",
        "+Infinity",
        "--Infinity",
        "-NaN",
        "Infinity0",
        "1Infinity",
        "NaN NaN",
        "NaN\"\"",
        "{NaN:1}",
        "NaN\u{a0}",
        "\u{feff}NaN",
        "-",
        "N",
        "Infin",
        "Infinity\0",
        r#""\\"NaN""#,
        "undefined",
        "0x10",
        "01",
    ] {
        assert_eq!(Body::read(body(bad).as_bytes()), unreadable("not JSON"), "{bad}");
    }
    for rest in ["NaN", "N", "-", "Infinity", " Infin", ",", "null"] {
        let body = body("1") + rest;
        assert_eq!(Body::read(body.as_bytes()), unreadable("not JSON"), "{body}");
    }
    let whole = body("[NaN,Infinity,-Infinity]");
    for end in 1..whole.len() {
        assert_eq!(Body::read(&whole.as_bytes()[..end]), None, "{}", &whole[..end]);
    }
    let texts = json(br#"{"a Infinity":"NaN, -Infinity","b":"\"Infinity"}"#).unwrap();
    assert_eq!(texts, r#"{"a Infinity":"NaN, -Infinity","b":"\"Infinity"}"#);
}

#[test]
fn what_the_verdict_does_not_need_may_be_anything() {
    let huge = "9".repeat(500);
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let values =
        ["null", "true", "7", "-7", "1.5", "1e999", "NaN", r#""\ud800""#, "[]", r#"["4.1.5","a"]"#, "{}", &huge, &deep];
    for field in
        ["timeline", "replication_state", "failsafe_mode_is_active", "dcs_last_seen", "patroni", "tags", "xlog", "new"]
    {
        for value in values {
            let body = format!(r#"{{"state":"running","{field}":{value},"role":"primary"}}"#);
            let Some(Body::Node(node)) = Body::read(body.as_bytes()) else { panic!("{body:.200}") };
            assert_eq!(
                (&*node.state, &*node.role, node.patroni),
                ("running", "primary", PatroniInfo::default()),
                "{body:.200}"
            );
        }
    }
    let body = r#"{"state":"running","role":"primary","timeline":"3","patroni":{"version":"4.1.5","name":"\udcff","scope":7},
        "replication_state":"\u001b[31m","tags":{"\udcff":1,"1":NaN,"1":true,"noloadbalance":true}}"#;
    let Some(Body::Node(node)) = Body::read(body.as_bytes()) else { panic!() };
    let info = PatroniInfo { version: Some("4.1.5".into()), name: None };
    assert_eq!((node.patroni, node.timeline, node.replication_state), (info, None, None));
}

#[test]
fn who_holds_the_lock_is_read_as_patroni_writes_it() {
    let node = |more: &str| match Body::read(format!(r#"{{"state":"running","role":"primary"{more}}}"#).as_bytes()) {
        Some(Body::Node(node)) => {
            Some((node.pause, node.cluster_unlocked, node.failsafe_mode_is_active, node.dcs_last_seen))
        }
        _ => None,
    };
    let table = [
        ("", Some((false, false, false, None))),
        (r#","pause":true,"cluster_unlocked":true"#, Some((true, true, false, None))),
        (
            r#","failsafe_mode_is_active":true,"dcs_last_seen":1795487980"#,
            Some((false, false, true, Some(1_795_487_980))),
        ),
        (r#","pause":"true""#, None),
        (r#","pause":null"#, None),
        (r#","pause":1"#, None),
        (r#","pause":NaN"#, None),
        (r#","cluster_unlocked":null"#, None),
        (r#","cluster_unlocked":true,"cluster_unlocked":false"#, None),
        (r#","dcs_last_seen":null"#, Some((false, false, false, None))),
        (r#","dcs_last_seen":-1.5"#, Some((false, false, false, None))),
    ];
    for (more, expected) in table {
        assert_eq!(node(more), expected, "{more}");
    }
}

#[test]
fn a_tag_may_have_any_value() {
    for (value, is_set) in
        [("true", true), ("false", false), ("null", false), (r#""yes""#, true), ("[1]", true), ("NaN", true)]
    {
        let body = format!(r#"{{"state":"running","role":"replica","tags":{{"noloadbalance":{value}}}}}"#);
        let Some(Body::Node(node)) = Body::read(body.as_bytes()) else { panic!("{body}") };
        assert_eq!(node.tags.noloadbalance, is_set, "{value}");
    }
}

#[test]
fn a_member_that_can_not_be_read_keeps_no_other_from_being_listed() {
    let list = r#"{"scope":7,"pause":null,"members":[{"name":"a","role":null,"state":null,"host":"h","port":1,"lag":"x"},
        null,["b"],{"name":"\ud800","host":7,"port":"5432","lag":-1},{"name":"c","port":65536,"tags":{"x":Infinity}}]}"#;
    let cluster = Cluster::read(list.as_bytes()).unwrap();
    let members: Vec<_> = cluster.members.iter().map(|m| (&*m.name, m.host.as_deref(), m.port)).collect();
    let nothing = ("", None, None);
    assert_eq!(members, [("a", Some("h"), Some(1)), nothing, nothing, nothing, ("c", None, None)]);
    for bad in ["", "[]", "{}", r#"[[{"name":"a"}]]"#, r#"{"members":null}"#, r#"{"members":{}}"#, "\u{feff}{}"] {
        assert!(Cluster::read(bad.as_bytes()).is_none(), "{bad}");
    }
}
