//! The status of an outbox, its replication slot and its server, as one query reports it.
//!
//! One query, so that its parts are close together: a slot's position means something only beside the position of the log, and the
//! reader of a slot only beside what the slot has confirmed.

use sqlx::PgConnection;

/// The server's timeline, as SQL. It changes when a backup is restored or a standby is promoted.
pub(super) const TIMELINE: &str =
    "('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer";

/// The walsender that reads the slot: its process id, and its start in microseconds since the Unix epoch.
pub(super) type Sender = (i32, i64);

/// The status at one moment. Positions are bytes since the beginning of the write-ahead log.
#[derive(Debug, Default, sqlx::FromRow)]
#[expect(clippy::struct_field_names, reason = "wal_status is PostgreSQL's name")]
pub(super) struct Status {
    /// The position at which the server writes next.
    pub(super) position: i64,
    /// The position up to which the log is on disk: a crash loses what follows.
    pub(super) flushed: i64,
    /// The last `outbox.seq` that was drawn; none if the role may not read the sequence.
    pub(super) last_seq: Option<i64>,
    /// The age of the oldest outbox row, in seconds.
    pub(super) oldest: Option<i64>,
    /// Whether the service of this database listens too.
    pub(super) has_inbox: bool,
    /// `pg_replication_slots.wal_status`; none without a slot.
    pub(super) wal_status: Option<String>,
    pub(super) invalidation_reason: Option<String>,
    pub(super) active: Option<bool>,
    /// The position that the slot has confirmed: everything before it has reached Kafka.
    pub(super) confirmed: Option<i64>,
    /// The position from which the server keeps the log for the slot.
    pub(super) restart: Option<i64>,
    pub(super) sender_pid: Option<i32>,
    pub(super) sender_start: Option<i64>,
    pub(super) system_identifier: i64,
    pub(super) timeline: i32,
    pub(super) remembered_identifier: Option<i64>,
    pub(super) remembered_timeline: Option<i32>,
    /// The difference from the recorded server that an operator has not accepted yet.
    pub(super) changed: Option<String>,
}

/// The server that the outbox was on, as the table `outbox_identity` records it.
pub(super) struct Remembered {
    pub(super) identifier: i64,
    pub(super) timeline: i32,
}

impl Remembered {
    /// The difference between the recorded server and this one. `went_back`: its log is shorter than it was.
    pub(super) fn difference(&self, status: &Status, went_back: bool) -> Option<String> {
        if self.identifier != status.system_identifier {
            Some(format!(
                "another server: system identifier {}, was {}",
                status.system_identifier, self.identifier
            ))
        } else if self.timeline != status.timeline {
            Some(format!(
                "a restored backup, or a promoted standby: timeline {}, was {}",
                status.timeline, self.timeline
            ))
        } else {
            went_back.then(|| "an earlier state: its log is shorter than it was".to_owned())
        }
    }
}

impl Status {
    /// Reads the status in one round trip.
    pub(super) async fn read(
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

    /// The walsender that reads the slot; without one, what the slot has confirmed proves nothing, and the reason is returned.
    pub(super) fn sender(&self) -> Result<Sender, &'static str> {
        match self.wal_status.as_deref() {
            None => Err("there is no replication slot"),
            Some("lost" | "unreserved") => Err("the replication slot is lost"),
            Some(_) => match (self.sender_pid, self.sender_start) {
                (Some(pid), Some(start)) => Ok((pid, start)),
                (Some(_), None) => Err(
                    "the keeper cannot see which process reads the replication slot; grant it membership in Debezium's role",
                ),
                (None, _) => Err("no process reads the replication slot"),
            },
        }
    }
}
