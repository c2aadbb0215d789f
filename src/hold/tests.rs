use super::*;
use std::fs::File;
use std::time::SystemTime;

use tempfile::TempDir;

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

/// Holds by files with these texts, each by what stands behind `hold` in its name.
fn holds(files: &[(&str, &str)]) -> (TempDir, Holds) {
    let directory = tempfile::tempdir().unwrap();
    for (suffix, text) in files {
        fs::write(directory.path().join(format!("hold{suffix}")), text).unwrap();
    }
    let holds = Holds::new(directory.path().join("hold"));
    (directory, holds)
}

fn serve() -> Verdict {
    Verdict::Serve("primary".into())
}

/// What the endpoint's checks are told while Patroni says yes.
fn told(holds: &Holds, on: &str) -> Option<String> {
    match holds.overriding(Some(&endpoint(on)), serve()) {
        Verdict::Held(why, Sessions::Cut) => Some(format!("maint, {why}")),
        Verdict::Held(why, Sessions::MayStay) => Some(format!("drain, {why}")),
        _ => None,
    }
}

#[test]
fn a_hold_is_of_all_views_or_of_those_that_its_name_names() {
    let table: [(&str, &[&str], &[&str]); 8] = [
        ("", &["/primary", "/replica?lag=1MB", "/liveness"], &[]),
        (".replica", &["/replica", "/replica?lag=1MB", "/replica?tag_a=b"], &["/primary", "/read-only", "/async"]),
        (".primary", &["/primary", "/master", "/read-write"], &["/leader", "/replica"]),
        // As configuration management may name it.
        (".master", &["/primary", "/master", "/read-write"], &["/leader", "/replica"]),
        (".synchronous", &["/sync?lag=1MB", "/synchronous"], &["/async", "/read-only-sync"]),
        (
            ".replica?lag=1048576",
            &["/replica?lag=1MB", "/replica?lag=1024kB"],
            &["/replica", "/replica?lag=2MB", "/replica?lag=1MB&tag_a=b"],
        ),
        (
            ".sync?tag_a=1&tag_b=2",
            &["/sync?tag_a=1&tag_b=2", "/synchronous?tag_b=2&tag_a=1"],
            &["/sync", "/sync?tag_a=1"],
        ),
        (".standby-leader", &["/standby-leader", "/standby_leader"], &["/leader"]),
    ];
    for (suffix, held, free) in table {
        let (_directory, holds) = holds(&[(suffix, "x\n")]);
        for on in held {
            assert_eq!(told(&holds, on).as_deref(), Some("maint, held: x"), "hold{suffix} and {on}");
        }
        for on in free {
            assert_eq!(told(&holds, on), None, "hold{suffix} and {on}");
        }
        // A check that names nothing that is known.
        assert_eq!(holds.held(None).is_some(), suffix.is_empty());
    }
    // A name is what it is made from.
    for on in Endpoint::all()
        .chain(["/replica?lag=1MB", "/sync?tag_b=2&tag_a=1", "/readiness?lag=1B&mode=write"].map(endpoint))
    {
        let (_directory, holds) = holds(&[]);
        holds.of(&on).begin(&Hold::new("x", Sessions::Cut, None)).unwrap();
        assert_eq!(told(&holds, &on.to_string()).as_deref(), Some("maint, held: x"));
        let found = holds.found().unwrap();
        let [Found { scope: Scope::Some(named), .. }] = &found[..] else { panic!("{on}: {found:?}") };
        assert!(covers(named, &on) && covers(&on, named));
        assert!(holds.of(named).end().unwrap());
    }
}

