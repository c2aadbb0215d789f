//! Writes what follows from the command line, for `make man`: `generate COMPLETIONS SETTINGS
//! PAGES`, three directories.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let directories: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [completions, settings, pages] = directories.as_slice() else { return Err("three directories".into()) };
    lab::generate::write(completions, settings, pages)
}
