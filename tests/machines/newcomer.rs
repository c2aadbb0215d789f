//! A newcomer's first command, in a fresh tree of the release with nothing but make and git, and the
//! source package. The others, which take longer: `tests/newcomer RELEASE`.

use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// What the command said; none where `RELEASE` names another one, or there can be no tree.
fn newcomer(release: &str, who: &str, command: &str) -> Option<String> {
    if std::env::var("RELEASE").is_ok_and(|only| only != release) || !lab::requires(&["root", "debootstrap"]) {
        return None;
    }
    // One at a time in the tree of a release.
    static TREES: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];
    let _alone = TREES[usize::from(release == "trixie")].lock().unwrap_or_else(PoisonError::into_inner);
    let mut newcomer = Command::new("tests/newcomer");
    newcomer.args([release, who, command]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = newcomer.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    Some(said)
}

/// As root and as a user with sudo: ends with a cargo and a rustc that can build us, and without
/// clippy only in so many words.
fn the_toolchain_comes_from_the_release(release: &str) {
    // Debian 13's compiler is the one that Cargo.toml declares to be enough.
    let check = if release == "trixie" { "cargo check --locked --quiet" } else { ":" };
    let has = format!(
        "tests/install-toolchain fmt clippy && cargo --version && rustc --version && cargo fmt --version && \
         cc --version && {{ cargo clippy --version || true; }} && {{ [ $(id -u) != 0 ] || {check}; }}"
    );
    let Some(said) = newcomer(release, "root user", &has) else { return };
    let left_out = said.matches("LEFT OUT: rust-clippy, which this Rust comes without").count();
    let declared = concat!("\nrustc ", env!("CARGO_PKG_RUST_VERSION"), ".");
    assert!(release != "trixie" || said.contains(declared), "no compiler of the declared version was tried: {said}");
    let wanted = if release == "bookworm" { (2, 0) } else { (0, 2) };
    assert_eq!((left_out, said.matches("\nclippy 0.").count()), wanted, "{said}");
}

mod the_toolchain_comes_from {
    use super::the_toolchain_comes_from_the_release as test;
    #[test]
    fn bookworm() {
        test("bookworm");
    }
    #[test]
    fn trixie() {
        test("trixie");
    }
}

/// By Debian's own cargo, of the crates in the source package and without a network. Both are free
/// of lintian's errors and warnings. The optimiser is not on trial here, and would take minutes.
#[test]
fn the_source_package_builds_offline() {
    newcomer(
        "trixie",
        "root",
        "tests/install-packages lintian && \
         CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0 make deb OFFLINE='unshare --net' && \
         dpkg-checkbuilddeps && lintian --allow-root --fail-on error,warning target/debian/*.changes",
    );
}
