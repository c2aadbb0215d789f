//! A newcomer's first command, in a fresh tree of the release with nothing but make and git. The
//! others, which take longer: `tests/newcomer RELEASE`.

use std::process::Command;

/// As root and as a user with sudo: ends with a cargo and a rustc that can build us, and without
/// clippy only in so many words.
fn the_toolchain_comes_from_the_release(release: &str) {
    if std::env::var("RELEASE").is_ok_and(|only| only != release) {
        return;
    }
    if !lab::requires(&["root", "debootstrap"]) {
        return;
    }
    // Debian 13's compiler is the one that Cargo.toml declares to be enough.
    let check = if release == "trixie" { "cargo check --locked --quiet" } else { ":" };
    let has = format!(
        "tests/install-toolchain fmt clippy && cargo --version && rustc --version && cargo fmt --version && \
         cc --version && {{ cargo clippy --version || true; }} && {{ [ $(id -u) != 0 ] || {check}; }}"
    );
    let mut command = Command::new("tests/newcomer");
    command.args([release, "root user", &has]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let left_out = said.matches("LEFT OUT: rust-clippy, which this Rust comes without").count();
    assert!(output.status.success(), "{said}");
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
