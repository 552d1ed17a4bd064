//! The folder of parts and state.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::digest::sha256;
use crate::say;
use crate::unprivileged::Unprivileged;

/// The folder of parts and state, created if it is missing: `STACK_HOME`, or `.stack` at the top of the checkout, or
/// `.stack` in the current folder. If PostgreSQL's user cannot enter it, a folder under `/var/tmp` with a name derived
/// from its path.
///
/// # Errors
/// If it cannot be created, or the folder under `/var/tmp` is not root's own.
pub fn find(unprivileged: Option<Unprivileged>) -> Result<PathBuf> {
    let wanted = match std::env::var_os("STACK_HOME") {
        Some(named) => PathBuf::from(named),
        None => checkout()?.join(".stack"),
    };
    make(&wanted)?;
    let wanted = wanted.canonicalize()?;
    match unprivileged {
        Some(user) if !user.enters(&wanted) => {
            let digest = sha256(wanted.as_os_str().as_encoded_bytes());
            let outside = PathBuf::from(format!("/var/tmp/outbox-cdc-{}", &digest[..8]));
            // Every user may write to /var/tmp, so a folder that exists already must be root's own.
            if let Err(error) = DirBuilder::new().mode(0o755).create(&outside) {
                let found = fs::symlink_metadata(&outside).with_context(|| {
                    format!("cannot create the folder {}: {error}", outside.display())
                })?;
                ensure!(
                    found.is_dir() && found.uid() == 0 && found.mode() & 0o022 == 0,
                    "{} is not root's own folder; remove it and try again",
                    outside.display()
                );
            }
            say!(
                "PostgreSQL's user cannot enter {}; parts and state are in {}",
                wanted.display(),
                outside.display()
            );
            Ok(outside)
        }
        _ => Ok(wanted),
    }
}

/// The top of the checkout that the current folder is in, or the current folder.
///
/// # Errors
/// If the current folder does not exist.
pub(crate) fn checkout() -> Result<PathBuf> {
    let here = std::env::current_dir().context("the current folder does not exist")?;
    let top = here
        .ancestors()
        .find(|folder| folder.join("crates/stack/Cargo.toml").is_file());
    Ok(top.unwrap_or(&here).to_owned())
}

/// How hints name this program: `STACK_COMMAND`, or the script in the checkout.
#[must_use]
pub fn command() -> String {
    std::env::var("STACK_COMMAND").unwrap_or_else(|_| "./dev".to_owned())
}

/// Creates a folder that other users may enter but not change.
///
/// # Errors
/// If it cannot be created.
pub fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .and_then(|()| fs::set_permissions(folder, Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot create the folder {}", folder.display()))
}
