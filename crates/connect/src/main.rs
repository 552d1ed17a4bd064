//! The command line of the reconciler.

mod command;

use std::process::ExitCode;

use clap::Parser;
use command::{Arguments, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    program::exit(run(Arguments::parse()).await)
}
