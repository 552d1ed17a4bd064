//! An operator discards a dead letter.
//!
//! It takes the same locks as an attempt, so that what it discards was neither applied nor attempted in between.

use sqlx::PgConnection;
use uuid::Uuid;

use super::store::{self, LockMode};
use crate::deadline;
use crate::listener::handler::Handler;
use crate::listener::transaction::{TIMEOUT, Transactions, begin};

impl<H: Handler> Transactions<H> {
    /// Discards a dead letter; see [`DeadLetters::discard`](super::DeadLetters::discard).
    pub(super) async fn discard(&self, id: Uuid, reason: &str) -> Result<bool, sqlx::Error> {
        let discard = async |connection: &mut PgConnection| {
            let mut tx = begin(connection).await?;
            let Ok(dead_letter) = store::lock(&mut tx, &self.listener, id, LockMode::Wait).await?
            else {
                return Ok(false);
            };
            store::discard(&mut tx, &self.listener, &dead_letter, reason).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(true)
        };
        let mut connection = self.pool.acquire().await?;
        let discarded = deadline::within(TIMEOUT, &mut connection, discard).await?;
        if discarded {
            tracing::warn!(listener = self.listener, %id, reason, "discarded a dead letter");
        }
        Ok(discarded)
    }
}
