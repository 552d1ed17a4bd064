//! The library's migrations and grants, on real PostgreSQL.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "schema/locks.rs"]
mod locks;
#[path = "schema/topics.rs"]
mod topics;

use outbox::schema::{Error, Migration, Part, Roles, migrate, migrate_own};
use outbox::specification::{Outline, Settings, Specification};
use outbox::{Event, Outgoing, Retention, append};
use serde::{Deserialize, Serialize};
use sqlx::migrate::{MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqlSafeStr};
use stack::testing::{self, Context, Database, database};
use uuid::Uuid;

const GOLDEN: &str = include_str!("golden/schema.txt");

const BOTH: [Part; 2] = [Part::Publisher, Part::Listener];

/// Sessions that wait for a lock.
const WAITERS: &str = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", content = "payload")]
enum Note {
    #[serde(rename = "note.made")]
    Made(Uuid),
}

impl Event for Note {
    const AGGREGATE_TYPE: &'static str = "order";
    fn id(&self) -> Uuid {
        let Self::Made(id) = self;
        *id
    }
    fn aggregate_id(&self) -> String {
        "n1".to_owned()
    }
}

fn roles() -> Roles {
    Roles::from(&specification()).listener("order_service")
}

fn specification() -> Specification {
    Specification::new(Outline {
        context: "order".to_owned(),
        address: ("127.0.0.1".to_owned(), 5432),
        database: "order_db".to_owned(),
        writers: vec!["order_service".to_owned()],
        keeper: "order_keeper".to_owned(),
        topics: vec!["order".to_owned()],
        retention: Retention::default(),
        settings: Settings::of_role("order_cdc"),
    })
    .unwrap()
}

async fn owner(database: &Database) -> PgConnection {
    PgConnection::connect_with(&database.options("order_owner"))
        .await
        .unwrap()
}

