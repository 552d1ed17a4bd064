//! The commands on real PostgreSQL.

mod commands;
mod discard;
mod fixture;
mod list;
mod lost_answers;
mod redrive;
