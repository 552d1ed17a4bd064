//! The roles that the commands work under.

use sqlx::PgConnection;

use super::error::{BoxError, Error};

/// A role of the outbox's database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Owns the tables: `migrate`.
    Owner,
    /// The service's own: `check-outbox`.
    Service,
    /// Runs the [keeper](outbox::keeper): `accept-database`.
    Keeper,
}

impl Role {
    /// The role's connection, opened by the service.
    pub(super) async fn open<E: Into<BoxError>>(
        self,
        connect: impl AsyncFnOnce(Self) -> Result<PgConnection, E>,
    ) -> Result<PgConnection, Error> {
        connect(self)
            .await
            .map_err(|error| Error::Connect(error.into()))
    }
}
