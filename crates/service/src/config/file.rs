//! Files that settings name.

use std::path::Path;

use super::problem::Problem;

/// Where the files are that settings name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// On this machine: a check reads them.
    Here,
    /// On the machine that the settings are for: a check reads the settings alone.
    Elsewhere,
}

/// The secret in a file; a trailing newline does not count.
pub(crate) fn secret(path: &Path) -> std::io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Checks that a password's file is there and holds one.
pub(super) fn password(setting: &str, path: Option<&Path>) -> Result<(), Problem> {
    let Some(path) = path else { return Ok(()) };
    let secret = secret(path).map_err(|source| Problem::Unreadable {
        setting: setting.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    if secret.is_empty() {
        return Err(Problem::Lacks {
            setting: setting.to_owned(),
            path: path.to_owned(),
            what: "password",
        });
    }
    Ok(())
}

/// Checks that a file is there and holds PEM with `mark` in it.
pub(super) fn pem(
    setting: &str,
    path: Option<&Path>,
    what: &'static str,
    mark: &str,
) -> Result<(), Problem> {
    let Some(path) = path else { return Ok(()) };
    let text = std::fs::read_to_string(path).map_err(|source| Problem::Unreadable {
        setting: setting.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    if text.contains(mark) {
        return Ok(());
    }
    Err(Problem::Lacks {
        setting: setting.to_owned(),
        path: path.to_owned(),
        what,
    })
}
