//! The handler: writes each event down and publishes one about it, unless the plan has something else in store for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use outbox::listener::{Failure, Handler, Received, Refusal};
use outbox::{Event, Outgoing};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use crate::plan::{Flaw, Manner};

/// What it writes to. No constraint on `id`: an event that is applied twice is to be seen as that.
pub(crate) const TABLES: &str = "
    create table note (
        seq bigint generated always as identity primary key,
        listener text not null,
        id uuid not null,
        cents integer default 0 not null check (cents >= 0)
    );
    create function strange(uuid) returns void language plpgsql as 'begin raise exception ''strange''; end'";

#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "payload")]
pub(crate) enum Note {
    #[serde(rename = "note.taken")]
    Taken { event_id: Uuid },
}

/// What is published about a note.
#[derive(Serialize)]
#[serde(tag = "type", content = "payload")]
enum Echo<'a> {
    #[serde(rename = "note.applied")]
    Applied {
        event_id: Uuid,
        of: Uuid,
        listener: &'a str,
    },
}

impl Event for Echo<'_> {
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

/// Where a thread stands still until somebody opens it.
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

    pub(crate) fn stand(&self) {
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }
}

/// What one listener's handlers know of the events, whichever worker they serve.
pub(crate) struct Clerk {
    pub(crate) listener: String,
    /// By id, and so in the order in which they were made.
    manners: Mutex<BTreeMap<Uuid, Manner>>,
    failures: AtomicUsize,
    hurries: AtomicBool,
}

impl Clerk {
    pub(crate) fn new(listener: &str) -> Self {
        Self {
            listener: listener.to_owned(),
            manners: Mutex::default(),
            failures: AtomicUsize::default(),
            hurries: AtomicBool::new(false),
        }
    }

    pub(crate) fn expect(&self, event: Uuid, manner: Manner) {
        self.manners.lock().unwrap().insert(event, manner);
    }

    /// What is in store for the events, for a clerk in another process.
    pub(crate) fn expects(&self) -> BTreeMap<Uuid, Manner> {
        self.manners.lock().unwrap().clone()
    }

    /// The oldest `most` failures are over.
    pub(crate) fn heal(&self, most: usize) {
        let mut manners = self.manners.lock().unwrap();
        let ill = manners
            .values_mut()
            .filter(|manner| matches!(manner, Manner::Curable(_)));
        ill.take(most).for_each(|manner| *manner = Manner::Applies);
    }

    /// Nobody dwells in a transaction any more.
    pub(crate) fn hurry(&self) {
        self.hurries.store(true, Ordering::SeqCst);
    }

    /// How often events have failed.
    pub(crate) fn failures(&self) -> usize {
        self.failures.load(Ordering::SeqCst)
    }

    /// How an event fails now, if it does.
    fn flaw(&self, event: Uuid) -> Option<Flaw> {
        let mut manners = self.manners.lock().unwrap();
        let manner = manners.get_mut(&event)?;
        let flaw = match *manner {
            Manner::Applies | Manner::Undecodable => return None,
            Manner::Fails(flaw, times) => {
                *manner = match times {
                    0 | 1 => Manner::Applies,
                    more => Manner::Fails(flaw, more - 1),
                };
                flaw
            }
            Manner::Curable(flaw) | Manner::Hopeless(flaw) => flaw,
        };
        self.failures.fetch_add(1, Ordering::SeqCst);
        Some(flaw)
    }
}

/// The handler of one worker, or of one operator.
#[derive(Clone)]
pub(crate) struct Hand {
    pub(crate) clerk: Arc<Clerk>,
    /// How long it takes, its transaction open.
    pub(crate) dwell: Duration,
    /// Where it stands still in its next transaction.
    pub(crate) gate: Arc<Mutex<Option<Arc<Gate>>>>,
}

impl Hand {
    pub(crate) fn new(clerk: &Arc<Clerk>, dwell_ms: u8) -> Self {
        Self {
            clerk: Arc::clone(clerk),
            dwell: Duration::from_millis(dwell_ms.into()),
            gate: Arc::default(),
        }
    }
}

impl Handler for Hand {
    type Event = Note;

    async fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        batch: &[Received<Note>],
    ) -> Result<Vec<Outgoing>, Failure> {
        let (mut refusals, mut outgoing) = (Vec::new(), Vec::new());
        for received in batch {
            let Note::Taken { event_id } = received.event;
            let statement = match self.clerk.flaw(event_id) {
                None => "insert into note (listener, id) values ($2, $1)",
                Some(Flaw::Violates) => {
                    "insert into note (listener, id, cents) values ($2, $1, -1)"
                }
                Some(Flaw::Strange) => "select strange($1), $2",
                // Without the hook's word on it.
                Some(Flaw::Panics) => std::panic::resume_unwind(Box::new("no such note")),
                Some(Flaw::Poison) => {
                    refusals.push(Refusal::poison(event_id, "never"));
                    continue;
                }
                Some(Flaw::Deferred) => {
                    refusals.push(Refusal::deferred(event_id, "not yet"));
                    continue;
                }
            };
            sqlx::query(statement)
                .bind(event_id)
                .bind(&self.clerk.listener)
                .execute(&mut **tx)
                .await?;
            outgoing.push(Outgoing::new(&Echo::Applied {
                // Another one each time, so that what is published twice is seen as that.
                event_id: Uuid::now_v7(),
                of: event_id,
                listener: &self.clerk.listener,
            })?);
        }
        // Also where it refuses: then the next transaction begins at once when it goes on.
        let gate = self.gate.lock().unwrap().take();
        if let Some(gate) = gate {
            gate.stand();
        }
        if !refusals.is_empty() {
            return Err(Failure::Refused(refusals));
        }
        if !self.clerk.hurries.load(Ordering::SeqCst) {
            tokio::time::sleep(self.dwell).await;
        }
        Ok(outgoing)
    }
}
