//! One stack's folder, parts and processes.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use futures::future::join_all;
use tokio::sync::watch;

use crate::home::{self, Unprivileged};
use crate::parts::Parts;
use crate::process::{Pids, Running, Stage};
use crate::tls::Certificates;

/// What the parts of one stack share.
pub struct Instance {
    /// Everything that belongs to it.
    pub folder: PathBuf,
    /// What it is made of.
    pub parts: Parts,
    /// The user that PostgreSQL runs as, if this process is root.
    pub unprivileged: Option<Unprivileged>,
    /// Made for tests and removed after them: any role may use any database.
    pub ephemeral: bool,
    /// The ids of the processes that run.
    pub pids: Pids,
    running: Mutex<Vec<(Stage, Running)>>,
}

impl Instance {
    /// Makes the folders.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn make(
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

    pub(crate) fn keep(&self, stage: Stage, part: Running) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((stage, part));
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

    /// One file a role, with its password.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.folder.join("secrets")
    }

    /// What its servers show to clients that want TLS; none where the stack is not for tests.
    #[must_use]
    pub fn certificates(&self) -> Option<Certificates> {
        let folder = self.folder.join("tls");
        self.ephemeral.then(|| Certificates::within(&folder))
    }

    /// The passwords that Kafka Connect may read.
    #[must_use]
    pub fn connect_secrets(&self) -> PathBuf {
        self.secrets().join("connect")
    }

    /// The connectors as declared, one file each.
    #[must_use]
    pub fn connectors(&self) -> PathBuf {
        self.run().join("connectors")
    }

    /// One log a part.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// Lock, description and generated settings.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// The file that describes the stack while it runs.
    #[must_use]
    pub fn description(&self) -> PathBuf {
        self.run().join("stack.json")
    }
}
