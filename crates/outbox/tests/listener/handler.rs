//! The recording handler: it records each event in a table and publishes an event about it, or fails as its script says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use outbox::listener::{Failure, Handler, Received, Refusal};
use outbox::{Event, Outgoing};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use crate::plan::{Behavior, Cause};

/// The handler's table. `id` has no unique constraint, so that an event applied twice shows.
pub(crate) const TABLES: &str = "
    create table note (
        seq bigint generated always as identity primary key,
        listener text not null,
        id uuid not null,
        cents integer default 0 not null check (cents >= 0)
    );
    create function raise_unknown(uuid) returns void language plpgsql as 'begin raise exception ''unknown''; end'";

#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "payload")]
pub(crate) enum Note {
    #[serde(rename = "note.taken")]
    Taken { event_id: Uuid },
}

/// The event that is published about a note.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", content = "payload")]
enum Echo {
    #[serde(rename = "note.applied")]
    Applied {
        event_id: Uuid,
        of: Uuid,
        listener: String,
    },
}

impl Event for Echo {
    const AGGREGATE_TYPE: &'static str = "echo";

    fn id(&self) -> Uuid {
        let Self::Applied { event_id, .. } = self;
        *event_id
    }

    fn aggregate_id(&self) -> String {
        let Self::Applied { of, .. } = self;
        of.to_string()
    }
}

/// A gate that blocks a thread until it is opened.
#[derive(Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    pub(crate) fn wait(&self) {
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }
}

/// The script of one listener, shared by the handlers of its workers and operators: the behavior for each event.
pub(crate) struct Script {
    pub(crate) listener: String,
    /// By id, and so in the order of creation.
    behaviors: Mutex<BTreeMap<Uuid, Behavior>>,
    failures: AtomicUsize,
    skips_delay: AtomicBool,
}

impl Script {
    pub(crate) fn new(listener: &str) -> Self {
        Self {
            listener: listener.to_owned(),
            behaviors: Mutex::default(),
            failures: AtomicUsize::default(),
            skips_delay: AtomicBool::new(false),
        }
    }

    pub(crate) fn set(&self, event: Uuid, behavior: Behavior) {
        self.behaviors.lock().unwrap().insert(event, behavior);
    }

    /// All behaviors, for the script of another process.
    pub(crate) fn behaviors(&self) -> BTreeMap<Uuid, Behavior> {
        self.behaviors.lock().unwrap().clone()
    }

    /// Makes the oldest `most` events apply of those that fail until they are healed.
    pub(crate) fn heal(&self, most: usize) {
        let mut behaviors = self.behaviors.lock().unwrap();
        let failing = behaviors
            .values_mut()
            .filter(|behavior| matches!(behavior, Behavior::FailsUntilHealed(_)));
        failing
            .take(most)
            .for_each(|behavior| *behavior = Behavior::Applies);
    }

    /// Turns off the handlers' delay.
    pub(crate) fn skip_delay(&self) {
        self.skips_delay.store(true, Ordering::SeqCst);
    }

    /// The number of failures so far.
    pub(crate) fn failures(&self) -> usize {
        self.failures.load(Ordering::SeqCst)
    }

    /// The cause for which an event fails this time, if any.
    fn next_failure(&self, event: Uuid) -> Option<Cause> {
        let mut behaviors = self.behaviors.lock().unwrap();
        let behavior = behaviors.get_mut(&event)?;
        let cause = match *behavior {
            Behavior::Applies | Behavior::Undecodable => return None,
            Behavior::FailsTimes(cause, times) => {
                *behavior = match times {
                    0 | 1 => Behavior::Applies,
                    more => Behavior::FailsTimes(cause, more - 1),
                };
                cause
            }
            Behavior::FailsUntilHealed(cause) | Behavior::AlwaysFails(cause) => cause,
        };
        self.failures.fetch_add(1, Ordering::SeqCst);
        Some(cause)
    }
}

/// The handler of one worker or operator.
#[derive(Clone)]
pub(crate) struct RecordingHandler {
    pub(crate) script: Arc<Script>,
    /// The delay of each call, in the open transaction.
    pub(crate) delay: Duration,
    /// The gate at which the next transaction blocks.
    pub(crate) next_gate: Arc<Mutex<Option<Arc<Gate>>>>,
}

impl RecordingHandler {
    pub(crate) fn new(script: &Arc<Script>, delay_ms: u8) -> Self {
        Self {
            script: Arc::clone(script),
            delay: Duration::from_millis(delay_ms.into()),
            next_gate: Arc::default(),
        }
    }
}

impl Handler for RecordingHandler {
    type Event = Note;

    async fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        batch: &[Received<Note>],
    ) -> Result<Vec<Outgoing>, Failure> {
        let (mut refusals, mut outgoing) = (Vec::new(), Vec::new());
        for received in batch {
            let Note::Taken { event_id } = received.event;
            let statement = match self.script.next_failure(event_id) {
                None => "insert into note (listener, id) values ($2, $1)",
                Some(Cause::ConstraintViolation) => {
                    "insert into note (listener, id, cents) values ($2, $1, -1)"
                }
                Some(Cause::Unknown) => "select raise_unknown($1), $2",
                // Without the message of the panic hook.
                Some(Cause::Panic) => std::panic::resume_unwind(Box::new("no such note")),
                Some(Cause::Poison) => {
                    refusals.push(Refusal::poison(event_id, "never"));
                    continue;
                }
                Some(Cause::Deferred) => {
                    refusals.push(Refusal::deferred(event_id, "not yet"));
                    continue;
                }
            };
            sqlx::query(statement)
                .bind(event_id)
                .bind(&self.script.listener)
                .execute(&mut **tx)
                .await?;
            outgoing.push(Outgoing::new(&Echo::Applied {
                // New on each attempt, so that an event published twice shows.
                event_id: Uuid::now_v7(),
                of: event_id,
                listener: self.script.listener.clone(),
            })?);
        }
        // Also before a refusal: then the next transaction begins as soon as the gate opens.
        let gate = self.next_gate.lock().unwrap().take();
        if let Some(gate) = gate {
            gate.wait();
        }
        if !refusals.is_empty() {
            return Err(Failure::Refused(refusals));
        }
        if !self.script.skips_delay.load(Ordering::SeqCst) {
            tokio::time::sleep(self.delay).await;
        }
        Ok(outgoing)
    }
}
