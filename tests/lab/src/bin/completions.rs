//! Writes the shells' completions: `completions DIRECTORY`.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use patroni_check::cli::Options;

fn main() -> std::io::Result<()> {
    let directory = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("completions"), PathBuf::from);
    std::fs::create_dir_all(&directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Options::command(), "patroni-check", &directory)?;
    }
    // The name under which bash looks for it.
    std::fs::rename(directory.join("patroni-check.bash"), directory.join("patroni-check"))
}
