//! The command line and its environment variables: what is typed becomes what is meant.

mod meant;
mod options;
mod read;
mod subcommands;
mod values;
mod which;

pub use meant::{Command, CommandLine};
pub use values::DEADLINES;

/// The command line as clap knows it, for what is made from it: completions, the manual page and
/// the settings file.
pub fn command() -> clap::Command {
    <options::Options as clap::CommandFactory>::command()
}
