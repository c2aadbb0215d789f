//! Writes the shells' completions, for `make man`: `completions DIRECTORY`.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let directory = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("completions"), PathBuf::from);
    lab::completions::write(&directory)
}
