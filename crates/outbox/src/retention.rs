//! How long rows and messages stay.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A day.
const DAY: Duration = Duration::from_hours(24);

/// Days after which outbox rows, messages on a topic and inbox rows go. Both sides of a topic keep to the same ones: an
/// inbox has to outlive whatever may still come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Days")]
pub struct Retention {
    #[serde(rename = "outbox_days")]
    outbox: u16,
    #[serde(rename = "topic_days")]
    topic: u16,
    #[serde(rename = "inbox_days")]
    inbox: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "they are the settings' names")]
struct Days {
    outbox_days: u16,
    topic_days: u16,
    inbox_days: u16,
}

/// Days with which an event could be applied twice, or nothing would be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsafe {
    /// Zero days.
    #[error("retention: outbox_days and topic_days must be at least 1")]
    Nothing,
    /// An outbox may be read again at its rows' last hour; its messages then live their topic's life, and a segment
    /// longer, since segments go whole. An inbox that has forgotten them by then applies them a second time.
    #[error(
        "retention: inbox_days must be more than {least} (outbox_days + topic_days + 1 for a topic's last segment), or an event that comes again late is applied twice"
    )]
    InboxForgets {
        /// `outbox_days + topic_days + 1`.
        least: u32,
    },
}

impl Default for Retention {
    /// 3 days in the outbox, 7 in the topic, 14 in the inbox.
    fn default() -> Self {
        Self {
            outbox: 3,
            topic: 7,
            inbox: 14,
        }
    }
}

impl Retention {
    /// Topics' segments are closed after this many days, and go whole.
    pub const SEGMENT_DAYS: u16 = 1;

    /// Takes days that are safe together.
    ///
    /// # Errors
    /// [`Unsafe`].
    pub fn new(outbox: u16, topic: u16, inbox: u16) -> Result<Self, Unsafe> {
        if outbox == 0 || topic == 0 {
            return Err(Unsafe::Nothing);
        }
        let least = u32::from(outbox) + u32::from(topic) + u32::from(Self::SEGMENT_DAYS);
        if u32::from(inbox) <= least {
            return Err(Unsafe::InboxForgets { least });
        }
        Ok(Self {
            outbox,
            topic,
            inbox,
        })
    }

    /// How long a row stays in the outbox.
    #[must_use]
    pub fn outbox(&self) -> Duration {
        DAY * self.outbox.into()
    }

    /// How old a row may be that is read again: its message then lives its topic's life, and the inbox still remembers.
    #[must_use]
    pub fn safe_outbox_age(&self) -> Duration {
        // `new` has seen to it that this is more than the outbox's days.
        DAY * (self.inbox - self.topic - Self::SEGMENT_DAYS).into()
    }

    /// How long a message stays on its topic.
    #[must_use]
    pub fn topic(&self) -> Duration {
        DAY * self.topic.into()
    }

    /// How long an inbox remembers an event.
    #[must_use]
    pub fn inbox(&self) -> Duration {
        DAY * self.inbox.into()
    }
}

impl TryFrom<Days> for Retention {
    type Error = Unsafe;

    fn try_from(days: Days) -> Result<Self, Unsafe> {
        Self::new(days.outbox_days, days.topic_days, days.inbox_days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_outlives_whatever_may_come_again() {
        let default = Retention::default();
        assert_eq!(Retention::new(3, 7, 14), Ok(default));
        assert_eq!(
            Retention::new(3, 7, 11),
            Err(Unsafe::InboxForgets { least: 11 })
        );
        assert!(Retention::new(3, 7, 12).is_ok());
        assert_eq!(Retention::new(0, 7, 14), Err(Unsafe::Nothing));
        assert!(Retention::new(u16::MAX, u16::MAX, u16::MAX).is_err());
        let refused = serde_json::from_str::<Retention>(
            r#"{"outbox_days": 10, "topic_days": 7, "inbox_days": 14}"#,
        );
        assert!(refused.unwrap_err().to_string().contains("more than 18"));
    }
}
