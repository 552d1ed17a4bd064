//! The answer of a command.

use std::io::{self, ErrorKind, Write};

/// Writes a line to standard output. A reader that closed the pipe has read what it wanted.
pub(super) fn print(text: &str) -> io::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
