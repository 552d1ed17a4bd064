//! The steps of the model, and their wording in a counterexample.

use std::fmt::{self, Display, Formatter};

use super::set::{Set, offset, partition};

/// A step of a worker or a redriver (the first argument), of Kafka, or a fault.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    Assign(usize, usize),
    Revoke(usize, usize),
    ExpireSession(usize),
    NoticeExpiry(usize),
    Crash(usize),
    CommitOffset(usize, usize, usize),
    Rewind(usize, usize),
    PruneInbox(usize),
    TakeBatch(usize, Set),
    FailAlone(usize),
    LockEpochs(usize),
    InsertInbox(usize),
    LockKeys(usize),
    Refuse(usize, usize),
    Bisect(usize),
    BlockKeys(usize),
    Commit(usize),
    CommitUnacknowledged(usize),
    Abort(usize),
    FinishBatch(usize),
    ChooseRedrive(usize, usize),
    ChooseDiscard(usize, usize),
    FindNoHead(usize),
    LockDeadLetter(usize, usize),
    HandleDeadLetter(usize, usize, bool),
    FailRedrive(usize, usize),
    CommitRedrive(usize, usize),
    RecordError(usize, usize),
    CrashRedrive(usize),
}

struct Worker(usize);

impl Display for Worker {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}", if self.0 == 0 { 'A' } else { 'B' })
    }
}

struct Redriver(usize);

impl Display for Redriver {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "redriver {}", self.0 + 1)
    }
}

struct Messages(Set);

impl Display for Messages {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let names = self
            .0
            .iter()
            .map(|slot| format!("p{}@{}", partition(slot), offset(slot)));
        f.write_str(&names.collect::<Vec<_>>().join(", "))
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Assign(w, p) => write!(f, "{} is assigned p{p}", Worker(w)),
            Self::Revoke(w, p) => write!(f, "p{p} is revoked from {}", Worker(w)),
            Self::ExpireSession(w) => write!(
                f,
                "{} stalls: its session expires, its partitions are unassigned",
                Worker(w)
            ),
            Self::NoticeExpiry(w) => {
                write!(f, "{} notices that it lost its partitions", Worker(w))
            }
            Self::Crash(w) => write!(f, "{} crashes and restarts", Worker(w)),
            Self::CommitOffset(w, p, o) => write!(
                f,
                "{}'s commit of offset {o} of p{p} reaches Kafka",
                Worker(w)
            ),
            Self::Rewind(w, p) => {
                write!(f, "{} rewinds p{p} to the committed offset", Worker(w))
            }
            Self::PruneInbox(e) => write!(
                f,
                "retention deletes e{e} from the inbox: Kafka cannot deliver it any more"
            ),
            Self::TakeBatch(w, messages) => {
                write!(f, "{} takes the batch {}", Worker(w), Messages(messages))
            }
            Self::FailAlone(w) => write!(
                f,
                "{}'s handler fails on a single message, for an unknown reason: it stays unsettled",
                Worker(w)
            ),
            Self::LockEpochs(w) => write!(f, "{} locks or claims its epoch rows", Worker(w)),
            Self::InsertInbox(w) => write!(f, "{} inserts its events into the inbox", Worker(w)),
            Self::LockKeys(w) => write!(f, "{} locks the rows of its blocked keys", Worker(w)),
            Self::Refuse(w, e) => write!(
                f,
                "{}'s handler refuses e{e}: rollback, then the same part with e{e} as a dead letter",
                Worker(w)
            ),
            Self::Bisect(w) => write!(f, "{} rolls back and bisects the batch", Worker(w)),
            Self::BlockKeys(w) => {
                write!(
                    f,
                    "{} inserts dead letters and blocks their keys",
                    Worker(w)
                )
            }
            Self::Commit(w) => write!(f, "{} commits its transaction", Worker(w)),
            Self::CommitUnacknowledged(w) => write!(
                f,
                "{} commits, but its connection breaks before the acknowledgement",
                Worker(w)
            ),
            Self::Abort(w) => write!(f, "{}'s transaction is aborted", Worker(w)),
            Self::FinishBatch(w) => write!(f, "{} finishes its batch", Worker(w)),
            Self::ChooseRedrive(r, e) => {
                write!(f, "{} chooses the dead letter of e{e}", Redriver(r))
            }
            Self::ChooseDiscard(r, e) => write!(
                f,
                "{} chooses the dead letter of e{e} to discard it",
                Redriver(r)
            ),
            Self::FindNoHead(r) => write!(
                f,
                "{} finds the dead letter removed, or parked behind another",
                Redriver(r)
            ),
            Self::LockDeadLetter(r, e) => {
                write!(f, "{} locks the dead letter of e{e}", Redriver(r))
            }
            Self::HandleDeadLetter(r, e, true) => write!(
                f,
                "{} has handled e{e}, and sees no other dead letter of its key",
                Redriver(r)
            ),
            Self::HandleDeadLetter(r, e, false) => write!(
                f,
                "{} has handled e{e}, and leaves its key as it is",
                Redriver(r)
            ),
            Self::FailRedrive(r, e) => {
                write!(f, "{}'s handler fails e{e} again: rollback", Redriver(r))
            }
            Self::CommitRedrive(r, e) => write!(
                f,
                "{} removes the dead letter of e{e} and commits",
                Redriver(r)
            ),
            Self::RecordError(r, e) => {
                write!(f, "{} records the new error of e{e}", Redriver(r))
            }
            Self::CrashRedrive(r) => write!(f, "{} crashes", Redriver(r)),
        }
    }
}
