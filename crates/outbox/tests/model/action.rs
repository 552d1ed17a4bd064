//! The steps in words.

use std::fmt::{self, Display, Formatter};

use super::world::{DEPTH, Set};

/// A step: of a worker, a redriver (first argument), Kafka, or fate.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    Assign(usize, usize),
    Revoke(usize, usize),
    Expel(usize),
    NoticeExpulsion(usize),
    Crash(usize),
    CommitOffset(usize, usize, usize),
    Rewind(usize, usize),
    Forget(usize),
    Take(usize, Set),
    Leave(usize),
    Epochs(usize),
    Inbox(usize),
    Keys(usize),
    Refuse(usize, usize),
    Split(usize),
    Block(usize),
    Commit(usize),
    CommitUnheard(usize),
    Abort(usize),
    Answered(usize),
    Choose(usize, usize),
    ChooseDrop(usize, usize),
    NothingThere(usize),
    Lock(usize, usize),
    Handle(usize, usize, bool),
    FailAgain(usize, usize),
    Redriven(usize, usize),
    WriteDown(usize, usize),
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
            .map(|slot| format!("p{}@{}", slot / DEPTH, slot % DEPTH));
        f.write_str(&names.collect::<Vec<_>>().join(", "))
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Assign(w, p) => write!(
                f,
                "{} is assigned p{p}, from the committed offset",
                Worker(w)
            ),
            Self::Revoke(w, p) => {
                write!(f, "p{p} is revoked from {}, which hears of it", Worker(w))
            }
            Self::Expel(w) => write!(
                f,
                "{} stalls: its session ends, its partitions are free",
                Worker(w)
            ),
            Self::NoticeExpulsion(w) => {
                write!(f, "{} notices that it lost its partitions", Worker(w))
            }
            Self::Crash(w) => write!(f, "{} crashes and starts anew", Worker(w)),
            Self::CommitOffset(w, p, o) => write!(
                f,
                "{}'s commit of offset {o} of p{p} reaches Kafka",
                Worker(w)
            ),
            Self::Rewind(w, p) => write!(
                f,
                "{} reads p{p} again from the committed offset",
                Worker(w)
            ),
            Self::Forget(e) => write!(
                f,
                "retention: the inbox forgets e{e}, which Kafka delivers no more"
            ),
            Self::Take(w, messages) => {
                write!(f, "{} takes {} in flight", Worker(w), Messages(messages))
            }
            Self::Leave(w) => write!(f, "{} leaves over what fails, nobody knows why", Worker(w)),
            Self::Epochs(w) => write!(f, "{} locks (or claims) its epoch rows", Worker(w)),
            Self::Inbox(w) => write!(
                f,
                "{} looks its events up in the inbox, entering them",
                Worker(w)
            ),
            Self::Keys(w) => write!(
                f,
                "{} looks for blocked keys, and locks their rows",
                Worker(w)
            ),
            Self::Refuse(w, e) => write!(
                f,
                "{}'s handler refuses e{e}: rollback, and again with it dead-lettered",
                Worker(w)
            ),
            Self::Split(w) => write!(
                f,
                "{}'s handler fails: rollback, and the batch in halves",
                Worker(w)
            ),
            Self::Block(w) => write!(f, "{} writes dead letters and blocks their keys", Worker(w)),
            Self::Commit(w) => write!(f, "{} commits its transaction", Worker(w)),
            Self::CommitUnheard(w) => write!(
                f,
                "{} commits, but takes it for failed: the connection broke",
                Worker(w)
            ),
            Self::Abort(w) => write!(f, "{}'s transaction is aborted", Worker(w)),
            Self::Answered(w) => write!(f, "{} moves on from its batch", Worker(w)),
            Self::Choose(r, e) => write!(f, "{} chooses the dead letter of e{e}", Redriver(r)),
            Self::ChooseDrop(r, e) => {
                write!(
                    f,
                    "{} chooses the dead letter of e{e} to drop it",
                    Redriver(r)
                )
            }
            Self::NothingThere(r) => write!(
                f,
                "{} finds the dead letter gone, or behind another",
                Redriver(r)
            ),
            Self::Lock(r, e) => write!(
                f,
                "{} locks what it needs for the dead letter of e{e}",
                Redriver(r)
            ),
            Self::Handle(r, e, true) => write!(
                f,
                "{} is through with e{e}, and sees no other dead letter of its key",
                Redriver(r)
            ),
            Self::Handle(r, e, false) => write!(
                f,
                "{} is through with e{e}; its key stays as it is",
                Redriver(r)
            ),
            Self::FailAgain(r, e) => {
                write!(f, "{}'s handler fails e{e} again: rollback", Redriver(r))
            }
            Self::Redriven(r, e) => {
                write!(
                    f,
                    "{} removes the dead letter of e{e} and commits",
                    Redriver(r)
                )
            }
            Self::WriteDown(r, e) => write!(f, "{} writes the new error of e{e} down", Redriver(r)),
            Self::CrashRedrive(r) => write!(f, "{} crashes", Redriver(r)),
        }
    }
}
