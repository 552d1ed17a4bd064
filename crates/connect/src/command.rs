//! The commands of the program.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use connect::{Client, Reconciler, reread};
use program::signals;

/// Keeps Kafka Connect's connectors as they are declared
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// The address of a worker of Kafka Connect
    #[arg(long, global = true, default_value = "http://127.0.0.1:8083")]
    url: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keep the connectors as the JSON files of a folder declare them, until SIGTERM
    Reconcile {
        /// The folder; each `*.json` has `name` and `config`
        folder: PathBuf,
        /// The mark of the reconciler's own connectors; it changes and removes no other
        #[arg(long, default_value = "connect")]
        owner: String,
    },
    /// Read an outbox again from its first row, and return when that is done
    Reread {
        /// The connector
        name: String,
        /// How long it may take, in seconds
        #[arg(long, default_value_t = 600)]
        within: u64,
    },
}

/// Runs the command.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let client = Client::new(&arguments.url)?;
    match arguments.command {
        Command::Reconcile { folder, owner } => {
            let shutdown = signals::shutdown()?;
            let reconciler = Reconciler::new(client, folder, &owner);
            shutdown.run_until_cancelled(reconciler.run()).await;
        }
        Command::Reread { name, within } => {
            tracing::info!(
                connector = name,
                "reading the outbox again from its first row"
            );
            reread(&client, &name, Duration::from_secs(within)).await?;
            tracing::info!(
                connector = name,
                "the connector has read the whole outbox again"
            );
        }
    }
    Ok(())
}
