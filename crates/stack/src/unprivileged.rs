//! The user that PostgreSQL runs as when this process is root's.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::unistd::{Gid, Uid, User, chown};

/// A user that PostgreSQL runs as, because it refuses to run as root.
#[derive(Debug, Clone, Copy)]
pub struct Unprivileged {
    /// The user.
    pub uid: Uid,
    /// Its group.
    pub gid: Gid,
}

impl Unprivileged {
    /// `None` if this process is not root's; else the user `postgres`, or `nobody` if that one does not exist.
    ///
    /// # Errors
    /// If this process is root's and neither user exists.
    pub fn find() -> Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        let user = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .context("PostgreSQL refuses to run as root; create a user postgres")?;
        let (uid, gid) = (user.uid, user.gid);
        Ok(Some(Self { uid, gid }))
    }

    /// Whether this user can enter `folder`. A process of the user attempts it, since every folder above decides too.
    pub(crate) fn enters(self, folder: &Path) -> bool {
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

/// Gives a file or folder to `user`, if there is one.
///
/// # Errors
/// If its owner cannot be changed.
pub(crate) fn give(path: &Path, user: Option<Unprivileged>) -> Result<()> {
    if let Some(user) = user {
        chown(path, Some(user.uid), Some(user.gid)).with_context(|| {
            format!(
                "cannot give {} to the user that PostgreSQL runs as",
                path.display()
            )
        })?;
    }
    Ok(())
}
