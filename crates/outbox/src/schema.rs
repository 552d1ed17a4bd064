//! The library's own tables: their migrations, and the grants of the roles that use them.
//!
//! The tables come in two [parts](Part): a service that appends asks for [`Part::Publisher`], one that listens for
//! [`Part::Listener`]. [`migrate`] creates or upgrades them and grants each of the [`Roles`] what its work needs, no more. Run it
//! as the database's owner, before the release that needs it serves:
//!
//! ```no_run
//! use outbox::schema::{self, Part, Roles};
//! use sqlx::{Connection, PgConnection};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mut owner = PgConnection::connect("postgres://account_owner@localhost/account_db").await?;
//! let roles = Roles::default()
//!     .writer("account_service")
//!     .cdc("account_cdc")
//!     .keeper("account_keeper")
//!     .listener("account_service");
//! schema::migrate(&mut owner, &[Part::Publisher, Part::Listener], &roles).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Upgrades
//! Each part has a version table of its own ([`Part::version_table`]), so that the library's versions never meet those of a
//! service's own migrations. Two services may share a database and ask for the same part: one migrates, the other waits for it and
//! finds nothing to do. A change is additive – a table, a column that may stay empty, an index –, so the old release serves while the
//! new one migrates, and an old release starts on a newer schema: a rollback needs no migration.
//!
//! A migration that waits for a lock blocks each statement that comes after it, so `lock_timeout` is 3 s. A step that gets no lock
//! rolls back and is attempted again, five times in all: a migration, the grants, a query of the version table. [`migrate`] builds an
//! index on a table that may be large concurrently, outside a transaction, and waits longer, since no statement waits behind it. An
//! interrupted build leaves an invalid index, which the next attempt drops and builds again.
//!
//! # Topics
//! The outbox's column `aggregatetype` names the topic of a row, and any role that may insert could name any topic. So the table refuses
//! a name that Kafka would refuse (`outbox_topic_name`), and [`migrate`] adds a constraint with the topics that [`Roles::topic`] names, or
//! those of a [specification](crate::specification::Specification) (`outbox_topics`). When they change, the next [`migrate`] replaces the
//! constraint, under the table's lock for a moment and without reading its rows: rows of a topic that is no longer named stay.
//!
//! # The SQL in a folder of your own
//! A team whose own tool applies all SQL takes the text from [`Part::migrations`] and [`Roles::grants`], and writes each to a file
//! once:
//!
//! ```
//! use outbox::schema::{Part, Roles};
//!
//! for migration in Part::Publisher.migrations() {
//!     let file = format!("outbox_publisher_{:04}_{}.sql", migration.version, migration.description);
//!     // Alone in its file where it is not to run in a transaction.
//!     println!("{file}, in a transaction: {}\n{}", migration.in_transaction, migration.sql);
//!     println!("{}", migration.record());
//! }
//! println!("{}", Roles::default().writer("account_service").cdc("account_cdc").grants(Part::Publisher));
//! ```
//!
//! The database is then the same as after [`migrate`]. With the statements of [`Migration::record`] it also says so: a later
//! [`migrate`] finds each version applied. Without them [`migrate`] refuses such a database with [`Error::Unrecorded`], and changes
//! nothing.

mod attempts;
mod concurrent_index;
mod error;
mod grants;
mod migrate;
mod migration;
mod session;
pub(crate) mod topics;

pub use error::Error;
pub use grants::Roles;
pub use migrate::{migrate, migrate_own};
pub use migration::{Migration, Part};
