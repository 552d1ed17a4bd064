//! An outbox as a whole.

use std::collections::BTreeMap;
use std::ops::Deref;

use super::settings::Settings;
use super::unfit::{self, Unfit};
use crate::retention::Retention;
use crate::topic::{self, InvalidTopic};

/// The most bytes of a name in PostgreSQL, which cuts off the rest in silence.
const MAX_NAME: usize = 63;
/// What the slot's name adds to the context's.
pub(super) const SLOT_SUFFIX: &str = "_outbox";

/// What an outbox and the way from it to Kafka are to be; [`Specification::new`] checks it.
///
/// ```
/// use outbox::Retention;
/// use outbox::specification::{Outline, Settings};
///
/// let outline = Outline {
///     context: "account".to_owned(),
///     address: ("127.0.0.1".to_owned(), 5432),
///     database: "account_db".to_owned(),
///     writers: vec!["account_service".to_owned()],
///     keeper: "account_keeper".to_owned(),
///     topics: vec!["account".to_owned()],
///     retention: Retention::default(),
///     settings: Settings::of_role("account_cdc"),
/// };
/// // A second outbox on the same server needs a context, roles and topics of its own.
/// let other = Outline { context: "ledger".to_owned(), topics: vec!["ledger".to_owned()], ..outline.clone() };
/// assert_ne!(outline, other);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The name of the bounded context, such as `order`. Connector, slot and Debezium's own topics are named after it, so two outboxes
    /// never share one.
    pub context: String,
    /// The database's host and port, as the service reaches it.
    pub address: (String, u16),
    /// The database's name.
    pub database: String,
    /// The roles that append.
    pub writers: Vec<String>,
    /// The role that runs the keeper: it watches the slot and removes old rows.
    pub keeper: String,
    /// The topics that its events go to: the aggregate types that it publishes. The table refuses rows for any other.
    ///
    /// To add one, run `migrate` and declare the connector anew, in this order, before a release appends to it. To remove one, let no
    /// release append to it first: the constraint holds for every process that writes, also for one that is still being replaced. Rows
    /// and messages of a removed topic stay until their retention ends.
    pub topics: Vec<String>,
    /// How long rows and messages stay.
    pub retention: Retention,
    /// What an operator configures.
    pub settings: Settings,
}

/// An outbox and the way from it to Kafka, by names that PostgreSQL, Kafka and Kafka Connect take. It reads as its [`Outline`].
///
/// ```
/// use outbox::Retention;
/// use outbox::specification::{Outline, Settings, Specification};
///
/// let specification = Specification::new(Outline {
///     context: "account".to_owned(),
///     address: ("127.0.0.1".to_owned(), 5432),
///     database: "account_db".to_owned(),
///     writers: vec!["account_service".to_owned()],
///     keeper: "account_keeper".to_owned(),
///     topics: vec!["account".to_owned()],
///     retention: Retention::default(),
///     settings: Settings::of_role("account_cdc"),
/// })?;
/// assert_eq!(specification.slot(), "account_outbox");
/// assert_eq!(specification.topics, ["account"]);
/// // `name` and `config`, as Kafka Connect's REST API takes them.
/// assert_eq!(specification.to_json()["config"]["slot.name"], "account_outbox");
/// # Ok::<(), outbox::specification::Invalid>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Specification(Outline);

