//! The program `stack`.

use std::process::ExitCode;

use clap::Parser;
use stack::command::Arguments;
use stack::say;

// One thread, this one: the kernel kills the parts when the thread that started them ends.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    Arguments::parse().run().await.unwrap_or_else(|error| {
        say!("error: {error:#}");
        ExitCode::FAILURE
    })
}
