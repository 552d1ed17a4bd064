//! Kafka Connect's REST interface, as far as it takes to keep connectors as they were declared.

mod client;
mod status;

pub use client::{Client, Error};
pub use status::{Part, State, Status, Task};
