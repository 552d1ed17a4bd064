//! The transactional outbox and its other half, the inbox, over PostgreSQL, Debezium and Kafka.
// For rustdoc alone, so that an edit of the document compiles nothing.
#![cfg_attr(doc, doc = "", doc = include_str!("../README.md"))]

mod append;
#[cfg(any(feature = "keeper", feature = "listener"))]
pub mod deadline;
#[cfg(feature = "listener")]
mod duration;
mod event;
#[cfg(feature = "keeper")]
pub mod keeper;
#[cfg(feature = "listener")]
pub mod listener;
pub mod message;
mod property;
mod retention;
pub mod schema;
pub mod specification;

pub use append::append;
pub use event::{Event, Outgoing, Unpublishable};
pub use retention::{Retention, UnsafeRetention};
