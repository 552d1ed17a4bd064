//! Trying letters again.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;

use outbox::listener::Handler;
use outbox::listener::letters::{Filter, Letter, Letters, Outcome};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Chosen, Error, Output, STAYS, bounded, shown};

/// What has become of letters.
#[derive(Default)]
struct Tried {
    tries: usize,
    /// Whether the bound ended it.
    cut: bool,
    applied: Vec<Uuid>,
    /// Nobody has said whether by a try of this command.
    gone: Vec<Uuid>,
    failed: Vec<Value>,
    untried: Vec<Value>,
}

/// Tries the keys of `chosen`, each from its first letter on, until one of its letters fails; at most `most` tries. `more` says
/// whether there are more than the chosen ones.
pub(crate) async fn redrive<H: Handler, W: Write>(
    letters: &Letters<H>,
    chosen: &[Chosen],
    more: bool,
    most: usize,
    output: &mut Output<W>,
) -> Result<ExitCode, Error> {
    let mut tried = Tried::default();
    let done = match tried.keys(letters, chosen, most, output).await {
        Ok(()) => tried.leaves(letters, chosen).await,
        Err(error) => Err(error),
    };
    // Whatever ended it, what was done is told.
    let Tried {
        tries,
        cut,
        applied,
        gone,
        failed,
        untried,
    } = tried;
    let more = more || cut && !matches!(done, Ok(None));
    output.line(|| {
        let (applied, failed, untried) = (applied.len(), failed.len(), untried.len());
        format!("{applied} applied, {failed} failed, {untried} could not be tried")
    })?;
    if more {
        output.line(|| {
            format!("{tries} tried, and more are left than --most {most} takes: give the command again, or raise it")
        })?;
    }
    output.json(|| {
        json!({
            "applied": applied, "gone": gone, "failed": failed, "untried": untried, "more": more,
        })
    })?;
    let stays = done?;
    if let Some(letter) = stays {
        output.line(|| format!("letters stay, such as {}", letter.name))?;
    }
    if !untried.is_empty() {
        return Err(Error::Untried(untried.len()));
    }
    Ok(if stays.is_some() || more || chosen.is_empty() {
        STAYS.into()
    } else {
        ExitCode::SUCCESS
    })
}

/// The letters that would be tried while none fails, each as it is written; and whether a chosen one would be left.
pub(crate) async fn would<H: Handler, W: Write>(
    letters: &Letters<H>,
    chosen: &[Chosen],
    more: bool,
    most: usize,
    output: &Output<W>,
) -> Result<(Vec<Value>, bool), Error> {
    let (mut rows, mut cut) = (Vec::new(), false);
    for letter in keys(chosen) {
        if rows.len() == most {
            cut = true;
            break;
        }
        let row = |letter: Letter| (letter.id, output.row(&letter));
        let (of_key, longer) = bounded(letters, &letter.filter(), most - rows.len(), row).await?;
        rows.extend(of_key);
        cut |= longer;
    }
    let (ids, rows): (BTreeSet<Uuid>, Vec<Value>) = rows.into_iter().unzip();
    let left = chosen.iter().any(|letter| !ids.contains(&letter.id));
    Ok((rows, more || left && cut))
}

/// The first of each key among `chosen`, and all without one.
fn keys(chosen: &[Chosen]) -> impl Iterator<Item = &Chosen> {
    let mut keys = BTreeSet::new();
    chosen
        .iter()
        .filter(move |letter| letter.key.is_none() || keys.insert((&letter.topic, &letter.key)))
}

impl Tried {
    async fn keys<H: Handler, W: Write>(
        &mut self,
        letters: &Letters<H>,
        chosen: &[Chosen],
        most: usize,
        output: &mut Output<W>,
    ) -> Result<(), Error> {
        for letter in keys(chosen) {
            self.key(letters, letter, most, output).await?;
        }
        Ok(())
    }

    /// Tries the key of `letter`, or the letter alone if it has none.
    async fn key<H: Handler, W: Write>(
        &mut self,
        letters: &Letters<H>,
        letter: &Chosen,
        most: usize,
        output: &mut Output<W>,
    ) -> Result<(), Error> {
        let mut before = None;
        loop {
            if self.tries == most {
                self.cut = true;
                break;
            }
            let Some(first) = letter.first(letters).await? else {
                break;
            };
            let (id, name) = (first.id, shown::name(&first));
            // It is there, but a try does not get it.
            if before == Some(id) {
                break;
            }
            before = Some(id);
            self.tries += 1;
            match letters.redrive(id).await {
                Ok(Outcome::Applied) => {
                    output.line(|| format!("applied  {name}"))?;
                    self.applied.push(id);
                }
                Ok(Outcome::Failed {
                    kind,
                    error,
                    attempts,
                }) => {
                    output.line(|| {
                        let error = shown::plain(&error);
                        format!("failed   {name}: {kind}, tried {attempts} times: {error}")
                    })?;
                    self.failed.push(
                        json!({ "id": id, "kind": kind, "error": error, "attempts": attempts }),
                    );
                    break;
                }
                // Somebody was faster, such as the listener itself.
                Ok(Outcome::Gone | Outcome::Behind | Outcome::Busy) => {}
                // The connection broke before the answer came, perhaps.
                Err(failure) if matches!(letters.find(id).await, Ok(None)) => {
                    output.line(|| {
                        let failure = shown::plain(&failure.to_string());
                        format!("gone     {name}, perhaps applied by this try: {failure}")
                    })?;
                    self.gone.push(id);
                }
                // Perhaps it is this one that wants something that is not there: the other keys have their turn.
                Err(failure) => {
                    let error = failure.to_string();
                    output.line(|| format!("untried  {name}: {}", shown::plain(&error)))?;
                    self.untried.push(json!({ "id": id, "error": error }));
                    break;
                }
            }
            if letter.key.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// The first of `chosen` that is still there.
    async fn leaves<'a, H: Handler>(
        &self,
        letters: &Letters<H>,
        chosen: &'a [Chosen],
    ) -> Result<Option<&'a Chosen>, Error> {
        let applied: BTreeSet<&Uuid> = self.applied.iter().collect();
        for letter in chosen.iter().filter(|letter| !applied.contains(&letter.id)) {
            if letters.find(letter.id).await?.is_some() {
                return Ok(Some(letter));
            }
        }
        Ok(None)
    }
}

impl Chosen {
    /// The first letter of its key; itself if it has none.
    async fn first<H: Handler>(&self, letters: &Letters<H>) -> Result<Option<Letter>, sqlx::Error> {
        Ok(letters.list(&self.filter(), 1).await?.pop())
    }

    /// Its key's letters; itself if it has none.
    fn filter(&self) -> Filter {
        match &self.key {
            None => Filter {
                id: Some(self.id),
                ..Filter::default()
            },
            Some(key) => Filter {
                topic: Some(self.topic.clone()),
                key: Some(key.clone()),
                ..Filter::default()
            },
        }
    }
}
