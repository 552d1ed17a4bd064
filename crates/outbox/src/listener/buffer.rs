//! Messages that wait for their batch: bounded in number and in bytes.

use std::collections::VecDeque;

use crate::message::Message;

/// The most bytes that wait: messages may be as large as Kafka allows, memory may not.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// Messages in the order in which they arrived.
pub(super) struct Buffer {
    messages: VecDeque<Message>,
    bytes: usize,
    most: usize,
}

impl Buffer {
    /// A buffer for `most` messages.
    pub(super) fn new(most: usize) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            most,
        }
    }

    pub(super) fn push(&mut self, message: Message) {
        self.bytes += size(&message);
        self.messages.push_back(message);
    }

    /// Takes the oldest messages, `most` of them if there are as many.
    pub(super) fn take(&mut self, most: usize) -> Vec<Message> {
        let count = self.messages.len().min(most);
        let taken: Vec<Message> = self.messages.drain(..count).collect();
        self.bytes -= taken.iter().map(size).sum::<usize>();
        taken
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

    /// No room for a further message.
    pub(super) fn is_full(&self) -> bool {
        self.messages.len() >= self.most || self.bytes >= MOST_BYTES
    }

    /// Room enough to fetch again.
    pub(super) fn is_half_empty(&self) -> bool {
        self.messages.len() <= self.most / 2 && self.bytes <= MOST_BYTES / 2
    }
}

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
        assert_eq!(buffer.take(2).len(), 2);
        assert!(!buffer.is_full() && buffer.is_half_empty());
        buffer.push(message(1, MOST_BYTES));
        assert!(buffer.is_full() && !buffer.is_half_empty());
        buffer.retain(|message| message.at.partition == 0);
        assert!(buffer.is_half_empty());
        assert_eq!(buffer.take(9).len(), 2);
        assert_eq!(buffer.bytes, 0);
    }
}
