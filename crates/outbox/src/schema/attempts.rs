//! A step of a run that gets no lock is attempted again.

use std::time::Duration;

use sqlx::error::DatabaseError;

use super::error::Error;

/// Attempts at a step that does not get its locks.
const ATTEMPTS: u32 = 5;
/// The pause between two attempts: the statements that waited behind the migration run in it.
const PAUSE: Duration = Duration::from_secs(1);

/// The attempts at a step that may get no lock.
pub(super) struct Attempts {
    /// The step, as [`Error::Locked`] names it.
    what: String,
    /// `lock_timeout`.
    waited: Duration,
    made: u32,
}

impl Attempts {
    pub(super) fn of(what: impl Into<String>, waited: Duration) -> Self {
        Self {
            what: what.into(),
            waited,
            made: 0,
        }
    }

    /// Pauses after an attempt that got no lock.
    ///
    /// # Errors
    /// [`Error::Locked`] after the last attempt; `failed` for every other answer of the database.
    pub(super) async fn again(
        &mut self,
        source: sqlx::Error,
        failed: impl FnOnce(sqlx::Error) -> Error,
    ) -> Result<(), Error> {
        self.made += 1;
        if !lacks_lock(&source) {
            return Err(failed(source));
        }
        if self.made == ATTEMPTS {
            return Err(Error::Locked {
                what: self.what.clone(),
                waited: self.waited.as_secs(),
                attempts: self.made,
                source,
            });
        }
        tracing::warn!(what = self.what, "the migration got no lock; trying again");
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

/// Whether `lock_timeout` ended a wait (`lock_not_available`), or the server did (`deadlock_detected`).
fn lacks_lock(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}
