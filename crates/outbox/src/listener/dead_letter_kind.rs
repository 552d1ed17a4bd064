//! Why a message became a dead letter.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::failure::RefusalKind;

/// Why a message became a dead letter: the column `dead_letter.kind`.
///
/// ```
/// use outbox::listener::dead_letter::Kind;
///
/// assert_eq!("parked".parse(), Ok(Kind::Parked));
/// assert_eq!(Kind::Poison.as_str(), "poison");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// No retry can apply it: its bytes do not decode, its data violate a constraint, or the handler says so. Only an operator
    /// redrives it, once the cause is gone.
    Poison,
    /// The handler deferred it, since what it refers to was not visible. The listener retries it by itself for a while.
    Deferred,
    /// It failed alone in each of five attempts, for an unknown reason. The listener retries it by itself for a while.
    Unknown,
    /// It waits behind an earlier dead letter of its key. The listener retries it as soon as it is the first.
    Parked,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Poison, Self::Deferred, Self::Unknown, Self::Parked];

    /// The kind's name in the column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::Deferred => "deferred",
            Self::Unknown => "unknown",
            Self::Parked => "parked",
        }
    }

    /// Whether the listener retries it by itself after a failed attempt.
    pub(super) fn is_retried(self) -> bool {
        matches!(self, Self::Deferred | Self::Unknown)
    }

    pub(super) fn from_column(name: &str) -> Result<Self, sqlx::Error> {
        name.parse()
            .map_err(|unknown: UnknownKind| sqlx::Error::Decode(unknown.into()))
    }
}

/// The text names no [`Kind`].
///
/// ```
/// use outbox::listener::dead_letter::Kind;
///
/// let unknown = "postponed".parse::<Kind>().unwrap_err();
/// assert!(unknown.to_string().contains("deferred"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind of dead letter {name:?}; the kinds are {}", Kind::ALL.map(Kind::as_str).join(", "))]
pub struct UnknownKind {
    name: String,
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        let kind = Self::ALL.into_iter().find(|kind| kind.as_str() == name);
        kind.ok_or_else(|| UnknownKind {
            name: name.to_owned(),
        })
    }
}

impl From<RefusalKind> for Kind {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::Poison => Self::Poison,
            RefusalKind::Deferred => Self::Deferred,
        }
    }
}

impl Display for Kind {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.pad(self.as_str())
    }
}
