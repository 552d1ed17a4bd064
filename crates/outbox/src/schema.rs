//! The library's own tables, as SQL for a service's migrations.
//!
//! Copy the text into migrations of your own and grant what each role needs; a test of this workspace holds
//! its migrations to these texts.

/// Tables `outbox` and `heartbeat` and the publication `outbox`: for a service that publishes.
pub const OUTBOX: &str = include_str!("../schema/outbox.sql");

/// Tables `inbox`, `epoch` and `dead_letter`: for a service that listens.
pub const INBOX: &str = include_str!("../schema/inbox.sql");
