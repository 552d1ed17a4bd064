//! The command line of the program.

use anyhow::Result;
use clap::{Parser, Subcommand};
use stack::session::Home;

use crate::{consume, flush};

const ENVIRONMENT: &str = "\
Environment:
  STACK_HOME  the folder of parts and state; else .stack at the top of the checkout";

/// Measures what something costs, with and without it in one run.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = ENVIRONMENT)]
pub struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// Measure what it costs that the broker flushes every batch to disk; about a minute
    Flush,
    /// Measure the library's listener against SQL by hand and a consumer that only counts; about two minutes
    Consume,
}

impl Arguments {
    /// Runs the benchmark and prints its table.
    ///
    /// # Errors
    /// If the stack does not start, or the benchmark fails.
    pub async fn run(self) -> Result<()> {
        let home = Home::find()?;
        match self.benchmark {
            Benchmark::Flush => flush::run(&home).await,
            Benchmark::Consume => consume::run(&home).await,
        }
    }
}
