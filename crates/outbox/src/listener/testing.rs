//! What the listener's tests on real PostgreSQL have in common.

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use stack::testing::{Context, database};

use super::apply::Applier;
use super::breaker::BreakerPolicy;
use super::handler::Handler;
use super::retry::RetryPolicy;
use super::transaction::Transactions;
use crate::schema::{self, Part, Roles};

/// A pool on a database of the test's own, with the library's tables and those of the handler.
pub(super) async fn migrated(max_connections: u32, tables: &'static str) -> PgPool {
    let database = database(Context::Order).await;
    let pool = PgPoolOptions::new()
        .max_connections(max_connections)
        .connect_with(database.options("order_owner"))
        .await
        .unwrap();
    let mut owner = pool.acquire().await.unwrap();
    let parts = [Part::Publisher, Part::Listener];
    let migrated = schema::migrate(&mut owner, &parts, &Roles::default()).await;
    migrated.unwrap();
    sqlx::raw_sql(tables).execute(&mut *owner).await.unwrap();
    drop(owner);
    pool
}

/// What applies the batches of a listener.
pub(super) fn applier<H: Handler>(
    listener: &str,
    pool: PgPool,
    handler: H,
    breaker: BreakerPolicy,
    retry: RetryPolicy,
) -> Applier<H> {
    let transactions = Transactions {
        listener: listener.to_owned(),
        pool,
        handler,
        retry,
    };
    Applier::new(transactions, breaker)
}
