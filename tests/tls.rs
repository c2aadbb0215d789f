//! TLS towards a real Patroni; what is asserted is in lab/tls.rs, which needs a process that keeps house.

use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn certificates_good_and_bad_for_each_verify_client() {
    let build = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--example", "tls"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(build.unwrap().success());
    let binary = Path::new(env!("CARGO_BIN_EXE_patroni-check"));
    let program = binary.parent().unwrap().join("examples/tls");
    let output = Command::new(program).arg(binary).stdin(Stdio::null()).output().unwrap();
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{printed}");
    assert!(output.status.success(), "{printed}{errors}");
    // It came to its end.
    assert!(printed.contains("renewed on disk: READY UP"), "{printed}");
}
