//! The part of the command line that all services share.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use program::answer::print;
use serde::Serialize;

use crate::config::Files;

/// Options of every command.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// A TOML file with settings; the environment wins over it
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Check the settings and the files that they name; connects nowhere
#[derive(Debug, Clone, clap::Args)]
pub struct CheckConfig {
    /// Print all settings in effect, without secrets, as a file that --config takes
    #[arg(long)]
    print: bool,
    /// Check settings for another machine: without the files that they name
    #[arg(long)]
    without_files: bool,
}

impl CheckConfig {
    /// Whether the files that the settings name are on this machine.
    #[must_use]
    pub fn files(&self) -> Files {
        if self.without_files {
            Files::Elsewhere
        } else {
            Files::Here
        }
    }

    /// Prints `config` if asked to, and returns `found`.
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
            print(text.trim_end()).map_err(CheckError::Output)?;
        }
        found.map_err(CheckError::Found)?;
        if !self.print {
            print("the settings are good").map_err(CheckError::Output)?;
        }
        Ok(())
    }
}

/// Settings with a problem or without a form in TOML, or an answer that nothing takes.
#[derive(Debug, thiserror::Error)]
pub enum CheckError<E> {
    /// The problem of a setting.
    #[error(transparent)]
    Found(E),
    /// TOML has no form for a setting.
    #[error("TOML has no form for a setting: run `check-config` without --print")]
    NoToml(#[source] toml::ser::Error),
    /// Standard output does not take the answer.
    #[error("cannot write the answer to standard output")]
    Output(#[source] io::Error),
}
