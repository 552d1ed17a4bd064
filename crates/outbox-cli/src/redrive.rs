//! Trying dead letters again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::ExitCode;

use outbox::listener::Handler;
use outbox::listener::dead_letter::{DeadLetter, DeadLetters, Filter, Outcome};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Error, Output, STAYS, bounded, shown};

/// Dead letters that are tried one after the other: those of a key, or a single one without a key.
pub(crate) struct Queue {
    topic: String,
    key: Option<Vec<u8>>,
    /// Of those that were asked for.
    last: Uuid,
}

/// The queues of the dead letters that `filter` lets pass, at most `most`; and whether there are more. A key with many dead letters is
/// one: it must not hide the others.
pub(crate) async fn queues<H: Handler>(
    dead_letters: &DeadLetters<H>,
    filter: &Filter,
    most: usize,
) -> Result<(Vec<Queue>, bool), Error> {
    let (mut queues, mut of_key) = (Vec::<Queue>::new(), BTreeMap::new());
    let queue = |dead_letter: DeadLetter| {
        let (topic, key, last) = (
            dead_letter.message.at.topic,
            dead_letter.message.key,
            dead_letter.id,
        );
        if let Some(key) = &key {
            let at = *of_key
                .entry((topic.clone(), key.clone()))
                .or_insert(queues.len());
            if let Some(queue) = queues.get_mut(at) {
                queue.last = last;
                return None;
            }
        }
        queues.push(Queue { topic, key, last });
        Some(())
    };
    let (_, more) = bounded(dead_letters, filter, most, queue).await?;
    queues.truncate(most);
    Ok((queues, more))
}

/// What has become of dead letters.
#[derive(Default)]
struct Tried {
    tries: usize,
    /// Whether the bound ended it before one that was asked for.
    cut: bool,
    applied: Vec<Uuid>,
    /// Nobody has said whether by a try of this command.
    gone: Vec<Uuid>,
    /// They stay, unless somebody has applied them or given them up since.
    failed: Vec<(Uuid, Value)>,
    untried: Vec<Value>,
}

/// Tries `queues`, each from its first dead letter on, until one of its dead letters fails; at most `most` tries. `more` says whether there
/// are more queues.
pub(crate) async fn redrive<H: Handler, W: Write>(
    dead_letters: &DeadLetters<H>,
    queues: &[Queue],
    more: bool,
    most: usize,
    output: &mut Output<W>,
) -> Result<ExitCode, Error> {
    let mut tried = Tried::default();
    let done = match tried.queues(dead_letters, queues, most, output).await {
        Ok(()) => tried.leaves(dead_letters, queues).await,
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
    let more = more || cut;
    let failed: Vec<Value> = failed.into_iter().map(|(_, failed)| failed).collect();
    output.line(|| match (applied.len(), failed.len(), untried.len()) {
        _ if queues.is_empty() => "no dead letters".to_owned(),
        (applied, failed, untried) => {
            format!("{applied} applied, {failed} failed, {untried} could not be tried")
        }
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
    if let Some(dead_letter) = &stays {
        output.line(|| format!("dead letters stay, such as {}", shown::name(dead_letter)))?;
    }
    if !untried.is_empty() {
        return Err(Error::Untried(untried.len()));
    }
    Ok(if stays.is_some() || more || queues.is_empty() {
        STAYS.into()
    } else {
        ExitCode::SUCCESS
    })
}

/// The dead letters that would be tried while none fails, each as it is written; and whether one that was asked for would be left.
pub(crate) async fn would<H: Handler, W: Write>(
    dead_letters: &DeadLetters<H>,
    queues: &[Queue],
    more: bool,
    most: usize,
    output: &Output<W>,
) -> Result<(Vec<Value>, bool), Error> {
    let (mut rows, mut cut) = (Vec::new(), false);
    for queue in queues {
        if rows.len() == most {
            cut = true;
            break;
        }
        let row = |dead_letter: DeadLetter| Some((dead_letter.id, output.row(&dead_letter)));
        let (of_key, longer) =
            bounded(dead_letters, &queue.filter(), most - rows.len(), row).await?;
        rows.extend(of_key);
        cut |= longer;
    }
    let (ids, rows): (BTreeSet<Uuid>, Vec<Value>) = rows.into_iter().unzip();
    let left = queues.iter().any(|queue| !ids.contains(&queue.last));
    Ok((rows, more || left && cut))
}

impl Tried {
    async fn queues<H: Handler, W: Write>(
        &mut self,
        dead_letters: &DeadLetters<H>,
        queues: &[Queue],
        most: usize,
        output: &mut Output<W>,
    ) -> Result<(), Error> {
        for queue in queues {
            if self.cut {
                break;
            }
            self.queue(dead_letters, queue, most, output).await?;
        }
        Ok(())
    }

    async fn queue<H: Handler, W: Write>(
        &mut self,
        dead_letters: &DeadLetters<H>,
        queue: &Queue,
        most: usize,
        output: &mut Output<W>,
    ) -> Result<(), Error> {
        let mut before = None;
        loop {
            let Some(first) = dead_letters.list(&queue.filter(), 1).await?.pop() else {
                break;
            };
            if self.tries == most {
                self.cut = dead_letters.find(queue.last).await?.is_some();
                break;
            }
            let (id, name) = (first.id, shown::name(&first));
            // It is there, but a try does not get it.
            if before == Some(id) {
                break;
            }
            before = Some(id);
            self.tries += 1;
            match dead_letters.redrive(id).await {
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
                    let failed =
                        json!({ "id": id, "kind": kind, "error": error, "attempts": attempts });
                    self.failed.push((id, failed));
                    break;
                }
                // Somebody was faster, such as the listener itself.
                Ok(Outcome::Gone | Outcome::Behind | Outcome::Busy) => {}
                // The connection broke before the answer came, perhaps.
                Err(failure) if matches!(dead_letters.find(id).await, Ok(None)) => {
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
            if queue.key.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// One that was asked for and is still there.
    async fn leaves<H: Handler>(
        &self,
        dead_letters: &DeadLetters<H>,
        queues: &[Queue],
    ) -> Result<Option<DeadLetter>, Error> {
        let applied: BTreeSet<&Uuid> = self.applied.iter().collect();
        let failed = self.failed.iter().map(|(id, _)| id);
        let last = queues.iter().map(|queue| &queue.last);
        for id in failed.chain(last.filter(|last| !applied.contains(last))) {
            if let Some(dead_letter) = dead_letters.find(*id).await? {
                return Ok(Some(dead_letter));
            }
        }
        Ok(None)
    }
}

impl Queue {
    /// All of it.
    fn filter(&self) -> Filter {
        match &self.key {
            None => Filter {
                id: Some(self.last),
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
