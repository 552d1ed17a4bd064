//! `show`.

use std::io::Write;
use std::process::ExitCode;

use outbox::listener::{DeadLetters, Handler};
use serde_json::Value;
use uuid::Uuid;

use super::display;
use super::error::Error;
use super::exit::REMAINS;
use super::output::Output;

/// Show a dead letter whole: its message and its error; exit code 3 if there is none of this id
#[derive(Debug, Clone, clap::Args)]
pub struct Show {
    /// The event's id
    id: Uuid,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) async fn write<H: Handler>(
        self,
        dead_letters: &DeadLetters<H>,
        to: impl Write,
    ) -> Result<ExitCode, Error> {
        let Self { id, json } = self;
        let mut output = Output { to, json };
        let Some(dead_letter) = dead_letters.find(id).await? else {
            output.line(|| format!("there is no dead letter {id}"))?;
            output.json(|| Value::Null)?;
            return Ok(REMAINS.into());
        };
        output.line(|| display::whole(&dead_letter))?;
        output.json(|| display::json_whole(&dead_letter))?;
        Ok(ExitCode::SUCCESS)
    }
}
