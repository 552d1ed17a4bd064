//! The commands of the program.

use anyhow::Result;
use clap::{Parser, Subcommand};
use inventory::config::{Config, PREFIX};
use inventory::db;
use inventory::serve;
use service::cli::{self, Options};

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
    /// Bring the database's tables up to date, as their owner
    Migrate,
    /// Print the connector of the outbox, as `connect` takes it: Kafka Connect's JSON, with the `topics` that it needs
    Connector,
    /// Hold the database against what the outbox and its connector need
    CheckOutbox,
    /// Take the database for the outbox's own, after a restore or a move; read the outbox again first
    AcceptDatabase,
    /// Say whether the settings are good, files that they name included; connects nowhere
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
                serve(&config, cli::shutdown()?).await?;
            }
            Command::Migrate => {
                let owner = config.database.as_role(&config.owner);
                let mut owner = service::database::open(&owner).await?;
                db::migrate(&mut owner, &config.roles()).await?;
            }
            Command::Connector => cli::print(&format!("{:#}", config.outbox().to_json())),
            Command::CheckOutbox => {
                let mut database = service::database::open(&config.database).await?;
                config.outbox().check(&mut database).await?;
                cli::print("the database is as the outbox needs it");
            }
            Command::AcceptDatabase => {
                let mut database =
                    service::database::open(&config.database.as_role(&config.keeper)).await?;
                outbox::keeper::accept(&mut database).await?;
                cli::print("the database is taken for the outbox's own");
            }
            Command::CheckConfig(command) => command.run(&config, config.check(command.files()))?,
        }
        Ok(())
    }
}
