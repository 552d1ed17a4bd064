//! The kept stack: `up`, `down`, `status`, and the process in the background that supervises it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};

use crate::description::Description;
use crate::folder::{held, take};
use crate::session::Home;
use crate::stack::interrupted;
use crate::{home, say, services};

/// How long a stack may take to stop, or one that starts to become ready.
const SETTLES_WITHIN: Duration = Duration::from_secs(90);
/// The interval at which another process is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The state of the kept stack.
pub enum Found {
    /// It is down.
    Nothing,
    /// It is starting or stopping.
    NotReady,
    /// It has become ready. Its parts may have failed since.
    Up(Box<Description>),
}

/// Starts the kept stack in the background and waits until it is ready. A stack that is up stays as it is.
///
/// # Errors
/// If it does not become ready, or this process is interrupted.
pub async fn up(home: &Home) -> Result<Description> {
    // Here, in the foreground, the user sees the progress.
    home.parts()?;
    let run = home.state().join("run");
    fs::create_dir_all(&run)?;
    // A second `up` waits for the outcome of the first.
    let lock = File::create(run.join("up.lock"))?;
    lock.lock()?;
    if let Some(stack) = already(home).await? {
        say!("the stack is up already");
        return Ok(stack);
    }
    // A killed supervisor leaves it behind.
    drop(fs::remove_file(home.description()));
    let stop = interrupted()?;
    let log = home.state().join("run/supervisor.log");
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut supervisor = Command::new(std::env::current_exe()?)
        .arg("supervise")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()?;
    let ready = tokio::select! {
        ready = follow(home, &mut supervisor, &log) => Some(ready),
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

/// Shows the supervisor's log until the stack is ready.
async fn follow(home: &Home, supervisor: &mut Child, log: &Path) -> Result<Description> {
    let mut shown = 0;
    loop {
        let (ended, ready) = (
            supervisor.try_wait()?.is_some(),
            home.description().exists(),
        );
        let text = fs::read_to_string(log).unwrap_or_default();
        for line in text.get(shown..).unwrap_or_default().lines() {
            say!("{line}");
        }
        shown = text.len();
        if ended {
            bail!("the stack did not become ready; see above");
        }
        if ready {
            return Description::read(&home.description());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The stack that is up; waits for one that is starting. A stack that is dying counts as none.
async fn already(home: &Home) -> Result<Option<Description>> {
    let deadline = Instant::now() + SETTLES_WITHIN;
    while held(&home.state())? {
        if let Ok(stack) = Description::read(&home.description())
            && services::ready(&stack.order_url).await.is_ok()
        {
            // The supervisor may have been killed together with the parts and end a little later.
            tokio::time::sleep(POLL_INTERVAL).await;
            if held(&home.state())? {
                return Ok(Some(stack));
            }
        }
        ensure!(
            Instant::now() < deadline,
            "the stack does not become ready; stop it with `{} down`",
            home::command()
        );
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(None)
}

/// Runs the kept stack until a signal stops this process, which `up` leaves in the background.
///
/// # Errors
/// If the stack cannot be started.
pub async fn supervise(home: &Home) -> Result<()> {
    // Neither Ctrl-C nor the end of the terminal may stop it.
    setsid().context("cannot leave the terminal's session")?;
    let (stack, _lock) = home.start().await?;
    interrupted()?.await;
    stack.stop().await;
    Ok(())
}

/// Stops the kept stack, and with `clean` removes its data.
///
/// # Errors
/// If it does not stop, or its data cannot be removed.
pub fn down(home: &Home, clean: bool) -> Result<()> {
    if !home.state().exists() {
        say!("nothing is up");
        return Ok(());
    }
    let mut lock = take(&home.state())?;
    if lock.is_none() {
        let path = home.state().join("run/lock");
        let id: i32 = fs::read_to_string(&path)?
            .trim()
            .parse()
            .with_context(|| format!("{} names no process", path.display()))?;
        // The lock is held, so this process exists and holds it.
        kill(Pid::from_raw(id), Signal::SIGTERM)
            .with_context(|| format!("cannot stop process {id}"))?;
        let deadline = Instant::now() + SETTLES_WITHIN;
        while lock.is_none() {
            ensure!(Instant::now() < deadline, "process {id} does not stop");
            std::thread::sleep(POLL_INTERVAL);
            lock = take(&home.state())?;
        }
        say!("everything is stopped");
    } else {
        say!("nothing is up");
    }
    if clean {
        fs::remove_dir_all(home.state())?;
        say!("{} is removed", home.state().display());
    }
    Ok(())
}

/// Whether the kept stack is up.
///
/// # Errors
/// If its lock or its description is unreadable.
pub fn status(home: &Home) -> Result<Found> {
    if !held(&home.state())? {
        Ok(Found::Nothing)
    } else if home.description().exists() {
        Description::read(&home.description()).map(|stack| Found::Up(Box::new(stack)))
    } else {
        Ok(Found::NotReady)
    }
}