async fn execute(connection: &mut PgConnection, sql: impl Into<String>) {
    let sql = AssertSqlSafe(sql.into());
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

/// Applies a migration as a team's own tool does.
async fn apply_by_hand(owner: &mut PgConnection, migration: &Migration) {
    if migration.in_transaction {
        let mut tx = owner.begin().await.unwrap();
        execute(&mut tx, migration.sql).await;
        tx.commit().await.unwrap();
    } else {
        execute(owner, migration.sql).await;
    }
}

/// A database as a release left it that knew the first migration of each part only; one dead letter is in it.
async fn at_version_1() -> (Database, PgConnection) {
    let database = database(Context::Order).await;
    let mut owner = owner(&database).await;
    for part in BOTH {
        let first = &part.migrations()[0];
        apply_by_hand(&mut owner, first).await;
        execute(&mut owner, first.record()).await;
    }
    let dead_letters = format!(
        r#"insert into inbox (listener, id) select 'order', '{0}';
           insert into dead_letter (listener, id, kind, error, topic, partition, "offset", header_names, header_values)
           values ('order', '{0}', 'poison', 'wrong', 'reservation', 0, 0, '{{}}', '{{}}')"#,
        Uuid::now_v7()
    );
    execute(&mut owner, dead_letters).await;
    (database, owner)
}

async fn fresh() -> Database {
    let database = database(Context::Order).await;
    migrate(&mut owner(&database).await, &BOTH, &roles())
        .await
        .unwrap();
    database
}

async fn assert_same(one: &Database, other: &Database) {
    assert_eq!(testing::schema(one).await, testing::schema(other).await);
    assert_eq!(testing::grants(one).await, testing::grants(other).await);
}

async fn number(connection: &mut PgConnection, query: &'static str) -> i64 {
    sqlx::query_scalar(query)
        .fetch_one(connection)
        .await
        .unwrap()
}

/// A service's own migration.
fn own(sql: &'static str) -> Migrator {
    let outside = sql.starts_with("-- no-transaction");
    let sql = sql.into_sql_str();
    let migration =
        sqlx::migrate::Migration::new(1, "own".into(), MigrationType::Simple, sql, outside);
    Migrator::with_migrations(vec![migration])
}

/// What the migrations and the grants make, as a text of its own: a lost index or a further grant shows here.
#[tokio::test]
async fn a_migrated_database_has_the_tables_and_grants_of_the_golden_file() {
    let database = fresh().await;
    let lines = [
        testing::schema(&database).await,
        testing::grants(&database).await,
    ];
    let found = lines.concat().join("\n");
    assert_eq!(found, GOLDEN.trim_end(), "found is\n{found}");
}

#[tokio::test]
async fn a_database_at_an_older_version_becomes_as_a_fresh_one_and_keeps_its_rows() {
    let (database, mut owner) = at_version_1().await;
    migrate(&mut owner, &BOTH, &roles()).await.unwrap();
    assert_same(&database, &fresh().await).await;
    let kept = "select count(*) from inbox join dead_letter using (listener, id)";
    assert_eq!(number(&mut owner, kept).await, 1);
}

#[tokio::test]
async fn an_index_that_an_interrupted_build_left_invalid_is_built_again() {
    let (database, mut owner) = at_version_1().await;
    let mut other = self::owner(&database).await;
    let mut writing = other.begin().await.unwrap();
    execute(&mut writing, "update dead_letter set attempts = 2").await;
    execute(&mut owner, "set lock_timeout = '100ms'").await;
    let index = &Part::Listener.migrations()[1];
    let interrupted = sqlx::raw_sql(index.sql).execute(&mut owner).await;
    interrupted.unwrap_err();
    writing.commit().await.unwrap();
    let invalid = "select count(*) from pg_index where indexrelid = 'dead_letter_in_order'::regclass and not indisvalid";
    assert_eq!(number(&mut owner, invalid).await, 1);

    migrate(&mut owner, &BOTH, &roles()).await.unwrap();
    assert_same(&database, &fresh().await).await;
}

#[tokio::test]
async fn sql_that_is_applied_by_hand_gives_the_same_database_as_migrate() {
    let by_hand = database(Context::Order).await;
    let mut owner = owner(&by_hand).await;
    for part in BOTH {
        for migration in part.migrations() {
            apply_by_hand(&mut owner, &migration).await;
            execute(&mut owner, migration.record()).await;
            execute(&mut owner, migration.record()).await;
        }
        execute(&mut owner, roles().grants(part)).await;
    }
    let migrated = fresh().await;
    assert_same(&by_hand, &migrated).await;
    // It says so, too: another run applies nothing.
    migrate(&mut owner, &BOTH, &roles()).await.unwrap();
    assert_same(&by_hand, &migrated).await;
}

#[tokio::test]
async fn tables_without_a_recorded_version_are_refused_and_left_alone() {
    let database = database(Context::Order).await;
    let mut owner = owner(&database).await;
    for migration in Part::Listener.migrations() {
        apply_by_hand(&mut owner, &migration).await;
    }
    // Without a version table, and with one that is empty.
    let empty = format!(
        "{}; truncate _outbox_listener_migrations",
        Part::Listener.migrations()[0].record()
    );
    for statement in ["select".to_owned(), empty] {
        execute(&mut owner, statement).await;
        let before = testing::schema(&database).await;
        let refused = migrate(&mut owner, &[Part::Listener], &roles()).await;
        assert!(
            matches!(refused, Err(Error::Unrecorded { table: "inbox", .. })),
            "{refused:?}"
        );
        assert_eq!(testing::schema(&database).await, before);
    }
}

#[tokio::test]
async fn an_older_release_migrates_checks_and_appends_beside_a_newer_additive_schema() {
    let database = fresh().await;
    let mut owner = owner(&database).await;
    execute(
        &mut owner,
        "insert into _outbox_publisher_migrations (version, description, success, checksum, execution_time)
             values (1000, 'newer', true, 'x', 0);
         insert into _outbox_listener_migrations select * from _outbox_publisher_migrations where version = 1000;
         alter table outbox add newer text;
         alter table outbox_identity add newer integer default 1 not null;
         alter table inbox add newer text;
         create table newer (id integer)",
    )
    .await;
    let newer = testing::schema(&database).await;
    migrate(&mut owner, &BOTH, &roles()).await.unwrap();
    assert_eq!(testing::schema(&database).await, newer);

    let options = database.options("order_service");
    let mut service = PgConnection::connect_with(&options).await.unwrap();
    specification().check(&mut service).await.unwrap();
    let mut tx = service.begin().await.unwrap();
    let event = Outgoing::new(&Note::Made(Uuid::now_v7())).unwrap();
    append(&mut tx, &[event]).await.unwrap();
    execute(
        &mut tx,
        "insert into inbox (listener, id) values ('order', gen_random_uuid())",
    )
    .await;
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn processes_that_migrate_a_database_at_once_wait_for_each_other() {
    let database = database(Context::Order).await;
    let migrating = (0..4).map(|_| {
        let database = database.clone();
        tokio::spawn(async move { migrate(&mut owner(&database).await, &BOTH, &roles()).await })
    });
    for migrated in migrating.collect::<Vec<_>>() {
        migrated.await.unwrap().unwrap();
    }
    assert_same(&database, &fresh().await).await;
}

#[tokio::test]
async fn a_part_alone_is_migrated_and_granted_alone() {
    let database = database(Context::Order).await;
    let mut owner = owner(&database).await;
    migrate(&mut owner, &[Part::Publisher], &roles())
        .await
        .unwrap();
    let tables = "select count(*) from pg_tables where schemaname = 'public'";
    assert_eq!(number(&mut owner, tables).await, 4);
    specification().check(&mut owner).await.unwrap();
    // The other part is added to a database in use.
    migrate(&mut owner, &[Part::Listener], &roles())
        .await
        .unwrap();
    assert_same(&database, &fresh().await).await;
}

#[tokio::test]
async fn a_migration_whose_text_changed_after_it_was_applied_is_an_error() {
    let database = fresh().await;
    let mut owner = owner(&database).await;
    migrate_own(&mut owner, &own("create table mine (id integer)"))
        .await
        .unwrap();
    let changed = migrate_own(&mut owner, &own("create table mine (id bigint)")).await;
    assert!(
        matches!(changed, Err(Error::Changed { version: 1, .. })),
        "{changed:?}"
    );

    execute(
        &mut owner,
        "update _outbox_listener_migrations set checksum = 'x' where version = 2",
    )
    .await;
    let changed = migrate(&mut owner, &BOTH, &roles()).await;
    assert!(
        matches!(changed, Err(Error::Changed { version: 2, .. })),
        "{changed:?}"
    );
}

#[tokio::test]
async fn a_migration_that_waits_for_a_lock_lets_others_pass_and_says_what_to_do() {
    let database = fresh().await;
    let (mut owner, mut other) = (owner(&database).await, owner(&database).await);
    let mut reading = other.begin().await.unwrap();
    execute(&mut reading, "select from outbox").await;
    let migrator = own("alter table outbox add mine text");
    let mut reader = self::owner(&database).await;
    let (refused, ()) = tokio::join!(migrate_own(&mut owner, &migrator), async {
        while number(&mut reader, WAITERS).await == 0 {
            tokio::task::yield_now().await;
        }
        // This waits behind the migration, until that gives up its first attempt.
        execute(&mut reader, "set lock_timeout = '10s'; select from outbox").await;
    });
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, Error::Locked { attempts: 5, .. }),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("pg_stat_activity"));

    reading.commit().await.unwrap();
    migrate_own(&mut owner, &migrator).await.unwrap();
}

