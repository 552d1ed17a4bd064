//! A service's database in its readiness.

use std::time::Duration;

use outbox::deadline;
use sqlx::{PgConnection, PgPool};
use tokio::time::{Instant, timeout};

use crate::health::{Health, Report};

/// How long the database may take: less than the two seconds of a check.
const TIMEOUT: Duration = Duration::from_millis(1_500);

impl Health {
    /// Adds a check `database`: it answers, and it is migrated (it has the table `table`).
    #[must_use]
    pub fn with_database(self, pool: PgPool, table: &'static str) -> Self {
        self.with("database", move || report(pool.clone(), table))
    }
}

async fn report(pool: PgPool, table: &'static str) -> Report {
    // A task of its own: a client that gives up earlier does not drop the query, which would return a silent connection to the pool.
    let found = tokio::spawn(async move { has_table(&pool, table).await });
    let found = found
        .await
        .unwrap_or_else(|panic| Err(sqlx::Error::Io(panic.into())));
    match found {
        Ok(true) => Report::ok(),
        Ok(false) => Report::failing(format!(
            "there is no table {table}; run the command `migrate`"
        )),
        Err(error) => {
            tracing::warn!(%error, "the database does not answer; readiness fails until it does");
            Report::failing("the database does not answer")
        }
    }
}

async fn has_table(pool: &PgPool, table: &str) -> Result<bool, sqlx::Error> {
    let until = Instant::now() + TIMEOUT;
    let mut connection = timeout(TIMEOUT, pool.acquire())
        .await
        .map_err(|elapsed| sqlx::Error::Io(elapsed.into()))??;
    let query = async |connection: &mut PgConnection| {
        sqlx::query_scalar("select to_regclass($1) is not null")
            .bind(table)
            .fetch_one(connection)
            .await
    };
    let left = until.saturating_duration_since(Instant::now());
    deadline::within(left, &mut connection, query).await
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::{PgPoolOptions, PgSslMode};
    use stack::testing::{Context, database};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A table of every database.
    const TABLE: &str = "pg_class";

    /// The port of a proxy to the server at `port`. Its first connection falls silent at the check's query.
    async fn proxy(port: u16) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut first = true;
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let falls_silent = std::mem::take(&mut first);
                tokio::spawn(pass_on(client, port, falls_silent));
            }
        });
        proxy
    }

    async fn pass_on(client: TcpStream, port: u16, falls_silent: bool) {
        let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
        let (mut bytes, query) = ([0; 8192], b"to_regclass");
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            let sent = &bytes[..count];
            if falls_silent && sent.windows(query.len()).any(|part| part == query) {
                std::future::pending::<()>().await;
            }
            to_server.write_all(sent).await.unwrap();
        }
    }

    /// A pool of one connection, which falls silent at the first check; a further one does not.
    async fn falling_silent() -> PgPool {
        let database = database(Context::Order).await;
        let options = database
            .options("order_owner")
            .port(proxy(database.port).await)
            .ssl_mode(PgSslMode::Disable);
        PgPoolOptions::new()
            .max_connections(1)
            .connect_lazy_with(options)
    }

    #[tokio::test]
    async fn a_connection_that_did_not_answer_in_time_is_not_used_again() {
        let pool = falling_silent().await;
        let failing = Report::failing("the database does not answer");
        assert_eq!(report(pool.clone(), TABLE).await, failing);
        assert_eq!(report(pool.clone(), TABLE).await, Report::ok());
        let unmigrated = Report::failing("there is no table orders; run the command `migrate`");
        assert_eq!(report(pool, "orders").await, unmigrated);
    }

    #[tokio::test]
    async fn a_client_that_gives_up_leaves_no_silent_connection_in_the_pool() {
        let pool = falling_silent().await;
        let given_up = timeout(TIMEOUT / 2, report(pool.clone(), TABLE)).await;
        assert!(given_up.is_err());
        let recovers = async { while report(pool.clone(), TABLE).await != Report::ok() {} };
        timeout(10 * TIMEOUT, recovers).await.unwrap();
    }
}
