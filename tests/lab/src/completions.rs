//! The shells' completions.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use patroni_check::cli::Options;

/// Writes them to a directory, under the names under which packages have them.
pub fn write(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Options::command(), "patroni-check", directory)?;
    }
    // The name under which bash looks for it.
    fs::rename(directory.join("patroni-check.bash"), directory.join("patroni-check"))
}
