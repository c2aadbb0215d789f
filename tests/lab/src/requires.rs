//! What a test needs that not every machine has. Where it is missing the test says so and is
//! skipped; where everything is demanded, as by `make test`, it fails.

use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

/// What must be there: `all`, or `all-but-root` for an ordinary user. Unset or empty: nothing. It
/// is no `PATRONI_CHECK_…`, as the program takes each of these for a setting, and refuses what is
/// none.
const DEMANDED: &str = "LAB_REQUIRES";

/// Whether the test can go on: `if !requires(&["haproxy"]) { return; }`. A need is the name of a
/// program, a file of the repository (with a `/` in it; a release build or an archive only if newer
/// than what it is made of), `postgresql` for its server, `root`, or as in `10000 descriptors`.
///
/// # Panics
/// Where it can't and is demanded.
#[must_use]
pub fn requires(needs: &[&str]) -> bool {
    let demanded = std::env::var(DEMANDED).unwrap_or_default();
    match decide(needs, &demanded, is_there) {
        Decision::Run => true,
        Decision::Skip(missing) => {
            // The test harness shows only what is written past its own capture.
            let name = std::thread::current().name().unwrap_or("a test").to_owned();
            let _ = writeln!(std::io::stderr(), "SKIPPED {name}: needs {missing}");
            false
        }
        Decision::Fail(missing) => {
            panic!("{DEMANDED}={demanded} demands {missing}: `make test` installs and builds what is needed")
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Run,
    Skip(String),
    Fail(String),
}

fn decide(needs: &[&str], demanded: &str, is_there: impl Fn(&str) -> bool) -> Decision {
    let missing: Vec<&str> = needs.iter().copied().filter(|need| !is_there(need)).collect();
    let names = missing.join(", ");
    match demanded {
        _ if missing.is_empty() => Decision::Run,
        "" => Decision::Skip(names),
        "all-but-root" if missing.contains(&"root") => Decision::Skip(names),
        _ => Decision::Fail(names),
    }
}

/// Whether there is such a need.
pub fn is_there(need: &str) -> bool {
    if let Some(count) = need.strip_suffix(" descriptors") {
        let maximum = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        return maximum.is_none_or(|maximum| count.parse().is_ok_and(|count: u64| maximum > count));
    }
    match need {
        "root" => rustix::process::geteuid().is_root(),
        "postgresql" => crate::programs::postgres_bin().is_ok(),
        built if built.starts_with("target/release/") => is_newer_than(built, &["src"]),
        built if built.starts_with("target/dist/") => is_newer_than(built, ARCHIVED),
        // Of the same commit.
        again if again.starts_with("target/elsewhere/") => is_newer_than(again, &["target/dist"]),
        file if file.contains('/') => crate::repository().join(file).exists(),
        program => is_in(program, &std::env::var_os("PATH").unwrap_or_default()),
    }
}

/// What a release archive is made of.
const ARCHIVED: &[&str] = &["src", "systemd", "docs", "man", "completions", "dist"];

fn is_newer_than(built: &str, sources: &[&str]) -> bool {
    let repository = crate::repository();
    sources.iter().all(|sources| is_built(&repository.join(built), &repository.join(sources)))
}

/// Whether a program was built after the last change of what it is made of. An older one would be
/// tested in its place.
fn is_built(program: &Path, sources: &Path) -> bool {
    let built = program.metadata().and_then(|metadata| metadata.modified());
    built.is_ok_and(|built| last_change(sources).is_none_or(|changed| changed <= built))
}

fn last_change(directory: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let changes = entries.filter_map(|entry| match entry.file_type().ok()?.is_dir() {
        true => last_change(&entry.path()),
        // Unit tests are no part of a release.
        false if entry.file_name() == "tests.rs" => None,
        false => entry.metadata().ok()?.modified().ok(),
    });
    changes.max()
}

fn is_in(program: &str, path: &std::ffi::OsStr) -> bool {
    std::env::split_paths(path).any(|directory| Path::new(&directory).join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_skips_or_fails_the_test() {
        let skip = |missing: &str| Decision::Skip(missing.to_owned());
        let fail = |missing: &str| Decision::Fail(missing.to_owned());
        let table = [
            (&["sh"][..], "", Decision::Run),
            (&["sh"], "all", Decision::Run),
            (&["sh", "haproxy", "etcd"], "", skip("haproxy, etcd")),
            (&["sh", "haproxy", "etcd"], "all", fail("haproxy, etcd")),
            (&["sh", "haproxy"], "all-but-root", fail("haproxy")),
            (&["root"], "", skip("root")),
            (&["root"], "all", fail("root")),
            (&["root", "haproxy"], "all-but-root", skip("root, haproxy")),
            // A word that is none of ours demands rather too much.
            (&["root"], "al", fail("root")),
        ];
        for (needs, demanded, decision) in table {
            assert_eq!(decide(needs, demanded, |need| need == "sh"), decision, "{needs:?} {demanded:?}");
        }
    }

    #[test]
    fn a_program_is_looked_for_on_the_path_and_a_file_in_the_repository() {
        let directory = tempfile::TempDir::new().unwrap();
        std::fs::write(directory.path().join("haproxy"), "").unwrap();
        std::fs::create_dir(directory.path().join("patroni")).unwrap();
        let path = std::env::join_paths([Path::new("/nonexistent"), directory.path()]).unwrap();
        assert!(is_in("haproxy", &path));
        assert!(!is_in("patroni", &path), "a directory is no program");
        assert!(!is_in("haproxy", "/nonexistent".as_ref()));
        assert!(is_there("tests/lab") && !is_there("tests/no-such-file"));
        assert!(is_there("1 descriptors") && !is_there("many descriptors"));
    }

    #[test]
    fn a_program_that_is_older_than_its_source_is_not_there() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = |name: &str, seconds: u64| {
            let file = directory.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            std::fs::File::create(&file).unwrap().set_modified(time).unwrap();
            file
        };
        let program = file("program", 10);
        let is_built = || is_built(&program, &directory.path().join("src"));
        assert!(is_built(), "nothing to be made of");
        file("src/a/b.rs", 10);
        file("src/a/tests.rs", 20);
        assert!(is_built());
        file("src/a/b.rs", 11);
        assert!(!is_built());
        std::fs::remove_file(&program).unwrap();
        file("src/a/b.rs", 1);
        assert!(!is_built());
    }
}
