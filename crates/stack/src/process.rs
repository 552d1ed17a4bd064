//! A part of the stack as a process: started, watched, started again when it dies, stopped in order.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::home::Unprivileged;
use crate::instance::Instance;
use crate::say;

/// How long a part may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How long one look at readiness may take: a part that hangs must not hang whoever waits for it.
const PROBE_WITHIN: Duration = Duration::from_secs(5);
/// How often readiness is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// The first wait before a part that died is started again; it doubles up to [`RESTART_MOST`].
const RESTART_FIRST: Duration = Duration::from_millis(100);
/// The longest wait before a part that died is started again.
const RESTART_MOST: Duration = Duration::from_secs(5);

/// How a part is started and stopped.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The part's name, also its log's.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Its arguments; never a secret.
    pub arguments: Vec<String>,
    /// Its environment beside this process's own; never a secret.
    pub environment: BTreeMap<String, String>,
    /// The file that its output is appended to.
    pub log: PathBuf,
    /// Another user than this process's.
    pub user: Option<Unprivileged>,
    /// The signal that asks it to stop in order.
    pub stop: Signal,
    /// How long that may take.
    pub stop_within: Duration,
}

impl Spec {
    /// A part that SIGTERM stops.
    #[must_use]
    pub fn new(name: &'static str, program: impl Into<PathBuf>, logs: &Path) -> Self {
        Self {
            name,
            program: program.into(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            log: logs.join(format!("{name}.log")),
            user: None,
            stop: Signal::SIGTERM,
            stop_within: Duration::from_secs(15),
        }
    }

    /// The command, not yet started. Whoever starts it must do so from a thread that lives as long as the process
    /// is to live: the kernel kills the child when that thread ends.
    fn command(&self) -> Result<Command> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut command = std::process::Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in a terminal is for the supervisor, which stops the parts in order.
            .process_group(0);
        if let Some(user) = self.user {
            command
                .uid(user.uid.as_raw())
                .gid(user.gid.as_raw())
                .current_dir("/");
        }
        die_with_parent(&mut command);
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        Ok(command)
    }

    fn spawn(&self) -> Result<Child> {
        self.command()?
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()))
    }

    /// Runs it to its end. Given up before that, it and the processes that it has started are killed.
    ///
    /// # Errors
    /// If it does not end with 0, with the last lines of its log.
    pub async fn run(&self) -> Result<()> {
        let mut child = self.spawn()?;
        let group = Group::of(&child);
        let status = child.wait().await?;
        drop(group);
        if status.success() {
            Ok(())
        } else {
            Err(self.died(status))
        }
    }

    fn died(&self, status: ExitStatus) -> anyhow::Error {
        anyhow::anyhow!(
            "{} ended ({status}). The last of {}:\n{}",
            self.name,
            self.log.display(),
            self.last_lines()
        )
    }

    fn last_lines(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

/// The process group that a child leads; whatever is left of it is killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.map(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Mostly nothing is left.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

/// Asks the kernel to kill the child when the thread that started it ends, however that comes. A child whose parent has
/// died before it could ask does not start.
#[expect(
    unsafe_code,
    reason = "there is no safe way to run code between fork and exec"
)]
pub(crate) fn die_with_parent(command: &mut std::process::Command) {
    let parent = Pid::this();
    // SAFETY: prctl and getppid are async-signal-safe, and the closure allocates nothing. It runs after the change of
    // user, which would undo it.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            if Pid::parent() == parent {
                Ok(())
            } else {
                Err(Errno::ESRCH.into())
            }
        });
    }
}

/// In the order in which parts are stopped.
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

/// The ids of running parts, shared with whoever shows them.
pub type Pids = Arc<watch::Sender<BTreeMap<String, u32>>>;

/// A running part; whoever stops the instance stops it.
#[derive(Clone)]
pub struct Running(Arc<Part>);

struct Part {
    spec: Spec,
    stop: watch::Sender<bool>,
    /// Set once it was ready: from then on it is started again when it dies.
    steady: watch::Sender<bool>,
    ended: Arc<Mutex<Option<ExitStatus>>>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

impl Running {
    /// Starts the part and keeps it; from this moment it is the instance's to stop.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(spec: Spec, stage: Stage, instance: &Instance) -> Result<Self> {
        let child = spec.spawn()?;
        let (stop, stopped) = watch::channel(false);
        let (steady, steadied) = watch::channel(false);
        let ended = Arc::new(Mutex::new(None));
        let keeper = Keeper {
            spec: spec.clone(),
            stopped,
            steady: steadied,
            ended: Arc::clone(&ended),
            pids: Arc::clone(&instance.pids),
        };
        let running = Self(Arc::new(Part {
            spec,
            stop,
            steady,
            ended,
            keeper: Mutex::new(Some(tokio::spawn(keeper.keep(child)))),
        }));
        instance.keep(stage, running.clone());
        Ok(running)
    }

