//! `list`.

use std::io::Write;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use outbox::listener::{DeadLetters, Handler};

use super::error::Error;
use super::output::{Output, count};
use super::page::page;
use super::selection::Selection;

/// List dead letters, in the order in which they were dead-lettered
#[derive(Debug, Clone, clap::Args)]
pub struct List {
    #[command(flatten)]
    selection: Selection,
    /// At most so many
    #[arg(long, default_value = "50")]
    most: NonZeroUsize,
    /// One JSON object: `dead_letters`, and whether there are `more`
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn write<H: Handler>(
        self,
        dead_letters: &DeadLetters<H>,
        to: impl Write,
    ) -> Result<ExitCode, Error> {
        let json = self.json;
        let mut output = Output { to, json };
        let (filter, most) = (self.selection.filter(), self.most.get());
        let row = |dead_letter| Some(output.row(&dead_letter));
        let (rows, more) = page(dead_letters, &filter, most, row).await?;
        let summary = match rows.len() {
            0 => "no dead letters".to_owned(),
            rows => count(rows, more),
        };
        output.list(&rows, more, &summary)?;
        Ok(ExitCode::SUCCESS)
    }
}
