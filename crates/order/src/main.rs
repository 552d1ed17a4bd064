//! The Order Service's command line.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use order::config::{Config, PREFIX};
use service::cli::{self, Options};

/// Takes orders, publishes them through its outbox and learns their outcome.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve HTTP and listen to outcomes, until SIGTERM
    Serve,
    /// Bring the database's tables up to date, as their owner
    Migrate,
    /// Print the connector of the outbox, as Kafka Connect takes it
    Connector,
    /// Hold the database against what the outbox and its connector need
    CheckOutbox,
    /// Say whether the settings are good, files that they name included; connects nowhere
    CheckConfig(cli::CheckConfig),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    cli::exit(run(arguments).await)
}

async fn run(Arguments { options, command }: Arguments) -> Result<()> {
    let config: Config = service::config::load(PREFIX, options.config.as_deref())?;
    match command {
        Command::Serve => {
            service::telemetry::init(&config.log)?;
            order::serve(&config, cli::shutdown()?).await?;
        }
        Command::Migrate => {
            service::database::migrate(&config.database, &config.owner, &order::db::MIGRATOR)
                .await?;
        }
        Command::Connector => cli::print(&format!("{:#}", config.outbox().to_json())),
        Command::CheckOutbox => {
            let mut database = service::database::open(&config.database).await?;
            config.outbox().check(&mut database).await?;
            cli::print("the database is as the outbox needs it");
        }
        Command::CheckConfig(command) => command.run(&config, config.check())?,
    }
    Ok(())
}
