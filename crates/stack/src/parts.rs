//! The third-party parts: Kafka and Kafka Connect, Debezium's plugin, PostgreSQL's server.
//!
//! Maven resolves the versions that `parts/pom.xml` pins. Each file must have its SHA-256 in the lock
//! `parts/parts.sha256` before any of them runs. The environment may name other parts instead, as Nix does.

mod accepted;
mod archives;
pub(crate) mod lock;
mod maven;
pub(crate) mod routes;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::stat::{Mode, umask};

use self::archives::unpack;
use self::lock::LOCK;
use self::maven::{POM, Platform};
use self::routes::ROUTES;
use crate::digest::sha256;
use crate::{home, say};

/// The variables that name parts from elsewhere.
const NAMES: [&str; 3] = ["STACK_KAFKA", "STACK_PLUGINS", "STACK_POSTGRES"];

/// The folders of the parts.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The folder with the jars of Kafka and Kafka Connect.
    pub kafka: PathBuf,
    /// The folder above the plugin's own, for `plugin.path`.
    pub plugins: PathBuf,
    /// The folder with `initdb` and `postgres`.
    pub postgres: PathBuf,
}

impl Parts {
    /// The parts that `STACK_KAFKA`, `STACK_PLUGINS` and `STACK_POSTGRES` name, or those in `home`, which Maven resolves
    /// first if they are missing or do not match the lock.
    ///
    /// # Errors
    /// If parts are missing or their versions are not accepted.
    pub fn resolve(home: &Path) -> Result<Self> {
        if let Some(named) = Self::named()? {
            ROUTES.accepted.check(&named.kafka, &named.postgres)?;
            return Ok(named);
        }
        let parts = home.join("parts");
        let found = Self {
            kafka: parts.join("kafka"),
            plugins: parts.join("plugins"),
            postgres: parts.join("postgres/bin"),
        };
        let (stamp, wanted) = (parts.join("stamp"), sha256(LOCK));
        if fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == wanted) {
            return Ok(found);
        }
        // Of two processes at once, the second waits and then finds the stamp.
        fs::create_dir_all(home).with_context(|| format!("cannot create {}", home.display()))?;
        let lock = File::create(home.join("parts.lock"))?;
        lock.lock()?;
        if fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == wanted) {
            return Ok(found);
        }
        if parts.exists() {
            fs::remove_dir_all(&parts)?;
        }
        home::make(&parts)?;
        let platform = Platform::current()
            .with_context(|| format!("name parts of your own with {}", NAMES.join(", ")))?;
        say!(
            "resolving {} files with Maven: Kafka, Kafka Connect, Debezium, PostgreSQL (about 75 MB, once)",
            lock::expected(platform).len()
        );
        let pom = parts.join("pom.xml");
        fs::write(&pom, POM)?;
        // PostgreSQL may run as another user, which must be able to read its files.
        let before = umask(Mode::from_bits_truncate(0o022));
        let resolved = maven::copy(&pom, platform, &parts)
            .and_then(|()| lock::verify(&parts, platform))
            .and_then(|()| unpack(&parts));
        umask(before);
        resolved?;
        fs::write(stamp, wanted)?;
        Ok(found)
    }

    /// The parts that the environment names: all or none.
    fn named() -> Result<Option<Self>> {
        let found = NAMES.map(std::env::var_os);
        let missing: Vec<&str> = (NAMES.iter().zip(&found))
            .filter_map(|(name, found)| found.is_none().then_some(*name))
            .collect();
        if let [Some(kafka), Some(plugins), Some(postgres)] = found {
            return Ok(Some(Self {
                kafka: kafka.into(),
                plugins: plugins.into(),
                postgres: postgres.into(),
            }));
        }
        ensure!(
            missing.len() == NAMES.len(),
            "some parts are named, but {} not set; name all of {} or none",
            match missing.as_slice() {
                [one] => format!("{one} is"),
                several => format!("{} are", several.join(" and ")),
            },
            NAMES.join(", ")
        );
        Ok(None)
    }
}
