//! The process of a part: started, probed until it is ready, restarted when it dies, stopped gracefully.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use backon::{BackoffBuilder, ExponentialBuilder};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::program::Program;
use crate::say;

/// How long a part may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How long one probe may take: a part that hangs must not block its caller.
const PROBE_WITHIN: Duration = Duration::from_secs(5);
/// How often readiness is probed.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The longest wait before a dead part is restarted.
const RESTART_MAX: Duration = Duration::from_secs(5);
/// The waits before a dead part is restarted; they double.
const RESTART_BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(100))
    .with_max_delay(RESTART_MAX)
    .without_max_times();

/// The process ids of the running parts, by name.
pub type Pids = Arc<watch::Sender<BTreeMap<String, u32>>>;

/// A running part. It is restarted when it dies after it was ready.
#[derive(Clone)]
pub struct Running(Arc<Part>);

struct Part {
    program: Program,
    stop: watch::Sender<bool>,
    /// Set once the part was ready: from then on it is restarted when it dies.
    steady: watch::Sender<bool>,
    ended: Arc<Mutex<Option<ExitStatus>>>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

impl Running {
    /// Starts `program` and a task that watches it and shows its process in `pids`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(program: Program, pids: Pids) -> Result<Self> {
        let child = program.spawn()?;
        let (stop, stopped) = watch::channel(false);
        let (steady, steadied) = watch::channel(false);
        let ended = Arc::new(Mutex::new(None));
        let supervisor = Supervisor {
            program: program.clone(),
            stopped,
            steady: steadied,
            ended: Arc::clone(&ended),
            pids,
        };
        Ok(Self(Arc::new(Part {
            program,
            stop,
            steady,
            ended,
            supervisor: Mutex::new(Some(tokio::spawn(supervisor.supervise(child)))),
        })))
    }

    /// Waits until `probe` succeeds.
    ///
    /// # Errors
    /// If the part ends first or is not ready in time; the error holds the last lines of its log.
    pub async fn ready(&self, mut probe: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let ended = *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(status) = ended {
                return Err(self.0.program.died(status));
            }
            let probed = tokio::time::timeout(PROBE_WITHIN, probe())
                .await
                .unwrap_or_else(|_| bail!("no answer within {PROBE_WITHIN:?}"));
            match probed {
                Ok(()) => break,
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!(
                        "{} is not ready after {READY_WITHIN:?}. The last of {}:\n{}",
                        self.0.program.name,
                        self.0.program.log.display(),
                        self.0.program.last_lines()
                    )));
                }
                Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
        self.0.steady.send_replace(true);
        Ok(())
    }

    /// Stops the part gracefully, or kills it after [`Program::stop_within`].
    pub async fn stop(self) {
        self.0.stop.send_replace(true);
        let supervisor = self
            .0
            .supervisor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(supervisor) = supervisor
            && let Err(error) = supervisor.await
        {
            say!("cannot stop {} gracefully: {error}", self.0.program.name);
        }
    }
}

struct Supervisor {
    program: Program,
    stopped: watch::Receiver<bool>,
    steady: watch::Receiver<bool>,
    ended: Arc<Mutex<Option<ExitStatus>>>,
    pids: Pids,
}

impl Supervisor {
    async fn supervise(mut self, mut child: Child) {
        let mut backoff = RESTART_BACKOFF.build();
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
            say!("{} ended ({status}); restarting it", self.program.name);
            if started.elapsed() > RESTART_MAX {
                backoff = RESTART_BACKOFF.build();
            }
            child = loop {
                let pause = backoff.next().unwrap_or(RESTART_MAX);
                let stopped =
                    tokio::time::timeout(pause, self.stopped.wait_for(|stopped| *stopped)).await;
                if stopped.is_ok() {
                    return;
                }
                match self.program.spawn() {
                    Ok(child) => break child,
                    Err(error) => say!("cannot restart {}: {error:#}", self.program.name),
                }
            };
        }
    }

    async fn end(&self, mut child: Child) {
        let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) else {
            return;
        };
        // It may have ended by itself just now.
        let _ = kill(Pid::from_raw(id), self.program.stop);
        if tokio::time::timeout(self.program.stop_within, child.wait())
            .await
            .is_err()
        {
            say!(
                "{} did not stop within {:?}; killing it",
                self.program.name,
                self.program.stop_within
            );
            if let Err(error) = child.kill().await {
                say!("cannot kill {}: {error}", self.program.name);
            }
        }
    }

    fn show(&self, id: Option<u32>) {
        self.pids.send_modify(|pids| {
            match id {
                Some(id) => pids.insert(self.program.name.to_owned(), id),
                None => pids.remove(self.program.name),
            };
        });
    }
}
