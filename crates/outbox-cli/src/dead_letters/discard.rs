//! `discard`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use outbox::listener::dead_letter::DeadLetter;
use outbox::listener::{DeadLetters, Handler};
use serde_json::json;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::display;
use super::error::Error;
use super::exit::REMAINS;
use super::options::Options;
use super::output::{Output, count};
use super::page::page;

/// Discard dead letters: they are never applied, and kept in the table `discarded_dead_letter`; exit code 3 if one remains or was
/// gone before, or if there is none
#[derive(Debug, Clone, clap::Args)]
#[command(
    mut_group("Selection", |selection| selection.required(true)),
    mut_arg("most", |most| most.help("At most so many; if there are more, discard none"))
)]
pub struct Discard {
    #[command(flatten)]
    options: Options,
    /// Why, for the record
    #[arg(long, required_unless_present = "dry_run", value_parser = reason)]
    reason: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only list them
    #[arg(long)]
    dry_run: bool,
}

fn reason(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("say why".to_owned());
    }
    Ok(text.to_owned())
}

/// A dead letter to be discarded, without its message: there may be many, each as large as a message.
struct Chosen {
    id: Uuid,
    name: String,
    line: String,
}

impl Chosen {
    fn of(dead_letter: &DeadLetter) -> Self {
        Self {
            id: dead_letter.id,
            name: display::name(dead_letter),
            line: display::line(dead_letter),
        }
    }
}

impl Discard {
    pub(super) async fn write<H: Handler>(
        self,
        dead_letters: &DeadLetters<H>,
        to: impl Write,
        answer: Option<impl Future<Output = io::Result<String>>>,
    ) -> Result<ExitCode, Error> {
        let mut output = self.options.output(to);
        if self.dry_run {
            return self.dry_run(dead_letters, &mut output).await;
        }
        let (filter, most) = (self.options.filter(), self.options.most);
        let chosen = |dead_letter| Some(Chosen::of(&dead_letter));
        let (chosen, more) = page(dead_letters, &filter, most.get(), chosen).await?;
        if more {
            return Err(Error::TooMany(most));
        }
        if !self.yes && !chosen.is_empty() && !is_confirmed(&mut output, &chosen, answer).await? {
            output.line(|| "discarded nothing".to_owned())?;
            return Ok(REMAINS.into());
        }
        let reason = self.reason.as_deref().unwrap_or_default();
        discard_all(dead_letters, &chosen, reason, &mut output).await
    }

    async fn dry_run<H: Handler, W: Write>(
        self,
        dead_letters: &DeadLetters<H>,
        output: &mut Output<W>,
    ) -> Result<ExitCode, Error> {
        let (filter, most) = (self.options.filter(), self.options.most);
        let row = |dead_letter| Some(output.row(&dead_letter));
        let (rows, more) = page(dead_letters, &filter, most.get(), row).await?;
        let what = if more {
            "match, more than discard takes"
        } else {
            "to discard"
        };
        let summary = format!("{} {what}", count(rows.len(), more));
        output.list(&rows, more, &summary)?;
        if more {
            return Err(Error::TooMany(most));
        }
        Ok(if rows.is_empty() {
            REMAINS.into()
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// Lists what is to be discarded, and asks.
async fn is_confirmed<W: Write>(
    output: &mut Output<W>,
    chosen: &[Chosen],
    answer: Option<impl Future<Output = io::Result<String>>>,
) -> Result<bool, Error> {
    let answer = answer
        .filter(|_| !output.json)
        .ok_or(Error::Unconfirmed(chosen.len()))?;
    for dead_letter in chosen {
        output.line(|| dead_letter.line.clone())?;
    }
    let count = count(chosen.len(), false);
    output.question(&format!(
        "Discard {count}? The listener never applies a discarded one. Type yes:"
    ))?;
    let answer = answer.await.map_err(Error::Input)?;
    Ok(answer.trim() == "yes")
}

/// Reads a line from the terminal, on a thread of its own. It is none of the runtime's: a program that ends at Ctrl-C would wait for
/// the line there.
pub(super) async fn read_answer() -> io::Result<String> {
    let (send, answer) = oneshot::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().read_line(&mut line);
        drop(send.send(read.map(|_| line)));
    });
    answer.await.map_err(io::Error::other)?
}

/// Discards `chosen`, the first of a key last: once it is gone, the running listener retries the next one of its key.
async fn discard_all<H: Handler, W: Write>(
    dead_letters: &DeadLetters<H>,
    chosen: &[Chosen],
    reason: &str,
    output: &mut Output<W>,
) -> Result<ExitCode, Error> {
    let (mut discarded, mut gone, mut failed) = (Vec::new(), Vec::new(), None);
    for dead_letter in chosen.iter().rev() {
        let (id, name) = (dead_letter.id, &dead_letter.name);
        match dead_letters.discard(id, reason).await {
            Ok(true) => {
                output.line(|| format!("discarded  {name}"))?;
                discarded.push(id);
            }
            // Another process was faster, such as the listener.
            Ok(false) => {
                output.line(|| format!("gone       {name}"))?;
                gone.push(id);
            }
            // The connection may have broken after the commit.
            Err(source) if matches!(dead_letters.find(id).await, Ok(None)) => {
                output.line(|| {
                    let source = display::plain(&source.to_string());
                    format!("gone       {name}, this command may have discarded it: {source}")
                })?;
                gone.push(id);
            }
            // The earlier dead letters of its key must not go before it.
            Err(source) => {
                failed = Some(Error::Discard { id, source });
                break;
            }
        }
    }
    output.line(|| match (discarded.len(), gone.len()) {
        _ if chosen.is_empty() => "no dead letters".to_owned(),
        (discarded, gone) => {
            format!(
                "{discarded} discarded, {gone} gone; discarded_dead_letter keeps the discarded ones"
            )
        }
    })?;
    output.json(|| json!({ "discarded": discarded, "gone": gone }))?;
    match failed {
        Some(error) => Err(error),
        None if chosen.is_empty() || !gone.is_empty() => Ok(REMAINS.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}
