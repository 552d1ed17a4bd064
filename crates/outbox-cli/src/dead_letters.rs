//! The commands over a listener's dead letters.

mod discard;
mod display;
mod error;
mod exit;
mod list;
mod options;
mod output;
mod page;
mod redrive;
mod selection;
mod show;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Subcommand;
use outbox::listener::{DeadLetters, Handler};

pub use discard::Discard;
pub use error::Error;
pub use list::List;
pub use redrive::Redrive;
pub use selection::Selection;
pub use show::Show;

/// All of them, for a service to mount as the subcommands of one of its own, called `dead-letters` (`#[command(subcommand)]`).
#[derive(Debug, Clone, Subcommand)]
#[expect(missing_docs, reason = "the doc of each struct is its command's help")]
pub enum Command {
    List(List),
    Show(Show),
    Redrive(Redrive),
    Discard(Discard),
}

impl Command {
    /// Runs the command, and writes its answer to standard output; the exit code is that of the [crate](crate#exit-codes). `discard`
    /// asks at a terminal whether it may.
    ///
    /// The future is [`Send`], so it holds no lock of standard output or input while it waits: the program may log there meanwhile.
    ///
    /// # Errors
    /// [`Error`].
    pub fn run<H: Handler>(
        self,
        dead_letters: &DeadLetters<H>,
    ) -> impl Future<Output = Result<ExitCode, Error>> + Send {
        let answer = std::io::stdin().is_terminal().then(discard::read_answer);
        self.write(dead_letters, std::io::stdout(), answer)
    }

    /// Runs the command with its answer written to `to`. `answer` is the operator's to a question; without it there is no terminal.
    async fn write<H: Handler>(
        self,
        dead_letters: &DeadLetters<H>,
        to: impl Write + Send,
        answer: Option<impl Future<Output = std::io::Result<String>> + Send>,
    ) -> Result<ExitCode, Error> {
        match self {
            Self::List(list) => list.write(dead_letters, to).await,
            Self::Show(show) => show.write(dead_letters, to).await,
            Self::Redrive(redrive) => redrive.write(dead_letters, to).await,
            Self::Discard(discard) => discard.write(dead_letters, to, answer).await,
        }
    }
}

#[cfg(test)]
mod tests;
