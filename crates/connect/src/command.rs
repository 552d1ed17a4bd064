//! The commands of the program.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use connect::{Access, Client, Error, Reconciler, declared, differences, reread};
use program::signals;

/// The exit code of a command that found something to do or to look at.
const FOUND: u8 = 3;
/// The exit code of a command that a signal interrupted, as of a shell after Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Keeps Kafka Connect's connectors as they are declared
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    worker: Worker,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Worker {
    /// The address of a worker of Kafka Connect; it may name a user, as in https://USER:PASSWORD@HOST:PORT
    #[arg(
        long,
        global = true,
        env = "CONNECT_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8083"
    )]
    url: String,
    /// The user of basic authentication
    #[arg(long, global = true, env = "CONNECT_USER")]
    user: Option<String>,
    /// The file of the user's password
    #[arg(long, global = true, env = "CONNECT_PASSWORD_FILE")]
    password_file: Option<PathBuf>,
    /// The file of the authorities that may have signed the worker's certificate, as PEM, instead of the machine's
    #[arg(long, global = true, env = "CONNECT_CA")]
    ca: Option<PathBuf>,
    /// The file of the client's certificate, as PEM; with `--key`
    #[arg(long, global = true, env = "CONNECT_CERT")]
    cert: Option<PathBuf>,
    /// The file of the certificate's key in PKCS#8, as PEM
    #[arg(long, global = true, env = "CONNECT_KEY")]
    key: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Keep the connectors as the JSON files of a folder declare them, until SIGTERM
    Reconcile {
        /// The folder; each `*.json` has `name`, `config` and, if the connector is not to run, `state`: paused or stopped
        folder: PathBuf,
        /// The mark of the reconciler's own connectors; it changes and removes no other
        #[arg(long, default_value = "connect")]
        owner: String,
    },
    /// Show what `reconcile` would change; the exit code is 0 for nothing, 3 for something
    Diff {
        /// The folder, as of `reconcile`
        folder: PathBuf,
        /// The owner, as of `reconcile`
        #[arg(long, default_value = "connect")]
        owner: String,
    },
    /// Show the states of the connectors; the exit code is 0 if all are running, 3 otherwise
    Status {
        /// The connector; else all
        name: Option<String>,
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

impl Worker {
    fn client(self) -> Result<Client> {
        let identity = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => anyhow::bail!("--cert and --key belong together; name both files, or none"),
        };
        let access = Access {
            user: self.user,
            password_file: self.password_file,
            ca: self.ca,
            identity,
        };
        Ok(Client::with_access(&self.url, &access)?)
    }
}

/// Runs the command.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let client = arguments.worker.client()?;
    match arguments.command {
        Command::Reconcile { folder, owner } => {
            let shutdown = signals::shutdown()?;
            let reconciler = Reconciler::new(client, folder, &owner);
            shutdown.run_until_cancelled(reconciler.run()).await;
        }
        Command::Diff { folder, owner } => return diff(&client, &folder, &owner).await,
        Command::Status { name } => return status(&client, name.as_deref()).await,
        Command::Reread { name, within } => {
            return read_again(&client, &name, Duration::from_secs(within)).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the differences are the result")]
async fn diff(client: &Client, folder: &Path, owner: &str) -> Result<ExitCode> {
    let differences = differences(&declared::read(folder)?, &client.all().await?, owner);
    for (name, changes) in &differences {
        println!("{name}");
        for change in changes {
            println!("  {change}");
        }
    }
    Ok(code(differences.is_empty()))
}

#[expect(clippy::print_stdout, reason = "the states are the result")]
async fn status(client: &Client, name: Option<&str>) -> Result<ExitCode> {
    let mut all = client.all().await?;
    if let Some(name) = name {
        if !all.contains_key(name) {
            let names = all.into_keys().collect();
            let name = name.to_owned();
            return Err(Error::Unknown { name, names }.into());
        }
        all.retain(|it, _| it == name);
    }
    let mut is_well = true;
    for (name, info) in &all {
        is_well &= info.status.is_running() && !info.is_rereading();
        println!("{name}: {}{}", info.status, client.advice(name, info));
    }
    Ok(code(is_well))
}

async fn read_again(client: &Client, name: &str, within: Duration) -> Result<ExitCode> {
    let interrupted = signals::first_of(signals::STOP)?;
    tracing::info!(
        connector = name,
        "reading the outbox again from its first row"
    );
    match reread(client, name, within, interrupted).await {
        Ok(()) => tracing::info!(
            connector = name,
            "the connector has read the whole outbox again"
        ),
        Err(error) if error.is_interruption() => {
            tracing::error!("{error}");
            return Ok(ExitCode::from(INTERRUPTED));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn code(is_well: bool) -> ExitCode {
    if is_well {
        ExitCode::SUCCESS
    } else {
        FOUND.into()
    }
}
