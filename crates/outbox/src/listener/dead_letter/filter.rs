//! Which dead letters an operator means.

use uuid::Uuid;

use crate::listener::dead_letter_kind::Kind;

/// Selects dead letters; all given conditions must hold.
///
/// ```
/// use outbox::listener::dead_letter::{Filter, Kind};
///
/// let old_poison = Filter {
///     kind: Some(Kind::Poison),
///     older_than_s: Some(3600),
///     ..Filter::default()
/// };
/// # assert_eq!(old_poison.topic, None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The one with this event id.
    pub id: Option<Uuid>,
    /// Those of this topic.
    pub topic: Option<String>,
    /// Those of this key, as raw bytes.
    pub key: Option<Vec<u8>>,
    /// Those of this kind.
    pub kind: Option<Kind>,
    /// Those of this event type. No column holds it: reading decodes each message.
    pub event_type: Option<String>,
    /// Those that were dead-lettered at least so many seconds ago.
    pub older_than_s: Option<u64>,
}
