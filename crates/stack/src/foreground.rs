//! A command that runs in the foreground beside a stack.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

use crate::child::die_with_parent;

/// How long a command may take to stop after SIGTERM.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// Runs `command` and returns its exit code. When `interrupted` resolves first, it stops the command and every process
/// of its group and returns 130.
///
/// # Errors
/// If the command cannot be run.
pub async fn run(
    command: &[String],
    environment: &[(&str, &Path)],
    interrupted: impl Future<Output = ()>,
) -> Result<u8> {
    let Some((program, arguments)) = command.split_first() else {
        bail!("no command");
    };
    let mut child = std::process::Command::new(program);
    child
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .process_group(0);
    die_with_parent(&mut child);
    let mut child = Command::from(child)
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let group = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .map(|id| Pid::from_raw(-id));
    let status = tokio::select! {
        status = child.wait() => Some(status?),
        () = interrupted => None,
    };
    // The signals go to its whole group.
    let signal = |signal| group.map(|group| kill(group, signal));
    let code = if let Some(status) = status {
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(1)
    } else {
        let _ = signal(Signal::SIGTERM);
        let _ = tokio::time::timeout(STOPS_WITHIN, child.wait()).await;
        130
    };
    let _ = signal(Signal::SIGKILL);
    Ok(code)
}
