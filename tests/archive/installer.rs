//! What `install.sh` does where something is in its way: with a fake program, in a root of its own,
//! by each shell that there is.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::{run, tree};
use lab::requires;

const BUSYBOX: &str = "target/tools/busybox";
const PROGRAM: &str = "#!/bin/sh\nexit 0\n";

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn script(path: &Path, text: &str) {
    write(path, text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// An archive and a root: `archive/install.sh`, and `archive/files` of `make install`.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Place(TempDir::new().unwrap());
        script(&place.path("build/release/patroni-check"), PROGRAM);
        run(Command::new("make").args(["install", "PREFIX=/usr"]).args([
            format!("DESTDIR={}", place.path("archive/files").display()),
            format!("TARGET={}", place.path("build").display()),
        ]));
        fs::copy("dist/install.sh", place.path("archive/install.sh")).unwrap();
        fs::create_dir(place.path("root")).unwrap();
        place
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn root(&self, path: &str) -> PathBuf {
        self.path("root").join(path.trim_start_matches('/'))
    }

    fn command(&self, shell: &[&str], prefix: &str, verb: &str) -> Command {
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).arg(self.path("archive/install.sh"));
        command.args((!verb.is_empty()).then_some(verb));
        command.env("DESTDIR", self.path("root")).env("PREFIX", prefix);
        command
    }

    fn sh(&self, prefix: &str, verb: &str) -> String {
        String::from_utf8(run(&mut self.command(&["sh"], prefix, verb)).stdout).unwrap()
    }

    /// It says one line, with this in it.
    fn refused(&self, prefix: &str, verb: &str, status: i32, says: &str) {
        let before = self.tree();
        let output = self.command(&["sh"], prefix, verb).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{prefix} {verb}: {output:?}");
        assert!(said.contains(says) && said.lines().count() == 1, "{prefix} {verb}: {said}");
        assert!(self.tree() == before, "{prefix} {verb}: something was written");
    }

    fn tree(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        tree(&self.path("root"), &[])
    }

    /// As it is in a root where nothing else is or was.
    fn clean(&self, prefix: &str) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let root = TempDir::new().unwrap();
        run(self.command(&["sh"], prefix, "").env("DESTDIR", root.path()));
        tree(root.path(), &[])
    }
}

fn shells() -> Vec<Vec<&'static str>> {
    let all = [vec!["dash"], vec!["bash"], vec![BUSYBOX, "sh"]];
    all.into_iter().filter(|shell| lab::requires::is_there(shell[0])).collect()
}

