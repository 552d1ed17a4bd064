//! A specification against a migrated database; against Kafka, see `topics`.

pub(super) mod grants;
mod roles;
mod server;
mod tables;

use sqlx::PgConnection;

use super::error::Error;
use super::outbox::Specification;

impl Specification {
    /// Compares the database with what the outbox and its connector need: tables, publication, roles, grants, and the server's settings.
    ///
    /// Any role may ask: all of it stands in catalogs that every login reads. What a newer release has added passes: a further table, or a
    /// column that may stay empty.
    ///
    /// ```no_run
    /// use outbox::specification::{Error, Specification};
    ///
    /// # async fn run(specification: &Specification, database: &mut sqlx::PgConnection) {
    /// match specification.check(database).await {
    ///     Ok(()) => println!("{}", specification.to_json()),
    ///     Err(Error::Drifted(drifts)) => drifts.iter().for_each(|drift| eprintln!("{drift}")),
    ///     Err(error) => eprintln!("{error}"),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Drifted`] names every difference, and the remedy of each.
    pub async fn check(&self, database: &mut PgConnection) -> Result<(), Error> {
        let mut drifts = Vec::new();
        tables::check(self, database, &mut drifts).await?;
        roles::check(self, database, &mut drifts).await?;
        server::check(self, database, &mut drifts).await?;
        if drifts.is_empty() {
            Ok(())
        } else {
            Err(Error::Drifted(drifts))
        }
    }
}
