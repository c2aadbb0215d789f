//! `make reads`; see `lab::reads`.

use std::process::ExitCode;

use lab::process_guard::{self, Network};

fn main() -> ExitCode {
    process_guard::run(Network::Own, lab::reads::run)
}
