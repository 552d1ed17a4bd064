//! A listener's dead letters in a database of their own. Each event says what its handler does.

use std::future::ready;
use std::process::ExitCode;

use clap::Parser;
use outbox::Outgoing;
use outbox::listener::{DeadLetters, Failure, Handler, Received, Refusal, RetryPolicy};
use outbox::schema::{self, Part, Roles};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::{PgPoolOptions, PgTransaction};
use stack::testing::{Context, database};
use uuid::Uuid;

use crate::dead_letters::{Command, Error};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Does {
    /// Inserts a note.
    Note,
    /// Refuses the event.
    Poison,
    /// Uses a table that does not exist.
    Lack,
    /// Inserts a note and closes the pool.
    Close,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "payload")]
pub(super) enum Event {
    #[serde(rename = "note.taken")]
    Taken { does: Does },
}

pub(super) struct Notes(pub(super) PgPool);

/// Control characters, in an error and an event type.
pub(super) const ESCAPES: &str = "\x1b[2J\nfake";

impl Handler for Notes {
    type Event = Event;

    async fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        batch: &[Received<Event>],
    ) -> Result<Vec<Outgoing>, Failure> {
        for Received { id, event, .. } in batch {
            let Event::Taken { does } = event;
            let statement = match does {
                Does::Note => "insert into note (id) values ($1)",
                Does::Lack => "insert into lacking (id) values ($1)",
                Does::Poison => {
                    return Err(Failure::Refused(vec![Refusal::poison(*id, ESCAPES)]));
                }
                Does::Close => {
                    drop(self.0.close());
                    "insert into note (id) values ($1)"
                }
            };
            sqlx::query(statement).bind(id).execute(&mut **tx).await?;
        }
        Ok(Vec::new())
    }
}

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

/// Parses a command line.
pub(super) fn parse(line: &str) -> Result<Command, clap::Error> {
    let words = std::iter::once("dead-letters").chain(line.split_whitespace());
    Line::try_parse_from(words).map(|line| line.command)
}

/// A database, and the dead letters in it.
pub(super) struct Fixture {
    pub(super) pool: PgPool,
    pub(super) dead_letters: DeadLetters<Notes>,
}

impl Fixture {
    /// A database with no dead letter.
    pub(super) async fn new() -> Self {
        let database = database(Context::Order).await;
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .connect_with(database.options("order_owner"))
            .await
            .unwrap();
        let mut owner = pool.acquire().await.unwrap();
        schema::migrate(
            &mut owner,
            &[Part::Publisher, Part::Listener],
            &Roles::default(),
        )
        .await
        .unwrap();
        drop(owner);
        let ddl = "create table note (seq bigint generated always as identity, id uuid unique);
             -- The dead letters that the running listener would have retried.
             create table was_due (id uuid);
             create function is_due() returns trigger language plpgsql as
                 'begin insert into was_due values (new.id); return null; end';
             create trigger is_due after update of retry_at on dead_letter
                 for each row when (new.retry_at is not null) execute function is_due();";
        sqlx::raw_sql(ddl).execute(&pool).await.unwrap();
        let dead_letters = DeadLetters::new(
            "notes",
            pool.clone(),
            Notes(pool.clone()),
            RetryPolicy::default(),
        );
        Self { pool, dead_letters }
    }

    /// Writes a dead letter, as a listener does. Its value says what the handler does.
    pub(super) async fn dead_letter(
        &self,
        id: u128,
        key: &str,
        kind: &str,
        does: &str,
        event_type: &str,
    ) {
        sqlx::query(
            r#"insert into dead_letter (listener, id, kind, error, topic, partition, "offset", key, header_names, header_values, value)
               values ('notes', $1, $2, 'wrong', 'note', 0, 0, $3, '{event_type}', array[convert_to($4, 'UTF8')],
                       convert_to(format('{"does": "%s"}', $5::text), 'UTF8'))"#,
        )
        .bind(Uuid::from_u128(id))
        .bind(kind)
        .bind(key.as_bytes())
        .bind(event_type)
        .bind(does)
        .execute(&self.pool)
        .await
        .unwrap();
        sqlx::query(
            "insert into blocked_key (listener, topic, key_digest) values ('notes', 'note', sha256($1)) on conflict do nothing",
        )
        .bind(key.as_bytes())
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// Writes the dead letters of a key, in order, the first of them poison and the others parked.
    pub(super) async fn dead_letters(&self, key: &str, of: &[(u128, &str)]) {
        for (at, (id, does)) in of.iter().enumerate() {
            let kind = if at == 0 { "poison" } else { "parked" };
            self.dead_letter(*id, key, kind, does, "note.taken").await;
        }
    }

    /// Runs a command without a terminal: what it ends with, and what it writes.
    pub(super) async fn run(&self, line: &str) -> (Result<ExitCode, Error>, String) {
        self.run_with(line, None).await
    }

    /// Runs a command, with an operator's answer at the terminal.
    pub(super) async fn run_with(
        &self,
        line: &str,
        answer: Option<&str>,
    ) -> (Result<ExitCode, Error>, String) {
        let mut written = Vec::new();
        let command = parse(line).unwrap();
        let answer = answer.map(|text| ready(Ok(text.to_owned())));
        let done = command
            .write(&self.dead_letters, &mut written, answer)
            .await;
        (done, String::from_utf8(written).unwrap())
    }

    /// The JSON object of a command that ends with the exit code `code`.
    pub(super) async fn answer(&self, line: &str, code: u8) -> Value {
        let (done, written) = self.run(line).await;
        assert_eq!(done.unwrap(), ExitCode::from(code), "{line}: {written}");
        serde_json::from_str(&written).unwrap()
    }

    /// The ids that a query selects.
    pub(super) async fn ids(&self, sql: &'static str) -> Vec<u128> {
        let ids: Vec<Uuid> = sqlx::query_scalar(sql).fetch_all(&self.pool).await.unwrap();
        ids.iter().map(Uuid::as_u128).collect()
    }

    /// The dead letters in the database.
    pub(super) async fn remaining(&self) -> Vec<u128> {
        self.ids("select id from dead_letter order by seq").await
    }
}

/// Ids as a command writes them.
pub(super) fn ids(of: &[u128]) -> Value {
    of.iter().map(|id| json!(Uuid::from_u128(*id))).collect()
}
