//! `patroni-check hold` and `release`: an operator's word, and what it means.

use std::io::{self, Write};

use crate::hold::Hold;

/// `patroni-check hold`: begins a hold and says what that means.
///
/// # Errors
/// What kept the file from being written.
pub fn begin(hold: &Hold, reason: &str) -> io::Result<()> {
    hold.begin(reason).map_err(|e| with_its_file(hold, &e))?;
    tell(
        "Held: from the next check on this node answers MAINT, until you run: patroni-check release\n\
         If this node is the primary, no node takes writes now. Better run patronictl switchover before a hold.",
    );
    Ok(())
}

/// `patroni-check release`: ends it.
///
/// # Errors
/// What kept the file from being removed.
pub fn end(hold: &Hold) -> io::Result<()> {
    let was_held = hold.end().map_err(|e| with_its_file(hold, &e))?;
    tell(if was_held { "Released: Patroni decides again." } else { "This node was not held." });
    Ok(())
}

/// What is done is done, whether anybody reads of it or not.
fn tell(what: &str) {
    let _ = writeln!(io::stdout(), "{what}");
}

fn with_its_file(hold: &Hold, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", hold.file().display()))
}
