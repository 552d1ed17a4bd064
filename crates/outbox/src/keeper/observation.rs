//! What a look at an outbox, its slot and its server shows.

use std::time::Instant;

use metrics::{counter, gauge};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::Retention;

/// The server's timeline; it changes when a backup is restored or a standby takes over.
pub(super) const TIMELINE: &str =
    "('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer";

/// The process that reads the slot: its id, and when it began in microseconds since 1970.
pub(super) type Sender = (i32, i64);

/// One look. Positions are bytes since the log's beginning.
#[derive(Debug, Default, sqlx::FromRow)]
pub(super) struct Seen {
    pub(super) position: i64,
    /// What a crash leaves of the log.
    pub(super) flushed: i64,
    pub(super) last_seq: Option<i64>,
    /// How old the oldest outbox row is, in seconds.
    pub(super) oldest: Option<i64>,
    pub(super) has_inbox: bool,
    pub(super) wal_status: Option<String>,
    pub(super) invalidation_reason: Option<String>,
    pub(super) active: Option<bool>,
    pub(super) confirmed: Option<i64>,
    pub(super) restart: Option<i64>,
    pub(super) sender_pid: Option<i32>,
    pub(super) sender_start: Option<i64>,
    pub(super) system_identifier: i64,
    pub(super) timeline: i32,
    pub(super) remembered_identifier: Option<i64>,
    pub(super) remembered_timeline: Option<i32>,
    pub(super) changed: Option<String>,
}

/// The server that the outbox was on.
pub(super) struct Remembered {
    pub(super) identifier: i64,
    pub(super) timeline: i32,
}

impl Remembered {
    /// What is different, if anything is.
    pub(super) fn difference(&self, seen: &Seen, went_back: bool) -> Option<String> {
        if self.identifier != seen.system_identifier {
            Some(format!(
                "another server: system identifier {}, was {}",
                seen.system_identifier, self.identifier
            ))
        } else if self.timeline != seen.timeline {
            Some(format!(
                "a restored backup, or a standby that took over: timeline {}, was {}",
                seen.timeline, self.timeline
            ))
        } else {
            went_back.then(|| "an earlier state: its log is shorter than it was".to_owned())
        }
    }
}

impl Seen {
    /// Looks, in one round trip.
    pub(super) async fn look(
        connection: &mut PgConnection,
        slot: &str,
    ) -> Result<Self, sqlx::Error> {
        let statement = format!(
            r#"select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint as position,
                    pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint as flushed,
                    case when has_sequence_privilege(sequence.name, 'select')
                         then coalesce(pg_sequence_last_value(sequence.name::regclass), 0) end as last_seq,
                    (select extract(epoch from localtimestamp - min("timestamp"))::bigint from outbox) as oldest,
                    to_regclass('inbox') is not null as has_inbox,
                    slot.wal_status, slot.invalidation_reason, slot.active,
                    pg_wal_lsn_diff(slot.confirmed_flush_lsn, '0/0')::bigint as confirmed,
                    pg_wal_lsn_diff(slot.restart_lsn, '0/0')::bigint as restart,
                    sender.pid as sender_pid,
                    (extract(epoch from sender.backend_start) * 1000000)::bigint as sender_start,
                    control.system_identifier, {TIMELINE} as timeline,
                    identity.system_identifier as remembered_identifier,
                    identity.timeline as remembered_timeline, identity.changed
             from pg_control_system() as control
                  cross join (select pg_get_serial_sequence('outbox', 'seq')) as sequence (name)
                  left join outbox_identity as identity on true
                  left join pg_replication_slots as slot
                       on slot.slot_name = $1 and slot.database = current_database()
                  left join pg_stat_replication as sender on sender.pid = slot.active_pid"#
        );
        sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(slot)
            .fetch_one(connection)
            .await
    }

    pub(super) fn remembered(&self) -> Option<Remembered> {
        Some(Remembered {
            identifier: self.remembered_identifier?,
            timeline: self.remembered_timeline?,
        })
    }

    /// Who reads the slot, or why what it has confirmed is not to be relied on.
    pub(super) fn sender(&self) -> Result<Sender, &'static str> {
        match self.wal_status.as_deref() {
            None => Err("there is no replication slot"),
            Some("lost" | "unreserved") => Err("the replication slot is lost"),
            Some(_) => match (self.sender_pid, self.sender_start) {
                (Some(pid), Some(start)) => Ok((pid, start)),
                (Some(_), None) => Err(
                    "who reads the replication slot cannot be seen; the keeper's role must be a member of Debezium's",
                ),
                (None, _) => Err("nobody reads the replication slot"),
            },
        }
    }
}

/// What is worth a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of the write-ahead log that the slot has not confirmed.
    pub slot_lag_bytes: i64,
    /// Seconds for which nobody has read the slot: Kafka Connect or its connector is away.
    pub slot_unread_s: u64,
}

impl Default for Limits {
    /// 64 MiB, half a minute.
    fn default() -> Self {
        Self {
            slot_lag_bytes: 64 * 1024 * 1024,
            slot_unread_s: 30,
        }
    }
}

