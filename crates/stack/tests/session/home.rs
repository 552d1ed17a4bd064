//! A home of its own for one test: what `stack` keeps there, and everything that it starts, is gone at the end.

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

/// The home; dropped, it stops what is up and removes everything.
pub(crate) struct Home {
    parts: Parts,
    keeper: Child,
    own: Ephemeral,
}

impl Home {
    pub(crate) fn new() -> Self {
        testing::build().unwrap();
        let shared = session::Home::find().unwrap();
        let (parts, own) = (shared.parts().unwrap(), shared.fresh().unwrap());
        // A stack that is up outlives whoever started it. This process stops it when the test ends, however that comes.
        let keeper = Command::new("sh")
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
        Self { parts, keeper, own }
    }

    pub(crate) fn folder(&self) -> &PathBuf {
        &self.own.folder
    }

    /// What its stacks are made of.
    pub(crate) fn parts_mut(&mut self) -> &mut Parts {
        &mut self.parts
    }

    /// The process that cleans up, no part of any stack.
    pub(crate) fn keeper(&self) -> u32 {
        self.keeper.id()
    }

    /// What `up` and `demo` leave behind between runs.
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

    /// Runs the program to its end, which must be a good one, and returns what it said.
    pub(crate) async fn run(&self, arguments: &[&str]) -> String {
        let mut run = self.start(arguments);
        let status = run.ended().await;
        let said = run.said();
        assert!(status.success(), "{arguments:?}: {status}\n{said}");
        said
    }

    /// What there is to know about the stack that is up.
    pub(crate) fn description(&self) -> &'static Description {
        let file = self.state().join("run/stack.json");
        // Tests hold it as long as they run.
        Box::leak(Box::new(Description::read(&file).unwrap()))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
    }
}

/// The program while it runs.
pub(crate) struct Run {
    child: Child,
    log: PathBuf,
}

impl Run {
    /// What it has said up to now.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it says `what`.
    pub(crate) async fn says(&mut self, what: &str) {
        eventually(PATIENCE, &format!("it says {what:?}"), async || {
            let (ended, said) = (self.child.try_wait().unwrap(), self.said());
            if said.contains(what) {
                return Ok(());
            }
            assert!(ended.is_none(), "it ended ({ended:?}):\n{said}");
            Err(said)
        })
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
        // It has mostly ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
