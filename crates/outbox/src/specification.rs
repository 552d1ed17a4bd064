//! One typed description of an outbox: its roles, its replication slot, its topics, its form on the wire.
//!
//! It yields the connector's configuration ([`Specification::to_json`]), names the roles that are granted something
//! ([`Roles::from`](crate::schema::Roles)), and is compared with a migrated database ([`Specification::check`]), so that table, grants,
//! publication and connector cannot drift apart.

mod check;
mod connector;
mod derived;
mod outbox;
mod properties;
mod settings;

pub use check::{Drift, Error};
pub use outbox::Specification;
pub use properties::{Properties, Reserved};
pub use settings::{NoReference, PasswordReference, Settings, WireForm};
