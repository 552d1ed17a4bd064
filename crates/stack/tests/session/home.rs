//! A home for one test. At its end, its folder and every process that `stack` started are gone.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stack::folder::Ephemeral;
use stack::parts::Parts;
use stack::session;
use stack::testing::{self, Description};

use crate::world::eventually;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_stack");
/// How long a command may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The home. Dropping it stops the stack and removes everything.
pub(crate) struct Home {
    parts: Parts,
    cleaner: Child,
    own: Ephemeral,
}

impl Home {
    pub(crate) fn new() -> Self {
        testing::build().unwrap();
        let shared = session::Home::find().unwrap();
        let (parts, own) = (shared.parts().unwrap(), shared.fresh().unwrap());
        // A stack that is up outlives the test's process. This shell stops it when the test ends, even if it is killed.
        let cleaner = Command::new("sh")
            .args([
                "-c",
                "cat; STACK_HOME=$1 exec $0 down --clean 2>/dev/null",
                PROGRAM,
            ])
            .arg(&own.folder)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        Self {
            parts,
            cleaner,
            own,
        }
    }

    pub(crate) fn folder(&self) -> &PathBuf {
        &self.own.folder
    }

    /// The parts of its stacks.
    pub(crate) fn parts_mut(&mut self) -> &mut Parts {
        &mut self.parts
    }

    /// The process that cleans up; it belongs to no stack.
    pub(crate) fn cleaner(&self) -> u32 {
        self.cleaner.id()
    }

    /// The folder that `up` and `demo` keep between runs.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder().join("state")
    }

    /// Starts the program.
    pub(crate) fn start(&self, arguments: &[&str]) -> Run {
        let log = self.folder().join(format!(
            "{}-{}.log",
            arguments[0],
            uuid::Uuid::now_v7().simple()
        ));
        let output = File::create(&log).unwrap();
        let child = Command::new(PROGRAM)
            .args(arguments)
            .env("STACK_HOME", self.folder())
            .env("STACK_PORTS", "free")
            .env("STACK_KAFKA", &self.parts.kafka)
            .env("STACK_PLUGINS", &self.parts.plugins)
            .env("STACK_POSTGRES", &self.parts.postgres)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Run { child, log }
    }

    /// Runs the program, which must succeed, and returns its output.
    pub(crate) async fn run(&self, arguments: &[&str]) -> String {
        let mut run = self.start(arguments);
        let status = run.ended().await;
        let said = run.said();
        assert!(status.success(), "{arguments:?}: {status}\n{said}");
        said
    }

    /// The description of the stack that is up.
    pub(crate) fn description(&self) -> &'static Description {
        let file = self.state().join("run/stack.json");
        // The tests need a static reference.
        Box::leak(Box::new(Description::read(&file).unwrap()))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(self.cleaner.stdin.take());
        drop(self.cleaner.wait());
    }
}

/// The program while it runs.
pub(crate) struct Run {
    child: Child,
    log: PathBuf,
}

impl Run {
    /// Its output so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until its output contains `what`.
    pub(crate) async fn says(&mut self, what: &str) {
        eventually(
            PATIENCE,
            &format!("its output contains {what:?}"),
            async || {
                let (ended, said) = (self.child.try_wait().unwrap(), self.said());
                if said.contains(what) {
                    return Ok(());
                }
                assert!(ended.is_none(), "it ended ({ended:?}):\n{said}");
                Err(said)
            },
        )
        .await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut ended = None;
        eventually(PATIENCE, "the command ends", async || {
            ended = self.child.try_wait().unwrap();
            ended.map(drop).ok_or_else(|| self.said())
        })
        .await;
        ended.unwrap()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Usually it has ended already, which is an error.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
