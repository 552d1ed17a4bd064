//! Migrations that get no lock, and indexes that are built outside a transaction.

use super::*;

/// Migrates while another session has executed `blocking` in a transaction; then again, after that has been rolled back.
async fn assert_locked(database: Database, blocking: &'static str) {
    let (mut owner, mut other) = (owner(&database).await, owner(&database).await);
    let mut tx = other.begin().await.unwrap();
    execute(&mut tx, blocking).await;
    let refused = migrate(&mut owner, &BOTH, &roles()).await.unwrap_err();
    let Error::Locked { what, attempts, .. } = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(
        (what.as_str(), *attempts),
        ("the query of _outbox_publisher_migrations", 5)
    );
    tx.rollback().await.unwrap();
    migrate(&mut owner, &BOTH, &roles()).await.unwrap();
}

#[tokio::test]
async fn a_version_table_that_another_session_locks_is_named_as_locked() {
    let (migrated, empty) = (fresh().await, database(Context::Order).await);
    tokio::join!(
        assert_locked(migrated, "lock table _outbox_publisher_migrations"),
        // Another process creates it at the same time.
        assert_locked(
            empty,
            "create table _outbox_publisher_migrations (version bigint)"
        ),
    );
}

#[tokio::test]
async fn a_concurrent_build_that_a_deadlock_ends_is_attempted_again() {
    let (database, _) = at_version_1().await;
    // The server ends the wait of the session whose time is shorter: so it is the build that fails, not the other.
    let superuser = database.superuser();
    let mut migrating = PgConnection::connect_with(&superuser).await.unwrap();
    execute(&mut migrating, "set deadlock_timeout = '3s'").await;
    let mut watching = PgConnection::connect_with(&superuser).await.unwrap();
    let mut other = PgConnection::connect_with(&superuser).await.unwrap();
    execute(&mut other, "set deadlock_timeout = '1h'").await;
    let mut writing = other.begin().await.unwrap();
    execute(&mut writing, "update dead_letter set attempts = 2").await;
    let roles = roles();
    let (migrated, ()) = tokio::join!(migrate(&mut migrating, &BOTH, &roles), async {
        // Not the one of the outbox, which this transaction does not hold up.
        let invalid = "select count(*) from pg_index where not indisvalid and indrelid = 'dead_letter'::regclass";
        while number(&mut watching, invalid).await == 0 || number(&mut watching, WAITERS).await == 0
        {
            tokio::task::yield_now().await;
        }
        let lock = "lock table dead_letter in share update exclusive mode";
        execute(&mut writing, lock).await;
        assert_eq!(number(&mut watching, invalid).await, 1);
        writing.commit().await.unwrap();
    });
    migrated.unwrap();
    assert_same(&database, &fresh().await).await;
}

#[tokio::test]
async fn an_invalid_index_is_built_again_whatever_its_name() {
    let sql = "-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS \"Mine, too\" ON public.orders(id);";
    let database = fresh().await;
    let (mut owner, mut other) = (owner(&database).await, owner(&database).await);
    execute(&mut owner, "create table orders (id integer)").await;
    let mut writing = other.begin().await.unwrap();
    execute(&mut writing, "insert into orders values (1)").await;
    execute(&mut owner, "set lock_timeout = '100ms'").await;
    sqlx::raw_sql(sql).execute(&mut owner).await.unwrap_err();
    writing.commit().await.unwrap();
    let valid =
        "select count(*) from pg_index where indexrelid = '\"Mine, too\"'::regclass and indisvalid";
    assert_eq!(number(&mut owner, valid).await, 0);
    migrate_own(&mut owner, &own(sql)).await.unwrap();
    assert_eq!(number(&mut owner, valid).await, 1);
}

#[tokio::test]
async fn a_migration_outside_a_transaction_that_builds_no_index_is_refused() {
    let database = database(Context::Order).await;
    let mut owner = owner(&database).await;
    for sql in [
        "-- no-transaction\nvacuum",
        "-- no-transaction\ncreate table mine (id integer); create index concurrently if not exists i on mine (id)",
        "-- no-transaction\ncreate index concurrently if not exists public.i on mine (id)",
    ] {
        let refused = migrate_own(&mut owner, &own(sql)).await.unwrap_err();
        assert!(
            matches!(refused, Error::NotAnIndex { version: 1, .. }),
            "{refused:?}"
        );
    }
    let tables = "select count(*) from pg_tables where schemaname = 'public'";
    assert_eq!(number(&mut owner, tables).await, 0);
}
