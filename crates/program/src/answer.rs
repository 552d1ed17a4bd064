//! The answer of a command, on standard output.

use std::io::{self, ErrorKind, Write};

/// Writes a line to standard output. A reader that closed the pipe has read what it wanted.
///
/// # Errors
/// If standard output does not take it, such as a full disk.
pub fn print(text: &str) -> io::Result<()> {
    write(&mut io::stdout(), text)
}

/// Writes a line to `to`, as [`print`] does.
///
/// # Errors
/// If `to` does not take it.
pub fn write(to: &mut impl Write, text: &str) -> io::Result<()> {
    match writeln!(to, "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails with an error of this kind.
    struct Refusing(ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_no_error_and_a_full_disk_is_one() {
        write(&mut Refusing(ErrorKind::BrokenPipe), "text").unwrap();
        let full = write(&mut Refusing(ErrorKind::StorageFull), "text").unwrap_err();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }
}
