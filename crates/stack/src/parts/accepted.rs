//! The versions that are accepted of Kafka and PostgreSQL where they come from elsewhere: `accepted` in
//! `parts/routes.json`, each range with its first version and the first one beyond it. Nix holds nixpkgs to the same.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::Parts;
use crate::process::die_with_parent;

/// The jar that every Kafka has, and that bears its version.
const JAR: &str = "kafka-clients-";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Accepted {
    kafka: Range,
    postgresql: Range,
}

impl Accepted {
    /// Looks at what `parts` really are.
    ///
    /// # Errors
    /// What is there instead of what, and who named it.
    pub(super) fn holds(&self, parts: &Parts) -> Result<()> {
        kafka(&parts.kafka)
            .and_then(|found| self.kafka.holds("Kafka", &found))
            .with_context(|| named("STACK_KAFKA", &parts.kafka))?;
        postgresql(&parts.postgres)
            .and_then(|found| self.postgresql.holds("PostgreSQL", &found))
            .with_context(|| named("STACK_POSTGRES", &parts.postgres))
    }
}

fn named(variable: &str, folder: &Path) -> String {
    format!(
        "{variable} names {}, which cannot be used",
        folder.display()
    )
}

/// From a version on, and below another.
#[derive(Debug, Deserialize)]
struct Range(Version, Version);

impl Range {
    fn holds(&self, part: &str, found: &Version) -> Result<()> {
        let Self(first, beyond) = self;
        ensure!(
            first <= found && found < beyond,
            "{part} is {found}, but must be {first} or later, and below {beyond}"
        );
        Ok(())
    }
}

/// The numbers of a version; 5.0 is not below 5.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Version(Vec<u32>);

impl Version {
    /// What `text` begins with: candidates and snapshots count as what they are to become, `19beta1` as 19.
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
            .ok_or_else(|| format!("{text:?} is no version"))
    }
}

impl Display for Version {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u32::to_string).collect();
        to.write_str(&numbers.join("."))
    }
}

/// By the names of the jars.
fn kafka(folder: &Path) -> Result<Version> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let version = name.strip_prefix(JAR).and_then(Version::leading);
        if let Some(version) = version {
            return Ok(version);
        }
    }
    bail!("there is no {JAR}VERSION.jar; it must be the folder with Kafka's jars")
}

/// By its own word, as `postgres (PostgreSQL) 18.6`.
fn postgresql(folder: &Path) -> Result<Version> {
    let program = folder.join("postgres");
    let mut command = Command::new(&program);
    die_with_parent(&mut command);
    let output = command
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.trim()
        .strip_prefix("postgres (PostgreSQL) ")
        .and_then(Version::leading)
        .with_context(|| format!("{} does not say what it is: {said:?}", program.display()))
}

#[cfg(test)]
mod tests {
    use super::super::POM;
    use super::super::routes::ROUTES;
    use super::*;

    fn version(text: &str) -> Version {
        Version::leading(text).unwrap()
    }

    #[test]
    fn versions_within_the_range_are_accepted_and_no_others() {
        let accepted = &ROUTES.accepted;
        for (range, found, holds) in [
            (&accepted.kafka, "4.1.9", false),
            (&accepted.kafka, "4.2", true),
            (&accepted.kafka, "4.2.1", true),
            (&accepted.kafka, "4.10.0-SNAPSHOT.jar", true),
            (&accepted.kafka, "5.0.0-rc1", false),
            (&accepted.postgresql, "16.14", false),
            (&accepted.postgresql, "17.0", true),
            (&accepted.postgresql, "18.6 (Debian 18.6-1)", true),
            (&accepted.postgresql, "19beta1", false),
        ] {
            assert_eq!(range.holds("it", &version(found)).is_ok(), holds, "{found}");
        }
    }

    #[test]
    fn what_is_refused_is_named_with_what_would_do() {
        let error = ROUTES.accepted.kafka.holds("Kafka", &version("3.9.1"));
        assert_eq!(
            error.unwrap_err().to_string(),
            "Kafka is 3.9.1, but must be 4.2 or later, and below 5"
        );
    }

    #[test]
    fn text_that_is_no_version_is_none() {
        for text in ["", ".", "v4", "4..2", "99999999999"] {
            assert_eq!(Version::leading(text), None, "{text}");
        }
        serde_json::from_str::<Version>(r#""4.2 or so""#).unwrap_err();
    }

    /// The parts that are pinned here are among those that are accepted from elsewhere.
    #[test]
    fn the_pinned_versions_are_accepted() {
        let pinned = |name: &str| {
            let (_, rest) = POM.split_once(&format!("<{name}.version>")).unwrap();
            version(rest)
        };
        let accepted = &ROUTES.accepted;
        accepted.kafka.holds("Kafka", &pinned("kafka")).unwrap();
        let postgres = pinned("postgres");
        accepted.postgresql.holds("PostgreSQL", &postgres).unwrap();
    }
}
