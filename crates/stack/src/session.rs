//! Stacks by their folder: the one with the seed's ports, and those that tests make and remove.

use std::fs::{self, File, TryLockError};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::description::Description;
use crate::home::{self, Unprivileged};
use crate::instance::Instance;
use crate::parts::Parts;
use crate::ports::Ports;
use crate::stack::{Stack, interrupted};
use crate::{process, say};

/// How long `down` waits for an orderly end.
const DOWN_WITHIN: Duration = Duration::from_secs(90);
/// How often a running process is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The home of all stacks of this checkout.
pub struct Home {
    folder: PathBuf,
    unprivileged: Option<Unprivileged>,
}

/// Held while a stack lives in its folder; the file names the process.
struct Lock(#[expect(dead_code, reason = "the lock ends when the file is closed")] File);

impl Home {
    /// Finds it, and makes it if need be.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn find() -> Result<Self> {
        let unprivileged = Unprivileged::find()?;
        let folder = home::find(unprivileged)?;
        Ok(Self {
            folder,
            unprivileged,
        })
    }

    fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    fn description(&self) -> PathBuf {
        self.state().join("run/stack.json")
    }

    /// Starts the stack with the seed's ports, in this process, until it is stopped by its owner.
    ///
    /// # Errors
    /// If it runs already, or cannot be started.
    pub async fn start(&self) -> Result<(Stack, impl Sized + use<>)> {
        let parts = Parts::resolve(&self.folder)?;
        let Some(lock) = take(&self.state())? else {
            bail!("the stack is up already; stop it with `./dev down`");
        };
        // One that was killed could not remove it.
        drop(fs::remove_file(self.description()));
        let ports = Ports::fixed()?;
        say!(
            "starting PostgreSQL, Kafka, Kafka Connect and the services in {}",
            self.state().display()
        );
        let instance = Instance::make(self.state(), parts, self.unprivileged, false)?;
        Ok((Stack::start(instance, ports, interrupted()?).await?, lock))
    }

    /// Starts a stack with free ports in a new folder, both gone when the guard is.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn start_ephemeral(&self) -> Result<(Stack, impl Sized + use<>)> {
        let (instance, guard) = self.ephemeral()?;
        say!(
            "starting a stack on free ports in {}",
            instance.folder.display()
        );
        Ok((
            Stack::start(instance, Ports::free()?, interrupted()?).await?,
            guard,
        ))
    }

    /// A new folder, removed when the guard is dropped, or by a later run if this process has no time for it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn ephemeral(&self) -> Result<(Instance, Ephemeral)> {
        let parts = Parts::resolve(&self.folder)?;
        self.sweep()?;
        let folder = self
            .folder
            .join(format!("ephemeral-{}", uuid::Uuid::new_v4().simple()));
        let lock = take(&folder)?.context("a new folder is in use already")?;
        let guard = Ephemeral {
            folder: folder.clone(),
            _lock: lock,
        };
        Ok((
            Instance::make(folder, parts, self.unprivileged, true)?,
            guard,
        ))
    }

    /// Removes what processes have left that were killed.
    fn sweep(&self) -> Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let folder = entry?.path();
            let name = folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            // Without a lock it is being made this moment.
            if name.starts_with("ephemeral-")
                && folder.join("run/lock").exists()
                && take(&folder)?.is_some()
            {
                fs::remove_dir_all(&folder)?;
            }
        }
        Ok(())
    }

    /// Runs `command` beside an ephemeral stack and returns its exit code; `OUTBOX_STACK` names the description.
    ///
    /// # Errors
    /// If the stack or the command cannot be started.
    pub async fn exec(&self, command: &[String]) -> Result<u8> {
        let (stack, _guard) = self.start_ephemeral().await?;
        let environment = [("OUTBOX_STACK", stack.description().file.as_path())];
        let code = process::foreground(command, &environment, interrupted()?).await;
        stack.stop().await;
        code
    }

    /// Starts the stack in the background and waits until it is ready; one that runs already is left alone.
    ///
    /// # Errors
    /// What the background process says.
    pub async fn up(&self) -> Result<Description> {
        // Resolved here, where its progress is seen.
        Parts::resolve(&self.folder)?;
        if take(&self.state())?.is_none() {
            say!("the stack is up already");
            return self.wait_for_description().await;
        }
        // One that was killed could not remove it.
        drop(fs::remove_file(self.description()));
        let stop = interrupted()?;
        let log = self.state().join("run/supervisor.log");
        let output =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut supervisor = Command::new(std::env::current_exe()?)
            .arg("supervise")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Not of this terminal's group: its Ctrl-C is not meant for what stays.
            .process_group(0)
            .spawn()?;
        let ready = tokio::select! {
            ready = self.follow(&mut supervisor, &log) => Some(ready),
            () = stop => None,
        };
        let Some(ready) = ready else {
            kill(
                Pid::from_raw(i32::try_from(supervisor.id())?),
                Signal::SIGTERM,
            )?;
            supervisor.wait()?;
            bail!("interrupted; everything is stopped");
        };
        ready
    }

    /// Shows what the background process says until it is ready.
    async fn follow(&self, supervisor: &mut Child, log: &Path) -> Result<Description> {
        let mut shown = 0;
        loop {
            let (ended, ready) = (
                supervisor.try_wait()?.is_some(),
                self.description().exists(),
            );
            let text = fs::read_to_string(log).unwrap_or_default();
            for line in text.get(shown..).unwrap_or_default().lines() {
                say!("{line}");
            }
            shown = text.len();
            if ended {
                bail!("the stack is not up; see above");
            }
            if ready {
                return Description::read(&self.description());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn wait_for_description(&self) -> Result<Description> {
        let deadline = Instant::now() + DOWN_WITHIN;
        while !self.description().exists() {
            ensure!(
                Instant::now() < deadline,
                "it does not become ready; `./dev down` stops it"
            );
            tokio::time::sleep(LOOK).await;
        }
        Description::read(&self.description())
    }

    /// Stays in the foreground until told to stop: what `up` leaves behind.
    ///
    /// # Errors
    /// If the stack cannot be started.
    pub async fn supervise(&self) -> Result<()> {
        let (stack, _lock) = self.start().await?;
        interrupted()?.await;
        stack.stop().await;
        Ok(())
    }

    /// Stops the stack with the seed's ports, if it runs, and removes its state if asked to.
    ///
    /// # Errors
    /// If it does not stop.
    pub fn down(&self, clean: bool) -> Result<()> {
        if !self.state().exists() {
            say!("nothing is up");
            return Ok(());
        }
        let mut lock = take(&self.state())?;
        if lock.is_none() {
            let path = self.state().join("run/lock");
            let id: i32 = fs::read_to_string(&path)?
                .trim()
                .parse()
                .with_context(|| format!("{} names no process", path.display()))?;
            // The lock is held, so the process that it names is the one that holds it.
            kill(Pid::from_raw(id), Signal::SIGTERM)
                .with_context(|| format!("cannot stop process {id}"))?;
            let deadline = Instant::now() + DOWN_WITHIN;
            while lock.is_none() {
                ensure!(Instant::now() < deadline, "process {id} does not stop");
                std::thread::sleep(LOOK);
                lock = take(&self.state())?;
            }
            say!("everything is stopped");
        } else {
            say!("nothing is up");
        }
        if clean {
            fs::remove_dir_all(self.state())?;
            say!("{} is removed", self.state().display());
        }
        Ok(())
    }

    /// The stack with the seed's ports, if it runs and is ready.
    ///
    /// # Errors
    /// If its description is broken.
    pub fn status(&self) -> Result<Option<Description>> {
        if !self.description().exists() || take(&self.state())?.is_some() {
            return Ok(None);
        }
        Description::read(&self.description()).map(Some)
    }
}

/// Removes its folder when it is dropped.
pub(crate) struct Ephemeral {
    folder: PathBuf,
    _lock: Lock,
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            say!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

/// Takes a folder for this process; nothing if another one has it.
fn take(folder: &Path) -> Result<Option<Lock>> {
    let run = folder.join("run");
    home::make(folder)?;
    fs::create_dir_all(&run)?;
    let path = run.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            fs::write(&path, std::process::id().to_string())?;
            Ok(Some(Lock(file)))
        }
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}
