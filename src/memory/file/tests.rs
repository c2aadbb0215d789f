use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;
use crate::verdict::{Evidence, Judgement};

fn limits() -> Limits {
    let ms = Duration::from_millis;
    Limits { deadline: ms(80), max_age: ms(100), grace: ms(5000) }
}

fn subject(view: &str) -> Subject {
    let endpoint: crate::endpoint::Endpoint = view.parse().unwrap();
    Subject { name: endpoint.to_string(), endpoint, probe: None }
}

fn file_in(directory: &TempDir) -> MemoryFile {
    let directory = Directory {
        path: directory.path().to_owned(),
        boot_id: boot_id().unwrap(),
        patroni: "http://localhost:8008".into(),
        limits: limits(),
    };
    directory.file(&subject("/primary"))
}

fn view() -> View {
    "/primary".parse().unwrap()
}

/// By one who has the lock.
fn save(file: &MemoryFile, memory: &Memory) -> Result<(), String> {
    let lock = file.try_lock().unwrap().expect("nobody has it");
    file.save(memory, &lock)
}

fn learnt(now: Moment, why: &str) -> Memory {
    let mut memory = Memory::new(limits());
    let evidence = Evidence::Conclusive { has_lock: Some(true) };
    memory.learn(now, now, Judgement { verdict: Verdict::Serve(why.into()), evidence });
    memory
}

/// A Patroni that is silent, asked by one who knows this.
fn verdict_in_silence(memory: Memory) -> Verdict {
    let mut memory = memory;
    let now = Moment::now();
    let judgement = memory.learn(now, now, Judgement::silence("patroni: connection refused".into()));
    memory.verdict(now, &judgement)
}

#[test]
fn what_was_written_is_what_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = file_in(&directory);
    assert_eq!(file.load(), Ok(None), "nothing yet");
    let memory = learnt(Moment::now(), "primary timeline 3");
    save(&file, &memory).unwrap();
    assert_eq!(file.load(), Ok(Some(memory)));
    assert!(!file.beside("new").exists());
    let mode = fs::metadata(file.path()).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600, "the next process reads it, and the service's user may not be root");
}

#[test]
fn the_views_of_which_something_is_remembered_are_those_with_a_file() {
    let temporary = tempfile::tempdir().unwrap();
    let mut config = crate::cli::CommandLine::parse(&[]).unwrap().config;
    config.runtime_directory = None;
    assert!(Directory::of(&config).unwrap().is_none());
    config.runtime_directory = Some(temporary.path().join("patroni-check"));
    let directory = Directory::of(&config).unwrap().unwrap();
    assert_eq!(directory.views(), Ok(vec![]), "no service has run yet");
    fs::create_dir(&directory.path).unwrap();
    for view in ["/replica", "/primary"] {
        save(&directory.file(&subject(view)), &learnt(Moment::now(), "said")).unwrap();
    }
    fs::write(directory.path.join("unknown.json"), "").unwrap();
    assert_eq!(directory.views(), Ok(["/primary", "/replica"].map(|view| view.parse().unwrap()).into()));
    config.runtime_directory = Some(directory.path.join("unknown.json"));
    let why = Directory::of(&config).unwrap().unwrap().views().unwrap_err();
    assert!(why.contains("unknown.json: Not a directory"), "{why}");
}

#[test]
fn what_is_known_of_a_probed_endpoint_is_not_known_without_the_probe() {
    let directory = tempfile::tempdir().unwrap();
    let file = file_in(&directory);
    let mut probed = file.clone();
    probed.subject.probe = Some("/run:5432".parse().unwrap());
    save(&probed, &learnt(Moment::now(), "primary")).unwrap();
    assert!(probed.load().unwrap().is_some());
    assert!(file.load().unwrap_err().contains("of another probe"));
}

