//! The commands over a listener's dead letters, for the program of a service: `list`, `show`, `redrive`, `drop`. They work
//! while the service runs, or while it does not, with the service's own rights and handler.
//!
//! Exit codes: 0 when all that was asked for is done; 1 for an error; 2 for a command that cannot be understood; 3 when a
//! letter stays, or when there is none of that kind.

mod arguments;
mod shown;

use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use outbox::listener::letters::{Filter, Letter, Letters, Outcome};
use outbox::listener::{Failure, Handler};
use serde_json::{Value, json};
use uuid::Uuid;

pub use arguments::{Command, Which};

/// A letter stays, or there is none.
const STAYS: u8 = 3;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be used.
    #[error("the letters cannot be read")]
    Database(#[from] sqlx::Error),
    /// A letter could not be tried.
    #[error("letter {id} could not be tried; nothing has changed, the command can be given again")]
    Try {
        /// The letter.
        id: Uuid,
        /// Why.
        source: Failure,
    },
    /// Nobody can be asked.
    #[error("dropping {0} letters has to be confirmed: add --yes")]
    NotAsked(usize),
    /// Nothing says which letters are meant.
    #[error("say which letters: an id, --key, --kind, --type, --topic, --older-than, or --all")]
    Which,
    /// The terminal cannot be written to.
    #[error("the answer cannot be written")]
    Output(#[from] std::io::Error),
}

/// What a command writes: text for people, or JSON for programs.
struct Output<W> {
    to: W,
    json: bool,
}

impl<W: Write> Output<W> {
    fn line(&mut self, text: impl FnOnce() -> String) -> std::io::Result<()> {
        if self.json {
            return Ok(());
        }
        writeln!(self.to, "{}", text())
    }

    fn json(&mut self, value: impl FnOnce() -> Value) -> std::io::Result<()> {
        if self.json {
            writeln!(self.to, "{}", value())?;
        }
        Ok(())
    }
}

impl Command {
    /// Does what was asked for, and writes the answer to standard output.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn run<H: Handler>(self, letters: &Letters<H>) -> Result<ExitCode, Error> {
        let stdin = std::io::stdin();
        let asks = stdin.is_terminal().then(|| stdin.lock());
        self.write(letters, std::io::stdout().lock(), asks).await
    }

    async fn write<H: Handler>(
        self,
        letters: &Letters<H>,
        to: impl Write,
        asks: Option<impl BufRead>,
    ) -> Result<ExitCode, Error> {
        match self {
            Self::List { which, most, json } => {
                let mut output = Output { to, json };
                let found = letters.list(&which.filter(), most).await?;
                for letter in &found {
                    output.line(|| shown::line(letter))?;
                }
                output.json(|| found.iter().map(shown::json).collect())?;
                output.line(|| match found.len() {
                    0 => "no letters".to_owned(),
                    count if count == most => {
                        format!("{count} letters; there may be more, see --most")
                    }
                    count => format!("{count} letters"),
                })?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Show { id, json } => {
                let mut output = Output { to, json };
                let Some(letter) = letters.find(id).await? else {
                    output.line(|| format!("there is no letter {id}"))?;
                    output.json(|| Value::Null)?;
                    return Ok(STAYS.into());
                };
                output.line(|| shown::whole(&letter))?;
                output.json(|| shown::json_whole(&letter))?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Redrive {
                which,
                most,
                dry_run,
                json,
            } => {
                let mut output = Output { to, json };
                let chosen = chosen(letters, &which, most).await?;
                if dry_run {
                    return would(
                        &mut output,
                        &chosen,
                        "would be tried, each key from its first letter on",
                    );
                }
                redrive(letters, &chosen, most, &mut output).await
            }
            Self::Drop {
                which,
                most,
                reason,
                yes,
                dry_run,
                json,
            } => {
                let mut output = Output { to, json };
                let chosen = chosen(letters, &which, most).await?;
                if dry_run {
                    return would(&mut output, &chosen, "would be dropped");
                }
                if !yes && !chosen.is_empty() && !confirmed(&mut output, &chosen, asks)? {
                    output.line(|| "nothing is dropped".to_owned())?;
                    return Ok(STAYS.into());
                }
                drop_all(letters, &chosen, &reason, &mut output).await
            }
        }
    }
}

async fn chosen<H: Handler>(
    letters: &Letters<H>,
    which: &Which,
    most: usize,
) -> Result<Vec<Letter>, Error> {
    if !which.says_which() {
        return Err(Error::Which);
    }
    Ok(letters.list(&which.filter(), most).await?)
}

fn would<W: Write>(
    output: &mut Output<W>,
    chosen: &[Letter],
    what: &str,
) -> Result<ExitCode, Error> {
    for letter in chosen {
        output.line(|| shown::line(letter))?;
    }
    output.json(|| chosen.iter().map(shown::json).collect())?;
    output.line(|| format!("{} letters {what}", chosen.len()))?;
    Ok(if chosen.is_empty() {
        STAYS.into()
    } else {
        ExitCode::SUCCESS
    })
}

/// Tries the keys of `chosen`, each from its first letter on, until one fails.
async fn redrive<H: Handler, W: Write>(
    letters: &Letters<H>,
    chosen: &[Letter],
    most: usize,
    output: &mut Output<W>,
) -> Result<ExitCode, Error> {
    let (mut applied, mut failed, mut tries) = (Vec::new(), Vec::new(), 0);
    let mut keys = BTreeSet::new();
    for letter in chosen {
        let key = &letter.message.key;
        if key.is_some() && !keys.insert((&letter.message.at.topic, key)) {
            continue;
        }
        while let Some(first) = letters.first_of_key(letter).await? {
            if tries == most {
                break;
            }
            tries += 1;
            let id = first.id;
            let outcome = letters.redrive(id).await;
            match outcome.map_err(|source| Error::Try { id, source })? {
                Outcome::Applied => {
                    output.line(|| format!("applied  {}", shown::name(&first)))?;
                    applied.push(id);
                }
                Outcome::Failed {
                    kind,
                    error,
                    attempts,
                } => {
                    output.line(|| {
                        format!(
                            "failed   {}: {kind}, tried {attempts} times: {error}",
                            shown::name(&first)
                        )
                    })?;
                    failed.push(
                        json!({ "id": id, "kind": kind, "error": error, "attempts": attempts }),
                    );
                    break;
                }
                // Somebody was faster, such as the listener itself.
                Outcome::Gone | Outcome::Behind | Outcome::Busy => {}
            }
            if key.is_none() {
                break;
            }
        }
    }
    output.line(|| format!("{} applied, {} failed", applied.len(), failed.len()))?;
    output.json(|| json!({ "applied": applied, "failed": failed }))?;
    let done = failed.is_empty() && !chosen.is_empty();
    Ok(if done {
        ExitCode::SUCCESS
    } else {
        STAYS.into()
    })
}

fn confirmed<W: Write>(
    output: &mut Output<W>,
    chosen: &[Letter],
    asks: Option<impl BufRead>,
) -> Result<bool, Error> {
    let mut asks = asks
        .filter(|_| !output.json)
        .ok_or(Error::NotAsked(chosen.len()))?;
    for letter in chosen {
        output.line(|| shown::line(letter))?;
    }
    output.line(|| {
        format!(
            "Drop these {} letters? They are never applied. Type yes:",
            chosen.len()
        )
    })?;
    let mut answer = String::new();
    asks.read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

async fn drop_all<H: Handler, W: Write>(
    letters: &Letters<H>,
    chosen: &[Letter],
    reason: &str,
    output: &mut Output<W>,
) -> Result<ExitCode, Error> {
    let mut dropped = Vec::new();
    for letter in chosen {
        if letters.drop(letter.id, reason).await? {
            output.line(|| format!("dropped  {}", shown::name(letter)))?;
            dropped.push(letter.id);
        }
    }
    output.line(|| format!("{} dropped; they are kept in dropped_letter", dropped.len()))?;
    output.json(|| json!({ "dropped": dropped }))?;
    Ok(if chosen.is_empty() {
        STAYS.into()
    } else {
        ExitCode::SUCCESS
    })
}

impl Which {
    fn says_which(&self) -> bool {
        self.all || self.filter() != Filter::default()
    }
}
