//! Files with secrets.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::replace::{Readers, replace};

/// The password in the file `name`, generated if the file is missing.
///
/// # Errors
/// If it can be neither read nor written.
pub(crate) fn password(folder: &Path, name: &str) -> Result<String> {
    let path = folder.join(name);
    if let Ok(password) = fs::read_to_string(&path) {
        return Ok(password);
    }
    // Version 4 is 122 bits from the system's generator. The rename keeps half a password from being read later.
    let password = uuid::Uuid::new_v4().simple().to_string();
    replace(&path, password.as_bytes(), Readers::Owner)?;
    Ok(password)
}

/// A file that is removed when this is dropped.
pub(crate) struct Temporary(pub(crate) PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // It may not exist, which is an error.
        drop(fs::remove_file(&self.0));
    }
}

/// Writes a file that only this process's user can read.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write(path: &Path, secret: &str) -> Result<()> {
    fs::File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(secret.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
