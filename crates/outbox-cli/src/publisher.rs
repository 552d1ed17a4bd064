//! The commands of a service that publishes through an outbox.

mod accept_database;
#[cfg(feature = "topics")]
mod apply_topics;
mod check_outbox;
mod connector;
mod error;
#[cfg(feature = "topics")]
mod kafka;
mod migrate;
mod role;

use clap::Subcommand;
use outbox::specification::Specification;
use sqlx::PgConnection;

pub use accept_database::AcceptDatabase;
#[cfg(feature = "topics")]
pub use apply_topics::ApplyTopics;
pub use check_outbox::CheckOutbox;
pub use connector::Connector;
pub use error::{BoxError, Error};
pub use migrate::Migrate;
pub use role::Role;

/// All of them, to be flattened into a service's own subcommands (`#[command(flatten)]`). A service that needs fewer mounts the structs
/// of its choice as variants of its own.
#[derive(Debug, Clone, Subcommand)]
#[expect(missing_docs, reason = "the doc of each struct is its command's help")]
pub enum Command {
    Migrate(Migrate),
    Connector(Connector),
    CheckOutbox(CheckOutbox),
    #[cfg(feature = "topics")]
    ApplyTopics(ApplyTopics),
    AcceptDatabase(AcceptDatabase),
}

impl Command {
    /// Gives the commands that look at Kafka the service's own client, for a service that has one; `--kafka` wins over it. `client` is
    /// called for these commands alone, so that the others need no secret of Kafka's.
    ///
    /// # Errors
    /// [`Error::Connect`]: what `client` returned.
    #[cfg(feature = "topics")]
    pub fn with_kafka<E: Into<BoxError>>(
        mut self,
        client: impl FnOnce() -> Result<rdkafka::ClientConfig, E>,
    ) -> Result<Self, Error> {
        if let Self::CheckOutbox(CheckOutbox { kafka }) | Self::ApplyTopics(ApplyTopics { kafka }) =
            &mut self
        {
            kafka.or(client)?;
        }
        Ok(self)
    }

    /// Runs the command, and writes its answer to standard output.
    ///
    /// `connect` opens the connection of the one role that the command works under; `connector` opens none. `migrate` applies the
    /// service's migrations on a connection of the tables' owner.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn run<E: Into<BoxError>, F: Into<BoxError>>(
        self,
        specification: &Specification,
        connect: impl AsyncFnOnce(Role) -> Result<PgConnection, E>,
        migrate: impl AsyncFnOnce(&mut PgConnection) -> Result<(), F>,
    ) -> Result<(), Error> {
        match self {
            Self::Migrate(command) => {
                let database = &specification.database;
                command.run(database, connect, migrate).await
            }
            Self::Connector(command) => command.run(specification),
            Self::CheckOutbox(command) => command.run(specification, connect).await,
            #[cfg(feature = "topics")]
            Self::ApplyTopics(command) => command.run(specification).await,
            Self::AcceptDatabase(command) => command.run(connect).await,
        }
    }
}
