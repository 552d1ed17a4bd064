//! One stack's folder, parts and processes.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use futures::future::join_all;
use tokio::sync::watch;

use crate::home;
use crate::parts::Parts;
use crate::process::{Pids, Running};
use crate::program::Program;
use crate::tls::Certificates;
use crate::unprivileged::Unprivileged;

/// The stages of stopping, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// A service, or the reconciler.
    Service,
    /// Kafka Connect.
    Connect,
    /// Kafka.
    Broker,
    /// A database.
    Database,
}

/// What the parts of one stack share. It starts and stops them.
pub struct Instance {
    /// The folder of its data, logs and secrets.
    pub folder: PathBuf,
    /// The programs that it runs.
    pub parts: Parts,
    /// The user that PostgreSQL runs as, if this process is root.
    pub unprivileged: Option<Unprivileged>,
    /// Whether it is removed when it stops, as those of tests are. Any role may then use any database.
    pub ephemeral: bool,
    /// The process ids of its running parts.
    pub pids: Pids,
    running: Mutex<Vec<(Stage, Running)>>,
}

impl Instance {
    /// Creates the folders, and the certificates of an ephemeral stack.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn create(
        folder: PathBuf,
        parts: Parts,
        unprivileged: Option<Unprivileged>,
        ephemeral: bool,
    ) -> Result<Self> {
        let instance = Self {
            folder,
            parts,
            unprivileged,
            ephemeral,
            pids: Arc::new(watch::Sender::new(BTreeMap::new())),
            running: Mutex::default(),
        };
        home::make(&instance.folder)?;
        for folder in [
            instance.secrets(),
            instance.connect_secrets(),
            instance.logs(),
            instance.run(),
            instance.connectors(),
        ] {
            fs::create_dir_all(&folder)?;
            fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        }
        if let Some(certificates) = instance.certificates() {
            certificates.make()?;
        }
        Ok(instance)
    }

    /// Starts a part, which [`Instance::stop`] stops in its stage.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self, program: Program, stage: Stage) -> Result<Running> {
        let part = Running::start(program, Arc::clone(&self.pids))?;
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((stage, part.clone()));
        Ok(part)
    }

    /// Stops every part: services, Kafka Connect, the broker, the databases.
    pub async fn stop(&self) {
        let running =
            std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        let mut stages: BTreeMap<Stage, Vec<Running>> = BTreeMap::new();
        for (stage, part) in running {
            stages.entry(stage).or_default().push(part);
        }
        for (_, parts) in stages {
            join_all(parts.into_iter().map(Running::stop)).await;
        }
    }

    /// The folder of passwords, one file per role.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.folder.join("secrets")
    }

    /// The certificates for TLS, which only an ephemeral stack has.
    #[must_use]
    pub fn certificates(&self) -> Option<Certificates> {
        let folder = self.folder.join("tls");
        self.ephemeral.then(|| Certificates::within(&folder))
    }

    /// The folder of the passwords that Kafka Connect may read.
    #[must_use]
    pub fn connect_secrets(&self) -> PathBuf {
        self.secrets().join("connect")
    }

    /// Copies a role's password to where Kafka Connect may read it.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn share_with_connect(&self, role: &str) -> Result<()> {
        let to = self.connect_secrets().join(role);
        fs::copy(self.secrets().join(role), &to)
            .with_context(|| format!("cannot write {}", to.display()))?;
        Ok(())
    }

    /// The folder of the declared connectors, one file each.
    #[must_use]
    pub fn connectors(&self) -> PathBuf {
        self.run().join("connectors")
    }

    /// The folder of the logs, one per part.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// The folder of lock, description and generated settings.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// The file with the running stack's [description](crate::description::Description).
    #[must_use]
    pub fn description(&self) -> PathBuf {
        self.run().join("stack.json")
    }
}
