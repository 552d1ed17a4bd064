//! Kafka Connect: its REST interface, as far as it takes to keep connectors as they were declared, and the reconciler
//! that keeps them so.

mod client;
pub mod declared;
pub mod reconciler;
mod reread;
mod status;

pub use client::{Client, Configured, Error, Info};
pub use reconciler::{Pass, Reconciler};
pub use reread::{Error as RereadError, reread};
pub use status::{Part, State, Status, Task};
