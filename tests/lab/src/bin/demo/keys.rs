//! The keyboard.

use std::io::{IsTerminal, Read};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::event::{EVENTS, Event};

/// The keyboard, without waiting for the end of a line.
pub struct Keys {
    pressed: Receiver<u8>,
    before: Termios,
}

impl Keys {
    /// None where there is no terminal to read from and write to.
    pub fn new() -> Option<Self> {
        let stdin = std::io::stdin();
        if !std::io::stdout().is_terminal() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut ours = before.clone();
        ours.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        tcsetattr(&stdin, OptionalActions::Now, &ours).ok()?;
        let (sender, pressed) = channel();
        thread::spawn(move || {
            for key in stdin.lock().bytes().map_while(Result::ok) {
                if sender.send(key).is_err() {
                    return;
                }
            }
        });
        Some(Keys { pressed, before })
    }

    /// Makes the terminal what it was.
    pub fn give_back(&self) {
        // It may be gone.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }

    /// The event whose key was pressed last.
    pub fn pressed(&self) -> Option<Event> {
        let key = char::from(self.pressed.try_iter().last()?);
        EVENTS.into_iter().find(|event| event.key().0 == key)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.give_back();
    }
}
