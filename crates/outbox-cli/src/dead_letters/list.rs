//! `list`.

use std::io::Write;
use std::process::ExitCode;

use outbox::listener::{DeadLetters, Handler};

use super::error::Error;
use super::options::Options;
use super::output::count;
use super::page::page;

/// List dead letters, in the order in which they were dead-lettered
#[derive(Debug, Clone, clap::Args)]
#[command(
    mut_arg("most", |most| most.default_value("50")),
    mut_arg("json", |json| json.help("One JSON object: `dead_letters`, and whether there are `more`"))
)]
pub struct List {
    #[command(flatten)]
    options: Options,
}

impl List {
    pub(super) async fn write<H: Handler>(
        self,
        dead_letters: &DeadLetters<H>,
        to: impl Write,
    ) -> Result<ExitCode, Error> {
        let Self { options } = self;
        let mut output = options.output(to);
        let row = |dead_letter| Some(output.row(&dead_letter));
        let most = options.most.get();
        let (rows, more) = page(dead_letters, &options.filter(), most, row).await?;
        let summary = match rows.len() {
            0 => "no dead letters".to_owned(),
            rows => count(rows, more),
        };
        output.list(&rows, more, &summary)?;
        Ok(ExitCode::SUCCESS)
    }
}