#[test]
fn of_several_holds_one_that_cuts_counts_and_then_the_one_that_lasts() {
    const LATE: &str = "until 2999-01-01T00:00:00Z\n";
    const LATER: &str = "until 2999-02-01T00:00:00Z\n";
    let table = [
        (vec![("", "a\ndrain\n"), (".replica", "b\n")], "maint, held: b"),
        (vec![("", "a\n"), (".replica", "b\ndrain\n")], "maint, held: a"),
        (vec![("", "a\n"), (".replica", "b\n")], "maint, held: a"),
        (vec![("", "a\ndrain\n"), (".replica?lag=1", "b\ndrain\n")], "drain, held: a"),
        (vec![("", "a\nLATE"), (".replica", "b\n")], "maint, held: b"),
        (vec![("", "a\nLATE"), (".replica", "b\nLATER")], "maint, held until 2999-02-01T00:00:00Z: b"),
        (vec![("", "a\nLATE"), (".replica", "b\ndrain\n")], "maint, held until 2999-01-01T00:00:00Z: a"),
    ];
    for (files, expected) in table {
        let files: Vec<_> =
            files.into_iter().map(|(name, text)| (name, text.replace("LATER", LATER).replace("LATE", LATE))).collect();
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        assert_eq!(told(&holds(&files).1, "/replica?lag=1B").as_deref(), Some(expected), "{files:?}");
    }
}

#[test]
fn a_hold_overrides_whatever_patroni_says() {
    let (_directory, holds) = holds(&[("", "x\ndrain\n")]);
    let verdicts = [serve(), Verdict::stand_by("y"), Verdict::Fail("y".into())];
    let sessions = |on: &str| {
        verdicts.clone().map(|verdict| match holds.overriding(Some(&endpoint(on)), verdict) {
            Verdict::Held(why, sessions) if why == "held: x" => sessions,
            verdict => panic!("{verdict:?}"),
        })
    };
    assert_eq!(sessions("/replica"), [Sessions::MayStay; 3]);
    // The sessions of a former primary are not kept.
    for on in ["/primary", "/leader", "/standby-leader"] {
        assert_eq!(sessions(on), [Sessions::MayStay, Sessions::Cut, Sessions::Cut], "{on}");
    }
}

#[test]
fn a_hold_that_is_over_is_none() {
    let (directory, holds) = holds(&[(".replica", "x\nuntil 2020-01-01T00:00:00Z\n"), ("", "y\ndrain\n")]);
    let file = File::options().write(true).open(directory.path().join("hold.replica")).unwrap();
    assert_eq!(told(&holds, "/replica").as_deref(), Some("maint, held (until was past already): x"));
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(told(&holds, "/replica").as_deref(), Some("drain, held: y"));
    holds.of_all().end().unwrap();
    assert_eq!(told(&holds, "/replica"), None);
}

#[test]
fn names_beside_a_hold_are_told_apart() {
    let names = [
        "",
        ".replica",
        ".replica?lag=1MB",
        ".replica?lag=1048576",
        ".master",
        ".bak",
        ".7.new",
        ".new",
        "2",
        ".replica~",
    ];
    let (_directory, holds) = holds(&names.map(|name| (name, "x\n")));
    let found: Vec<_> = holds.found().unwrap().into_iter().map(|found| found.scope).collect();
    let nothing = |why: &str| Scope::Nothing(format!("holds nothing: {why}"));
    let no_endpoint = || nothing("it is named after no endpoint");
    assert_eq!(
        found,
        [
            Scope::All,
            no_endpoint(),
            Scope::Some(endpoint("/master")),
            Scope::Some(endpoint("/replica")),
            Scope::Some(endpoint("/replica?lag=1MB")),
            nothing("write replica?lag=1048576"),
            no_endpoint(),
        ]
    );
    holds.remove_unfinished();
    assert_eq!(fs::read_dir(_directory.path()).unwrap().count(), names.len(), "somebody may be writing");
    for name in [".7.new", ".new"] {
        let file = File::options().write(true).open(_directory.path().join(format!("hold{name}"))).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(61)).unwrap();
    }
    holds.remove_unfinished();
    assert_eq!(fs::read_dir(_directory.path()).unwrap().count(), names.len() - 2);
    assert_eq!(Holds::new("/nonexistent/directory/hold".into()).found().unwrap().len(), 0);
}

#[test]
fn who_may_not_write_is_told_who_may() {
    let denied = io::Error::from_raw_os_error(Errno::ACCESS.raw_os_error());
    let full = io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error());
    let told = |error| in_file(Path::new("/a/hold"), &error).to_string();
    assert_eq!(told(denied), "/a/hold: Permission denied (os error 13); run it as root");
    assert_eq!(told(full), "/a/hold: No space left on device (os error 28)");
}
