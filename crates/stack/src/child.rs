//! Child processes that do not outlive this one.

use std::os::unix::process::CommandExt;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;

/// The process group that a child leads. Dropping it kills the processes that remain in the group.
pub(crate) struct Group(Option<Pid>);

impl Group {
    /// The group of a child that was started with `process_group(0)`.
    pub(crate) fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.map(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Usually no process remains, which is an error.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

/// Makes the kernel kill the child when the thread that started it ends, even if that thread is killed. A child whose
/// parent is already dead does not start.
#[expect(
    unsafe_code,
    reason = "there is no safe way to run code between fork and exec"
)]
pub(crate) fn die_with_parent(command: &mut std::process::Command) {
    let parent = Pid::this();
    // SAFETY: prctl and getppid are async-signal-safe, and the closure allocates nothing. It runs after the change of
    // user, which would reset the signal.
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

#[cfg(test)]
mod tests {
    use std::env;
    use std::os::unix::process::ExitStatusExt;

    use nix::sys::signal::kill;

    use super::*;

    /// Set in the environment of the parent process that this test starts and that dies.
    const PARENT: &str = "STACK_TEST_PARENT";

    #[test]
    #[expect(
        unsafe_code,
        reason = "the parent must die between the child's fork and its prctl"
    )]
    fn a_child_whose_parent_is_dead_does_not_start() {
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
            .arg("child::tests::a_child_whose_parent_is_dead_does_not_start")
            .env(PARENT, "")
            .output() // returns when the child, too, has closed it
            .unwrap();
        assert_eq!(parent.status.signal(), Some(Signal::SIGKILL as i32));
        let said = String::from_utf8_lossy(&parent.stdout);
        assert!(!said.contains("it started"), "{said}");
    }
}
