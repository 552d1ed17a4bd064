//! Kafka Connect: a client of its REST API, and a reconciler that keeps its connectors as a folder of files declares them.
//!
//! - [`Client`] speaks the REST API, as far as connectors need it.
//! - [`Reconciler`] creates, updates and removes connectors, and restarts what FAILED, which Kafka Connect never does by itself.
//! - [`differences`] shows what the reconciler would change.
//! - [`reread`](reread()) has a connector read its outbox again from the first row, after messages were lost.
//!
//! The program `connect` is their command line: `connect reconcile FOLDER`, `connect diff FOLDER`, `connect status`,
//! `connect reread NAME`.
//!
//! ```no_run
//! use connect::{Client, Reconciler};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("http://127.0.0.1:8083")?;
//! let mut reconciler = Reconciler::new(client, "/etc/connectors", "connect");
//! let pass = reconciler.pass().await?;
//! println!("created or updated: {:?}; settled: {}", pass.put, pass.is_settled());
//! # Ok(())
//! # }
//! ```

mod client;
pub mod declared;
mod plan;
pub mod reconciler;
mod reread;
mod restarts;
mod status;

pub use client::{Access, Client, Configured, Error, Info};
pub use plan::{Change, differences};
pub use reconciler::{Pass, Reconciler};
pub use reread::{Error as RereadError, Left, reread};
pub use status::{ConnectorState, State, Status, Task};
