//! A section for a further role of the database.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::file::{self, Files};
use super::problem::Problem;

/// A further role of a service's database: the tables' owner, or the keeper.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// The role.
    pub user: String,
    /// The file that holds the role's password; a trailing newline does not count.
    pub password_file: Option<PathBuf>,
}

impl Role {
    /// A role without a password.
    #[must_use]
    pub fn new(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            password_file: None,
        }
    }
}

impl Role {
    /// Checks the settings; `setting` is the name of its `password_file`.
    ///
    /// # Errors
    /// The first [`Problem`].
    pub fn check(&self, setting: &'static str, files: Files) -> Result<(), Problem> {
        match files {
            Files::Here => file::password(setting, self.password_file.as_deref()),
            Files::Elsewhere => Ok(()),
        }
    }
}
