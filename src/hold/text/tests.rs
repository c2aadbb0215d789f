use super::*;

const BOOT: &str = "0123456789abcdef0123456789abcdef";

/// Unix time and the time since the boot, in seconds.
fn at(wall: u64, boot: u64) -> Moment {
    Moment { wall: Duration::from_secs(wall), boot: Duration::from_secs(boot) }
}

/// 2026-11-28T14:00:00Z.
const END: u64 = 1_795_874_400;

/// An hour before, in a boot that is 1000 s old.
fn noon() -> Moment {
    at(END - 3600, 1000)
}

fn read(text: &str) -> Hold {
    Hold::read(text.as_bytes(), Some(noon().wall))
}

#[test]
fn a_file_is_a_reason_and_lines_that_mean_something() {
    let table = [
        ("", Sessions::Cut, false, "held"),
        ("new disk", Sessions::Cut, false, "held: new disk"),
        ("new disk\ndrain\n", Sessions::MayStay, false, "held: new disk"),
        ("new disk\nuntil 2026-11-28T14:00:00Z\n", Sessions::Cut, true, "held until 2026-11-28T14:00:00Z: new disk"),
        (
            "\r\n  until   2026-11-28T14:00:00Z \r\n\tdrain\r\n",
            Sessions::MayStay,
            true,
            "held until 2026-11-28T14:00:00Z",
        ),
        // What it begins with is the reason, whatever it looks like.
        ("drain", Sessions::Cut, false, "held: drain"),
        ("until 1970-01-01T00:00:00Z\n", Sessions::Cut, false, "held: until 1970-01-01T00:00:00Z"),
        // All else means nothing.
        ("x\n# drain\nby: me\ndrained\n\nboots\n", Sessions::Cut, false, "held: x"),
        ("x\nboot y z\n", Sessions::Cut, false, "held: x"),
    ];
    for (text, sessions, ends, why) in table {
        let hold = read(text);
        assert_eq!((hold.sessions, hold.end.is_some(), &*hold.why(Standing::Holds)), (sessions, ends, why), "{text:?}");
    }
}

#[test]
fn what_is_wrong_in_a_file_never_ends_the_hold_and_is_said() {
    const GOOD: &str = "until 2026-11-28T14:00:00Z";
    let long = format!("{GOOD}\n{}", "x".repeat(SIZE_LIMIT));
    let boot = |text: &str| format!("{GOOD}\nboot {text}");
    let number = format!("{BOOT} {}", u128::MAX);
    let table = [
        ("until", "until unreadable"),
        ("until tomorrow", "until unreadable"),
        ("until 2026-11-28", "until unreadable"),
        ("until 2026-11-28T14:00:00", "until unreadable"),
        ("until 2026-11-28T14:00:00+01:00", "until unreadable"),
        ("until 2026-11-28 14:00:00Z", "until unreadable"),
        ("until 2026-11-31T14:00:00Z", "until unreadable"),
        ("until 2026-11-28T25:00:00Z", "until unreadable"),
        ("until 1969-12-31T23:59:59Z", "until unreadable"),
        ("until 0000-00-00T00:00:00Z", "until unreadable"),
        ("until 99999-01-01T00:00:00Z", "until unreadable"),
        ("until -2026-11-28T14:00:00Z", "until unreadable"),
        ("until 1795874400", "until unreadable"),
        ("until 2026-11-28T14:00:00Z.", "until unreadable"),
        ("until 2026-11-28T14:00:00Z or so", "until unreadable"),
        ("until 2026-11-28T14:00:00Z\0", "until unreadable"),
        ("until: 2026-11-28T14:00:00Z", "until unreadable"),
        ("until=2026-11-28T14:00:00Z", "until unreadable"),
        ("Until 2026-11-28T14:00:00Z", "until unreadable"),
        ("until\u{a0}2026-11-28T14:00:00Z", "until unreadable"),
        ("until 2026-11-28T13:59:59.5Z", "until unreadable"),
        ("untill 1970", "until unreadable"),
        // What humantime takes, and RFC 3339 does not know.
        ("until 2026-11-28T14:00:00ZZ", "until unreadable"),
        ("until 2026-11-28T14:00:00.Z", "until unreadable"),
        (&format!("{GOOD}\n{GOOD}"), "until twice"),
        (&format!("{GOOD}\nuntil2026-11-29T14:00:00Z"), "until twice"),
        (&format!("{GOOD}\n\u{feff}until 2026-11-29T14:00:00Z"), "until twice"),
        (&format!("{GOOD}\n- until 2026-11-29T14:00:00Z"), "until twice"),
        (&format!("{GOOD}\nuntil further notice"), "until twice"),
        ("until 2016-11-28T14:00:00Z", "until was past already"),
        ("until 1970-01-01T00:00:00Z", "until was past already"),
        ("until 2026-11-28T13:00:00Z", "until was past already"),
        (&boot(""), "boot unreadable"),
        (&boot(BOOT), "boot unreadable"),
        (&boot("x 5"), "boot unreadable"),
        (&boot(&format!("{BOOT} -5")), "boot unreadable"),
        (&boot(&format!("{BOOT} +5")), "boot unreadable"),
        (&boot(&format!("{BOOT} 5 6")), "boot unreadable"),
        (&boot(&number), "boot unreadable"),
        (&format!("{GOOD}\nboot {BOOT} 5\nboot {BOOT} 5"), "boot twice"),
        (&long, "file too long"),
    ];
    for (lines, fault) in table {
        let hold = read(&format!("new disk\n{lines}\n"));
        assert_eq!(hold.end, None, "{lines:?}");
        assert_eq!(hold.why(Standing::Holds), format!("held ({fault}): new disk"), "{lines:?}");
        // Not in a thousand years either.
        assert_eq!(hold.standing(at(END + 31_557_600_000, 1), None), Standing::Holds);
    }
    for lines in ["drain yes", "drain: yes", "DRAIN", "drain-all", "drain=1"] {
        let hold = read(&format!("new disk\n{lines}\n{GOOD}\n"));
        assert_eq!(hold.sessions, Sessions::Cut, "{lines}");
        assert_eq!(hold.why(Standing::Holds), "held until 2026-11-28T14:00:00Z (drain unreadable): new disk");
    }
    assert_eq!(read("x\ndrain\ndrain\n").why(Standing::Holds), "held (drain twice): x");
    // No end, and no session is cut for that.
    let hold = read("x\ndrain\nuntil then\n");
    assert_eq!((hold.sessions, &*hold.why(Standing::Holds)), (Sessions::MayStay, "held (until unreadable): x"));
    // Bytes that are no text.
    let hold = Hold::read(b"caf\xe9 closed\nuntil 2026-11-28T14:00:00Z\xff\n\xff\n", None);
    assert_eq!(hold.why(Standing::Holds), "held (until unreadable): caf\u{fffd} closed");
    // What comes late in a file that is too long.
    assert_eq!(read(&format!("x\n{}\ndrain\n", "y".repeat(SIZE_LIMIT))).why(Standing::Holds), "held: x");
}

