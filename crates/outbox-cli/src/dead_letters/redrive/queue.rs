//! Dead letters to attempt one after the other.

use std::collections::BTreeMap;

use outbox::listener::dead_letter::{DeadLetter, Filter};
use outbox::listener::{DeadLetters, Handler};
use uuid::Uuid;

use crate::dead_letters::page::page;

/// The dead letters of a key, or a single one without a key.
pub(super) struct Queue {
    topic: String,
    pub(super) key: Option<Vec<u8>>,
    /// The last one that was asked for.
    pub(super) last: Uuid,
}

impl Queue {
    /// Matches all of it.
    pub(super) fn filter(&self) -> Filter {
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

/// At most `most` queues of the dead letters that match `filter`, and whether there are more. A key with many dead letters counts
/// once, so that it hides no other.
pub(super) async fn queues<H: Handler>(
    dead_letters: &DeadLetters<H>,
    filter: &Filter,
    most: usize,
) -> Result<(Vec<Queue>, bool), sqlx::Error> {
    let (mut queues, mut of_key) = (Vec::<Queue>::new(), BTreeMap::new());
    let queue = |dead_letter: DeadLetter| {
        let DeadLetter { id, message, .. } = dead_letter;
        let (topic, key, last) = (message.at.topic, message.key, id);
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
    let (_, more) = page(dead_letters, filter, most, queue).await?;
    queues.truncate(most);
    Ok((queues, more))
}