/// Each of these is no memory, with a reason, and never a wrong word; and the next save mends it.
#[test]
fn what_is_damaged_or_not_meant_for_us_is_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let file = file_in(&directory);
    let path = file.path();
    let now = Moment::now();
    save(&file, &learnt(now, "primary")).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    let other = directory.path().join("other");
    fs::write(&other, &good).unwrap();
    let edit = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} is not in {good}");
        good.replace(from, to)
    };
    let id = &file.directory.boot_id;
    let nanoseconds = now.boot.as_nanos();
    let begun = format!("[[{nanoseconds},");
    let in_an_hour = format!("[[{},", nanoseconds + 3_600_000_000_000);
    let table = [
        (String::new(), "EOF while parsing"),
        (good[..good.len() / 2].into(), "EOF while parsing"),
        ("\0".repeat(good.len()), "expected value"),
        (good.clone() + "}", "trailing characters"),
        ("[]".into(), "invalid length"),
        ("{}".into(), "missing field"),
        (" ".repeat(1 << 20), "too long"),
        (format!("{good:0$}", SIZE_LIMIT as usize + 1), "too long"),
        (edit(r#""version":3"#, r#""version":2"#), "in another format"),
        (edit(r#""version":3"#, r#""version":-1"#), "invalid value"),
        (edit(id, "0123"), "from another boot"),
        (edit("localhost:8008", "localhost:8009"), "of another Patroni"),
        (edit("/primary", "/replica"), "of another endpoint"),
        (edit("back_from_silence", "back\\nfrom"), "unknown field `back from`"),
        (edit(r#""probe":null"#, r#""probe":"/run:5432""#), "of another probe"),
        (edit(&begun, &in_an_hour), "from the future"),
        (edit(&begun, "[[18446744073709551615,"), "from the future"),
        (edit(&begun, "[[18446744073709551616,"), "invalid type"),
        (edit(&begun, "[[-1,"), "invalid value"),
        (edit(r#""Serve""#, r#""Always""#), "unknown variant"),
        (edit(r#""latest""#, r#""newest""#), "unknown field"),
        (edit(r#""recheck_pending":false,"#, ""), "missing field"),
    ];
    for (bytes, why) in table {
        fs::write(&path, &bytes).unwrap();
        let e = file.load().expect_err(why);
        assert!(e.contains(why) && e.ends_with("; it is not used"), "{why}: {e}");
        assert!(!e.contains('\n'), "{e}");
    }
    fs::write(&path, format!("{good:0$}", SIZE_LIMIT as usize)).unwrap();
    assert_eq!(verdict_in_silence(file.load().unwrap().unwrap()), Verdict::Serve("primary".into()));
    save(&file, &learnt(Moment::now(), "primary")).unwrap();
    file.load().unwrap().unwrap();
}

#[test]
fn only_a_file_that_the_services_user_alone_can_write_counts() {
    let directory = tempfile::tempdir().unwrap();
    let file = file_in(&directory);
    let path = file.path();
    save(&file, &learnt(Moment::now(), "primary")).unwrap();
    let why = |what: &str| file.load().expect_err(what);
    fs::set_permissions(&path, Permissions::from_mode(0o620)).unwrap();
    assert!(why("the group may write it").contains("others than the service's user"));
    // Needs root.
    if std::os::unix::fs::chown(&path, Some(65534), None).is_ok() {
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(why("it is another's").contains("others than the service's user"));
    }
    fs::rename(&path, directory.path().join("elsewhere")).unwrap();
    symlink("elsewhere", &path).unwrap();
    assert!(why("a symbolic link").contains("symbolic links"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(why("a directory").contains("not a file"));
    fs::write(path.join("in the way"), "").unwrap();
    assert!(save(&file, &learnt(Moment::now(), "primary")).unwrap_err().contains("is lost at the end"));
    fs::remove_dir_all(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert!(why("a FIFO").contains("not a file"));
}

/// Nobody but the service's user has anything to put there.
#[test]
fn what_is_in_the_way_is_removed_and_not_written_through() {
    let directory = tempfile::tempdir().unwrap();
    let file = file_in(&directory);
    let elsewhere = directory.path().join("elsewhere");
    fs::write(&elsewhere, "others").unwrap();
    let serve = Verdict::Serve("primary".into());
    assert!(file.note_told(&view(), Moment::now(), &serve).is_some());
    let obstacles: [&dyn Fn(&Path); 3] =
        [&|path| symlink(&elsewhere, path).unwrap(), &|path| fs::create_dir(path).unwrap(), &|path| {
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap()
        }];
    for put in obstacles {
        for kind in ["new", "json", "lock", "told"] {
            let path = file.beside(kind);
            let _ = fs::remove_file(&path);
            put(&path);
            let memory = learnt(Moment::now(), "primary");
            save(&file, &memory).unwrap();
            assert_eq!(file.load(), Ok(Some(memory)));
            drop(file.try_lock().unwrap().unwrap());
            assert_eq!(file.note_told(&view(), Moment::now(), &serve).is_some(), kind == "told");
            assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "others");
        }
    }
}

/// What is older than what is known would let a verdict stand that was taken back.
#[test]
fn what_can_not_be_replaced_does_not_stay() {
    let directory = tempfile::tempdir().unwrap();
    let file = file_in(&directory);
    save(&file, &learnt(Moment::now(), "primary")).unwrap();
    fs::create_dir(file.beside("new")).unwrap();
    fs::write(file.beside("new").join("in the way"), "").unwrap();
    save(&file, &learnt(Moment::now(), "primary")).unwrap_err();
    assert_eq!(file.load(), Ok(None));
}

#[test]
fn what_can_not_be_removed_either_is_emptied() {
    let directory = tempfile::tempdir().unwrap();
    let file = file_in(&directory);
    save(&file, &learnt(Moment::now(), "primary")).unwrap();
    // Root can do everything, but become another user.
    for path in [&file.path(), &file.beside("lock"), directory.path()] {
        let _ = std::os::unix::fs::chown(path, Some(65534), None);
    }
    fs::set_permissions(directory.path(), Permissions::from_mode(0o500)).unwrap();
    let as_another = || {
        // Of this thread alone.
        let _ = rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65534));
        save(&file, &learnt(Moment::now(), "primary")).unwrap_err()
    };
    let why = std::thread::scope(|scope| scope.spawn(as_another).join().unwrap());
    fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    assert!(why.contains("Permission denied"), "{why}");
    assert!(file.load().unwrap_err().contains("EOF while parsing"));
}

#[test]
fn one_who_has_lost_the_lock_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = file_in(&directory);
    let start = Moment::now();
    let older = learnt(start, "older");
    let newer = learnt(start + Duration::from_nanos(1), "newer");
    let lock = file.try_lock().unwrap().unwrap();
    fs::remove_file(file.beside("lock")).unwrap();
    let other = file.try_lock().unwrap().expect("another lock");
    file.save(&newer, &other).unwrap();
    file.save(&older, &lock).unwrap();
    assert_eq!(file.load(), Ok(Some(newer)));
    file.save(&older, &other).unwrap();
    assert_eq!(file.load(), Ok(Some(older)), "who has it knows");
}

#[test]
fn an_endless_reason_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    let file = file_in(&directory);
    for c in ["é", "\0", "\u{10ffff}"] {
        save(&file, &learnt(Moment::now(), &c.repeat(1 << 20))).unwrap();
        file.load().unwrap().unwrap();
        assert!(fs::metadata(file.path()).unwrap().len() < SIZE_LIMIT / 2);
    }
}

#[test]
fn an_endpoint_that_is_too_long_for_the_name_of_a_file_has_a_name_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let directory = file_in(&directory).directory;
    let file = |length: usize, last: char| {
        let view: View = format!("/replica?tag_a={}{last}", "a".repeat(length - 16)).parse().unwrap();
        (directory.file(&subject(&view.to_string())), view)
    };
    let mut paths = Vec::new();
    for (length, last) in [(NAME_LIMIT, 'x'), (NAME_LIMIT + 2, 'x'), (255, 'x'), (255, 'y')] {
        let (file, view) = file(length, last);
        save(&file, &learnt(Moment::now(), "replica")).unwrap();
        assert!(file.load().unwrap().is_some());
        assert!(file.note_told(&view, Moment::now(), &Verdict::stand_by("x")).is_some());
        paths.push(file.path());
    }
    // Whose name is hashed, it is none of the views of which something is remembered.
    let longest = file(NAME_LIMIT + 1, 'x').0.path();
    assert!(longest.to_str().unwrap().ends_with("aax.json"), "{longest:?}");
    assert_eq!(paths[2].file_name().unwrap().len(), NAME_LIMIT + ".json".len());
    paths.dedup();
    assert_eq!(paths.len(), 4);
    // Should two have the same hash, neither takes the other's for its own.
    fs::copy(&paths[2], &paths[3]).unwrap();
    let why = file(255, 'y').0.load().unwrap_err();
    assert!(why.contains("of another endpoint"), "{why}");
}

#[test]
fn endpoints_that_are_the_same_to_patroni_have_one_lock() {
    let directory = tempfile::tempdir().unwrap();
    let directory = file_in(&directory).directory;
    let file = |endpoint: &str| directory.file(&subject(endpoint));
    let lock = file("/replica?lag=1kB").try_lock().unwrap().unwrap();
    assert!(file("/replica?lag=1kB&replication_state=streaming").try_lock().unwrap().is_none());
    assert!(file("/replica?lag=2kB").try_lock().unwrap().is_some());
    drop(lock);
    assert!(file("/replica?lag=1kB&replication_state=streaming").try_lock().unwrap().is_some());
}

#[test]
fn one_at_a_time_has_the_lock() {
    let directory = tempfile::tempdir().unwrap();
    let file = file_in(&directory);
    let soon = || Instant::now() + Duration::from_millis(20);
    let lock = file.try_lock().unwrap().unwrap();
    assert!(file.try_lock().unwrap().is_none());
    assert!(file.lock(soon(), || false).unwrap().is_none());
    let mut looks = 0;
    let found = file.lock(Instant::now() + Duration::from_secs(60), || {
        looks += 1;
        looks == 3
    });
    assert!(found.unwrap().is_none(), "another one has found it");
    drop(lock);
    file.lock(soon(), || false).unwrap().unwrap();
    fs::remove_dir_all(directory.path()).unwrap();
    file.try_lock().unwrap_err();
}

#[test]
fn a_change_of_verdict_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = file_in(&directory);
    let (serve, fail) = (Verdict::Serve("primary".into()), Verdict::Fail("postgres: stopping".into()));
    let start = Moment::now();
    let at = |ms| start + Duration::from_millis(ms);
    // A child that another test has just forked has the lock until its `exec`.
    let is_told = |ms, verdict| {
        (0..100).any(|_| {
            let is_told = file.note_told(&view(), at(ms), verdict).is_some();
            is_told || {
                sleep(Duration::from_millis(2));
                false
            }
        })
    };
    assert!(is_told(0, &serve));
    assert!(file.note_told(&view(), at(1), &serve).is_none());
    assert!(is_told(3, &fail));
    assert!(file.note_told(&view(), at(2), &serve).is_none(), "who was slower tells nothing of now");
    assert!(is_told(3, &serve), "as new as what was told");
    // What is not ours to read is replaced.
    for bytes in [&b""[..], b"{", b"\xff\xfe", &[b' '; 1 << 16]] {
        fs::write(file.beside("told"), bytes).unwrap();
        assert!(is_told(5, &serve));
        assert!(file.note_told(&view(), at(6), &serve).is_none());
    }
}
