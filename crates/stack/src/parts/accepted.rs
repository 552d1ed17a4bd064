//! The versions of Kafka and PostgreSQL that are accepted from elsewhere: `accepted` in `parts/routes.json`, where each
//! range has its first version and the first one beyond it. Nix checks nixpkgs against the same ranges.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::child::die_with_parent;

/// The jar whose name holds Kafka's version.
const JAR: &str = "kafka-clients-";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Accepted {
    kafka: Range,
    postgresql: Range,
}

impl Accepted {
    /// Checks the versions of Kafka's jars and PostgreSQL's programs in these folders.
    ///
    /// # Errors
    /// If one is not accepted: the error names the version and the variable.
    pub(super) fn check(&self, jars: &Path, programs: &Path) -> Result<()> {
        kafka(jars)
            .and_then(|found| self.kafka.check("Kafka", &found))
            .with_context(|| named("STACK_KAFKA", jars))?;
        postgresql(programs)
            .and_then(|found| self.postgresql.check("PostgreSQL", &found))
            .with_context(|| named("STACK_POSTGRES", programs))
    }
}

fn named(variable: &str, folder: &Path) -> String {
    format!("cannot use {}, which {variable} names", folder.display())
}

/// From the first version, inclusive, to the second, exclusive.
#[derive(Debug, Deserialize)]
struct Range(Version, Version);

impl Range {
    fn check(&self, part: &str, found: &Version) -> Result<()> {
        let Self(first, beyond) = self;
        ensure!(
            first <= found && found < beyond,
            "{part} is {found}, but must be {first} or later, and below {beyond}"
        );
        Ok(())
    }
}

/// The numbers of a version, compared one by one: 5.0 is not below 5.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Version(Vec<u32>);

impl Version {
    /// The version that `text` begins with. A pre-release counts as its release: `19beta1` is 19.
    fn leading(text: &str) -> Option<Self> {
        let end = text.find(|character: char| !character.is_ascii_digit() && character != '.');
        let numbers = text.get(..end.unwrap_or(text.len()))?.trim_end_matches('.');
        let numbers = numbers.split('.').map(|number| number.parse().ok());
        numbers.collect::<Option<_>>().map(Self)
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::leading(&text)
            .filter(|version| version.to_string() == text)
            .ok_or_else(|| format!("{text:?} is not a version"))
    }
}

impl Display for Version {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u32::to_string).collect();
        to.write_str(&numbers.join("."))
    }
}

/// Kafka's version, from the name of a jar.
fn kafka(folder: &Path) -> Result<Version> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let version = name.strip_prefix(JAR).and_then(Version::leading);
        if let Some(version) = version {
            return Ok(version);
        }
    }
    bail!("the folder contains no {JAR}VERSION.jar; name the one with Kafka's jars")
}

/// PostgreSQL's version, from `postgres --version`: `postgres (PostgreSQL) 18.6`.
fn postgresql(folder: &Path) -> Result<Version> {
    let program = folder.join("postgres");
    let mut command = Command::new(&program);
    die_with_parent(&mut command);
    let output = command
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    printed
        .trim()
        .strip_prefix("postgres (PostgreSQL) ")
        .and_then(Version::leading)
        .with_context(|| {
            format!(
                "{} --version prints no version: {printed:?}",
                program.display()
            )
        })
}

#[cfg(test)]
mod tests;
