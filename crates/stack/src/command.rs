//! The commands of the program.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::session::{Found, Home};
use crate::status::Status;
use crate::{demo, home, say};

const ENVIRONMENT: &str = "\
Environment:
  STACK_HOME     the folder of parts and state; else .stack at the top of the checkout
  STACK_PORTS    the ports of `demo` and `up`: `seed` (the default), or `free`: free ones, chosen at the first start and
                 kept with the state until `down --clean`
  STACK_COMMAND  what hints call this program; else ./dev";

/// Starts the whole real stack on this machine: PostgreSQL, Kafka, Kafka Connect with Debezium, three services.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = ENVIRONMENT)]
pub struct Arguments {
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
    /// Show where everything is, and how it is
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

impl Arguments {
    /// Does what was asked for.
    ///
    /// # Errors
    /// What went wrong, and what to do about it.
    pub async fn run(self) -> Result<ExitCode> {
        run(self.command).await
    }
}

async fn run(command: Command) -> Result<ExitCode> {
    let home = Home::find()?;
    match command {
        Command::Demo { once } => demo::run(&home, once).await?,
        Command::Up => say!("everything is up:\n{}", home.up().await?.addresses()),
        Command::Down { clean } => home.down(clean)?,
        Command::Status => return status(&home).await,
        Command::Exec { command } => return Ok(home.exec(&command).await?.into()),
        Command::Supervise => home.supervise().await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// 0 only if all is up and ready.
#[expect(clippy::print_stdout, reason = "addresses are what was asked for")]
async fn status(home: &Home) -> Result<ExitCode> {
    let stack = match home.status()? {
        Found::Nothing => {
            say!("nothing is up; `{} up` starts it", home::command());
            return Ok(ExitCode::FAILURE);
        }
        Found::NotReady => {
            say!("the stack is starting or stopping; ask again in a moment");
            return Ok(ExitCode::FAILURE);
        }
        Found::Up(stack) => stack,
    };
    let Status {
        lines,
        failing,
        warnings,
    } = Status::of(&stack).await;
    println!("{}\n{}", stack.addresses(), lines.join("\n"));
    match (failing, warnings) {
        (0, 0) => say!("everything is up"),
        (0, _) => say!("everything is up, with {warnings} worth a look"),
        _ => {
            say!(
                "not everything is up; the logs are in {}",
                stack.logs.display()
            );
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
