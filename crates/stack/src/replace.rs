//! Files that a reader sees whole: with their old contents or their new ones.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Who may read a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Readers {
    /// Everyone that the umask lets.
    Everyone,
    /// This process's user alone.
    Owner,
}

/// Writes `contents` to a new file beside `file`, and renames it to `file`.
///
/// # Errors
/// If it cannot be written; `file` is then unchanged.
pub(crate) fn replace(file: &Path, contents: &[u8], readers: Readers) -> Result<()> {
    let mode = match readers {
        Readers::Everyone => 0o666,
        Readers::Owner => 0o600,
    };
    let replaced = || {
        let folder = file.parent().unwrap_or(Path::new("."));
        let mut fresh = tempfile::Builder::new()
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(folder)?;
        fresh.write_all(contents)?;
        fresh.persist(file)?;
        std::io::Result::Ok(())
    };
    replaced().with_context(|| format!("cannot write {}", file.display()))
}
