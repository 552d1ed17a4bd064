//! The database of a service with an outbox: its roles, their settings, and the commands that work under them.

use outbox::Retention;
use outbox::specification::{Invalid, Outline, Settings, Specification};
use outbox_cli::publisher::{self, Command};
use sqlx::PgConnection;

use crate::config::{Database, Files, Problem, Role};
use crate::database;

/// The sections of the settings that describe the outbox and the roles that connect; and what no operator configures: `context`,
/// `writers` and `topics`, as [`Outline`] has them.
#[derive(Debug, Clone, Copy)]
pub struct Publisher<'a> {
    /// The name of the bounded context.
    pub context: &'static str,
    /// The roles that append.
    pub writers: &'static [&'static str],
    /// The topics of the events.
    pub topics: &'static [&'static str],
    /// The section `database`, with the service's role.
    pub database: &'a Database,
    /// The section `owner`.
    pub owner: &'a Role,
    /// The section `keeper`.
    pub keeper: &'a Role,
    /// The section `retention`.
    pub retention: Retention,
    /// The section `connector`.
    pub connector: &'a Settings,
}

impl Publisher<'_> {
    /// Checks the sections and the outbox, without connecting.
    ///
    /// # Errors
    /// The first [`Problem`].
    pub fn check(&self, files: Files) -> Result<(), Problem> {
        self.database.check(files)?;
        self.owner.check("owner.password_file", files)?;
        self.keeper.check("keeper.password_file", files)?;
        self.specification()?;
        Ok(())
    }

    /// The service's outbox.
    ///
    /// # Errors
    /// [`Invalid`]: a setting of it that PostgreSQL, Kafka or Kafka Connect would not take.
    pub fn specification(&self) -> Result<Specification, Invalid> {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Specification::new(Outline {
            context: self.context.to_owned(),
            address: (self.database.host.clone(), self.database.port),
            database: self.database.name.clone(),
            writers: owned(self.writers),
            topics: owned(self.topics),
            keeper: self.keeper.user.clone(),
            retention: self.retention,
            settings: self.connector.clone(),
        })
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
