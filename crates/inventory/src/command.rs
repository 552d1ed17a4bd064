//! The commands of the program.

use anyhow::Result;
use clap::{Parser, Subcommand};
use inventory::config::{Config, PREFIX};
use inventory::db;
use inventory::serve;
use outbox_cli::publisher;
use service::cli::{self, Options};
use sqlx::PgConnection;

/// Shows products and their stock; owns the inventory's tables.
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
    /// Serve HTTP, until SIGTERM
    Serve,
    #[command(flatten)]
    Publisher(publisher::Command),
    CheckConfig(cli::CheckConfig),
}

impl Arguments {
    /// Does what was asked for.
    ///
    /// # Errors
    /// What went wrong, and what to do about it.
    pub(crate) async fn run(self) -> Result<()> {
        let Self { options, command } = self;
        let config: Config = service::config::load(PREFIX, options.config.as_deref())?;
        match command {
            Command::Serve => {
                service::telemetry::init(&config.log)?;
                serve(&config, program::signals::shutdown()?).await?;
            }
            Command::Publisher(command) => {
                let (outbox, roles) = (config.outbox()?, config.roles()?);
                let migrate = async |owner: &mut PgConnection| db::migrate(owner, &roles).await;
                config.publisher().run(command, &outbox, migrate).await?;
            }
            Command::CheckConfig(command) => command.run(&config, config.check(command.files()))?,
        }
        Ok(())
    }
}
