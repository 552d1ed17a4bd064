//! `migrate`.

use sqlx::{Connection, PgConnection};

use super::error::{BoxError, Error};
use super::role::Role;

/// Bring the database's tables up to date, as their owner
#[derive(Debug, Clone, clap::Args)]
pub struct Migrate;

impl Migrate {
    /// Runs `migrate` on a connection of the owner's role. `database` is the name for the error.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::Migrate`].
    pub async fn run<E: Into<BoxError>, F: Into<BoxError>>(
        self,
        database: &str,
        connect: impl AsyncFnOnce(Role) -> Result<PgConnection, E>,
        migrate: impl AsyncFnOnce(&mut PgConnection) -> Result<(), F>,
    ) -> Result<(), Error> {
        let mut owner = Role::Owner.open(connect).await?;
        let migrated = migrate(&mut owner).await;
        drop(owner.close().await);
        migrated.map_err(|error| Error::Migrate {
            database: database.to_owned(),
            source: error.into(),
        })
    }
}
