//! What each role may do with the library's tables, and which topics its events may go to.

use super::migration::Part;
use super::topics;
use crate::specification::Specification;

/// The roles that use the library's tables; each is granted what its work needs, no more.
///
/// The roles exist before: they belong to the whole server, so no migration makes them. `cdc` is made with `LOGIN` and `REPLICATION`;
/// `keeper` is a member of it, so that it sees which process reads the slot (`grant account_cdc to account_keeper with inherit true,
/// set false`, by a superuser). None of them owns a table. A role may have several parts in it, as a service does that both appends
/// and listens. Names are quoted, so any name that PostgreSQL takes will do.
///
/// Grants are only added: a role that is no longer named keeps what it has until an operator revokes it.
///
/// ```
/// use outbox::schema::{Part, Roles};
///
/// let roles = Roles::default().writer("account_service").cdc("account_cdc");
/// assert!(roles.grants(Part::Publisher).starts_with("grant insert on outbox to \"account_service\";\n"));
/// // Neither of them uses the inbox.
/// assert_eq!(roles.grants(Part::Listener), "");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles {
    writers: Vec<String>,
    cdc: Vec<String>,
    keepers: Vec<String>,
    listeners: Vec<String>,
    topics: Vec<String>,
}

impl Roles {
    /// Adds a role that appends to the outbox.
    #[must_use]
    pub fn writer(mut self, role: impl Into<String>) -> Self {
        self.writers.push(role.into());
        self
    }

    /// Adds a topic that the writers' events may go to: an [aggregate type](crate::Event::AGGREGATE_TYPE). The table refuses rows of
    /// another one. If none is named, it takes each name that is one of a topic, as long as no [`migrate`](super::migrate) has named any.
    ///
    /// Remove a topic one release after the last that appends to it: the constraint holds for every release that runs.
    #[must_use]
    pub fn topic(mut self, name: impl Into<String>) -> Self {
        self.topics.push(name.into());
        self
    }

    /// Adds the role that Debezium connects as.
    #[must_use]
    pub fn cdc(mut self, role: impl Into<String>) -> Self {
        self.cdc.push(role.into());
        self
    }

    /// Adds a role that runs the keeper: it watches the slot, and removes old rows of outbox and inbox.
    #[must_use]
    pub fn keeper(mut self, role: impl Into<String>) -> Self {
        self.keepers.push(role.into());
        self
    }

    /// Adds a role that listens and looks after dead letters. Beside these grants it needs those of its handler, and is a
    /// [writer](Self::writer) too if the handler publishes.
    ///
    /// A listener notices a missing grant when it needs it, such as at its first dead letter: it then says so, and retries until the
    /// grant is there.
    #[must_use]
    pub fn listener(mut self, role: impl Into<String>) -> Self {
        self.listeners.push(role.into());
        self
    }

    /// The statements that grant the roles what they need of a part's tables, and that allow the topics; they may run more than once.
    #[must_use]
    pub fn grants(&self, part: Part) -> String {
        self.allowed_topics(part).unwrap_or_default() + &self.only_grants(part)
    }

    /// The statement that allows the topics, if any is named.
    pub(super) fn allowed_topics(&self, part: Part) -> Option<String> {
        (part == Part::Publisher && !self.topics.is_empty())
            .then(|| topics::statement(&self.topics))
    }

    /// The topics, each once, in their order.
    pub(super) fn topics(&self) -> Vec<String> {
        let mut topics = self.topics.clone();
        topics.sort();
        topics.dedup();
        topics
    }

    pub(super) fn only_grants(&self, part: Part) -> String {
        let of_part: Vec<(&[String], &[&str])> = match part {
            Part::Publisher => vec![
                (&self.writers, &WRITER),
                (&self.cdc, &CDC),
                (&self.keepers, &KEEPER_OF_OUTBOX),
            ],
            Part::Listener => vec![
                (&self.listeners, &LISTENER),
                (&self.keepers, &KEEPER_OF_INBOX),
            ],
        };
        let mut statements = Vec::new();
        for (roles, grants) in of_part {
            for role in roles {
                let role = quoted(role);
                statements.extend(
                    grants
                        .iter()
                        .map(|grant| format!("grant {grant} to {role};\n")),
                );
            }
        }
        statements.concat()
    }
}

/// The writers, the topics, the Debezium role and the keeper of a specification; a listener is added by its service.
impl From<&Specification> for Roles {
    fn from(specification: &Specification) -> Self {
        Self {
            writers: specification.writers.clone(),
            cdc: vec![specification.settings.user.clone()],
            keepers: vec![specification.keeper.clone()],
            listeners: Vec::new(),
            topics: specification.topics.clone(),
        }
    }
}

const WRITER: [&str; 1] = ["insert on outbox"];

const CDC: [&str; 2] = ["select on outbox", "select, insert, delete on heartbeat"];

const KEEPER_OF_OUTBOX: [&str; 3] = [
    "select, delete on outbox",
    // How many rows are behind.
    "select on sequence outbox_seq_seq",
    "select, insert, update on outbox_identity",
];

const KEEPER_OF_INBOX: [&str; 2] = [
    "select, delete on inbox",
    // The inbox row of a dead letter stays as long as that does.
    "select (listener, id) on dead_letter",
];

const LISTENER: [&str; 5] = [
    "select, insert on inbox",
    "select, insert, update on epoch",
    "select, insert, update (kind, error, attempts, retry_at), delete on dead_letter",
    "select, insert, update (blocked_at), delete on blocked_key",
    // The database itself records which role discarded a dead letter, and when: those columns are not granted.
    "insert (listener, id, kind, error, topic, partition, \"offset\", produced_at, key, header_names, header_values, value, \
     attempts, dead_lettered_at, reason) on discarded_dead_letter",
];

/// A name as an identifier: PostgreSQL takes it as it is written, and nothing in it is SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_name_is_an_identifier_whatever_it_holds() {
        let roles = Roles::default().writer("a\"; drop table outbox; --");
        assert_eq!(
            roles.grants(Part::Publisher),
            "grant insert on outbox to \"a\"\"; drop table outbox; --\";\n"
        );
    }
}
