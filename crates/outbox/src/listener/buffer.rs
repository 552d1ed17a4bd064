//! Messages that wait for their batch: bounded in number and in bytes.

use std::collections::VecDeque;

use crate::message::Message;

/// The most bytes that wait, or are in flight: messages may be as large as Kafka allows, memory may not.
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

    /// Moves the oldest messages to those in flight while these have room: for `most` of them.
    pub(super) fn fill(&mut self, hand: &mut Vec<Message>, most: usize) {
        let mut bytes: usize = hand.iter().map(size).sum();
        while hand.len() < most
            && bytes < MOST_BYTES
            && let Some(message) = self.messages.pop_front()
        {
            let size = size(&message);
            self.bytes -= size;
            bytes += size;
            hand.push(message);
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

    /// No room for a further message.
    pub(super) fn is_full(&self) -> bool {
        self.messages.len() >= self.most || self.bytes >= MOST_BYTES
    }

    /// Room enough to fetch again.
    pub(super) fn is_half_empty(&self) -> bool {
        self.messages.len() <= self.most / 2 && self.bytes <= MOST_BYTES / 2
    }
}

/// Whether those in flight have no room for a further message.
pub(super) fn is_full(hand: &[Message], most: usize) -> bool {
    hand.len() >= most || hand.iter().map(size).sum::<usize>() >= MOST_BYTES
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
        let mut hand = Vec::new();
        buffer.fill(&mut hand, 2);
        assert_eq!(hand.len(), 2);
        assert!(!buffer.is_full() && buffer.is_half_empty());
        buffer.push(message(1, MOST_BYTES));
        assert!(buffer.is_full() && !buffer.is_half_empty());
        buffer.retain(|message| message.at.partition == 0);
        assert!(buffer.is_half_empty());
        buffer.fill(&mut hand, 9);
        assert_eq!((hand.len(), buffer.bytes), (4, 0));
    }

    #[test]
    fn what_is_in_hand_has_the_same_bound_however_often_it_is_filled() {
        let (mut buffer, mut hand) = (Buffer::new(500), Vec::new());
        for _ in 0..20 {
            while !buffer.is_full() {
                buffer.push(message(0, 900_000));
            }
            buffer.fill(&mut hand, 500);
        }
        assert_eq!(hand.len(), MOST_BYTES / 900_000 + 1);
        assert!(is_full(&hand, 500));
    }
}
