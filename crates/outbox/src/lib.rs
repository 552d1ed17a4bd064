#![doc = include_str!("../README.md")]

mod append;
mod event;
#[cfg(feature = "listener")]
pub mod listener;
pub mod message;
mod property;
pub mod schema;
pub mod specification;

pub use append::append;
pub use event::{Event, Outgoing, Unpublishable};
