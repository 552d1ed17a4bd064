//! A program of the stack: its arguments, its log, its user, and the signal that stops it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tokio::process::{Child, Command};

use crate::child::{Group, die_with_parent};
use crate::unprivileged::Unprivileged;

/// A program with its arguments, and how to stop it.
#[derive(Debug, Clone)]
pub struct Program {
    /// The part's name and its log's.
    pub name: &'static str,
    /// The executable.
    pub path: PathBuf,
    /// Its arguments; never a secret.
    pub arguments: Vec<String>,
    /// Its environment, in addition to this process's; never a secret.
    pub environment: BTreeMap<String, String>,
    /// The file that its output is appended to.
    pub log: PathBuf,
    /// The user that it runs as, if not this process's.
    pub user: Option<Unprivileged>,
    /// The signal that stops it gracefully.
    pub stop: Signal,
    /// How long it may take to stop; then it is killed.
    pub stop_within: Duration,
}

impl Program {
    /// A program that SIGTERM stops within 15 seconds; its log is `NAME.log` in the folder `logs`.
    #[must_use]
    pub fn new(name: &'static str, path: impl Into<PathBuf>, logs: &Path) -> Self {
        Self {
            name,
            path: path.into(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            log: logs.join(format!("{name}.log")),
            user: None,
            stop: Signal::SIGTERM,
            stop_within: Duration::from_secs(15),
        }
    }

    /// The command. The kernel kills the process when the thread that started it ends, so that thread must live as long
    /// as the process is to run.
    fn command(&self) -> Result<Command> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut command = std::process::Command::new(&self.path);
        command
            .args(&self.arguments)
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in a terminal must reach the supervisor alone, which stops the parts in order.
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

    /// Starts it.
    ///
    /// # Errors
    /// If the log or the executable cannot be opened.
    pub(crate) fn spawn(&self) -> Result<Child> {
        self.command()?
            .spawn()
            .with_context(|| format!("cannot run {}", self.path.display()))
    }

    /// Runs it to its end. Dropping the future kills it and the processes that it has started.
    ///
    /// # Errors
    /// If its exit code is not 0; the error holds the last lines of its log.
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

    /// The error for an unexpected end.
    pub(crate) fn died(&self, status: ExitStatus) -> anyhow::Error {
        anyhow::anyhow!(
            "{} ended ({status}). The last of {}:\n{}",
            self.name,
            self.log.display(),
            self.last_lines()
        )
    }

    /// The last lines of its log.
    pub(crate) fn last_lines(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}