#[test]
fn each_shell_installs_the_same_and_each_spelling_is_the_same_place() {
    let place = Place::new();
    // As access(2) has it on a file system that is mounted noexec.
    for program in ["bin/patroni-check", "lib/patroni-check/restart"] {
        let path = place.path("archive/files/usr").join(program);
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let clean = place.clean("/usr/local");
    for program in ["usr/local/bin/patroni-check", "usr/local/lib/patroni-check/restart"] {
        assert_eq!(clean[Path::new(program)].0 & 0o777, 0o755);
    }
    let text = |name: &str| String::from_utf8_lossy(&clean[Path::new(name)].1).into_owned();
    for file in ["tls.conf", "patroni-check-haproxy.service"] {
        let example = text(&format!("usr/local/share/doc/patroni-check/examples/{file}"));
        assert!(example.contains("=/usr/local/bin/patroni-check ") && !example.contains("/usr/bin/patroni-check"));
    }
    for shell in shells() {
        for spelling in ["/usr/local", "/usr/local/", "//usr///local//"] {
            run(&mut place.command(&shell, spelling, ""));
            assert!(place.tree() == clean, "{shell:?} {spelling}");
        }
        run(&mut place.command(&shell, "/usr/local/", "--purge"));
        assert!(place.tree().into_values().all(|(mode, _)| mode & 0o040_000 != 0), "{shell:?}");
        fs::remove_dir_all(place.path("root")).unwrap();
    }
    // A DESTDIR of here, which is made, whatever CDPATH says.
    let mut install = place.command(&["sh"], "/usr/local", "");
    run(install.env("DESTDIR", "root").env("CDPATH", "/tmp").current_dir(place.0.path()));
    assert!(place.tree() == clean);
}

#[test]
fn what_is_no_plain_path_is_refused() {
    let place = Place::new();
    let not =
        ["/", "//", "usr", "./usr", "/usr/../opt", "/usr/.", "/opt/a b", "/opt/a&b", "/opt/a|b", "/opt/%h", "/a\nb"];
    for prefix in not {
        for verb in ["", "--uninstall", "--purge"] {
            place.refused(prefix, verb, 2, "PREFIX=");
        }
    }
}

#[test]
fn a_directory_by_its_two_names_is_one_installation() {
    let place = Place::new();
    fs::create_dir_all(place.root("srv/pc")).unwrap();
    fs::create_dir_all(place.root("opt")).unwrap();
    symlink("../srv/pc", place.root("opt/pc")).unwrap();
    for (first, then) in [("/opt/pc", "/srv/pc"), ("/srv/pc", "/opt/pc")] {
        place.sh(first, "");
        place.sh(then, "");
        let unit = fs::read_to_string(place.root("srv/pc/lib/systemd/system/patroni-check.service")).unwrap();
        assert!(unit.contains(&format!("ExecStart={then}/bin/patroni-check\n")), "{unit}");
        assert_eq!(fs::read_to_string(place.root("srv/pc/bin/patroni-check")).unwrap(), PROGRAM);
        place.sh(first, "--uninstall");
        assert_eq!(fs::read_dir(place.root("srv/pc")).unwrap().count(), 0);
    }
}

/// A tool that does as the real one, and at the time that is in `when` something else.
fn break_tool(place: &Place, tool: &str, instead: &str) {
    let real = run(Command::new("sh").args(["-c", "command -v \"$0\"", tool]));
    let real = String::from_utf8(real.stdout).unwrap();
    let count = place.path("count").display().to_string();
    let text = format!(
        "#!/bin/sh\necho >>{count}\nif [ \"$(wc -l <{count})\" = \"$WHEN\" ]; then {instead}; fi\nexec {} \"$@\"\n",
        real.trim()
    );
    script(&place.path("broken").join(tool), &text);
}

fn broken(place: &Place, shell: &[&str], prefix: &str, when: usize) -> Output {
    let _ = fs::remove_file(place.path("count"));
    let path = format!("{}:{}", place.path("broken").display(), std::env::var("PATH").unwrap());
    let mut command = place.command(shell, prefix, "");
    command.env("PATH", path).env("WHEN", when.to_string()).output().unwrap()
}

#[test]
fn whenever_it_is_ended_the_next_run_makes_it_whole_and_a_removal_leaves_nothing() {
    let end =
        ["kill -KILL $PPID; exit 1", "kill -TERM $PPID; exit 1", "for to; do :; done; echo half >\"$to\"; exit 1"];
    for (shell, prefix) in [("dash", "/usr"), ("bash", "/opt/pc")] {
        if !lab::requires::is_there(shell) {
            continue;
        }
        for (tool, end) in [("cp", end[0]), ("mv", end[0]), ("cp", end[1]), ("mv", end[1]), ("cp", end[2])] {
            let place = Place::new();
            break_tool(&place, tool, end);
            let clean = place.clean(prefix);
            for when in [1, 9] {
                let reset = || {
                    fs::remove_dir_all(place.path("root")).unwrap();
                    fs::create_dir(place.path("root")).unwrap();
                };
                let output = broken(&place, &[shell], prefix, when);
                assert!(!output.status.success(), "{tool} {end} {prefix} {when}: {output:?}");
                let names = || place.tree().into_keys().map(|name| name.display().to_string());
                let left = names().filter(|name| name.contains(".new.")).count();
                assert!(left == 0 || end.contains("KILL"), "{shell} {tool} {end} {prefix} {when}");
                place.sh(prefix, "");
                assert!(place.tree() == clean, "{shell} {tool} {end} {prefix} {when}");
                reset();

                broken(&place, &[shell], prefix, when);
                place.sh(prefix, "--uninstall");
                let mut left: Vec<String> = names().collect();
                left.retain(|name| !name.starts_with("etc"));
                assert!(left.is_empty(), "{shell} {tool} {end} {prefix} {when}: {left:?}");
                reset();
            }
            // An upgrade that is ended: what only one of the two has is known.
            place.sh(prefix, "");
            let list = place.root(&format!("{prefix}/share/patroni-check/installed"));
            let text = fs::read_to_string(&list).unwrap();
            fs::write(&list, format!("{text}bin/gone\n")).unwrap();
            fs::write(place.root(&format!("{prefix}/bin/gone")), "").unwrap();
            broken(&place, &[shell], prefix, 2);
            place.sh(prefix, "");
            assert!(place.tree() == clean, "{shell} {tool} {end} {prefix}: an upgrade");
            fs::remove_dir_all(place.path("root")).unwrap();
        }
    }
}

#[test]
fn what_is_not_its_own_is_never_replaced() {
    let place = Place::new();
    for file in ["bin/patroni-check", "lib/systemd/system/patroni-check-http.socket", "share/man/man8/patroni-check.8"]
    {
        let others = place.root(&format!("usr/local/{file}"));
        write(&others, "somebody's own\n");
        place.refused("/usr/local/", "", 1, &format!("remove it first: /usr/local/{file}"));
        fs::remove_file(&others).unwrap();
        symlink("nowhere", &others).unwrap();
        place.refused("/usr/local", "", 1, &format!("remove it first: /usr/local/{file}"));
        fs::remove_file(&others).unwrap();
    }
    let settings = place.root("etc/default/patroni-check");
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    symlink("/nowhere", &settings).unwrap();
    place.sh("/usr/local", "");
    assert_eq!(fs::read_link(&settings).unwrap(), Path::new("/nowhere"));
    // Files and links alone are purged.
    let own = place.root("etc/patroni-check");
    for kept in ["hold.old/notes", "x.env/notes", "16-main/hold.d/notes", "notes"] {
        write(&own.join(kept), "");
    }
    for gone in ["hold", "16-main.env", "16-main/hold", "17-test/hold.old"] {
        write(&own.join(gone), "");
    }
    symlink("nowhere", own.join("hold.link")).unwrap();
    place.sh("/usr/local", "--purge");
    let left = place.tree().into_iter().filter(|(_, (mode, _))| mode & 0o040_000 == 0).map(|(name, _)| name);
    let kept = ["16-main/hold.d/notes", "hold.old/notes", "notes", "x.env/notes"];
    assert_eq!(left.collect::<Vec<_>>(), kept.map(|name| Path::new("etc/patroni-check").join(name)));
}

#[test]
fn settings_stay_as_long_as_another_installation_reads_them() {
    let place = Place::new();
    let hold = place.root("etc/patroni-check/hold");
    let settings = place.root("etc/default/patroni-check");
    write(&hold, "");
    place.sh("/usr/local", "");
    for prefix in ["/opt/pc", "/usr"] {
        place.refused(prefix, "--purge", 1, "are those of /usr/local/bin/patroni-check");
        place.sh(prefix, "");
        let link = place.root("etc/systemd/system/sockets.target.wants/patroni-check.socket");
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(place.root("usr/local/lib/systemd/system/patroni-check.socket"), &link).unwrap();
        assert!(place.sh(prefix, "--purge").contains("the settings and the holds stay"));
        assert!(hold.exists() && settings.exists() && link.is_symlink());
        fs::remove_file(link).unwrap();
    }
    // Its units alone say where it is.
    place.sh("/opt/pc", "");
    place.sh("/usr/local", "--uninstall");
    let linked = place.root("etc/systemd/system/patroni-check.service");
    fs::copy(place.root("opt/pc/lib/systemd/system/patroni-check.service"), &linked).unwrap();
    place.refused("/usr/local", "--purge", 1, "are those of /opt/pc/bin/patroni-check");
    place.sh("/opt/pc", "--purge");
    assert!(!hold.exists() && !settings.exists() && linked.exists());
}

/// A root with busybox and a `systemctl` that writes down what it is told, and knows the units of
/// `/units`, each with its file.
fn machine(place: &Place) {
    for directory in ["bin", "sbin", "dev", "tmp", "run/systemd/system", "run/patroni-check.root", "usr/lib"] {
        fs::create_dir_all(place.root(directory)).unwrap();
    }
    symlink("usr/lib", place.root("lib")).unwrap();
    run(Command::new("mknod").arg(place.root("dev/null")).args(["c", "1", "3"]));
    fs::copy(BUSYBOX, place.root("bin/busybox")).unwrap();
    run(Command::new("chroot").arg(place.root("/")).args(["/bin/busybox", "--install", "-s", "/bin"]));
    let systemctl = "#!/bin/sh\ncase $1 in\nlist-units) cat /units ;;\nshow) sed -n \"s|^$3 |FragmentPath=|p\" /units ;;\n\
         *) echo \"$*\" >>/log ;;\nesac\n";
    script(&place.root("sbin/systemctl"), systemctl);
    script(&place.root("sbin/systemd-tmpfiles"), PROGRAM);
    run(Command::new("cp").arg("-r").arg(place.path("archive")).arg(place.root("archive")));
}

/// Without DESTDIR, and what `systemctl` was told.
fn inside(place: &Place, prefix: &str, verb: &[&str]) -> String {
    let _ = fs::remove_file(place.root("log"));
    let mut command = Command::new("chroot");
    command.arg(place.root("/")).args(["/bin/sh", "/archive/install.sh"]).args(verb);
    run(command.env("PATH", "/usr/sbin:/sbin:/bin").env("PREFIX", prefix).env("DESTDIR", "/"));
    fs::read_to_string(place.root("log")).unwrap()
}

#[test]
fn a_removal_stops_and_disables_what_it_takes_the_program_from() {
    if !requires(&["root", BUSYBOX]) {
        return;
    }
    let place = Place::new();
    machine(&place);
    let wants = place.root("etc/systemd/system/sockets.target.wants");
    let enable = |directory: &str| {
        fs::create_dir_all(&wants).unwrap();
        let link = wants.join("patroni-check.socket");
        let _ = fs::remove_file(&link);
        symlink(format!("{directory}/patroni-check.socket"), link).unwrap();
    };
    // Debian 12 has /lib for /usr/lib. The administrator's own copy is the program's last port.
    let own = "patroni-check-sync.socket /etc/systemd/system/patroni-check-sync.socket\n";
    inside(&place, "/usr", &[]);
    enable("/lib/systemd/system");
    let units = format!("patroni-check.socket /lib/systemd/system/patroni-check.socket\n{own}");
    write(&place.root("units"), &units);
    assert_eq!(
        inside(&place, "/usr", &["--uninstall"]),
        "stop patroni-check.socket patroni-check-sync.socket\ndaemon-reload\n"
    );
    assert!(!wants.exists() && !place.root("run/patroni-check.root").exists());

    // Of two installations the other one's are left alone.
    inside(&place, "/usr/local", &[]);
    inside(&place, "/opt/pc", &[]);
    enable("/usr/local/lib/systemd/system");
    fs::create_dir(place.root("run/patroni-check.root")).unwrap();
    fs::create_dir(place.root("run/patroni-check")).unwrap();
    let units = units.replace(" /lib/", " /usr/local/lib/")
        + "patroni-check-http.socket /opt/pc/lib/systemd/system/patroni-check-http.socket\n";
    write(&place.root("units"), &units);
    assert_eq!(inside(&place, "/opt/pc", &["--purge"]), "stop patroni-check-http.socket\ndaemon-reload\n");
    assert!(wants.join("patroni-check.socket").is_symlink());
    assert!(place.root("run/patroni-check.root").exists() && place.root("run/patroni-check").exists());
    write(&place.root("units"), &units.replace("patroni-check-http.socket", "patroni-check-sync@.service"));
    inside(&place, "/usr/local", &["--purge"]);
    assert!(!wants.exists() && !place.root("run/patroni-check").exists());
}
