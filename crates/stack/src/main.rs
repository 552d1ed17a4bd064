//! The command line of the stack.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use stack::session::Home;
use stack::{demo, say};

/// Starts the whole real stack on this machine: PostgreSQL, Kafka, Kafka Connect with Debezium, three services.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything, place orders, show what becomes of them; stay up until Ctrl-C
    Demo {
        /// Stop after the proof; the exit code is 0 only if all of it is true
        #[arg(long)]
        once: bool,
    },
    /// Start everything in the background; return when it is ready
    Up,
    /// Stop everything
    Down {
        /// Remove the data too
        #[arg(long)]
        clean: bool,
    },
    /// Show where everything is
    Status,
    /// Run a command beside a stack of its own, on free ports; `OUTBOX_STACK` names its description
    Exec {
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    #[command(hide = true)]
    Supervise,
}

// One thread, this one: the parts are killed with the thread that started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    run(Arguments::parse().command)
        .await
        .unwrap_or_else(|error| {
            say!("error: {error:#}");
            ExitCode::FAILURE
        })
}

async fn run(command: Command) -> Result<ExitCode> {
    let home = Home::find()?;
    match command {
        Command::Demo { once } => demo::run(&home, once).await?,
        Command::Up => say!("everything is up:\n{}", home.up().await?.addresses()),
        Command::Down { clean } => home.down(clean)?,
        Command::Status => match home.status()? {
            Some(stack) => say!("everything is up:\n{}", stack.addresses()),
            None => say!("nothing is up; `./dev up` starts it"),
        },
        Command::Exec { command } => return Ok(home.exec(&command).await?.into()),
        Command::Supervise => home.supervise().await?,
    }
    Ok(ExitCode::SUCCESS)
}
