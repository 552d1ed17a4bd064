//! The programs that tests start, built anew so that none of them is older than its source.

use std::path::{Path, PathBuf};
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

/// The program of an example. It is built first, unless `OUTBOX_STACK` or `STACK_BINARIES` is set: `cargo test` has then built it,
/// but for `cargo test --test`, which builds no example.
///
/// # Panics
/// If the build fails, or the program is missing or older than `source`.
#[must_use]
pub fn example(source: &str) -> PathBuf {
    static FOLDER: OnceLock<Result<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        if std::env::var_os("OUTBOX_STACK").is_none() {
            cargo("--examples")?;
        }
        // Beside the folder of the tests.
        let test = std::env::current_exe()?;
        let profile = test.ancestors().nth(2);
        Ok(profile
            .context("the test's program is in no folder of a profile")?
            .join("examples"))
    });
    let folder = folder.as_ref().unwrap_or_else(|error| panic!("{error:#}"));
    let source = Path::new(source);
    let program = folder.join(source.file_stem().unwrap_or_default());
    let age = |path: &Path| path.metadata().and_then(|it| it.modified()).ok();
    assert!(
        std::env::var_os("STACK_BINARIES").is_some() || age(&program) >= age(source),
        "{} is missing or older than {}; run `cargo build --workspace --examples`",
        program.display(),
        source.display()
    );
    program
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