#[tokio::test]
async fn a_session_keeps_its_settings_and_no_lock() {
    let database = database(Context::Order).await;
    let mut owner = owner(&database).await;
    execute(
        &mut owner,
        "set lock_timeout = '7s'; set statement_timeout = '8s'",
    )
    .await;
    migrate(&mut owner, &BOTH, &roles()).await.unwrap();
    let settings: (String, String) = sqlx::query_as(
        "select current_setting('lock_timeout'), current_setting('statement_timeout')",
    )
    .fetch_one(&mut owner)
    .await
    .unwrap();
    assert_eq!(settings, ("7s".to_owned(), "8s".to_owned()));
    let locks =
        "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
    assert_eq!(number(&mut owner, locks).await, 0);
}

#[tokio::test]
async fn a_role_that_is_not_the_owner_is_refused_and_the_remedy_names_the_owner() {
    let database = database(Context::Order).await;
    let options = database.options("order_service");
    let mut service = PgConnection::connect_with(&options).await.unwrap();
    let refused = migrate(&mut service, &BOTH, &roles()).await.unwrap_err();
    assert!(matches!(refused, Error::Versions { .. }), "{refused:?}");
    let remedy = "connect as the owner of the database, then migrate again";
    assert!(refused.to_string().ends_with(remedy), "{refused}");
}

#[tokio::test]
async fn a_role_is_granted_by_its_name_as_it_is_and_a_missing_one_is_an_error() {
    let database = database(Context::Order).await;
    let mut owner = owner(&database).await;
    let mut superuser = PgConnection::connect_with(&database.superuser())
        .await
        .unwrap();
    let role = format!("Odd \"{}", Uuid::now_v7().simple());
    let roles = Roles::default().writer(&role);
    let missing = migrate(&mut owner, &BOTH, &roles).await;
    let missing = missing.unwrap_err();
    assert!(matches!(missing, Error::Grants(_)), "{missing:?}");
    assert!(missing.to_string().contains("create role NAME"));

    let quoted = role.replace('"', "\"\"");
    execute(&mut superuser, format!("create role \"{quoted}\"")).await;
    migrate(&mut owner, &BOTH, &roles).await.unwrap();
    let inserts: bool = sqlx::query_scalar("select has_table_privilege($1, 'outbox', 'insert')")
        .bind(&role)
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert!(inserts);
    execute(
        &mut superuser,
        format!("drop owned by \"{quoted}\"; drop role \"{quoted}\""),
    )
    .await;
}
