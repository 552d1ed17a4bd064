//! The lock: the SHA-256 of every file of the parts.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::maven::{self, Platform};
use crate::digest::sha256;
use crate::replace::{Readers, replace};
use crate::say;

/// The lock at build time: a line `SHA-256  FOLDER/FILE` per file, in the order of their names.
pub(super) const LOCK: &str = include_str!("../../parts/parts.sha256");
/// The folder of pom and lock, from the top of the checkout.
const FOLDER: &str = "crates/stack/parts";

/// The names of files, each with its SHA-256.
type Sums = BTreeMap<String, String>;

fn parse(lock: &str) -> Sums {
    lock.lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(sum, name)| (name.to_owned(), sum.to_owned()))
        .collect()
}

fn format(sums: &Sums) -> String {
    sums.iter().fold(String::new(), |mut lock, (name, sum)| {
        // Writing to a string does not fail.
        let _ = writeln!(lock, "{sum}  {name}");
        lock
    })
}

/// The files of one platform's parts.
pub(super) fn expected(platform: Platform) -> Sums {
    let mut sums = parse(LOCK);
    sums.retain(|name, _| !name.contains("embedded-postgres") || name.contains(platform.name()));
    sums
}

/// The files that Maven has copied into `parts`.
fn found(parts: &Path) -> Result<Sums> {
    let mut sums = Sums::new();
    for folder in ["kafka", "archives"] {
        for entry in fs::read_dir(parts.join(folder))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().display();
            sums.insert(format!("{folder}/{name}"), sha256(fs::read(&path)?));
        }
    }
    Ok(sums)
}

/// Verifies that `parts` holds exactly the files in the lock.
///
/// # Errors
/// If a file is missing, unknown or different.
pub(super) fn verify(parts: &Path, platform: Platform) -> Result<()> {
    let mut expected = expected(platform);
    let files = expected.len();
    for (name, found) in found(parts)? {
        let Some(sum) = expected.remove(&name) else {
            bail!("{name} is not in the lock ({FOLDER}/parts.sha256); nothing was run");
        };
        ensure!(
            found == sum,
            "{name} has SHA-256 {found}, but the lock has {sum}; nothing was run. Remove the file from your Maven \
             repository (~/.m2) and try again; if the sum stays wrong, do not use the file"
        );
    }
    if let Some((missing, _)) = expected.first_key_value() {
        bail!("Maven did not resolve {missing}, which is in the lock; nothing was run");
    }
    say!("{files} files have their SHA-256 in the lock");
    Ok(())
}

/// Resolves the parts of all platforms anew in the folder `scratch`, and writes the lock of the checkout if it differs;
/// prints the difference.
///
/// # Errors
/// If Maven cannot resolve them, or the lock cannot be written.
pub(crate) fn refresh(checkout: &Path, scratch: &Path) -> Result<()> {
    let folder = checkout.join(FOLDER);
    let (pom, lock) = (scratch.join("pom.xml"), folder.join("parts.sha256"));
    let old = fs::read_to_string(&lock)
        .with_context(|| format!("cannot read {}; run this in the checkout", lock.display()))?;
    fs::copy(folder.join("pom.xml"), &pom)?;
    for platform in Platform::ALL {
        say!("resolving the parts with Maven for {}", platform.name());
        maven::copy(&pom, platform, scratch)?;
    }
    let sums = found(scratch)?;
    let new = format(&sums);
    if new == old {
        say!("{FOLDER}/parts.sha256 is current: {} files", sums.len());
        return Ok(());
    }
    replace(&lock, new.as_bytes(), Readers::Everyone)?;
    show(&difference(&old, &new));
    say!("{FOLDER}/parts.sha256 is written: {} files", sums.len());
    Ok(())
}

/// The lines that only the old lock has, marked `-`, and those that only the new one has, marked `+`.
fn difference(old: &str, new: &str) -> Vec<String> {
    let only = |mark, these: &str, those: &str| -> Vec<String> {
        let lines = these
            .lines()
            .filter(|line| those.lines().all(|that| that != *line));
        lines.map(|line| format!("{mark} {line}")).collect()
    };
    [only('-', old, new), only('+', new, old)].concat()
}

#[expect(clippy::print_stdout, reason = "the difference is the result")]
fn show(lines: &[String]) {
    println!("{}", lines.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_written_as_it_is_read() {
        assert_eq!(format(&parse(LOCK)), LOCK);
    }

    #[test]
    fn the_lock_has_one_postgresql_for_each_platform() {
        for platform in Platform::ALL {
            let sums = expected(platform);
            let servers = sums
                .keys()
                .filter(|name| name.contains("embedded-postgres"));
            assert_eq!(servers.count(), 1, "{platform:?}");
        }
    }

    #[test]
    fn the_difference_shows_removed_lines_then_added_ones() {
        let (old, new) = ("1  a\n2  b\n3  c\n", "1  a\n4  b\n5  d\n");
        assert_eq!(
            difference(old, new),
            ["- 2  b", "- 3  c", "+ 4  b", "+ 5  d"]
        );
    }
}
