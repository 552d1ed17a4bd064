//! What a message is to become: applied, ignored, or a dead letter.
//!
//! A transaction decodes a message once it holds the message's partition. Undecodable bytes are poison: no retry
//! changes them. So is a type that the handler neither knows nor ignores, since a typing error must not lose events. The
//! `Deserialize` of an event is foreign code and may panic; a panic here makes this one message poison, not the batch.

use std::panic::{AssertUnwindSafe, catch_unwind};

use uuid::Uuid;

use super::dead_letter_kind::Kind;
use super::handler::{Handler, Received};
use super::panic;
use crate::message::Message;

/// What a message is to become.
pub(super) enum Disposition<E> {
    Apply(Received<E>),
    Ignore,
    DeadLetter(Kind, String),
}

/// The id under which the inbox records a message. It takes decoding the message.
pub(super) fn identity(message: &Message) -> Uuid {
    message
        .decode()
        .map_or_else(|(id, _)| id, |decoded| decoded.id)
}

/// A message's identity and its disposition.
pub(super) fn disposition<H: Handler>(message: &Message) -> (Uuid, Disposition<H::Event>) {
    let decoded = match message.decode() {
        Ok(decoded) => decoded,
        Err((id, error)) => return (id, Disposition::DeadLetter(Kind::Poison, error.to_string())),
    };
    let id = decoded.id;
    if H::IGNORED_EVENT_TYPES.contains(&decoded.event_type.as_str()) {
        return (id, Disposition::Ignore);
    }
    // The event's own `Deserialize` may panic.
    let decode = AssertUnwindSafe(|| decoded.into_event().map_err(|error| error.to_string()));
    let decoded = catch_unwind(decode).unwrap_or_else(|caught| {
        Err(format!(
            "decoding the event panicked: {}",
            panic::text(&*caught)
        ))
    });
    let disposition = match decoded {
        Ok(event) => Disposition::Apply(Received {
            id,
            key: message.key.clone(),
            at: message.at.clone(),
            event,
        }),
        Err(error) => Disposition::DeadLetter(Kind::Poison, error),
    };
    (id, disposition)
}
