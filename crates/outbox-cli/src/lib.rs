//! The commands of an outbox and of a listener, for the command line of any service.
//!
//! A service mounts them under its own [clap] command and gives them the connection:
//!
//! - [`publisher::Command`], for a service with an outbox: `migrate`, `connector`, `check-outbox`, `accept-database`;
//!   with the feature `topics` also `apply-topics`, and `check-outbox` looks at Kafka too.
//! - [`dead_letters::Command`], for a service with a listener: `list`, `show`, `redrive`, `discard`. The service names their parent,
//!   as `dead-letters` below.
//!
//! A service with one of the two mounts that one alone, and takes its feature alone: `publisher` or `dead-letters`. With `publisher`
//! alone it does not link Kafka's client.
//!
//! Every command does its work while the service runs, and while it does not, under the service's own roles. What it answers goes to
//! standard output; the program may log there too. Errors are returned: the program prints them, with their sources.
//!
//! # Exit codes
//! - 0: all that was asked for is done; also when `list` finds no dead letter.
//! - 1: an error.
//! - 2: a command line that does not parse.
//! - 3: a dead letter remains, also because `--most` was reached before it; another process took one before `discard` did; or `show`,
//!   `redrive` or `discard` finds none.
//!
//! # A whole program
//! ```no_run
#![doc = include_str!("../examples/service.rs")]
//! ```

#[cfg(feature = "dead-letters")]
pub mod dead_letters;
#[cfg(feature = "publisher")]
pub mod publisher;
