//! An operator who redrives and discards the dead letters of a listener.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outbox::listener::Failure;
use outbox::listener::dead_letter::{DeadLetters, Filter};
use uuid::Uuid;

use crate::handler::RecordingHandler;
use crate::topic::Topic;

pub(crate) struct Operator {
    pub(crate) dead_letters: DeadLetters<RecordingHandler>,
    pub(crate) topic: Topic,
    pub(crate) always_failing: Arc<Mutex<BTreeSet<Uuid>>>,
}

impl Operator {
    /// Redrives the dead letters once, and again until `lasts` is over.
    pub(crate) async fn run(&self, filter: &Filter, most: usize, discards: bool, lasts: Duration) {
        let began = Instant::now();
        loop {
            // An error of the database leaves the dead letters as they are.
            drop(self.pass(filter, most, discards).await);
            if began.elapsed() >= lasts {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Redrives the dead letters in their order, and discards those that always fail.
    async fn pass(&self, filter: &Filter, most: usize, discards: bool) -> Result<(), Failure> {
        for dead_letter in self.dead_letters.list(filter, most).await? {
            if discards && self.is_always_failing(dead_letter.id) {
                self.dead_letters
                    .discard(dead_letter.id, "always fails")
                    .await?;
            } else {
                self.dead_letters.redrive(dead_letter.id).await?;
            }
        }
        Ok(())
    }

    fn is_always_failing(&self, id: Uuid) -> bool {
        self.always_failing.lock().unwrap().contains(&id) || self.topic.is_undecodable(id)
    }
}
