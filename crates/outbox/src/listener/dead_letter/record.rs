//! A dead letter's data: as read, and as written.

use std::time::Duration;

use uuid::Uuid;

use crate::listener::dead_letter_kind::Kind;
use crate::message::Message;

/// A dead letter: a message set aside with its error.
///
/// ```
/// use outbox::listener::dead_letter::DeadLetter;
///
/// /// One line for an operator.
/// fn summary(dead_letter: &DeadLetter) -> String {
///     let at = &dead_letter.message.at;
///     format!("{} {}/{}@{}: {}", dead_letter.kind, at.topic, at.partition, at.offset, dead_letter.error)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event's id, under which the inbox records it.
    pub id: Uuid,
    /// The order in which the listener wrote its dead letters.
    pub seq: i64,
    /// Why it is a dead letter.
    pub kind: Kind,
    /// The error of the last attempt, of at most 2,000 characters.
    pub error: String,
    /// How many attempts there were; 0 for a parked one.
    pub attempts: u32,
    /// When it was dead-lettered: UTC, in the format of RFC 3339.
    pub dead_lettered_at: String,
    /// Seconds since then.
    pub age_s: u64,
    /// When the listener retries it by itself, if it does: UTC, in the format of RFC 3339.
    pub retry_at: Option<String>,
    /// Whether it can be redriven: it is the first of its key, or its message has no key.
    pub first: bool,
    /// The message: position, timestamp, key, headers and value as they came.
    pub message: Message,
}

impl DeadLetter {
    /// The event's type, if the message names one. It decodes the message: no column holds the type.
    #[must_use]
    pub fn event_type(&self) -> Option<String> {
        self.message.decode().ok().map(|decoded| decoded.event_type)
    }
}

/// A message that becomes a dead letter.
pub(in crate::listener) struct NewDeadLetter<'a> {
    pub(in crate::listener) id: Uuid,
    pub(in crate::listener) kind: Kind,
    /// As [`error_text`] returns it.
    pub(in crate::listener) error: String,
    pub(in crate::listener) attempts: u32,
    /// When the listener retries it by itself, from now.
    pub(in crate::listener) retry_in: Option<Duration>,
    pub(in crate::listener) message: &'a Message,
}

/// The most characters of an error that are kept: it may quote a whole message.
const MAX_ERROR: usize = 2000;

/// An error for `dead_letter.error` and the log. PostgreSQL's text has no U+0000, which an error may quote. Of a long error the
/// beginning is kept, together with its length.
pub(in crate::listener) fn error_text(error: &str) -> String {
    let text = error.replace('\0', "\u{fffd}");
    match text.char_indices().nth(MAX_ERROR) {
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.chars().count()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_text_has_no_nul_and_is_bounded() {
        assert_eq!(error_text("a\0b"), "a\u{fffd}b");
        let whole = "ä".repeat(MAX_ERROR);
        assert_eq!(error_text(&whole), whole);
        let cut = error_text(&format!("{whole}ö"));
        assert_eq!(cut, format!("{whole}… (2001 characters)"));
    }
}
