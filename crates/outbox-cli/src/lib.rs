//! The commands over a listener's dead letters, for the program of a service: `list`, `show`, `redrive`, `discard`. They work
//! while the service runs, or while it does not, with the service's own rights and handler.
//!
//! Exit codes: 0 when all that was asked for is done, also when `list` finds no dead letter; 1 for an error; 2 for a command that
//! cannot be understood; 3 when a dead letter stays, also since `--most` let no more be tried, when one was gone before it could be
//! discarded, or when `show`, `redrive` and `discard` find none.

mod arguments;
mod discard;
mod redrive;
mod shown;

use std::io::{IsTerminal, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;

use outbox::listener::Handler;
use outbox::listener::dead_letter::{DeadLetter, DeadLetters, Filter};
use serde_json::{Value, json};
use uuid::Uuid;

pub use arguments::{Command, Which};

/// A dead letter stays, was gone before, or there is none.
const STAYS: u8 = 3;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be used.
    #[error(
        "the dead letters cannot be read: see that the database is up, that its role is one of `migrations/*/roles.sql`, and that `migrate`, which also grants the role its rights, has been run"
    )]
    Database(#[from] sqlx::Error),
    /// Dead letters could not be tried.
    #[error(
        "{0} dead letters could not be tried, or nobody said what came of it; the command can be given again"
    )]
    Untried(usize),
    /// A dead letter could not be discarded.
    #[error(
        "nobody said that dead letter {id} is discarded, and the rest are as they were; the command can be given again"
    )]
    Discard {
        /// The dead letter.
        id: Uuid,
        /// Why.
        source: sqlx::Error,
    },
    /// More dead letters match than may be discarded at once.
    #[error(
        "more dead letters match than --most {0}, and none is discarded, since the listener applies what is left of a key: raise --most, or say more narrowly which"
    )]
    TooMany(NonZeroUsize),
    /// Nobody can be asked.
    #[error("discarding {0} dead letters has to be confirmed: add --yes")]
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

    /// Dead letters without their messages, at most `most`, each as it is written; and whether there are more.
    async fn listed<H: Handler>(
        &self,
        dead_letters: &DeadLetters<H>,
        filter: &Filter,
        most: usize,
    ) -> Result<(Vec<Value>, bool), Error> {
        bounded(dead_letters, filter, most, |dead_letter| {
            Some(self.row(&dead_letter))
        })
        .await
    }

    fn row(&self, dead_letter: &DeadLetter) -> Value {
        if self.json {
            shown::json(dead_letter)
        } else {
            shown::line(dead_letter).into()
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
    /// Does what was asked for, and writes the answer to standard output. The future is [`Send`], so it holds no lock of standard
    /// output or input while it waits: the program may log there meanwhile.
    ///
    /// # Errors
    /// [`Error`].
    pub fn run<H: Handler>(
        self,
        dead_letters: &DeadLetters<H>,
    ) -> impl Future<Output = Result<ExitCode, Error>> + Send {
        let answer = std::io::stdin().is_terminal().then_some(read_answer);
        self.write(dead_letters, std::io::stdout(), answer)
    }

    async fn write<H: Handler>(
        self,
        dead_letters: &DeadLetters<H>,
        to: impl Write + Send,
        answer: Option<impl FnOnce() -> std::io::Result<String>>,
    ) -> Result<ExitCode, Error> {
        match self {
            Self::List { which, most, json } => {
                let mut output = Output { to, json };
                let (rows, more) = output
                    .listed(dead_letters, &which.filter(), most.get())
                    .await?;
                output.lines(&rows)?;
                output.line(|| match rows.len() {
                    0 => "no dead letters".to_owned(),
                    count => counted(count, more),
                })?;
                output.json(|| json!({ "dead_letters": rows, "more": more }))?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Show { id, json } => {
                let mut output = Output { to, json };
                let Some(dead_letter) = dead_letters.find(id).await? else {
                    output.line(|| format!("there is no dead letter {id}"))?;
                    output.json(|| Value::Null)?;
                    return Ok(STAYS.into());
                };
                output.line(|| shown::whole(&dead_letter))?;
                output.json(|| shown::json_whole(&dead_letter))?;
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
                let (queues, more) = redrive::queues(dead_letters, &which.filter(), most).await?;
                if dry_run {
                    let (rows, more) =
                        redrive::would(dead_letters, &queues, more, most, &output).await?;
                    let what = "would be tried, each key until one of its dead letters fails";
                    let code = would(&mut output, &rows, more, what)?;
                    return Ok(if more { STAYS.into() } else { code });
                }
                redrive::redrive(dead_letters, &queues, more, most, &mut output).await
            }
            Self::Discard {
                which,
                most,
                reason,
                yes,
                dry_run,
                json,
            } => {
                let mut output = Output { to, json };
                if dry_run {
                    let (rows, more) = output
                        .listed(dead_letters, &which.filter(), most.get())
                        .await?;
                    let what = if more {
                        "match, and none would be discarded"
                    } else {
                        "would be discarded"
                    };
                    let code = would(&mut output, &rows, more, what)?;
                    return if more {
                        Err(Error::TooMany(most))
                    } else {
                        Ok(code)
                    };
                }
                let (chosen, more) =
                    bounded(dead_letters, &which.filter(), most.get(), |dead_letter| {
                        Some(Chosen::of(&dead_letter))
                    })
                    .await?;
                if more {
                    return Err(Error::TooMany(most));
                }
                if !yes && !chosen.is_empty() && !confirmed(&mut output, &chosen, answer)? {
                    output.line(|| "nothing is discarded".to_owned())?;
                    return Ok(STAYS.into());
                }
                discard::discard_all(
                    dead_letters,
                    &chosen,
                    reason.as_deref().unwrap_or_default(),
                    &mut output,
                )
                .await
            }
        }
    }
}

/// A dead letter that was chosen, without its message: there may be many, each as large as a message.
struct Chosen {
    id: Uuid,
    name: String,
    line: String,
}

impl Chosen {
    fn of(dead_letter: &DeadLetter) -> Self {
        Self {
            id: dead_letter.id,
            name: shown::name(dead_letter),
            line: shown::line(dead_letter),
        }
    }
}

/// What `of` makes of the dead letters that `filter` lets pass, at most `most`; and whether there are more. Those of which it makes
/// nothing do not count.
async fn bounded<H: Handler, T>(
    dead_letters: &DeadLetters<H>,
    filter: &Filter,
    most: usize,
    of: impl FnMut(DeadLetter) -> Option<T>,
) -> Result<(Vec<T>, bool), Error> {
    let asked = most.saturating_add(1);
    let mut found = dead_letters.list_as(filter, asked, of).await?;
    let more = found.len() > most;
    found.truncate(most);
    Ok((found, more))
}

fn counted(count: usize, more: bool) -> String {
    let dead_letters = if count == 1 {
        "dead letter"
    } else {
        "dead letters"
    };
    let more = if more {
        " (there are more, see --most)"
    } else {
        ""
    };
    format!("{count} {dead_letters}{more}")
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
    output.json(|| json!({ "dead_letters": rows, "more": more }))?;
    Ok(if rows.is_empty() {
        STAYS.into()
    } else {
        ExitCode::SUCCESS
    })
}

fn confirmed<W: Write>(
    output: &mut Output<W>,
    chosen: &[Chosen],
    answer: Option<impl FnOnce() -> std::io::Result<String>>,
) -> Result<bool, Error> {
    let answer = answer
        .filter(|_| !output.json)
        .ok_or(Error::NotAsked(chosen.len()))?;
    for dead_letter in chosen {
        output.line(|| dead_letter.line.clone())?;
    }
    output.line(|| {
        let count = counted(chosen.len(), false);
        format!("Discard {count}? What is discarded is never applied. Type yes:")
    })?;
    Ok(answer()?.trim() == "yes")
}

fn read_answer() -> std::io::Result<String> {
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests;
