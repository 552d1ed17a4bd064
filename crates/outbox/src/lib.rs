//! The transactional outbox and its other half, the inbox, over PostgreSQL, Debezium and Kafka.
//!
//! | a service that | uses | feature |
//! | --- | --- | --- |
//! | publishes | [`append`], [`Event`], [`Outgoing`] | – |
//! | creates its tables and grants | [`schema::migrate`], [`schema::Roles`] | – |
//! | declares its connector | [`specification::Specification`] | – |
//! | gives its topics what it declares | `specification::Specification::apply_topics` | `topics` |
//! | watches and trims its outbox | `keeper::Keeper` | `keeper` |
//! | listens | `listener::Listener`, `listener::Handler` | `listener` |
//! | manages dead letters | `listener::DeadLetters` | `listener` |
//! | reads messages by means of its own | [`message::Message`] | – |
//!
//! Without a feature the crate links neither Kafka's client nor a metrics facade.
//!
//! An event's way: [`Outgoing::new`] makes a row of it and reads it back, [`append`] writes it in the caller's transaction, Debezium
//! carries it from the write-ahead log to the topic of its aggregate's type, and a listener applies it in one transaction with the row of
//! the inbox that makes each further delivery a no-op. What a listener cannot apply becomes a dead letter in that transaction; it is
//! never skipped.
// For rustdoc alone, so that an edit of the document compiles nothing.
#![cfg_attr(doc, doc = "", doc = include_str!("../README.md"))]

mod append;
#[cfg(any(feature = "keeper", feature = "listener"))]
pub mod deadline;
#[cfg(feature = "listener")]
mod duration;
mod event;
mod json;
#[cfg(feature = "keeper")]
pub mod keeper;
#[cfg(feature = "listener")]
pub mod listener;
pub mod message;
mod property;
mod retention;
pub mod schema;
pub mod specification;
mod topic;

pub use append::append;
pub use event::{Event, Outgoing, Unpublishable};
pub use retention::{Retention, UnsafeRetention};
pub use topic::InvalidTopic;

/// The repository's README, whose example compiles as those of this crate do.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
