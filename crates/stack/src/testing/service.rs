//! A further process of a service, for one test.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::child::die_with_parent;
use crate::description::Description;
use crate::ports;
use crate::services::{self, Binary};

/// A further process of a service beside the stack's own. Dropping it kills it.
pub struct Service {
    child: std::process::Child,
    /// Its URL.
    pub url: String,
    /// Its log.
    pub log: PathBuf,
}

impl Service {
    /// Starts it with further settings and waits until it is ready. A setting is named without the service's prefix, as
    /// `KAFKA__GROUP`.
    ///
    /// # Panics
    /// If it does not become ready; the message holds its log.
    pub async fn start(stack: &Description, binary: Binary, settings: &[(&str, &str)]) -> Self {
        let service =
            Self::spawn(stack, binary, settings).unwrap_or_else(|error| panic!("{error:#}"));
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while let Err(error) = services::ready(&service.url).await {
            assert!(
                std::time::Instant::now() < deadline,
                "{error:#}\n{}",
                std::fs::read_to_string(&service.log).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        service
    }

    /// Starts it without waiting.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(stack: &Description, binary: Binary, settings: &[(&str, &str)]) -> Result<Self> {
        Self::spawn_under(&[], stack, binary, settings)
    }

    /// Starts it with further environment variables, without waiting.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn_under(
        environment: &[(&str, &OsStr)],
        stack: &Description,
        binary: Binary,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let port = ports::free()?;
        let log = stack.logs.join(format!("{}-{port}.log", binary.name()));
        let output = std::fs::File::create(&log)?;
        let prefix = binary.name().to_uppercase().replace('-', "_");
        let mut command = Command::new(stack.binaries.join(binary.name()));
        command
            .arg("serve")
            .envs(binary.settings(stack))
            .env(
                format!("{prefix}__HTTP__LISTEN"),
                format!("127.0.0.1:{port}"),
            )
            .envs(
                settings
                    .iter()
                    .map(|(key, value)| (format!("{prefix}__{key}"), value)),
            )
            .envs(environment.iter().copied())
            .stdout(output.try_clone()?)
            .stderr(output);
        // It ends with the test's thread, at the latest.
        die_with_parent(&mut command);
        let child = command.spawn().context("cannot run the service")?;
        let url = format!("http://127.0.0.1:{port}");
        Ok(Self { child, url, log })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    ///
    /// # Panics
    /// If the system does not answer.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        (self.child.try_wait()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the process has ended.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap_or_else(|error| panic!("{error}"));
        kill(Pid::from_raw(id), signal).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Sends SIGTERM and waits for its end.
    ///
    /// # Panics
    /// If it has ended already.
    #[must_use]
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.child.wait().unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already, which is an error.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
