//! One typed description of an outbox: its roles, its replication slot, its topics, its form on the wire.
//!
//! It yields the connector's configuration ([`Specification::to_json`]), names the roles that need grants
//! ([`Roles::from`](crate::schema::Roles)), and compares a migrated database with itself ([`Specification::check`]), and with
//! the feature `topics` Kafka (`Specification::check_topics`), so that table, grants, publication, connector and topics cannot drift apart.
//!
//! The connector that it yields
//! - loses no event: it retries without end, and after a lost slot it reads the whole outbox again (`snapshot.mode=when_needed`), which the
//!   inboxes make safe;
//! - publishes the events of an aggregate in the order of the column `seq`, also when it reads the outbox again;
//! - keeps the write-ahead log short: a heartbeat every two seconds lets the slot of an idle outbox advance;
//! - runs with least privilege: its role selects from `outbox` and writes `heartbeat`, and it creates neither publication nor table;
//! - holds no password: [`PasswordReference`] and [`Properties`] take secrets as references to a config provider only.

mod check;
mod connector;
mod decision;
mod derived;
mod drift;
mod error;
mod memory;
mod outbox;
mod properties;
mod settings;
#[cfg(feature = "topics")]
mod topics;
mod unfit;

pub use drift::Drift;
pub use error::Error;
#[cfg(feature = "topics")]
pub use error::TopicsError;
pub use outbox::{Invalid, Outline, Specification};
pub use properties::{Properties, Reserved};
pub use settings::{NoReference, PasswordReference, Settings, WireForm};
#[cfg(feature = "topics")]
pub use topics::Applied;
pub use unfit::Unfit;
