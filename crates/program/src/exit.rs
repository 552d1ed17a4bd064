//! The end of a program.

use std::error::Error;
use std::process::{ExitCode, Termination};

use crate::error::joined;

/// The exit code of `result`. Prints an error to standard error, one source a line; its exit code is 1.
pub fn exit<T: Termination, E: AsRef<dyn Error + Send + Sync>>(result: Result<T, E>) -> ExitCode {
    let error = match result {
        Ok(done) => return done.report(),
        Err(error) => error,
    };
    #[expect(clippy::print_stderr, reason = "a program's last output")]
    {
        eprintln!("error: {}", joined(error.as_ref(), "\n  because: "));
    }
    ExitCode::FAILURE
}
