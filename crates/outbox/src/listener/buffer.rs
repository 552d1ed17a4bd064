//! The buffer of fetched messages: bounded in number and in bytes.
//!
//! It holds what was received while a batch is in flight, two batches at most. When it is full the poll loop stops receiving;
//! librdkafka then stops fetching by its own bounds, and after a second the poll loop pauses the partitions.

use std::collections::VecDeque;

use crate::message::Message;

/// The most bytes in the buffer, and as many in the in-flight batch: messages may be as large as Kafka allows, memory may not.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Messages in the order in which they arrived.
pub(super) struct Buffer {
    messages: VecDeque<Message>,
    bytes: usize,
    max: usize,
}

impl Buffer {
    /// A buffer for `max` messages.
    pub(super) fn new(max: usize) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            max,
        }
    }

    pub(super) fn push(&mut self, message: Message) {
        self.bytes += size(&message);
        self.messages.push_back(message);
    }

    /// Moves the oldest messages to those of a batch while it has fewer than `max`, and room in bytes. Those that are not `ready`
    /// stay.
    pub(super) fn fill(
        &mut self,
        batch: &mut Vec<Message>,
        max: usize,
        ready: impl Fn(&Message) -> bool,
    ) {
        let mut bytes: usize = batch.iter().map(size).sum();
        let mut held = VecDeque::new();
        while batch.len() < max
            && bytes < MAX_BYTES
            && let Some(message) = self.messages.pop_front()
        {
            if !ready(&message) {
                held.push_back(message);
                continue;
            }
            let size = size(&message);
            self.bytes -= size;
            bytes += size;
            batch.push(message);
        }
        if !held.is_empty() {
            held.append(&mut self.messages);
            self.messages = held;
        }
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&Message) -> bool) {
        self.messages.retain(keep);
        self.bytes = self.messages.iter().map(size).sum();
    }

    /// The messages, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether there is no room for a further message.
    pub(super) fn is_full(&self) -> bool {
        self.messages.len() >= self.max || self.bytes >= MAX_BYTES
    }

    /// Whether there is room enough to resume fetching.
    pub(super) fn is_half_empty(&self) -> bool {
        self.messages.len() <= self.max / 2 && self.bytes <= MAX_BYTES / 2
    }
}

/// Whether a batch of at most `max` messages has no room for a further one.
pub(super) fn is_full(batch: &[Message], max: usize) -> bool {
    batch.len() >= max || batch.iter().map(size).sum::<usize>() >= MAX_BYTES
}

/// The memory that a message takes, in bytes.
fn size(message: &Message) -> usize {
    let headers = message.headers.iter().map(|(name, value)| {
        size_of::<(String, Option<Vec<u8>>)>() + name.len() + value.as_ref().map_or(0, Vec::len)
    });
    let parts = [&message.key, &message.value].map(|part| part.as_ref().map_or(0, Vec::len));
    size_of::<Message>() + parts.iter().sum::<usize>() + headers.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Position;

    fn message(partition: i32, bytes: usize) -> Message {
        Message {
            at: Position {
                topic: "t".to_owned(),
                partition,
                offset: 0,
            },
            timestamp: None,
            key: None,
            headers: Vec::new(),
            value: Some(vec![0; bytes]),
        }
    }

    #[test]
    fn a_buffer_is_full_by_number_or_by_bytes() {
        let mut buffer = Buffer::new(4);
        (0..4).for_each(|_| buffer.push(message(0, 1)));
        assert!(buffer.is_full());
        let mut batch = Vec::new();
        buffer.fill(&mut batch, 2, |_| true);
        assert_eq!(batch.len(), 2);
        assert!(!buffer.is_full() && buffer.is_half_empty());
        buffer.push(message(1, MAX_BYTES));
        assert!(buffer.is_full() && !buffer.is_half_empty());
        buffer.retain(|message| message.at.partition == 0);
        assert!(buffer.is_half_empty());
        buffer.fill(&mut batch, 9, |message| message.at.partition == 1);
        assert_eq!((batch.len(), buffer.messages.len()), (2, 2));
        buffer.fill(&mut batch, 9, |_| true);
        assert_eq!((batch.len(), buffer.bytes), (4, 0));
    }

    #[test]
    fn a_batch_has_the_same_bound_however_often_it_is_filled() {
        let (mut buffer, mut batch) = (Buffer::new(500), Vec::new());
        for _ in 0..20 {
            while !buffer.is_full() {
                buffer.push(message(0, 900_000));
            }
            buffer.fill(&mut batch, 500, |_| true);
        }
        assert_eq!(batch.len(), MAX_BYTES / 900_000 + 1);
        assert!(is_full(&batch, 500));
    }
}