/// By both clocks, whichever was set.
#[test]
fn a_hold_ends_when_both_clocks_say_so() {
    let hold = Hold::new("x", Sessions::Cut, Some(End::after(noon(), Duration::from_secs(3600), Ok(BOOT.into()))));
    assert_eq!(hold.text(), format!("x\nuntil 2026-11-28T14:00:00Z\nboot {BOOT} 4600\n"));
    assert_eq!(read(&hold.text()), hold);
    let this = Some(BOOT);
    use Standing::{ClockJumped, Holds, Over};
    let table = [
        ("just made", noon(), this, Holds),
        ("the last second", at(END - 1, 4599), this, Holds),
        ("in time", at(END, 4600), this, Over),
        ("a leap second was left out", at(END, 4599), this, Over),
        ("set ahead by an hour", at(END, 1000), this, ClockJumped),
        ("set ahead by a year", at(END + 31_557_600, 4597), this, ClockJumped),
        ("the same, and the time has come", at(END + 31_557_600, 4600), this, Over),
        ("set back", at(END - 1, 90_000), this, Holds),
        ("after a reboot", at(END, 10), Some("fedcba9876543210fedcba9876543210"), Over),
        ("before it, after a reboot", at(END - 1, 99_999), Some("fedcba9876543210fedcba9876543210"), Holds),
        ("nobody knows which boot it is", at(END, 10), None, ClockJumped),
        ("the boot in capitals", at(END, 1000), Some("0123456789ABCDEF0123456789ABCDEF"), ClockJumped),
    ];
    for (what, now, boot, standing) in table {
        assert_eq!(hold.standing(now, boot), standing, "{what}");
    }
    assert_eq!(hold.why(ClockJumped), "held until 2026-11-28T14:00:00Z (clock jumped): x");
    let end = hold.end.as_ref().unwrap();
    assert_eq!(end.left(at(END, 1000), this).as_secs(), 3600);
    assert_eq!(end.left(at(END, 1000), Some("other")).as_secs(), 0);
    // By hand, or where the boot has no id: by the wall clock alone.
    for boot_id in [Err(io::Error::other("hidden")), Ok("odd".to_owned())] {
        let hold = Hold::new("x", Sessions::Cut, Some(End::after(noon(), Duration::from_secs(3600), boot_id)));
        assert_eq!(hold.text(), "x\nuntil 2026-11-28T14:00:00Z\n");
        assert_eq!((hold.standing(at(END - 1, 0), this), hold.standing(at(END, 0), this)), (Holds, Over));
    }
}

#[test]
fn times_are_rounded_up_and_have_no_end_that_can_not_be_written() {
    let now = Moment { wall: Duration::from_millis(1_500), boot: Duration::from_millis(700) };
    let end = End::after(now, Duration::from_millis(1_100), Ok(BOOT.into()));
    assert_eq!((end.wall.as_secs(), end.boot.unwrap().1.as_secs()), (3, 2));
    assert_eq!(format_time(Duration::MAX), "9999-12-31T23:59:59Z");
    let end = End::after(Moment { wall: Duration::MAX, boot: Duration::MAX }, Duration::MAX, Ok(BOOT.into()));
    assert!(end.lines().starts_with("until 9999-12-31T23:59:59Z\n"), "{}", end.lines());
}

#[test]
fn a_reason_is_a_line_of_text() {
    let long = "é".repeat(300);
    let table: [(&[u8], &str); 6] = [
        (b"  new  disk \r\nby me\n", "new disk"),
        (b"a\tb\x1b[31mc\x9b", "a b [31mc"),
        (b"caf\xe9 closed", "caf\u{fffd} closed"),
        ("\u{9b}31mred".as_bytes(), "31mred"),
        (b"\n", ""),
        (long.as_bytes(), &long[..198]),
    ];
    for (written, reason) in table {
        assert_eq!(Hold::read(written, None).reason, reason);
    }
    for (given, reason) in [
        ("new\ndisk", "new disk"),
        ("x\ndrain\nuntil 1970-01-01T00:00:00Z", "x drain until 1970-01-01T00:00:00Z"),
        (&long, &long[..198]),
    ] {
        let hold = Hold::new(given, Sessions::Cut, None);
        assert_eq!((&*hold.reason, hold.text()), (reason, format!("{reason}\n")));
    }
}
