//! Differences between an outbox and its specification.

use std::fmt;

/// One difference between what the outbox needs, and what database or Kafka have.
///
/// ```
/// use outbox::specification::Error;
///
/// fn columns(error: &Error) -> Vec<&str> {
///     let Error::Drifted(drifts) = error else { return Vec::new() };
///     drifts.iter().map(|drift| drift.what.as_str()).filter(|what| what.starts_with("table ")).collect()
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drift {
    /// The object, such as `table outbox, column payload` or `topic order, retention.ms`.
    pub what: String,
    /// What the outbox needs.
    pub needed: String,
    /// What it has.
    pub found: String,
    /// What an operator does about it.
    pub remedy: String,
}

/// What the command `migrate` mends: what is missing altogether, and grants.
pub(super) const MIGRATE: &str = "run the command `migrate`";
/// What it does not: it never changes again what it has created.
pub(super) const RESTORE: &str =
    "restore it by hand as its owner; `migrate` changes nothing that it has created";

impl fmt::Display for Drift {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            needed,
            found,
            remedy,
        } = self;
        write!(
            formatter,
            "{what}: the outbox needs {needed}, and has {found}; {remedy}"
        )
    }
}

/// Adds a difference, if there is one.
pub(super) fn compare(
    drifts: &mut Vec<Drift>,
    what: String,
    needed: &str,
    found: &str,
    remedy: &str,
) {
    if needed != found {
        drifts.push(Drift {
            what,
            needed: needed.to_owned(),
            found: found.to_owned(),
            remedy: remedy.to_owned(),
        });
    }
}

/// The names of those that are true.
pub(super) fn named(all: &[(bool, &str)]) -> String {
    let names: Vec<&str> = all
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, name)| *name)
        .collect();
    names.join(", ")
}
