//! Stacks by their folder: the one that is kept, with the original demo's ports, and those that tests make and remove.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};

use crate::description::Description;
use crate::home::{self, Unprivileged};
use crate::instance::Instance;
use crate::parts::Parts;
use crate::ports::Ports;
use crate::stack::{Stack, interrupted};
use crate::{foreground, say, services};

/// How long `down` waits for an orderly end.
const DOWN_WITHIN: Duration = Duration::from_secs(90);
/// How long somebody may take to ask whether a folder is taken.
const ASKED_WITHIN: Duration = Duration::from_millis(20);
/// How long what was killed may take to end.
const GONE_WITHIN: Duration = Duration::from_secs(2);
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

    /// Starts the stack that is kept, with the ports of [`Ports::asked_for`], in this process, until it is stopped by its owner.
    ///
    /// # Errors
    /// If it runs already, or cannot be started.
    pub async fn start(&self) -> Result<(Stack, impl Sized + use<>)> {
        let parts = self.parts()?;
        let Some(lock) = take(&self.state())? else {
            bail!(
                "the stack is up already; stop it with `{} down`",
                home::command()
            );
        };
        // One that was killed could not remove it.
        drop(fs::remove_file(self.description()));
        let ports = Ports::asked_for(&self.state().join("run/ports.json"))?;
        say!(
            "starting PostgreSQL, Kafka, Kafka Connect and the services in {}",
            self.state().display()
        );
        let instance = Instance::make(self.state(), parts, self.unprivileged, false)?;
        Ok((Stack::start(instance, ports, interrupted()?).await?, lock))
    }

    /// Starts a stack with free ports in a new folder, both gone when the guard is; not if `interrupted` resolves
    /// first.
    ///
    /// # Errors
    /// If it cannot be started.
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

    /// An instance in a new folder.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn ephemeral(&self) -> Result<(Instance, Ephemeral)> {
        let parts = self.parts()?;
        let guard = self.fresh()?;
        let folder = guard.folder.clone();
        Ok((
            Instance::make(folder, parts, self.unprivileged, true)?,
            guard,
        ))
    }

    /// A new folder, removed when it is dropped, or by a later run if this process has no time for it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn fresh(&self) -> Result<Ephemeral> {
        // One process at a time: a folder that is just being made or removed is not yet, or no longer, locked.
        let turn = File::create(self.folder.join("ephemeral.lock"))?;
        turn.lock()?;
        self.sweep()?;
        let folder = self
            .folder
            .join(format!("ephemeral-{}", uuid::Uuid::new_v4().simple()));
        let lock = take(&folder)?.context("a new folder is in use already")?;
        Ok(Ephemeral {
            folder,
            _lock: lock,
        })
    }

    /// The parts that all stacks of this home are made of.
    ///
    /// # Errors
    /// What is missing, and what to do about it.
    pub fn parts(&self) -> Result<Parts> {
        Parts::resolve(&self.folder)
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
            if name.starts_with("ephemeral-") && folder.is_dir() && !held(&folder)? {
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
        let (stack, _guard) = self.start_ephemeral(interrupted()?).await?;
        let environment = [("OUTBOX_STACK", stack.description().file.as_path())];
        let code = foreground::run(command, &environment, interrupted()?).await;
        stack.stop().await;
        code
    }

    /// Starts the stack in the background and waits until it is ready; one that runs already is left alone.
    ///
    /// # Errors
    /// What the background process says.
    pub async fn up(&self) -> Result<Description> {
        // Resolved here, where its progress is seen.
        self.parts()?;
        let run = self.state().join("run");
        fs::create_dir_all(&run)?;
        // A second `up` waits for the first one's outcome.
        let turn = File::create(run.join("up.lock"))?;
        turn.lock()?;
        if let Some(stack) = self.already().await? {
            say!("the stack is up already");
            return Ok(stack);
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

    /// The stack that runs; one that is starting is waited for, and one that is just dying is none.
    async fn already(&self) -> Result<Option<Description>> {
        let deadline = Instant::now() + DOWN_WITHIN;
        while held(&self.state())? {
            if let Ok(stack) = Description::read(&self.description())
                && services::ready(&stack.order_url).await.is_ok()
            {
                // What is killed together does not end at the same instant.
                tokio::time::sleep(LOOK).await;
                if held(&self.state())? {
                    return Ok(Some(stack));
                }
            }
            ensure!(
                Instant::now() < deadline,
                "the stack runs but does not become ready; `{} down` stops it",
                home::command()
            );
            tokio::time::sleep(LOOK).await;
        }
        Ok(None)
    }

    /// Stays in the foreground until told to stop: what `up` leaves behind.
    ///
    /// # Errors
    /// If the stack cannot be started.
    pub async fn supervise(&self) -> Result<()> {
        // Out of the terminal's session: neither its Ctrl-C nor its end is meant for what stays.
        setsid().context("cannot leave the terminal's session")?;
        let (stack, _lock) = self.start().await?;
        interrupted()?.await;
        stack.stop().await;
        Ok(())
    }

    /// Stops the stack that is kept, if it runs, and removes its state if asked to.
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

    /// Looks whether the stack that is kept runs.
    ///
    /// # Errors
    /// If its description is broken.
    pub fn status(&self) -> Result<Found> {
        if !held(&self.state())? {
            Ok(Found::Nothing)
        } else if self.description().exists() {
            Description::read(&self.description()).map(|stack| Found::Up(Box::new(stack)))
        } else {
            Ok(Found::NotReady)
        }
    }
}

/// What there is of the stack that is kept.
pub enum Found {
    /// None runs.
    Nothing,
    /// One is starting or stopping.
    NotReady,
    /// One that has been ready; how its parts are is another question.
    Up(Box<Description>),
}

/// A folder that is removed when this is dropped.
pub struct Ephemeral {
    /// The folder.
    pub folder: PathBuf,
    _lock: Lock,
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        let deadline = Instant::now() + GONE_WITHIN;
        while let Err(error) = fs::remove_dir_all(&self.folder) {
            // What was killed a moment ago may still have written.
            if error.kind() == ErrorKind::DirectoryNotEmpty && Instant::now() < deadline {
                std::thread::sleep(LOOK);
                continue;
            }
            say!("cannot remove {}: {error}", self.folder.display());
            return;
        }
    }
}

/// Whether a process has taken the folder.
fn held(folder: &Path) -> Result<bool> {
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
    // Whoever only asks (`held`) has the lock for a moment.
    let deadline = Instant::now() + ASKED_WITHIN;
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
