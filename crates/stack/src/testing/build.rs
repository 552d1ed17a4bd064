//! The programs that tests start, built anew so that none of them is older than its source.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use crate::services;

/// Builds the services, unless `OUTBOX_STACK` or `STACK_BINARIES` is set: they are then built already.
///
/// # Errors
/// If the build fails.
pub fn build() -> Result<()> {
    if std::env::var_os("OUTBOX_STACK").is_some() {
        return Ok(());
    }
    cargo("--bins")
}

/// The program of an example, which is built first, unless `STACK_BINARIES` is set. `cargo test` with `--test` alone
/// builds no example.
///
/// # Panics
/// If the build fails.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    static FOLDER: OnceLock<Result<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        cargo("--examples")?;
        // Beside the folder of the tests.
        let test = std::env::current_exe()?;
        let profile = test.ancestors().nth(2);
        Ok(profile
            .context("the test's program is in no folder of a profile")?
            .join("examples"))
    });
    match folder {
        Ok(folder) => folder.join(name),
        Err(error) => panic!("{error:#}"),
    }
}

/// Builds programs of the whole workspace: with the features that its tests have, so no dependency is built twice.
fn cargo(programs: &str) -> Result<()> {
    if std::env::var_os("STACK_BINARIES").is_some() {
        return Ok(());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--workspace", programs]);
    if services::binaries()?.ends_with("release") {
        command.arg("--release");
    }
    // What `cargo test` sets for this package would make the build scripts of dependencies run again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|set| text.starts_with(set))
        {
            command.env_remove(&name);
        }
    }
    let status = command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("cannot run cargo")?;
    ensure!(
        status.success(),
        "`cargo build --workspace {programs}` failed: {status}"
    );
    Ok(())
}
