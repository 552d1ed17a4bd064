//! The Order Service's command line.

mod command;

use std::process::ExitCode;

use clap::Parser;

use crate::command::Arguments;

#[tokio::main]
async fn main() -> ExitCode {
    program::exit(Arguments::parse().run().await)
}
