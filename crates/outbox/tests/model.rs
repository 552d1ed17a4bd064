//! A model checker of the listener's protocol: a state machine of the consuming side, explored exhaustively within small
//! bounds.
//!
//! The model has two workers, one topic of one or two partitions, a few events, and processes that redrive. Messages are
//! delivered from the committed offset. A worker may stall between any two statements (the model does not say when a step
//! is taken), lose a partition with or without notice, claim late, crash, have a transaction aborted, or miss the
//! acknowledgement of its commit. The steps of a transaction are its statements, each up to the row that it has to wait for;
//! other transactions see its writes once it commits. Faults are bounded, stalls are not.
//!
//! Invariants of every state: no event is applied twice, no event is applied before an earlier one of its key, and the
//! committed offset has passed only events that are applied, dead-lettered or discarded. Progress: from every state a
//! settled one can be reached without another fault. So the protocol has no deadlock, and no state that only a restart by an
//! operator or a rebalance can resolve.
//!
//! Outside the model: PostgreSQL's deadlock detection, the order of ids (here that of the events), the dead letter that an
//! unknown error leads to, the wait for a busy key in a batch that leaves no room for other messages, and the bound of the
//! automatic retries of a deferred event.
#![expect(
    clippy::print_stdout,
    reason = "each test prints the number of states and its counterexample"
)]

#[path = "model/action.rs"]
mod action;
#[path = "model/batch.rs"]
mod batch;
#[path = "model/checker.rs"]
mod checker;
#[path = "model/database.rs"]
mod database;
#[path = "model/handler.rs"]
mod handler;
#[path = "model/in_flight.rs"]
mod in_flight;
#[path = "model/kafka.rs"]
mod kafka;
#[path = "model/machine.rs"]
mod machine;
#[path = "model/mistakes.rs"]
mod mistakes;
#[path = "model/protocol.rs"]
mod protocol;
#[path = "model/redrive.rs"]
mod redrive;
#[path = "model/redriver.rs"]
mod redriver;
#[path = "model/set.rs"]
mod set;
#[path = "model/state.rs"]
mod state;
#[path = "model/statement.rs"]
mod statement;
#[path = "model/transaction.rs"]
mod transaction;
#[path = "model/verdict.rs"]
mod verdict;
#[path = "model/worker.rs"]
mod worker;
#[path = "model/world.rs"]
mod world;
#[path = "model/worlds.rs"]
mod worlds;
