#![doc = include_str!("../README.md")]

mod append;
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
pub use retention::{Retention, Unsafe};
