//! The attempts of a redrive, and their outcomes.

use std::collections::BTreeSet;
use std::io::Write;

use outbox::listener::dead_letter::{DeadLetter, Outcome};
use outbox::listener::{DeadLetters, Handler};
use serde_json::{Value, json};
use uuid::Uuid;

use super::queue::Queue;
use crate::dead_letters::display;
use crate::dead_letters::error::Error;
use crate::dead_letters::output::Output;

/// The outcomes so far.
#[derive(Default)]
pub(super) struct Attempts {
    pub(super) count: usize,
    /// Whether the bound ended the attempts before one that was asked for.
    pub(super) cut: bool,
    pub(super) applied: Vec<Uuid>,
    /// Gone after an attempt whose answer was lost: this command may have applied them.
    pub(super) gone: Vec<Uuid>,
    /// They remain, unless another process has applied or discarded them since.
    pub(super) failed: Vec<(Uuid, Value)>,
    /// The database did not confirm an attempt: its outcome is unknown, or it had none.
    pub(super) unconfirmed: Vec<Value>,
}

impl Attempts {
    /// Attempts the queues one after the other; `most` attempts at most.
    pub(super) async fn queues<H: Handler, W: Write>(
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
            if self.count == most {
                self.cut = dead_letters.find(queue.last).await?.is_some();
                break;
            }
            let (id, name) = (first.id, display::name(&first));
            // The last attempt did not get it, though it is there.
            if before == Some(id) {
                break;
            }
            before = Some(id);
            self.count += 1;
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
                        let error = display::plain(&error);
                        format!("failed   {name}: {kind}, after {attempts} attempts: {error}")
                    })?;
                    let failed =
                        json!({ "id": id, "kind": kind, "error": error, "attempts": attempts });
                    self.failed.push((id, failed));
                    break;
                }
                // Another process was faster, such as the listener.
                Ok(Outcome::Gone | Outcome::Parked | Outcome::Busy) => {}
                // The connection may have broken after the commit.
                Err(failure) if matches!(dead_letters.find(id).await, Ok(None)) => {
                    output.line(|| {
                        let failure = display::plain(&failure.to_string());
                        format!("gone     {name}, this attempt may have applied it: {failure}")
                    })?;
                    self.gone.push(id);
                }
                // What this one needs may be missing; the other keys are attempted all the same.
                Err(failure) => {
                    let error = failure.to_string();
                    output.line(|| format!("unconfirmed  {name}: {}", display::plain(&error)))?;
                    self.unconfirmed.push(json!({ "id": id, "error": error }));
                    break;
                }
            }
            if queue.key.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// A dead letter that was asked for and is still there.
    pub(super) async fn remaining<H: Handler>(
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
