//! The stacks of a home: the kept one, and ephemeral ones, which are removed when they stop.

mod ports;

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::folder::{Ephemeral, held, take};
use crate::instance::Instance;
use crate::parts::Parts;
use crate::ports::Ports;
use crate::stack::{Stack, interrupted};
use crate::unprivileged::Unprivileged;
use crate::{foreground, home, say};

/// The home of all stacks of a checkout.
pub struct Home {
    folder: PathBuf,
    unprivileged: Option<Unprivileged>,
}

impl Home {
    /// Finds it, and creates it if it is missing.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn find() -> Result<Self> {
        let unprivileged = Unprivileged::find()?;
        let folder = home::find(unprivileged)?;
        Ok(Self {
            folder,
            unprivileged,
        })
    }

    /// The folder of the kept stack.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// The file that describes the kept stack while it runs.
    pub(crate) fn description(&self) -> PathBuf {
        self.state().join("run/stack.json")
    }

    /// Starts the kept stack in this process, on the ports that `STACK_PORTS` chooses. The caller stops it.
    ///
    /// # Errors
    /// If it is up already, or cannot be started.
    pub async fn start(&self) -> Result<(Stack, impl Sized + use<>)> {
        let parts = self.parts()?;
        let Some(lock) = take(&self.state())? else {
            bail!(
                "the stack is up already; stop it with `{} down`",
                home::command()
            );
        };
        // A killed supervisor leaves it behind.
        drop(fs::remove_file(self.description()));
        let ports = ports::chosen(&self.state().join("run/ports.json"))?;
        say!(
            "starting PostgreSQL, Kafka, Kafka Connect and the services in {}",
            self.state().display()
        );
        let instance = Instance::create(self.state(), parts, self.unprivileged, false)?;
        Ok((Stack::start(instance, ports, interrupted()?).await?, lock))
    }

    /// Starts a stack on free ports in a new folder, which is removed when the guard is dropped.
    ///
    /// # Errors
    /// If it cannot be started, or `interrupted` resolves first.
    pub async fn start_ephemeral<I: Future<Output = ()>>(
        &self,
        interrupted: I,
    ) -> Result<(Stack, impl Sized + use<I>)> {
        let (instance, guard) = self.ephemeral()?;
        say!(
            "starting a stack on free ports in {}",
            instance.folder.display()
        );
        Ok((
            Stack::start(instance, Ports::free()?, interrupted).await?,
            guard,
        ))
    }

    /// Creates an instance in a new folder, which is removed when the guard is dropped.
    ///
    /// # Errors
    /// If it cannot be created.
    pub(crate) fn ephemeral(&self) -> Result<(Instance, Ephemeral)> {
        let parts = self.parts()?;
        let guard = self.fresh()?;
        let folder = guard.folder.clone();
        Ok((
            Instance::create(folder, parts, self.unprivileged, true)?,
            guard,
        ))
    }

    /// Creates a folder that is removed when it is dropped, or by a later call if this process is killed.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn fresh(&self) -> Result<Ephemeral> {
        // One process at a time: a folder is not locked while it is created or removed.
        let lock = File::create(self.folder.join("ephemeral.lock"))?;
        lock.lock()?;
        self.sweep()?;
        let folder = self
            .folder
            .join(format!("ephemeral-{}", uuid::Uuid::new_v4().simple()));
        Ephemeral::create(folder)
    }

    /// The parts of all stacks of this home.
    ///
    /// # Errors
    /// If parts are missing or not accepted.
    pub fn parts(&self) -> Result<Parts> {
        Parts::resolve(&self.folder)
    }

    /// Removes the folders of killed processes.
    fn sweep(&self) -> Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let folder = entry?.path();
            let name = folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.starts_with("ephemeral-") && folder.is_dir() && !held(&folder)? {
                fs::remove_dir_all(&folder)?;
            }
        }
        Ok(())
    }

    /// Runs `command` beside an ephemeral stack and returns its exit code; `OUTBOX_STACK` names the stack's description.
    ///
    /// # Errors
    /// If the stack or the command cannot be started.
    pub async fn exec(&self, command: &[String]) -> Result<u8> {
        let (stack, _guard) = self.start_ephemeral(interrupted()?).await?;
        let environment = [("OUTBOX_STACK", stack.description().file.as_path())];
        let code = foreground::run(command, &environment, interrupted()?).await;
        stack.stop().await;
        code
    }
}
