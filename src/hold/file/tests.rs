use super::*;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::verdict::Sessions;

fn hold(reason: &str) -> Hold {
    Hold::new(reason, Sessions::Cut, None)
}

fn reason(file: &HoldFile) -> Option<String> {
    file.hold().map(|hold| hold.reason)
}

#[test]
fn a_hold_is_there_from_its_beginning_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let file = HoldFile::new(directory.path().join("etc/hold"));
    assert_eq!(file.hold(), None);
    assert!(!file.end().unwrap());
    for made in [hold("new disk"), hold(""), Hold::new("x", Sessions::MayStay, None)] {
        file.begin(&made).unwrap();
        assert_eq!(file.hold(), Some(made));
    }
    assert!(file.end().unwrap());
    assert_eq!(file.hold(), None);
    assert_eq!(fs::read_dir(directory.path().join("etc")).unwrap().count(), 0, "nothing is left beside it");
}

#[test]
fn whatever_is_there_holds_and_nothing_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("directory")).unwrap();
    mknodat(CWD, path("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _socket = UnixListener::bind(path("socket")).unwrap();
    File::create(path("huge")).unwrap().set_len(1 << 40).unwrap();
    symlink("/dev/zero", path("endless")).unwrap();
    symlink("nowhere", path("dangling")).unwrap();
    symlink("loop", path("loop")).unwrap();
    fs::write(path("target"), "by a link\n").unwrap();
    symlink("target", path("link")).unwrap();
    let in_the_way = |what: &str, name: &str| format!("{}: {what}", path(name).display());
    let table = [
        ("directory", in_the_way("a directory, not a file", "directory")),
        ("fifo", in_the_way("a FIFO, not a file", "fifo")),
        ("socket", in_the_way("a socket, not a file", "socket")),
        ("endless", in_the_way("a device, not a file", "endless")),
        ("dangling", in_the_way("a symbolic link to nothing", "dangling")),
        ("loop", in_the_way("Too many levels of symbolic links (os error 40)", "loop")),
        ("huge", String::new()),
        ("link", "by a link".into()),
    ];
    for (name, why) in table {
        let file = HoldFile::new(path(name));
        assert_eq!(reason(&file), Some(why), "{name}");
        assert_eq!(file.hold().unwrap().sessions, Sessions::Cut);
        // And the other side says the same.
        if name != "directory" {
            assert!(file.end().unwrap(), "{name}");
            assert_eq!(reason(&file), None, "{name}");
        }
    }
    HoldFile::new(path("directory")).begin(&hold("")).unwrap_err();
    let null = HoldFile::new(path("null"));
    // Needs root.
    if mknodat(CWD, null.path(), FileType::CharacterDevice, Mode::RWXU, makedev(1, 3)).is_ok() {
        assert_eq!(reason(&null), Some(in_the_way("a device, not a file", "null")));
        null.begin(&hold("")).unwrap_err();
        null.end().unwrap_err();
        assert!(null.path().exists());
    }
    assert_eq!(reason(&HoldFile::new(path("target/hold"))), None, "there can be none");
}

#[test]
fn only_what_a_hold_makes_gets_a_mode() {
    let directory = tempfile::tempdir().unwrap();
    let mode = |path: &str| directory.path().join(path).metadata().unwrap().permissions().mode() & 0o7777;
    let there = directory.path().join("there");
    fs::create_dir(&there).unwrap();
    fs::set_permissions(&there, Permissions::from_mode(0o1777)).unwrap();
    let file = HoldFile::new(there.join("hold"));
    file.begin(&hold("")).unwrap();
    assert_eq!((mode("there"), mode("there/hold")), (0o1777, 0o644));
    // What an interrupted one, or somebody else, has left there is not written through.
    fs::write(directory.path().join("others"), "others").unwrap();
    symlink("../others", there.join(format!("hold.{}.new", std::process::id()))).unwrap();
    file.begin(&hold("")).unwrap();
    assert_eq!(fs::read_to_string(directory.path().join("others")).unwrap(), "others");
    assert_eq!(fs::read_dir(there).unwrap().count(), 1);
}

/// As a name may have 255 bytes, and a path 4095.
#[test]
fn a_name_that_no_file_can_have_is_no_hold() {
    let directory = tempfile::tempdir().unwrap();
    let first = HoldFile::new(directory.path().join("hold"));
    let (longest, too_long) = (first.beside(&"x".repeat(250)), first.beside(&"x".repeat(251)));
    longest.begin(&hold("long")).unwrap();
    assert_eq!(reason(&longest), Some("long".into()));
    assert_eq!((reason(&too_long), too_long.end().unwrap()), (None, false));
    too_long.begin(&hold("")).unwrap_err();
    // The one that the settings name was meant.
    assert!(HoldFile::new(directory.path().join("x".repeat(256))).hold().is_some());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn what_is_being_written_is_no_hold() {
    for (name, is_so) in [
        ("new", true),
        ("1.new", true),
        ("32768.new", true),
        ("replica?tag_a=1.new", false),
        ("x.new", false),
        ("1", false),
        ("1new", false),
    ] {
        assert_eq!(is_unfinished(name), is_so, "{name}");
    }
}