    /// Waits until `probe` says that the part is ready.
    ///
    /// # Errors
    /// If it ends before, or is not ready in time: with the last lines of its log.
    pub async fn ready(&self, mut probe: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let ended = *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(status) = ended {
                return Err(self.0.spec.died(status));
            }
            let probed = tokio::time::timeout(PROBE_WITHIN, probe())
                .await
                .unwrap_or_else(|_| bail!("no answer within {PROBE_WITHIN:?}"));
            match probed {
                Ok(()) => break,
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!(
                        "{} is not ready after {READY_WITHIN:?}. The last of {}:\n{}",
                        self.0.spec.name,
                        self.0.spec.log.display(),
                        self.0.spec.last_lines()
                    )));
                }
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
        self.0.steady.send_replace(true);
        Ok(())
    }

    /// Asks the part to stop, and kills it if it does not in time.
    pub async fn stop(self) {
        self.0.stop.send_replace(true);
        let keeper = self
            .0
            .keeper
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(keeper) = keeper
            && let Err(error) = keeper.await
        {
            say!("{} was not stopped in order: {error}", self.0.spec.name);
        }
    }
}

struct Keeper {
    spec: Spec,
    stopped: watch::Receiver<bool>,
    steady: watch::Receiver<bool>,
    ended: Arc<Mutex<Option<ExitStatus>>>,
    pids: Pids,
}

impl Keeper {
    async fn keep(mut self, mut child: Child) {
        let mut pause = RESTART_FIRST;
        loop {
            self.show(child.id());
            let started = Instant::now();
            let ended = tokio::select! {
                status = child.wait() => Some(status),
                _ = self.stopped.wait_for(|stopped| *stopped) => None,
            };
            let Some(status) = ended else {
                self.end(child).await;
                self.show(None);
                return;
            };
            self.show(None);
            let Ok(status) = status else { return };
            if !*self.steady.borrow() {
                *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                return;
            }
            say!("{} ended ({status}); it is started again", self.spec.name);
            if started.elapsed() > RESTART_MOST {
                pause = RESTART_FIRST;
            }
            child = loop {
                let stopped =
                    tokio::time::timeout(pause, self.stopped.wait_for(|stopped| *stopped)).await;
                if stopped.is_ok() {
                    return;
                }
                pause = (pause * 2).min(RESTART_MOST);
                match self.spec.spawn() {
                    Ok(child) => break child,
                    Err(error) => say!("{} does not start: {error:#}", self.spec.name),
                }
            };
        }
    }

    async fn end(&self, mut child: Child) {
        let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) else {
            return;
        };
        // It may have ended by itself this very moment.
        let _ = kill(Pid::from_raw(id), self.spec.stop);
        if tokio::time::timeout(self.spec.stop_within, child.wait())
            .await
            .is_err()
        {
            say!(
                "{} did not stop within {:?}; it is killed",
                self.spec.name,
                self.spec.stop_within
            );
            if let Err(error) = child.kill().await {
                say!("{} cannot be killed: {error}", self.spec.name);
            }
        }
    }

    fn show(&self, id: Option<u32>) {
        self.pids.send_modify(|pids| {
            match id {
                Some(id) => pids.insert(self.spec.name.to_owned(), id),
                None => pids.remove(self.spec.name),
            };
        });
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    /// Set for the process that this test starts to be the parent that dies.
    const PARENT: &str = "STACK_TEST_PARENT";

    #[test]
    #[expect(
        unsafe_code,
        reason = "the parent has to die between the child's fork and its asking"
    )]
    fn a_child_whose_parent_died_before_it_asked_does_not_start() {
        if env::var_os(PARENT).is_some() {
            let parent = Pid::this();
            let mut child = std::process::Command::new("echo");
            child.arg("it started");
            // SAFETY: kill and getppid are async-signal-safe, and the closure allocates nothing.
            unsafe {
                child.pre_exec(move || {
                    kill(parent, Signal::SIGKILL)?;
                    while Pid::parent() == parent {
                        std::hint::spin_loop();
                    }
                    Ok(())
                });
            }
            die_with_parent(&mut child);
            let _ = child.status();
            unreachable!("this process was killed");
        }
        let parent = std::process::Command::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("process::tests::a_child_whose_parent_died_before_it_asked_does_not_start")
            .env(PARENT, "")
            .output() // ends when the child, too, has closed it
            .unwrap();
        assert_eq!(parent.status.signal(), Some(Signal::SIGKILL as i32));
        let said = String::from_utf8_lossy(&parent.stdout);
        assert!(!said.contains("it started"), "{said}");
    }
}
