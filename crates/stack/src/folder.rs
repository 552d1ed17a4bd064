//! The folder of a stack: one process at a time holds it.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{home, say};

/// How long another process may hold the lock while it only checks it.
const CHECKED_WITHIN: Duration = Duration::from_millis(20);
/// How long killed processes may take to end.
const GONE_WITHIN: Duration = Duration::from_secs(2);
/// The wait between two attempts to remove a folder.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The lock of a folder, held until this is dropped. The file holds the id of this process.
pub(crate) struct Lock(#[expect(dead_code, reason = "the lock ends when the file is closed")] File);

/// A folder that is removed when this is dropped.
pub struct Ephemeral {
    /// The folder.
    pub folder: PathBuf,
    _lock: Lock,
}

impl Ephemeral {
    /// Takes a new folder.
    ///
    /// # Errors
    /// If it cannot be created, or another process holds it.
    pub(crate) fn create(folder: PathBuf) -> Result<Self> {
        let lock = take(&folder)?.context("another process holds the new folder")?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        let deadline = Instant::now() + GONE_WITHIN;
        while let Err(error) = fs::remove_dir_all(&self.folder) {
            // A process that was killed just now may still have written to it.
            if error.kind() == ErrorKind::DirectoryNotEmpty && Instant::now() < deadline {
                std::thread::sleep(POLL_INTERVAL);
                continue;
            }
            say!("cannot remove {}: {error}", self.folder.display());
            return;
        }
    }
}

/// Whether a process holds the folder.
///
/// # Errors
/// If its lock cannot be read.
pub(crate) fn held(folder: &Path) -> Result<bool> {
    let path = folder.join("run/lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Takes the folder for this process and creates it if it is missing; `None` if another process holds it.
///
/// # Errors
/// If it cannot be created or locked.
pub(crate) fn take(folder: &Path) -> Result<Option<Lock>> {
    let run = folder.join("run");
    home::make(folder)?;
    fs::create_dir_all(&run)?;
    let path = run.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)?;
    // A process that only checks the lock (`held`) has it for a moment.
    let deadline = Instant::now() + CHECKED_WITHIN;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::yield_now(),
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
    file.set_len(0)?;
    fs::write(&path, std::process::id().to_string())?;
    Ok(Some(Lock(file)))
}
