//! Where everything lives, and as whom PostgreSQL runs.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::unistd::{Gid, Uid, User};
use sha2::{Digest, Sha256};

use crate::parts::hex;
use crate::say;

/// A user that PostgreSQL runs as, since it refuses to run as root.
#[derive(Debug, Clone, Copy)]
pub struct Unprivileged {
    /// The user.
    pub uid: Uid,
    /// Its group.
    pub gid: Gid,
}

impl Unprivileged {
    /// Nobody in particular when the process is not root; else `postgres`, if there is such a user, or `nobody`.
    ///
    /// # Errors
    /// If root has no other user to hand over to.
    pub fn find() -> Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        let user = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .context("PostgreSQL refuses to run as root, and there is neither a user postgres nor a user nobody")?;
        let (uid, gid) = (user.uid, user.gid);
        Ok(Some(Self { uid, gid }))
    }

    /// Whether this user can enter `folder`, found out by trying.
    fn reaches(self, folder: &Path) -> bool {
        Command::new("test")
            .arg("-x")
            .arg(folder)
            .uid(self.uid.as_raw())
            .gid(self.gid.as_raw())
            .stdin(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// The folder that holds parts and state: `STACK_HOME`, else `.stack` at the top of the checkout, else `.stack` here.
/// If PostgreSQL's user cannot enter it, one under `/var/tmp` that is named after it.
///
/// # Errors
/// If no folder can be made.
pub fn find(unprivileged: Option<Unprivileged>) -> Result<PathBuf> {
    let wanted = match std::env::var_os("STACK_HOME") {
        Some(named) => PathBuf::from(named),
        None => checkout()?.join(".stack"),
    };
    make(&wanted)?;
    let wanted = wanted.canonicalize()?;
    match unprivileged {
        Some(user) if !user.reaches(&wanted) => {
            let digest = Sha256::digest(wanted.as_os_str().as_encoded_bytes());
            let name = hex(&digest[..4]);
            let outside = PathBuf::from(format!("/var/tmp/outbox-cdc-{name}"));
            // Everybody may write to the folder above it: what stands there already must be root's own.
            if let Err(error) = DirBuilder::new().mode(0o755).create(&outside) {
                let found = fs::symlink_metadata(&outside).with_context(|| {
                    format!("cannot make the folder {}: {error}", outside.display())
                })?;
                ensure!(
                    found.is_dir() && found.uid() == 0 && found.mode() & 0o022 == 0,
                    "{} is not root's own folder; remove it and try again",
                    outside.display()
                );
            }
            say!(
                "{} is closed to the user that PostgreSQL runs as, so parts and state are in {}",
                wanted.display(),
                outside.display()
            );
            Ok(outside)
        }
        _ => Ok(wanted),
    }
}

fn checkout() -> Result<PathBuf> {
    let here = std::env::current_dir().context("the current folder is gone")?;
    let top = here
        .ancestors()
        .find(|folder| folder.join("crates/stack/Cargo.toml").is_file());
    Ok(top.unwrap_or(&here).to_owned())
}

/// How whoever runs this starts it: `STACK_COMMAND`, else the script in the checkout.
#[must_use]
pub fn command() -> String {
    std::env::var("STACK_COMMAND").unwrap_or_else(|_| "./dev".to_owned())
}

/// Makes a folder that others may enter but not change.
///
/// # Errors
/// If it cannot be made.
pub fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .and_then(|()| fs::set_permissions(folder, Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot make the folder {}", folder.display()))
}
