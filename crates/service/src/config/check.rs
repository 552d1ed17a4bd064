//! Looking settings over without connecting anywhere: contradictions are told, every file that they name is read.

use std::path::{Path, PathBuf};

use super::{Database, Log, Role};
use crate::telemetry::{self, BadFilter};

/// Where the files are that settings name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// On this machine: they are read.
    Here,
    /// On the machine that the settings are for: only the settings are looked at.
    Elsewhere,
}

/// A setting that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Its file cannot be read.
    #[error("the setting {setting} names the file {path}, which cannot be read")]
    Unreadable {
        /// The setting.
        setting: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its file is another one than it should be.
    #[error("the setting {setting} names the file {path}, which holds no {what}")]
    Lacks {
        /// The setting.
        setting: String,
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// It contradicts another one.
    #[error("the setting {setting} {why}")]
    Contradiction {
        /// The setting.
        setting: &'static str,
        /// What is wrong, and what to do.
        why: &'static str,
    },
    /// The log's levels are none.
    #[error(transparent)]
    Filter(#[from] BadFilter),
}

/// The secret in a file; a trailing newline does not count.
pub(crate) fn secret(path: &Path) -> std::io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn password(setting: &str, path: Option<&Path>) -> Result<(), Problem> {
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

fn pem(setting: &str, path: Option<&Path>, what: &'static str, mark: &str) -> Result<(), Problem> {
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

impl Database {
    /// Looks the settings over; the database is not asked.
    ///
    /// # Errors
    /// The first [`Problem`].
    pub fn check(&self, files: Files) -> Result<(), Problem> {
        if files == Files::Elsewhere {
            return self.contradicts();
        }
        password("database.password_file", self.password_file.as_deref())?;
        self.check_tls()
    }

    fn contradicts(&self) -> Result<(), Problem> {
        let contradiction = |setting, why| Err(Problem::Contradiction { setting, why });
        if self.sslrootcert.is_some() && !self.sslmode.verifies() {
            return contradiction(
                "database.sslrootcert",
                "would not be looked at: set database.sslmode to verify-full, or leave it out",
            );
        }
        if self.sslmode == super::SslMode::VerifyCa && self.sslrootcert.is_none() {
            return contradiction(
                "database.sslmode",
                "is verify-ca, which needs database.sslrootcert: else any certificate of a public authority would do",
            );
        }
        if self.sslcert.is_some() != self.sslkey.is_some() {
            return contradiction("database.sslcert", "needs database.sslkey, and the reverse");
        }
        if self.sslcert.is_some() && self.sslmode == super::SslMode::Disable {
            return contradiction(
                "database.sslcert",
                "would not be shown: database.sslmode is disable",
            );
        }
        Ok(())
    }

    pub(crate) fn check_tls(&self) -> Result<(), Problem> {
        self.contradicts()?;
        let certificate = ("certificate in PEM", "-----BEGIN CERTIFICATE-----");
        for (setting, path, (what, mark)) in [
            ("database.sslrootcert", &self.sslrootcert, certificate),
            ("database.sslcert", &self.sslcert, certificate),
            (
                "database.sslkey",
                &self.sslkey,
                ("key in PEM that is not encrypted", " PRIVATE KEY-----"),
            ),
        ] {
            pem(setting, path.as_deref(), what, mark)?;
        }
        Ok(())
    }
}

impl Role {
    /// Looks the settings over; `setting` is the name of its `password_file`.
    ///
    /// # Errors
    /// The first [`Problem`].
    pub fn check(&self, setting: &'static str, files: Files) -> Result<(), Problem> {
        match files {
            Files::Here => password(setting, self.password_file.as_deref()),
            Files::Elsewhere => Ok(()),
        }
    }
}

impl Log {
    /// Looks the settings over.
    ///
    /// # Errors
    /// [`Problem::Filter`].
    pub fn check(&self) -> Result<(), Problem> {
        telemetry::filter(self)?;
        Ok(())
    }
}

#[cfg(test)]
#[expect(
    clippy::result_large_err,
    reason = "figment's Jail asks for its own error"
)]
mod tests {
    use super::super::SslMode;
    use super::*;

    fn told(change: impl FnOnce(&mut Database)) -> String {
        let mut database = Database::local(5433, "order_db", "order_service");
        change(&mut database);
        let problem = database.check(Files::Here).unwrap_err();
        let cause = std::error::Error::source(&problem).map(ToString::to_string);
        format!("{problem} {}", cause.unwrap_or_default())
    }

    /// Runs `test` with a way to write files, which are gone after it.
    fn with_files(test: impl Fn(&dyn Fn(&str, &str) -> PathBuf)) {
        figment::Jail::expect_with(|jail| {
            let folder = jail.directory().to_owned();
            test(&|name, text| {
                let path = folder.join(name);
                std::fs::write(&path, text).unwrap();
                path
            });
            Ok(())
        });
    }

    #[test]
    fn every_file_that_a_setting_names_is_looked_at() {
        with_files(|file| {
            let missing = || Some(PathBuf::from("/nowhere/file"));
            let certificate = file("certificate", "-----BEGIN CERTIFICATE-----\n");
            for (told, setting) in [
                (
                    told(|d| d.password_file = missing()),
                    "database.password_file",
                ),
                (
                    told(|d| (d.sslmode, d.sslrootcert) = (SslMode::VerifyFull, missing())),
                    "database.sslrootcert",
                ),
                (
                    told(|d| (d.sslcert, d.sslkey) = (missing(), missing())),
                    "database.sslcert",
                ),
                (
                    told(|d| (d.sslcert, d.sslkey) = (Some(certificate.clone()), missing())),
                    "database.sslkey",
                ),
            ] {
                assert!(told.contains(setting), "{told}");
                assert!(told.contains("/nowhere/file"), "{told}");
                assert!(told.contains("No such file"), "{told}");
            }
            let empty = Some(file("empty", "\n"));
            assert!(told(|d| d.password_file = empty).contains("holds no password"));
            let text = Some(file("text", "no PEM\n"));
            let no_pem = told(|d| (d.sslmode, d.sslrootcert) = (SslMode::VerifyFull, text));
            assert!(no_pem.contains("holds no certificate in PEM"), "{no_pem}");
            let owner = Role {
                password_file: missing(),
                ..Role::new("order_owner")
            };
            let told = owner.check("owner.password_file", Files::Here).unwrap_err();
            let told = told.to_string();
            assert!(told.contains("owner.password_file"), "{told}");
            owner
                .check("owner.password_file", Files::Elsewhere)
                .unwrap();
        });
    }

    #[test]
    fn what_would_not_protect_anything_is_refused() {
        with_files(|file| {
            let authority = || Some(file("authority", "-----BEGIN CERTIFICATE-----\n"));
            for mode in [SslMode::Disable, SslMode::Prefer, SslMode::Require] {
                let told = told(|d| (d.sslmode, d.sslrootcert) = (mode, authority()));
                assert!(told.contains("would not be looked at"), "{told}");
            }
            let told_of_mode = told(|d| d.sslmode = SslMode::VerifyCa);
            assert!(
                told_of_mode.contains("needs database.sslrootcert"),
                "{told_of_mode}"
            );
            assert!(told(|d| d.sslcert = authority()).contains("needs database.sslkey"));
            let mut good = Database::local(5433, "order_db", "order_service");
            good.check(Files::Here).unwrap();
            (good.sslmode, good.sslrootcert) = (SslMode::VerifyFull, authority());
            good.check(Files::Here).unwrap();
            good.sslrootcert = Some("/nowhere/file".into());
            good.check(Files::Elsewhere).unwrap();
            good.sslmode = SslMode::Require;
            let told = good.check(Files::Elsewhere).unwrap_err().to_string();
            assert!(told.contains("would not be looked at"), "{told}");
        });
    }

    #[test]
    fn levels_that_are_none_are_told() {
        let log = Log {
            filter: "order=loud".to_owned(),
            ..Log::default()
        };
        assert!(log.check().unwrap_err().to_string().contains("log.filter"));
    }
}
