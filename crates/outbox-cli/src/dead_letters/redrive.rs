//! `redrive`.

mod attempts;
mod queue;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;

use outbox::listener::dead_letter::DeadLetter;
use outbox::listener::{DeadLetters, Handler};
use serde_json::{Value, json};
use uuid::Uuid;

use super::display;
use super::error::Error;
use super::exit::REMAINS;
use super::options::Options;
use super::output::{Output, count};
use super::page::page;
use attempts::Attempts;
use queue::{Queue, queues};

/// Attempt dead letters again, each key from its first dead letter on, in order; exit code 3 if one remains, also because
/// --most was reached before it, or if there is none
#[derive(Debug, Clone, clap::Args)]
#[command(
    mut_group("Selection", |selection| selection.required(true)),
    mut_arg("most", |most| most.help("The most attempts"))
)]
pub struct Redrive {
    #[command(flatten)]
    options: Options,
    /// Only list them, with the earlier ones of their keys
    #[arg(long)]
    dry_run: bool,
}

impl Redrive {
    pub(super) async fn write<H: Handler>(
        self,
        dead_letters: &DeadLetters<H>,
        to: impl Write,
    ) -> Result<ExitCode, Error> {
        let Self { options, dry_run } = self;
        let (mut output, most) = (options.output(to), options.most.get());
        let (queues, more) = queues(dead_letters, &options.filter(), most).await?;
        if dry_run {
            list(dead_letters, &queues, more, most, &mut output).await
        } else {
            redrive(dead_letters, &queues, more, most, &mut output).await
        }
    }
}

/// Attempts `queues`, each from its first dead letter until one fails; `most` attempts at most. `more` says whether more queues match.
async fn redrive<H: Handler, W: Write>(
    dead_letters: &DeadLetters<H>,
    queues: &[Queue],
    more: bool,
    most: usize,
    output: &mut Output<W>,
) -> Result<ExitCode, Error> {
    let mut attempts = Attempts::default();
    let remaining = match attempts.queues(dead_letters, queues, most, output).await {
        Ok(()) => attempts.remaining(dead_letters, queues).await,
        Err(error) => Err(error),
    };
    // After an error too: the answer names what was done before it.
    let Attempts {
        count: attempted,
        cut,
        applied,
        gone,
        failed,
        unconfirmed,
    } = attempts;
    let more = more || cut;
    let failed: Vec<Value> = failed.into_iter().map(|(_, failed)| failed).collect();
    output.line(|| match (applied.len(), failed.len(), unconfirmed.len()) {
        _ if queues.is_empty() => "no dead letters".to_owned(),
        (applied, failed, unconfirmed) => {
            format!("{applied} applied, {failed} failed, {unconfirmed} unconfirmed")
        }
    })?;
    if more {
        output.line(|| {
            format!("{attempted} attempted, and more are left than --most {most} permits: repeat the command, or raise --most")
        })?;
    }
    output.json(|| {
        json!({
            "applied": applied, "gone": gone, "failed": failed, "unconfirmed": unconfirmed, "more": more,
        })
    })?;
    let remaining = remaining?;
    if let Some(dead_letter) = &remaining {
        output.line(|| {
            format!(
                "dead letters remain, such as {}",
                display::name(dead_letter)
            )
        })?;
    }
    if !unconfirmed.is_empty() {
        return Err(Error::Redrive(unconfirmed.len()));
    }
    Ok(if remaining.is_some() || more || queues.is_empty() {
        REMAINS.into()
    } else {
        ExitCode::SUCCESS
    })
}

/// Lists the dead letters to attempt if none fails, and whether they leave out one that the operator asked for.
async fn list<H: Handler, W: Write>(
    dead_letters: &DeadLetters<H>,
    queues: &[Queue],
    more: bool,
    most: usize,
    output: &mut Output<W>,
) -> Result<ExitCode, Error> {
    let (mut rows, mut cut) = (Vec::new(), false);
    for queue in queues {
        if rows.len() == most {
            cut = true;
            break;
        }
        let row = |dead_letter: DeadLetter| Some((dead_letter.id, output.row(&dead_letter)));
        let left_over = most - rows.len();
        let (of_key, longer) = page(dead_letters, &queue.filter(), left_over, row).await?;
        rows.extend(of_key);
        cut |= longer;
    }
    let (ids, rows): (BTreeSet<Uuid>, Vec<Value>) = rows.into_iter().unzip();
    let left = queues.iter().any(|queue| !ids.contains(&queue.last));
    let more = more || left && cut;
    let what = "to attempt, each key until one of its dead letters fails";
    let summary = format!("{} {what}", count(rows.len(), more));
    output.list(&rows, more, &summary)?;
    Ok(if more || rows.is_empty() {
        REMAINS.into()
    } else {
        ExitCode::SUCCESS
    })
}
