//! The program `bench`.

use std::process::ExitCode;

use bench::command::Arguments;
use clap::Parser;
use stack::say;

// One thread, this one: the kernel kills the stack's processes when the thread that started them ends.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Arguments::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
