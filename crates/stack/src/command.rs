//! The commands of the program.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::background::{self, Found};
use crate::parts::lock;
use crate::session::Home;
use crate::stack::interrupted;
use crate::status::Status;
use crate::{demo, home, say};

const ENVIRONMENT: &str = "\
Environment:
  STACK_HOME     the folder of parts and state; else .stack at the top of the checkout
  STACK_PORTS    the ports of `demo` and `up`: `default`, or `free` for free ports, which are chosen at the first start
                 and kept until `down --clean`
  STACK_COMMAND  the name of this program in hints; else ./dev";

/// Starts and controls the whole real stack on this machine: PostgreSQL, Kafka, Kafka Connect with Debezium, three services.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = ENVIRONMENT)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything, place orders and show their outcomes; stay up until Ctrl-C
    Demo {
        /// Stop after the last order; the exit code is 0 only if every outcome is the expected one
        #[arg(long)]
        once: bool,
    },
    /// Start everything in the background and wait until it is ready
    Up,
    /// Stop everything
    Down {
        /// Remove the data too
        #[arg(long)]
        clean: bool,
    },
    /// Show the addresses and the state of every part
    Status,
    /// Run a command beside a stack of its own on free ports; `OUTBOX_STACK` names the stack's description
    Exec {
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Maintain the third-party parts
    Parts {
        #[command(subcommand)]
        command: PartsCommand,
    },
    #[command(hide = true)]
    Supervise,
}

#[derive(Subcommand)]
enum PartsCommand {
    /// Resolve the versions in crates/stack/parts/pom.xml for all platforms and update parts.sha256; show the difference
    Lock,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    /// If it fails.
    pub async fn run(self) -> Result<ExitCode> {
        run(self.command).await
    }
}

async fn run(command: Command) -> Result<ExitCode> {
    let home = Home::find()?;
    match command {
        Command::Demo { once } => demo::run(&home, once).await?,
        Command::Up => say!(
            "everything is up:\n{}",
            background::up(&home).await?.addresses()
        ),
        Command::Down { clean } => background::down(&home, clean)?,
        Command::Status => return status(&home).await,
        Command::Exec { command } => return Ok(home.exec(&command).await?.into()),
        Command::Parts {
            command: PartsCommand::Lock,
        } => lock_parts(&home)?,
        Command::Supervise => background::supervise(&home).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn lock_parts(home: &Home) -> Result<()> {
    // Ctrl-C ends Maven; this process goes on to remove the folder.
    let _interrupted = interrupted()?;
    lock::refresh(&home::checkout()?, &home.fresh()?.folder)
}

/// Succeeds only if every part is ready.
#[expect(clippy::print_stdout, reason = "addresses and states are the result")]
async fn status(home: &Home) -> Result<ExitCode> {
    let stack = match background::status(home)? {
        Found::Nothing => {
            say!("nothing is up; `{} up` starts it", home::command());
            return Ok(ExitCode::FAILURE);
        }
        Found::NotReady => {
            say!("the stack is starting or stopping; try again in a moment");
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
        (0, _) => say!("everything is up, with {warnings} warnings"),
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
