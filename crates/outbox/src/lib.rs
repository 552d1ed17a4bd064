#![doc = include_str!("../README.md")]

mod append;
pub mod connector;
mod event;
#[cfg(feature = "listener")]
pub mod listener;
pub mod message;
pub mod schema;

pub use append::append;
pub use event::{Event, Outgoing, Unpublishable};
