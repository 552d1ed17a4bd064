//! Maven, which resolves the parts.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::child::die_with_parent;
use crate::say;

/// The versions of the parts.
pub(super) const POM: &str = include_str!("../../parts/pom.xml");

/// A platform that PostgreSQL's archive is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Platform {
    Amd64,
    Arm64,
}

impl Platform {
    pub(super) const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// The platform of this machine.
    ///
    /// # Errors
    /// If there is no archive for it.
    pub(super) fn current() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("Maven has no archive of PostgreSQL for {other}"),
        }
    }

    /// Its name in the archive's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "linux-amd64",
            Self::Arm64 => "linux-arm64v8",
        }
    }
}

/// Copies the parts that `pom` names into `parts`: jars into `kafka`, archives into `archives`.
///
/// # Errors
/// If Maven cannot be run or cannot resolve them.
pub(super) fn copy(pom: &Path, platform: Platform, parts: &Path) -> Result<()> {
    let mut maven = Command::new("mvn");
    die_with_parent(&mut maven);
    let mut maven = maven
        .args(["--batch-mode", "-Dstyle.color=never", "--file"])
        .arg(pom)
        .arg(format!("-Dparts.directory={}", parts.display()))
        .arg(format!("-Dpostgres.platform={}", platform.name()))
        .arg("package")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context(
            "cannot run mvn; install Maven (Debian: apt-get install maven), or let ./dev do it",
        )?;
    let output = maven.stdout.take().context("mvn has no output")?;
    let (mut downloaded, mut errors) = (0, Vec::new());
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line.contains("Downloaded from") {
            downloaded += 1;
            if downloaded % 50 == 0 {
                say!("  {downloaded} files and descriptions downloaded");
            }
        } else if line.starts_with("[ERROR]") {
            errors.push(line);
        }
    }
    ensure!(
        maven.wait()?.success(),
        "Maven did not resolve the parts; check the network and the mirrors in ~/.m2/settings.xml, then try again. \
         Maven's errors:\n{}",
        errors.join("\n")
    );
    Ok(())
}
