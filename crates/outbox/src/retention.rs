//! How long outbox rows, messages and inbox rows stay.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A day.
const DAY: Duration = Duration::from_hours(24);

/// How many days outbox rows, messages on a topic, and inbox rows stay.
///
/// The inbox outlives each message that may be redelivered: `inbox` > `outbox` + `topic` + 1, since Kafka deletes a segment as a whole
/// and closes one each day. Debezium may publish a row again until its last hour in the outbox, and the new message then lives its
/// topic's time. Configure both sides of a topic alike: the outbox of one bounds the inbox of the other.
///
/// ```
/// use std::time::Duration;
///
/// use outbox::{Retention, UnsafeRetention};
///
/// let retention = Retention::new(3, 7, 14)?;
/// assert_eq!(retention, Retention::default());
/// assert_eq!(retention.topic(), Duration::from_secs(7 * 24 * 60 * 60));
/// assert_eq!(Retention::new(3, 7, 11), Err(UnsafeRetention::InboxForgets { least: 11 }));
/// # Ok::<(), UnsafeRetention>(())
/// ```
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

/// Days with which a listener could apply an event twice, or nothing would stay at all.
///
/// ```
/// use outbox::{Retention, UnsafeRetention};
///
/// // An inbox must outlive outbox, topic and a segment: 3 + 7 + 1 days.
/// assert_eq!(Retention::new(3, 7, 11), Err(UnsafeRetention::InboxForgets { least: 11 }));
/// assert!(Retention::new(3, 7, 12).is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsafeRetention {
    /// Zero days in the outbox or on the topic.
    #[error("retention: outbox_days and topic_days must be at least 1")]
    Nothing,
    /// The inbox forgets an event while its message may still be redelivered, and would apply it a second time.
    #[error(
        "retention: inbox_days must be more than {least} (outbox_days + topic_days + 1 for a topic's last segment), or the listener applies a late redelivery twice"
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
    /// Days after which Kafka closes a segment (`segment.ms`). It deletes a segment as a whole, so a message may stay this much longer.
    pub(crate) const SEGMENT_DAYS: u16 = 1;

    /// Takes days that are safe together: in the outbox, on the topic, in the inbox.
    ///
    /// # Errors
    /// [`UnsafeRetention`].
    pub fn new(outbox: u16, topic: u16, inbox: u16) -> Result<Self, UnsafeRetention> {
        if outbox == 0 || topic == 0 {
            return Err(UnsafeRetention::Nothing);
        }
        let least = u32::from(outbox) + u32::from(topic) + u32::from(Self::SEGMENT_DAYS);
        if u32::from(inbox) <= least {
            return Err(UnsafeRetention::InboxForgets { least });
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

    /// The age up to which an outbox row may be published again: the inbox still remembers its event when the new message expires.
    #[must_use]
    pub fn safe_outbox_age(&self) -> Duration {
        // `new` has checked that this is more than the outbox's days.
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
    type Error = UnsafeRetention;

    fn try_from(days: Days) -> Result<Self, UnsafeRetention> {
        Self::new(days.outbox_days, days.topic_days, days.inbox_days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_outlives_each_message_that_may_be_redelivered() {
        let default = Retention::default();
        assert_eq!(Retention::new(3, 7, 14), Ok(default));
        assert_eq!(
            Retention::new(3, 7, 11),
            Err(UnsafeRetention::InboxForgets { least: 11 })
        );
        assert!(Retention::new(3, 7, 12).is_ok());
        assert_eq!(Retention::new(0, 7, 14), Err(UnsafeRetention::Nothing));
        assert!(Retention::new(u16::MAX, u16::MAX, u16::MAX).is_err());
        let refused = serde_json::from_str::<Retention>(
            r#"{"outbox_days": 10, "topic_days": 7, "inbox_days": 14}"#,
        );
        assert!(refused.unwrap_err().to_string().contains("more than 18"));
    }
}