/// An outline that PostgreSQL, Kafka or Kafka Connect would not take.
///
/// ```
/// use outbox::specification::Invalid;
///
/// let refused = Invalid::Context("sales-eu".to_owned());
/// assert!(refused.to_string().contains("replication slot"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// PostgreSQL takes no replication slot of this name.
    #[error(
        "{0:?} is no name of a context: it consists of lower-case ASCII letters, digits and _, {max} at most, as the name of its \
         replication slot does",
        max = MAX_NAME - SLOT_SUFFIX.len()
    )]
    Context(String),
    /// No event can go to a topic of this name.
    #[error("no event can go to topic {name:?}: {source}")]
    Topic {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: InvalidTopic,
    },
    /// There is no topic.
    #[error("an outbox publishes to one topic at least; name the aggregate types of its events")]
    NoTopics,
    /// Kafka takes only one of two topics whose names differ in nothing but `.` and `_`.
    #[error("Kafka takes only one of the topics {0:?} and {1:?}: it does not distinguish . from _")]
    Alike(String, String),
    /// PostgreSQL has no role or database of this name.
    #[error(
        "{what} {name:?} has no name that PostgreSQL takes: 1 to {MAX_NAME} bytes without U+0000, none of its own"
    )]
    Name {
        /// Whose name it is.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// No connector can be derived from it.
    #[error(transparent)]
    Connector(#[from] Unfit),
    /// No topic has fewer than one replica.
    #[error("the replication factor is 0; set it to 1 on a single broker, to 3 on a cluster")]
    NoReplica,
}

impl Specification {
    /// Checks an outline.
    ///
    /// # Errors
    /// [`Invalid`]: the first name that PostgreSQL, Kafka or Kafka Connect would not take, or would take for something else.
    pub fn new(outline: Outline) -> Result<Self, Invalid> {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let context = &outline.context;
        if context.is_empty()
            || context.len() + SLOT_SUFFIX.len() > MAX_NAME
            || !context.bytes().all(legal)
        {
            return Err(Invalid::Context(context.clone()));
        }
        check_topics(&outline.topics)?;
        let writers = outline.writers.iter().map(|writer| ("the writer", writer));
        let names = [
            ("the keeper", &outline.keeper),
            ("Debezium's role", &outline.settings.user),
            ("the database", &outline.database),
        ];
        for (what, name) in writers.chain(names) {
            // PostgreSQL reads the first as everyone, quoted or not, and keeps the others for itself.
            let reserved = ["public", "none"].contains(&name.as_str()) || name.starts_with("pg_");
            if name.is_empty() || name.len() > MAX_NAME || name.contains('\0') || reserved {
                let name = name.clone();
                return Err(Invalid::Name { what, name });
            }
        }
        // Kafka Connect's way to the database is the one that counts.
        let host = outline.settings.host.as_ref().unwrap_or(&outline.address.0);
        unfit::check(host, &outline.database, &outline.settings.user)?;
        if outline.settings.replication_factor == 0 {
            return Err(Invalid::NoReplica);
        }
        Ok(Self(outline))
    }
}

fn check_topics(topics: &[String]) -> Result<(), Invalid> {
    if topics.is_empty() {
        return Err(Invalid::NoTopics);
    }
    // Kafka's metrics have no `.`, so it refuses a second topic that would have the same one.
    let mut known = BTreeMap::new();
    for name in topics {
        topic::check(name).map_err(|source| Invalid::Topic {
            name: name.clone(),
            source,
        })?;
        if let Some(other) = known.insert(name.replace('.', "_"), name) {
            return Err(Invalid::Alike(other.clone(), name.clone()));
        }
    }
    Ok(())
}

impl Deref for Specification {
    type Target = Outline;

    fn deref(&self) -> &Outline {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline() -> Outline {
        Outline {
            context: "order".to_owned(),
            address: ("127.0.0.1".to_owned(), 5432),
            database: "order_db".to_owned(),
            writers: vec!["order_service".to_owned()],
            keeper: "order_keeper".to_owned(),
            topics: vec!["order".to_owned()],
            retention: Retention::default(),
            settings: Settings::of_role("order_cdc"),
        }
    }

    fn invalid(change: impl FnOnce(&mut Outline)) -> Invalid {
        let mut outline = outline();
        change(&mut outline);
        Specification::new(outline).unwrap_err()
    }

    #[test]
    fn names_that_postgresql_kafka_or_connect_would_not_take_are_refused() {
        assert!(Specification::new(outline()).is_ok());
        for context in ["", "sales-eu", "Order", "order ", "ä", &"a".repeat(57)] {
            let refused = invalid(|it| context.clone_into(&mut it.context));
            assert_eq!(refused, Invalid::Context(context.to_owned()));
        }
        for topic in [
            "",
            "sales order",
            "..",
            "__consumer_offsets",
            &"a".repeat(250),
        ] {
            let refused = invalid(|it| it.topics.push(topic.to_owned()));
            assert!(matches!(refused, Invalid::Topic { .. }), "{topic}");
        }
        assert_eq!(invalid(|it| it.topics.clear()), Invalid::NoTopics);
        for alike in ["order", "sales.eu"] {
            let refused = invalid(|it| it.topics.extend(["sales_eu".to_owned(), alike.to_owned()]));
            assert!(matches!(refused, Invalid::Alike(..)), "{alike}");
        }
        for name in ["", &"r".repeat(64), "r\0", "public", "pg_monitor"].map(str::to_owned) {
            let refused = invalid(|it| it.writers.push(name.clone()));
            assert!(matches!(refused, Invalid::Name { .. }));
            let refused = invalid(|it| it.settings.user = name);
            assert!(matches!(refused, Invalid::Name { .. }));
        }
        let refused = invalid(|it| "db?ssl=false".clone_into(&mut it.database));
        assert!(matches!(refused, Invalid::Connector(Unfit::Address { .. })));
        assert_eq!(
            invalid(|it| it.settings.replication_factor = 0),
            Invalid::NoReplica
        );
    }
}
