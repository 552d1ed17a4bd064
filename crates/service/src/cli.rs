//! The command line that all services share.

use std::error::Error;
use std::path::PathBuf;
use std::process::{ExitCode, Termination};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::config::Files;

/// Options of every command.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// A TOML file with settings; the environment wins over it
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The command `check-config`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckConfig {
    /// Print all settings as they are in effect, as a file that `--config` takes; secrets are not in it
    #[arg(long)]
    print: bool,
    /// Look only at the settings themselves, for another machine: the files that they name need not be here
    #[arg(long)]
    without_files: bool,
}

impl CheckConfig {
    /// Where the files are that the settings name.
    #[must_use]
    pub fn files(&self) -> Files {
        if self.without_files {
            Files::Elsewhere
        } else {
            Files::Here
        }
    }

    /// Prints `config` if asked to, then says what was found about it.
    ///
    /// # Errors
    /// [`CheckError`].
    pub fn run<E: Error>(
        &self,
        config: &impl Serialize,
        found: Result<(), E>,
    ) -> Result<(), CheckError<E>> {
        if self.print {
            let text = crate::config::to_toml(config).map_err(CheckError::NoToml)?;
            print(text.trim_end());
        }
        found.map_err(CheckError::Found)?;
        if !self.print {
            print("the settings are good");
        }
        Ok(())
    }
}

/// Why settings are not good, or not shown.
#[derive(Debug, thiserror::Error)]
pub enum CheckError<E> {
    /// What was found.
    #[error(transparent)]
    Found(E),
    /// TOML has no form for a setting.
    #[error("the settings cannot be written as TOML")]
    NoToml(#[source] toml::ser::Error),
}

/// Prints what a command was asked for.
pub fn print(text: &str) {
    use std::io::Write as _;
    // Whoever reads may have seen enough.
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// The process's exit code, that of what was done; an error is told with all its causes.
pub fn exit<T: Termination, E: AsRef<dyn Error + Send + Sync>>(result: Result<T, E>) -> ExitCode {
    let error = match result {
        Ok(done) => return done.report(),
        Err(error) => error,
    };
    let mut text = format!("error: {}", error.as_ref());
    let mut cause = error.as_ref().source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&said) {
            text = format!("{text}\n  because: {said}");
        }
        cause = error.source();
    }
    #[expect(clippy::print_stderr, reason = "the last word of a program")]
    {
        eprintln!("{text}");
    }
    ExitCode::FAILURE
}

/// A token that is cancelled by the first SIGTERM or SIGINT. Call it once, within the runtime.
///
/// # Errors
/// If the process cannot listen to signals.
pub fn shutdown() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        cancelled.cancel();
    });
    Ok(token)
}
