//! The Inventory Worker's command line.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use inventory_worker::config::{Config, PREFIX};
use inventory_worker::orders::Orders;
use outbox_cli::dead_letters;
use service::cli::{self, Options};

/// Applies order events to the stock, exactly once in effect.
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
    /// Listen to orders, and answer health over HTTP, until SIGTERM
    Serve,
    /// Manage the dead letters of topic `order`
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    CheckConfig(cli::CheckConfig),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::exit(run(arguments).await)
}

async fn run(Arguments { options, command }: Arguments) -> Result<ExitCode> {
    let config: Config = service::config::load(PREFIX, options.config.as_deref())?;
    match command {
        Command::Serve => {
            service::telemetry::init(&config.log)?;
            inventory_worker::serve(&config, program::signals::shutdown()?).await?;
        }
        Command::DeadLetters(command) => {
            let dead_letters =
                service::listener::dead_letters(&config.database, &config.kafka, Orders);
            return Ok(command.run(&dead_letters.await?).await?);
        }
        Command::CheckConfig(command) => command.run(&config, config.check(command.files()))?,
    }
    Ok(ExitCode::SUCCESS)
}