/// How an outbox is, as far as the keeper has seen.
#[derive(Debug, Clone, Serialize)]
pub struct Observation {
    /// The outbox's context.
    pub outbox: String,
    /// `pg_replication_slots.wal_status`: `lost` where the server has removed log that was not read; none without a slot.
    pub wal_status: Option<String>,
    /// Whether the slot is being read.
    pub read: bool,
    /// Bytes of the log that the slot has not confirmed.
    pub slot_lag_bytes: Option<i64>,
    /// Bytes of the log that the server keeps for the slot.
    pub slot_retained_bytes: Option<i64>,
    /// Outbox rows that the slot has not confirmed.
    pub backlog: Option<i64>,
    /// Old outbox rows that go as soon as the slot has confirmed them.
    pub outbox_marked: usize,
    /// Outbox rows removed since the start.
    pub outbox_removed: u64,
    /// Inbox rows removed since the start.
    pub inbox_removed: u64,
    /// Why no outbox row is removed, however old.
    pub removal_held: Option<String>,
    /// In what the server is not the one remembered.
    pub changed: Option<String>,
    /// How old the oldest row is, in seconds.
    pub oldest_row_s: Option<i64>,
    /// Why the server has given up the slot.
    pub slot_invalidated: Option<String>,
    /// For how long nobody has read the slot, in seconds.
    pub slot_unread_s: u64,
    /// Whether all this is the present state.
    watched: bool,
    #[serde(skip)]
    last_read: Instant,
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
            watched: false,
            last_read: Instant::now(),
            retention,
            slot,
        }
    }

    /// What is worth a look, each with a name.
    #[must_use]
    pub fn warnings(&self, limits: &Limits) -> Vec<String> {
        if !self.watched {
            return vec![
                "unwatched: the keeper has no answer from the database; the log says why"
                    .to_owned(),
            ];
        }
        let mut warnings = Vec::new();
        let unread = self.slot_unread_s;
        match self.wal_status.as_deref() {
            // A connector that is being set up makes its slot within moments.
            None if unread > limits.slot_unread_s => {
                warnings.push("slot missing: no connector has made it, or somebody has dropped it".to_owned());
            }
            Some("lost") => warnings.push(format!(
                "slot lost ({}): the server has removed log that was not read. Drop it as a superuser: select \
                 pg_drop_replication_slot('{}'); the connector then makes another, and reads the outbox again",
                self.slot_invalidated.as_deref().unwrap_or("no reason given"),
                self.slot
            )),
            Some("unreserved") => warnings.push(
                "slot unreserved: more than max_slot_wal_keep_size waits; the next checkpoint may end the slot".to_owned(),
            ),
            _ if unread > limits.slot_unread_s => warnings.push(format!(
                "slot unread for {unread} s: Kafka Connect or its connector is away"
            )),
            _ => {}
        }
        let safe = self.retention.safe_outbox_age();
        let oldest = self.oldest_row_s.and_then(|age| u64::try_from(age).ok());
        if let Some(age) = oldest.filter(|age| *age > safe.as_secs()) {
            warnings.push(format!(
                "rows too old: the oldest has been here for {} days; were it read again now, an inbox could have forgotten \
                 it and apply it twice",
                age / 86_400
            ));
        }
        if let Some(lag) = self
            .slot_lag_bytes
            .filter(|lag| *lag > limits.slot_lag_bytes)
        {
            warnings.push(format!("slot behind: {lag} bytes are not confirmed"));
        }
        if let Some(changed) = &self.changed {
            warnings.push(format!(
                "database changed: {changed}; read the outbox again (`connect reread`), then `accept-database`"
            ));
        }
        warnings
    }

    pub(super) fn see(&mut self, seen: &Seen, backlog: Option<i64>, changed: Option<String>) {
        self.wal_status.clone_from(&seen.wal_status);
        self.read = seen.active == Some(true);
        self.slot_lag_bytes = seen.confirmed.map(|at| (seen.position - at).max(0));
        self.slot_retained_bytes = seen.restart.map(|at| (seen.position - at).max(0));
        self.backlog = backlog;
        self.changed = changed;
        self.oldest_row_s = seen.oldest;
        self.slot_invalidated.clone_from(&seen.invalidation_reason);
        self.watched = true;
        if self.read {
            self.last_read = Instant::now();
        }
        self.slot_unread_s = self.last_read.elapsed().as_secs();
        self.publish();
    }

    /// Whether the database answered when it was last asked.
    pub(super) fn watched(&self) -> bool {
        self.watched
    }

    /// Takes note that the database does not answer: nothing is known any more.
    pub(super) fn lose_sight(&mut self) {
        self.watched = false;
        (self.slot_lag_bytes, self.slot_retained_bytes, self.backlog) = (None, None, None);
        // Whether anybody reads the slot meanwhile is not known: the time begins anew.
        self.last_read = Instant::now();
        self.publish();
    }

    pub(super) fn trimmed(&mut self, outbox: u64, inbox: u64, marked: usize, held: Option<String>) {
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
        // What is not known is no number.
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
