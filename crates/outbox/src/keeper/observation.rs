//! What the keeper shows: values for readiness, warnings, and gauges.

use std::time::Instant;

use metrics::{counter, gauge};
use serde::{Deserialize, Serialize};

use super::reading::Reading;
use super::status::Status;
use crate::retention::Retention;

/// The limits above which [`Observation::warnings`] warns.
///
/// ```
/// use outbox::keeper::Limits;
///
/// assert_eq!(Limits::default(), Limits { slot_lag_bytes: 64 * 1024 * 1024, slot_unread_s: 30, slot_stalled_s: 90 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of the write-ahead log that the slot has not confirmed.
    pub slot_lag_bytes: i64,
    /// Seconds for which no process has read the slot: Kafka Connect or its connector is away.
    pub slot_unread_s: u64,
    /// Seconds for which a process has read the slot and confirmed nothing: the connector is paused, or Kafka does not acknowledge. A
    /// running connector confirms its heartbeats, at each `offset.flush.interval.ms` of its worker, which is 60 s by default.
    pub slot_stalled_s: u64,
}

impl Default for Limits {
    /// 64 MiB, 30 seconds and 90 seconds.
    fn default() -> Self {
        Self {
            slot_lag_bytes: 64 * 1024 * 1024,
            slot_unread_s: 30,
            slot_stalled_s: 90,
        }
    }
}

/// What the keeper has seen of an outbox last, for a readiness check; serialized, it is the check's detail.
///
/// ```
/// use outbox::keeper::{Limits, Observation};
///
/// fn ready(observation: &Observation) -> String {
///     let warnings = observation.warnings(&Limits::default());
///     if warnings.is_empty() { "ready".to_owned() } else { warnings.join("; ") }
/// }
/// ```
#[derive(Debug, Clone, Serialize)]
pub struct Observation {
    /// The outbox's [context](crate::specification::Specification::context).
    pub outbox: String,
    /// `pg_replication_slots.wal_status`; `lost` means that the server has removed log that was not read. None without a slot.
    pub wal_status: Option<String>,
    /// Whether a process reads the slot.
    pub read: bool,
    /// Bytes of the log that the slot has not confirmed.
    pub slot_lag_bytes: Option<i64>,
    /// Bytes of the log that the server keeps for the slot.
    pub slot_retained_bytes: Option<i64>,
    /// Outbox rows that the slot has not confirmed.
    pub backlog: Option<i64>,
    /// Old outbox rows that the keeper removes once the slot has confirmed them.
    pub outbox_marked: usize,
    /// Outbox rows removed since the start.
    pub outbox_removed: u64,
    /// Inbox rows removed since the start.
    pub inbox_removed: u64,
    /// Why the keeper removes no outbox row, however old.
    pub removal_held: Option<String>,
    /// In what the server differs from the one recorded, until an operator [accepts](super::accept) it.
    pub changed: Option<String>,
    /// The age of the oldest outbox row, in seconds.
    pub oldest_row_s: Option<i64>,
    /// `pg_replication_slots.invalidation_reason`.
    pub slot_invalidated: Option<String>,
    /// For how long no process has read the slot, in seconds; counted from the keeper's start at the earliest. A process that reads it
    /// for moments only, such as a task that fails each time it is restarted, does not count until the slot advances.
    pub slot_unread_s: u64,
    /// For how long a process has read the slot without its advancing, in seconds.
    pub slot_stalled_s: u64,
    /// Whether the database answered last: if not, the fields are those of the last answer.
    watched: bool,
    #[serde(skip)]
    reading: Reading,
    #[serde(skip)]
    retention: Retention,
    #[serde(skip)]
    slot: String,
}

impl Observation {
    pub(super) fn new(outbox: &str, slot: String, retention: Retention) -> Self {
        Self {
            outbox: outbox.to_owned(),
            wal_status: None,
            read: false,
            slot_lag_bytes: None,
            slot_retained_bytes: None,
            backlog: None,
            outbox_marked: 0,
            outbox_removed: 0,
            inbox_removed: 0,
            removal_held: None,
            changed: None,
            oldest_row_s: None,
            slot_invalidated: None,
            slot_unread_s: 0,
            slot_stalled_s: 0,
            watched: false,
            reading: Reading::new(Instant::now()),
            retention,
            slot,
        }
    }

