//! The commands over a listener's dead letters, for the program of a service: `list`, `show`, `redrive`, `drop`. They work
//! while the service runs, or while it does not, with the service's own rights and handler.
//!
//! Exit codes: 0 when all that was asked for is done, also when `list` finds no letter; 1 for an error; 2 for a command that
//! cannot be understood; 3 when a letter stays, also since `--most` let no more be tried, when one was gone before it could be
//! dropped, or when `show`, `redrive` and `drop` find none.

mod arguments;
mod drop;
mod redrive;
mod shown;

use std::io::{BufRead, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;

use outbox::listener::Handler;
use outbox::listener::letters::{Filter, Letter, Letters};
use serde_json::{Value, json};
use uuid::Uuid;

pub use arguments::{Command, Which};

/// A letter stays, was gone before, or there is none.
const STAYS: u8 = 3;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be used.
    #[error(
        "the letters cannot be read: see that the database is up, that its role is one of `migrations/*/roles.sql`, and that `migrate`, which also grants the role its rights, has been run"
    )]
    Database(#[from] sqlx::Error),
    /// Letters could not be tried.
    #[error(
        "{0} letters could not be tried, or nobody said what came of it; the command can be given again"
    )]
    Untried(usize),
    /// A letter could not be dropped.
    #[error(
        "nobody said that letter {id} is dropped, and the rest are as they were; the command can be given again"
    )]
    Drop {
        /// The letter.
        id: Uuid,
        /// Why.
        source: sqlx::Error,
    },
    /// More letters match than may be dropped at once.
    #[error(
        "more letters match than --most {0}, and none is dropped, since the listener applies what is left of a key: raise --most, or say more narrowly which"
    )]
    TooMany(NonZeroUsize),
    /// Nobody can be asked.
    #[error("dropping {0} letters has to be confirmed: add --yes")]
    NotAsked(usize),
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

    /// Letters without their messages, at most `most`, each as it is written; and whether there are more.
    async fn listed<H: Handler>(
        &self,
        letters: &Letters<H>,
        filter: &Filter,
        most: usize,
    ) -> Result<(Vec<Value>, bool), Error> {
        bounded(letters, filter, most, |letter| Some(self.row(&letter))).await
    }

    fn row(&self, letter: &Letter) -> Value {
        if self.json {
            shown::json(letter)
        } else {
            shown::line(letter).into()
        }
    }

    fn lines(&mut self, rows: &[Value]) -> std::io::Result<()> {
        for row in rows {
            self.line(|| row.as_str().unwrap_or_default().to_owned())?;
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
                let (rows, more) = output.listed(letters, &which.filter(), most.get()).await?;
                output.lines(&rows)?;
                output.line(|| match rows.len() {
                    0 => "no letters".to_owned(),
                    count => counted(count, more),
                })?;
                output.json(|| json!({ "letters": rows, "more": more }))?;
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
                let most = most.get();
                let (queues, more) = redrive::queues(letters, &which.filter(), most).await?;
                if dry_run {
                    let (rows, more) =
                        redrive::would(letters, &queues, more, most, &output).await?;
                    let what = "would be tried, each key until one of its letters fails";
                    let code = would(&mut output, &rows, more, what)?;
                    return Ok(if more { STAYS.into() } else { code });
                }
                redrive::redrive(letters, &queues, more, most, &mut output).await
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
                if dry_run {
                    let (rows, more) = output.listed(letters, &which.filter(), most.get()).await?;
                    let what = if more {
                        "match, and none would be dropped"
                    } else {
                        "would be dropped"
                    };
                    let code = would(&mut output, &rows, more, what)?;
                    return if more {
                        Err(Error::TooMany(most))
                    } else {
                        Ok(code)
                    };
                }
                let (chosen, more) = bounded(letters, &which.filter(), most.get(), |letter| {
                    Some(Chosen::of(&letter))
                })
                .await?;
                if more {
                    return Err(Error::TooMany(most));
                }
                if !yes && !chosen.is_empty() && !confirmed(&mut output, &chosen, asks)? {
                    output.line(|| "nothing is dropped".to_owned())?;
                    return Ok(STAYS.into());
                }
                drop::drop_all(
                    letters,
                    &chosen,
                    reason.as_deref().unwrap_or_default(),
                    &mut output,
                )
                .await
            }
        }
    }
}

/// A letter that was chosen, without its message: there may be many, each as large as a message.
struct Chosen {
    id: Uuid,
    name: String,
    line: String,
}

impl Chosen {
    fn of(letter: &Letter) -> Self {
        Self {
            id: letter.id,
            name: shown::name(letter),
            line: shown::line(letter),
        }
    }
}

/// What `of` makes of the letters that `filter` lets pass, at most `most`; and whether there are more. Those of which it makes
/// nothing do not count.
async fn bounded<H: Handler, T>(
    letters: &Letters<H>,
    filter: &Filter,
    most: usize,
    of: impl FnMut(Letter) -> Option<T>,
) -> Result<(Vec<T>, bool), Error> {
    let asked = most.saturating_add(1);
    let mut found = letters.list_as(filter, asked, of).await?;
    let more = found.len() > most;
    found.truncate(most);
    Ok((found, more))
}

fn counted(count: usize, more: bool) -> String {
    let letters = if count == 1 { "letter" } else { "letters" };
    let more = if more {
        " (there are more, see --most)"
    } else {
        ""
    };
    format!("{count} {letters}{more}")
}

/// Writes what a command would take, and whether there is more that it would not.
fn would<W: Write>(
    output: &mut Output<W>,
    rows: &[Value],
    more: bool,
    what: &str,
) -> Result<ExitCode, Error> {
    output.lines(rows)?;
    output.line(|| format!("{} {what}", counted(rows.len(), more)))?;
    output.json(|| json!({ "letters": rows, "more": more }))?;
    Ok(if rows.is_empty() {
        STAYS.into()
    } else {
        ExitCode::SUCCESS
    })
}

fn confirmed<W: Write>(
    output: &mut Output<W>,
    chosen: &[Chosen],
    asks: Option<impl BufRead>,
) -> Result<bool, Error> {
    let mut asks = asks
        .filter(|_| !output.json)
        .ok_or(Error::NotAsked(chosen.len()))?;
    for letter in chosen {
        output.line(|| letter.line.clone())?;
    }
    output.line(|| {
        let count = counted(chosen.len(), false);
        format!("Drop {count}? What is dropped is never applied. Type yes:")
    })?;
    let mut answer = String::new();
    asks.read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

#[cfg(test)]
mod tests;
