//! `accept-database`.

use outbox::keeper;
use program::answer::print;
use sqlx::PgConnection;

use super::error::{BoxError, Error};
use super::role::Role;

/// Accept the database as the outbox's own, after a restore or a move; read the outbox again first
#[derive(Debug, Clone, clap::Args)]
pub struct AcceptDatabase;

impl AcceptDatabase {
    /// Accepts the server as the outbox's own, on a connection of the keeper's role.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::Accept`], [`Error::Output`].
    pub async fn run<E: Into<BoxError>>(
        self,
        connect: impl AsyncFnOnce(Role) -> Result<PgConnection, E>,
    ) -> Result<(), Error> {
        let mut database = Role::Keeper.open(connect).await?;
        keeper::accept(&mut database).await.map_err(Error::Accept)?;
        Ok(print("accepted the database as the outbox's own")?)
    }
}
