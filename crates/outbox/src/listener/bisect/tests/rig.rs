//! A batch whose transactions fail as a test says.

use super::super::*;
use crate::listener::clock::Moment;
use crate::message::Position;

/// A batch with one message for each character, which is its key (`-`: none). Failing messages are known by their index.
pub(super) struct Rig {
    pub(super) batch: Batch,
    /// Can never be applied.
    pub(super) poison: BTreeSet<usize>,
    /// Fail alone for an unknown reason, so many times.
    pub(super) unknown: BTreeMap<usize, u32>,
    /// Take too long.
    pub(super) slow: BTreeSet<usize>,
    /// Keys that another transaction has locked after so many runs.
    pub(super) locked: BTreeMap<char, usize>,
    /// Messages in the order in which they were settled, and whether they were applied.
    pub(super) log: Vec<(usize, bool)>,
    pub(super) runs: usize,
    pub(super) waited: Duration,
    /// How long each run takes.
    pub(super) run_time: Duration,
    /// After so many runs the connection is lost.
    pub(super) max_runs: usize,
}

pub(super) fn partition() -> Partition {
    Partition {
        topic: "t".to_owned(),
        number: 0,
    }
}

pub(super) fn by_offset(message: &Message) -> Uuid {
    Uuid::from_u128(message.at.offset.try_into().unwrap())
}

impl Rig {
    pub(super) fn new(keys: &str) -> Self {
        let messages: Vec<Message> = keys
            .chars()
            .zip(0..)
            .map(|(key, offset)| Message {
                at: Position {
                    topic: "t".to_owned(),
                    partition: 0,
                    offset,
                },
                timestamp: None,
                key: (key != '-').then(|| key.to_string().into_bytes()),
                headers: Vec::new(),
                value: None,
            })
            .collect();
        Self {
            batch: Batch {
                messages,
                epochs: [(partition(), None)].into(),
                taken_at: Moment::now(),
                max_transaction: 500,
                is_full: false,
            },
            poison: BTreeSet::new(),
            unknown: BTreeMap::new(),
            slow: BTreeSet::new(),
            locked: BTreeMap::new(),
            log: Vec::new(),
            runs: 0,
            waited: Duration::ZERO,
            run_time: Duration::ZERO,
            max_runs: usize::MAX,
        }
    }

    pub(super) fn run(&mut self) -> Result<Settled, Box<Unsettled>> {
        let batch = self.batch.clone();
        let mut bisection = Bisection::new(&batch, by_offset);
        let outcome = self.parts(&mut bisection);
        bisection.end(outcome)
    }

    fn parts(&mut self, bisection: &mut Bisection<'_>) -> Result<(), Blocker> {
        let ids: Vec<Uuid> = self.batch.messages.iter().map(by_offset).collect();
        while let Some(part) = bisection.next()? {
            self.runs += 1;
            self.waited += part.wait;
            bisection.elapsed += part.wait + self.run_time;
            if self.runs > self.max_runs {
                return Err(Failure::Transient("connection lost".into()).into());
            }
            assert!(self.runs < 10_000, "it ends");
            assert!(part.messages.len() <= self.batch.max_transaction);
            let wanted: Vec<usize> = part
                .messages
                .iter()
                .copied()
                .filter(|m| !bisection.isolated.contains_key(&ids[*m]))
                .collect();
            let locked = self.locked_keys(&part);
            if !locked.is_empty() && !bisection.waits_for_keys {
                bisection.record_stop(part, Stop::KeyLocked(locked))?;
                continue;
            }
            if wanted.iter().any(|message| self.poison.contains(message)) {
                bisection.record_stop(part, Stop::Failed(Failure::Poison("23514".into())))?;
                continue;
            }
            if wanted.iter().any(|message| self.slow.contains(message)) {
                bisection.record_stop(part, Stop::TooSlow("57014".into()))?;
                continue;
            }
            let unknown = wanted
                .iter()
                .find(|m| self.unknown.get(m).is_some_and(|left| *left > 0));
            if let Some(unknown) = unknown {
                if part.messages.len() == 1 {
                    *self.unknown.get_mut(unknown).unwrap() -= 1;
                }
                bisection.record_stop(part, Stop::Failed(Failure::Unknown("XX000".into())))?;
                continue;
            }
            self.log.extend(
                part.messages
                    .iter()
                    .map(|message| (*message, wanted.contains(message))),
            );
            let settled = Settled {
                held: [(partition(), 7)].into(),
                applied: wanted.len(),
                fresh: part.messages.len(),
                dead_lettered: part.messages.len() - wanted.len(),
                ..Settled::default()
            };
            bisection.record_settled(&part, settled);
        }
        Ok(())
    }

    fn locked_keys(&self, part: &Next) -> HashSet<Key> {
        let locked = self.locked.iter().filter(|(_, after)| self.runs > **after);
        let locked: HashSet<Key> = locked
            .map(|(key, _)| Key {
                topic: "t".to_owned(),
                bytes: key.to_string().into_bytes(),
            })
            .collect();
        let messages = part.messages.iter().map(|m| &self.batch.messages[*m]);
        messages
            .filter_map(Key::of)
            .filter(|key| locked.contains(key))
            .collect()
    }

    pub(super) fn of_key(&self, key: char) -> Vec<usize> {
        let key = Some(key.to_string().into_bytes());
        let of_key = self
            .log
            .iter()
            .filter(|(message, _)| self.batch.messages[*message].key == key);
        of_key.map(|(message, _)| *message).collect()
    }
}
