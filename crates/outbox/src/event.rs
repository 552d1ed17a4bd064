//! Domain events, and the outbox rows that publish them.

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

/// The domain events about one kind of aggregate: an enum that serde tags adjacently.
///
/// The variant's name is the event's type, its content the payload. A consumer in Rust deserializes the same enum, as
/// `listener::Handler::Event`.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use uuid::Uuid;
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(tag = "type", content = "payload")]
/// enum PaymentEvent {
///     #[serde(rename = "payment.received")]
///     Received { event_id: Uuid, payment_id: Uuid, cents: u32 },
/// }
///
/// impl outbox::Event for PaymentEvent {
///     const AGGREGATE_TYPE: &'static str = "payment";
///
///     fn id(&self) -> Uuid {
///         match self { Self::Received { event_id, .. } => *event_id }
///     }
///
///     fn aggregate_id(&self) -> String {
///         match self { Self::Received { payment_id, .. } => payment_id.to_string() }
///     }
/// }
/// ```
pub trait Event: Serialize {
    /// The kind of aggregate. Debezium's outbox event router makes it the topic's name, so keep to letters, digits, `.`, `_` and `-`.
    const AGGREGATE_TYPE: &'static str;

    /// The event's own id, by which an inbox recognizes a redelivery; never the nil UUID. Version 7, for its order in the index; if the
    /// payload has an `event_id`, that equals it.
    fn id(&self) -> Uuid;

    /// The aggregate's id. The router makes it the message's key, so that the events of an aggregate keep their order; 255 characters at
    /// most.
    fn aggregate_id(&self) -> String;
}

/// A row of the outbox, ready for [`append`](crate::append).
///
/// ```
/// # #[derive(serde::Serialize)]
/// # #[serde(tag = "type", content = "payload")]
/// # enum NoteEvent {
/// #     #[serde(rename = "note.written")]
/// #     Written { id: uuid::Uuid, text: String },
/// # }
/// # impl outbox::Event for NoteEvent {
/// #     const AGGREGATE_TYPE: &'static str = "note";
/// #     fn id(&self) -> uuid::Uuid { let Self::Written { id, .. } = self; *id }
/// #     fn aggregate_id(&self) -> String { "1".to_owned() }
/// # }
/// let event = NoteEvent::Written { id: uuid::Uuid::now_v7(), text: "hello".to_owned() };
/// let row = outbox::Outgoing::new(&event)?;
/// let NoteEvent::Written { id, .. } = event;
/// assert_eq!(row.id(), id);
/// # Ok::<(), outbox::Unpublishable>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    pub(crate) id: Uuid,
    pub(crate) aggregate_type: String,
    pub(crate) aggregate_id: String,
    pub(crate) event_type: String,
    pub(crate) payload: String,
}

/// Why an event has no form as a row of the outbox. It never will: the fault is in the program or in the event's content.
///
/// A service whose clients write the content should check for U+0000 where it parses a request, since this error comes too late for a
/// client's mistake to be distinguished from the service's.
///
/// ```
/// use outbox::{Outgoing, Unpublishable};
/// # #[derive(serde::Serialize)]
/// # #[serde(tag = "type", content = "payload")]
/// # enum NoteEvent { #[serde(rename = "note.taken")] Taken { text: &'static str } }
/// # impl outbox::Event for NoteEvent {
/// #     const AGGREGATE_TYPE: &'static str = "note";
/// #     fn id(&self) -> uuid::Uuid { uuid::Uuid::from_u128(7) }
/// #     fn aggregate_id(&self) -> String { "1".to_owned() }
/// # }
///
/// let refused = Outgoing::new(&NoteEvent::Taken { text: "a\0b" });
/// assert!(matches!(refused, Err(Unpublishable::Nul(_))));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Unpublishable {
    /// `Serialize` of the event's type fails, such as on a map whose keys are no strings.
    #[error("the event does not serialize; correct the Serialize of its type")]
    Serialize(#[from] serde_json::Error),
    /// The event's type is not tagged as [`Event`] needs it.
    #[error(
        "the event must be an enum that is tagged with #[serde(tag = \"type\", content = \"payload\")]: {0}"
    )]
    Untagged(Value),
    /// The payload contains U+0000, which PostgreSQL's `jsonb` cannot store. Found before the database sees it, since an error there would
    /// end the caller's transaction.
    #[error("the payload of event {0} contains U+0000, which PostgreSQL's jsonb cannot store")]
    Nul(Uuid),
}

impl Outgoing {
    /// Serializes `event` into the row that publishes it.
    ///
    /// # Errors
    /// [`Unpublishable`]. The database refuses a payload of more than 900,000 bytes later, in [`append`](crate::append).
    pub fn new<E: Event>(event: &E) -> Result<Self, Unpublishable> {
        let id = event.id();
        let mut tagged = serde_json::to_value(event)?;
        let (Some(Value::String(event_type)), Some(payload)) = (
            tagged.get_mut("type").map(Value::take),
            tagged.get_mut("payload").map(Value::take),
        ) else {
            return Err(Unpublishable::Untagged(tagged));
        };
        if has_nul(&payload) {
            return Err(Unpublishable::Nul(id));
        }
        Ok(Self {
            id,
            aggregate_type: E::AGGREGATE_TYPE.to_owned(),
            aggregate_id: event.aggregate_id(),
            event_type,
            payload: payload.to_string(),
        })
    }

    /// The event's id: the row's primary key and, on the wire, the header `id`.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    #[serde(tag = "type", content = "payload")]
    enum Noted {
        #[serde(rename = "note.made")]
        Made { text: &'static str },
    }

    impl Event for Noted {
        const AGGREGATE_TYPE: &'static str = "note";
        fn id(&self) -> Uuid {
            Uuid::from_u128(7)
        }
        fn aggregate_id(&self) -> String {
            "n1".to_owned()
        }
    }

    #[test]
    fn an_event_becomes_a_row() {
        let row = Outgoing::new(&Noted::Made { text: "hi" }).unwrap();
        assert_eq!(row.event_type, "note.made");
        assert_eq!(row.payload, r#"{"text":"hi"}"#);
        assert_eq!(
            (row.aggregate_type.as_str(), row.aggregate_id.as_str()),
            ("note", "n1")
        );
    }

    #[test]
    fn a_nul_character_is_refused_before_the_database_sees_it() {
        let refused = Outgoing::new(&Noted::Made { text: "a\0b" });
        assert!(matches!(refused, Err(Unpublishable::Nul(_))));
    }

    #[test]
    fn an_untagged_event_is_refused() {
        #[derive(Serialize)]
        struct Plain {
            a: u8,
        }
        impl Event for Plain {
            const AGGREGATE_TYPE: &'static str = "plain";
            fn id(&self) -> Uuid {
                Uuid::nil()
            }
            fn aggregate_id(&self) -> String {
                String::new()
            }
        }
        let refused = Outgoing::new(&Plain { a: 1 });
        assert!(matches!(refused, Err(Unpublishable::Untagged(_))));
    }
}
