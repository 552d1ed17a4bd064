//! The database of a service with an outbox: its roles, their settings, and the commands that work under them.

use outbox::specification::Specification;
use outbox_cli::publisher::{self, Command};
use sqlx::PgConnection;

use crate::config::{Database, Files, Problem, Role};
use crate::database;

/// The sections of the settings that say how to connect.
#[derive(Debug, Clone, Copy)]
pub struct Publisher<'a> {
    /// The section `database`, with the service's role.
    pub database: &'a Database,
    /// The section `owner`.
    pub owner: &'a Role,
    /// The section `keeper`.
    pub keeper: &'a Role,
}

impl Publisher<'_> {
    /// Checks the sections, without connecting.
    ///
    /// # Errors
    /// The first [`Problem`].
    pub fn check(&self, files: Files) -> Result<(), Problem> {
        self.database.check(files)?;
        self.owner.check("owner.password_file", files)?;
        self.keeper.check("keeper.password_file", files)
    }

    /// Runs a command over the outbox that `specification` describes, on a connection of the command's role. `migrate` applies the
    /// service's migrations.
    ///
    /// # Errors
    /// [`publisher::Error`].
    pub async fn run<E: Into<publisher::BoxError>>(
        &self,
        command: Command,
        specification: &Specification,
        migrate: impl AsyncFnOnce(&mut PgConnection) -> Result<(), E>,
    ) -> Result<(), publisher::Error> {
        let connect = async |role| database::open(&self.database_as(role)).await;
        command.run(specification, connect, migrate).await
    }

    fn database_as(&self, role: publisher::Role) -> Database {
        match role {
            publisher::Role::Owner => self.database.as_role(self.owner),
            publisher::Role::Service => self.database.clone(),
            publisher::Role::Keeper => self.database.as_role(self.keeper),
        }
    }
}
