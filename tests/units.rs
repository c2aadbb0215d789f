//! The installed files: units that systemd takes without a complaint, pointing at the program where it was installed.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// `make install`, with a program that another profile has built.
fn install(root: &Path, prefix: &str) {
    let target = root.join("build");
    fs::create_dir_all(target.join("release")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_patroni-check"), target.join("release/patroni-check")).unwrap();
    let mut make = Command::new("make");
    make.arg("install").arg(format!("PREFIX={prefix}"));
    make.arg(format!("DESTDIR={}", root.display())).arg(format!("TARGET={}", target.display()));
    let done = make.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn systemd_has_nothing_to_say_against_the_units() {
    let root = TempDir::new().unwrap();
    install(root.path(), "/usr");
    let units = root.path().join("usr/lib/systemd/system");
    let verify = |unit: &str| {
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no", "--recursive-errors=no"]).arg(units.join(unit));
        let output = command.env("SYSTEMD_UNIT_PATH", format!("{}:", units.display())).output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        // The program is where DESTDIR has it, not where the unit says.
        complaints.lines().filter(|line| !line.contains("/usr/bin/patroni-check is not executable")).collect::<String>()
    };
    for unit in
        ["patroni-check.socket", "patroni-check-replica.socket", "patroni-check.service", "patroni-check@.service"]
    {
        assert_eq!(verify(unit), "", "{unit}");
    }
    // With the drop-in it is another unit.
    let drop_in = units.join("patroni-check.socket.d");
    fs::create_dir(&drop_in).unwrap();
    fs::copy(root.path().join("usr/share/doc/patroni-check/accept-yes.conf"), drop_in.join("accept-yes.conf")).unwrap();
    assert_eq!(verify("patroni-check.socket"), "");
    // That the command would tell.
    fs::write(drop_in.join("wrong.conf"), "[Socket]\nAccept=perhaps\n").unwrap();
    assert_ne!(verify("patroni-check.socket"), "");
}

#[test]
fn a_prefix_is_heeded_in_the_units() {
    let root = TempDir::new().unwrap();
    install(root.path(), "/opt/pc");
    for unit in ["patroni-check.service", "patroni-check@.service"] {
        let text = fs::read_to_string(root.path().join("opt/pc/lib/systemd/system").join(unit)).unwrap();
        assert!(text.contains("\nExecStart=/opt/pc/bin/patroni-check\n"), "{text}");
    }
    assert!(root.path().join("opt/pc/bin/patroni-check").exists());
}
