//! A message's copy out of librdkafka's buffers.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::message::{BorrowedMessage, Headers, Message as _};

use crate::message::{Message, Position};

/// A message of its own, independent of librdkafka's buffers.
pub(super) fn owned(message: &BorrowedMessage<'_>) -> Message {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        let header = |index| {
            // rdkafka panics on a name that is not UTF-8.
            catch_unwind(AssertUnwindSafe(|| {
                let header = headers.get(index);
                (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
            }))
            .unwrap_or_else(|_| (format!("unreadable name of header {index}"), None))
        };
        (0..headers.count()).map(header).collect()
    });
    Message {
        at: Position {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
        },
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        headers,
        value: message.payload().map(<[u8]>::to_vec),
    }
}
