//! The commands of the program.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use order::config::{Config, PREFIX};
use order::db;
use order::outcomes::Outcomes;
use order::serve;
use outbox_cli::{dead_letters, publisher};
use service::cli::{self, Options};
use sqlx::PgConnection;

/// Takes orders, publishes them through its outbox and learns their outcome.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve HTTP and listen to outcomes, until SIGTERM
    Serve,
    #[command(flatten)]
    Publisher(publisher::Command),
    /// Manage the dead letters of topic `reservation`
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    CheckConfig(cli::CheckConfig),
}

impl Arguments {
    /// Does what was asked for.
    ///
    /// # Errors
    /// What went wrong, and what to do about it.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let Self { options, command } = self;
        let config: Config = service::config::load(PREFIX, options.config.as_deref())?;
        match command {
            Command::Serve => {
                service::telemetry::init(&config.log)?;
                serve(&config, program::signals::shutdown()?).await?;
            }
            Command::Publisher(command) => {
                let command = command.with_kafka(|| config.kafka.client())?;
                let (outbox, roles) = (config.outbox()?, config.roles()?);
                let migrate = async |owner: &mut PgConnection| db::migrate(owner, &roles).await;
                config.publisher().run(command, &outbox, migrate).await?;
            }
            Command::DeadLetters(command) => {
                let dead_letters =
                    service::listener::dead_letters(&config.database, &config.kafka, Outcomes);
                return Ok(command.run(&dead_letters.await?).await?);
            }
            Command::CheckConfig(command) => command.run(&config, config.check(command.files()))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
