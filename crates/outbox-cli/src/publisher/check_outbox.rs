//! `check-outbox`.

use outbox::specification::Specification;
use sqlx::PgConnection;

use super::error::{BoxError, Error};
use super::print::print;
use super::role::Role;

/// Check the database against what the outbox and its connector need
#[derive(Debug, Clone, clap::Args)]
pub struct CheckOutbox;

impl CheckOutbox {
    /// Checks the database against `specification`, on a connection of the service's role.
    ///
    /// # Errors
    /// [`Error::Connect`]; [`Error::Check`] names every difference; [`Error::Output`].
    pub async fn run<E: Into<BoxError>>(
        self,
        specification: &Specification,
        connect: impl AsyncFnOnce(Role) -> Result<PgConnection, E>,
    ) -> Result<(), Error> {
        let mut database = Role::Service.open(connect).await?;
        specification.check(&mut database).await?;
        Ok(print("the database is as the outbox needs it")?)
    }
}