    /// What an operator should look at. Each text begins with a name, such as `slot lost`, and says what to do.
    ///
    /// `slot missing`, `slot lost`, `slot unreserved`, `slot unread`, `slot stalled`, `slot lag`, `rows too old`, `database changed`, and
    /// `unwatched` alone while the database does not answer.
    #[must_use]
    pub fn warnings(&self, limits: &Limits) -> Vec<String> {
        if !self.watched {
            return vec![
                "unwatched: the database does not answer the keeper; see the log for the error"
                    .to_owned(),
            ];
        }
        let mut warnings = Vec::new();
        let (unread, stalled) = (self.slot_unread_s, self.slot_stalled_s);
        match self.wal_status.as_deref() {
            // A new connector makes its slot within moments.
            None if unread > limits.slot_unread_s => {
                warnings.push("slot missing: no connector has created it, or an operator dropped it; see that the connector runs".to_owned());
            }
            Some("lost") => warnings.push(format!(
                "slot lost ({}): the server has removed log that was not read; drop the slot as a superuser (select \
                 pg_drop_replication_slot('{}')), and the connector recreates it and reads the outbox again",
                self.slot_invalidated.as_deref().unwrap_or("no reason given"),
                self.slot
            )),
            Some("unreserved") => warnings.push(
                "slot unreserved: it holds back more log than max_slot_wal_keep_size, and the next checkpoint may invalidate it; see \
                 that the connector runs".to_owned(),
            ),
            _ if unread > limits.slot_unread_s => warnings.push(format!(
                "slot unread for {unread} s: see that Kafka Connect and its connector run"
            )),
            _ if stalled > limits.slot_stalled_s => warnings.push(format!(
                "slot stalled for {stalled} s: a process reads it and confirms nothing; see that the connector is not paused (`connect status \
                 {}-outbox`) and that Kafka acknowledges",
                self.outbox
            )),
            _ => {}
        }
        let safe = self.retention.safe_outbox_age();
        let oldest = self.oldest_row_s.and_then(|age| u64::try_from(age).ok());
        if let Some(age) = oldest.filter(|age| *age > safe.as_secs()) {
            warnings.push(format!(
                "rows too old: the oldest is {} days old, and an inbox may have forgotten its event; remove the cause that removal_held \
                 names, and do not run `connect reread {}-outbox` before: it would apply the event twice",
                age / 86_400,
                self.outbox
            ));
        }
        if let Some(lag) = self
            .slot_lag_bytes
            .filter(|lag| *lag > limits.slot_lag_bytes)
        {
            warnings.push(format!(
                "slot lag: the connector has not confirmed {lag} bytes of the write-ahead log; if they grow, see that Kafka and the \
                 connector run"
            ));
        }
        if let Some(changed) = &self.changed {
            warnings.push(format!(
                "database changed: {changed}; read the outbox again (`connect reread {}-outbox`), then run the command `accept-database`",
                self.outbox
            ));
        }
        warnings
    }

    pub(super) fn update(
        &mut self,
        status: &Status,
        backlog: Option<i64>,
        changed: Option<String>,
    ) {
        self.wal_status.clone_from(&status.wal_status);
        self.read = status.active == Some(true);
        self.slot_lag_bytes = status.confirmed.map(|at| (status.position - at).max(0));
        self.slot_retained_bytes = status.restart.map(|at| (status.position - at).max(0));
        self.backlog = backlog;
        self.changed = changed;
        self.oldest_row_s = status.oldest;
        self.slot_invalidated
            .clone_from(&status.invalidation_reason);
        self.watched = true;
        self.reading.see(status, Instant::now());
        self.time_reading();
        self.publish();
    }

    /// Whether the database answered last.
    pub(super) fn watched(&self) -> bool {
        self.watched
    }

    /// Records that the database does not answer: lag and backlog are unknown from now on.
    pub(super) fn lose_contact(&mut self) {
        self.watched = false;
        (self.slot_lag_bytes, self.slot_retained_bytes, self.backlog) = (None, None, None);
        // A process may read the slot meanwhile: the time begins anew.
        self.reading = Reading::new(Instant::now());
        self.time_reading();
        self.publish();
    }

    fn time_reading(&mut self) {
        let now = Instant::now();
        self.slot_unread_s = self.reading.unread(now).as_secs();
        self.slot_stalled_s = self.reading.stalled(now).as_secs();
    }

    /// Adds removed rows, and why the keeper removes no more.
    pub(super) fn add_removed(
        &mut self,
        outbox: u64,
        inbox: u64,
        marked: usize,
        held: Option<String>,
    ) {
        self.outbox_marked = marked;
        self.outbox_removed += outbox;
        self.inbox_removed += inbox;
        self.removal_held = held;
        let removed = |table| counter!("outbox_removed_rows_total", "outbox" => self.outbox.clone(), "table" => table);
        removed("outbox").increment(outbox);
        removed("inbox").increment(inbox);
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    fn publish(&self) {
        let set = |name: &'static str, value: f64| {
            gauge!(name, "outbox" => self.outbox.clone()).set(value);
        };
        // Prometheus shows an unknown value as NaN.
        let number = |value: Option<i64>| value.map_or(f64::NAN, |value| value as f64);
        let truth = |is: bool| f64::from(u8::from(is));
        set("outbox_slot_lag_bytes", number(self.slot_lag_bytes));
        set(
            "outbox_slot_retained_bytes",
            number(self.slot_retained_bytes),
        );
        set("outbox_backlog_rows", number(self.backlog));
        set("outbox_watched", truth(self.watched));
        set("outbox_oldest_row_seconds", number(self.oldest_row_s));
        set("outbox_slot_read", truth(self.read && self.watched));
        set("outbox_database_changed", truth(self.changed.is_some()));
        for status in ["reserved", "extended", "unreserved", "lost", "missing"] {
            let is = self.wal_status.as_deref().unwrap_or("missing") == status;
            gauge!("outbox_slot_wal_status", "outbox" => self.outbox.clone(), "wal_status" => status)
                .set(truth(is));
        }
    }
}
