//! The archives among the parts: Debezium's plugin and PostgreSQL's server.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Unpacks the archives in `parts` into the folders `plugins` and `postgres`, and removes them.
///
/// # Errors
/// If a tool is missing or fails.
pub(super) fn unpack(parts: &Path) -> Result<()> {
    let archives = parts.join("archives");
    let (plugins, postgres) = (parts.join("plugins"), parts.join("postgres"));
    fs::create_dir_all(&plugins)?;
    fs::create_dir_all(&postgres)?;
    for entry in fs::read_dir(&archives)? {
        let archive = entry?.path();
        let name = archive
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with("debezium") {
            run(Command::new("tar")
                .arg("-xzf")
                .arg(&archive)
                .arg("-C")
                .arg(&plugins))?;
        } else {
            // A jar with one compressed tar archive.
            run(Command::new("unzip")
                .args(["-q", "-o"])
                .arg(&archive)
                .arg("*.txz")
                .arg("-d")
                .arg(&archives))?;
            let inner = fs::read_dir(&archives)?
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .find(|path| path.extension().is_some_and(|extension| extension == "txz"))
                .context("PostgreSQL's archive contains no .txz")?;
            run(Command::new("tar")
                .arg("-xJf")
                .arg(&inner)
                .arg("-C")
                .arg(&postgres))?;
        }
    }
    fs::remove_dir_all(archives)?;
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status().with_context(|| {
        format!("cannot run {program}; install it (Debian: apt-get install unzip xz-utils tar)")
    })?;
    ensure!(status.success(), "{program} failed: {status}");
    Ok(())
}
