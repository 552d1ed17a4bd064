//! Which topic a position belongs to.
//!
//! A topic that is deleted and recreated at once has the old name, and may already hold more messages than the old position:
//! librdkafka then goes on there, and the first messages of the new topic would be lost in silence. Only the topic's id
//! distinguishes the two. So the listener looks the ids up: for partitions as they are assigned, and of all topics every 2 s. An
//! offset is committed together with the id of the topic in which it was reached (as its metadata), so that neither a restart nor
//! another consumer of the group takes it for one of the new topic.
//!
//! Until the topic of a newly assigned partition is known, its messages wait in the buffer, and none of its offsets is committed.
//! Ids are never used twice: if the id that was committed with an offset is the topic's present one, no other topic came between.

use std::collections::{BTreeMap, BTreeSet};

use super::lookup::{Committed, Lookup};
use super::partition::Partition;
use super::topic_id::TopicId;

/// Why a partition must be read from its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recreated {
    pub(super) present: TopicId,
    /// The id of the topic in which the position was reached, if it is known.
    pub(super) old: Option<TopicId>,
}

/// The topics in which the positions of the assigned partitions were reached.
#[derive(Debug, Default)]
pub(super) struct Identity {
    /// The known ones. No id: the brokers are too old for ids.
    known: BTreeMap<Partition, Option<TopicId>>,
    /// Partitions that must be read from their beginning first.
    to_restart: BTreeMap<Partition, Recreated>,
    /// The topics' ids as they were before the present assignment.
    before: BTreeMap<String, TopicId>,
}

/// Where a partition's position was reached.
enum Verdict {
    /// In the present topic, as far as anything shows.
    Same,
    /// In another topic of the same name.
    Recreated(Option<TopicId>),
    /// That is not known yet, or it is to be read from its beginning anyway.
    Pending,
}

impl Identity {
    /// Forgets a partition: its position is not known any more.
    pub(super) fn forget(&mut self, partition: &Partition) {
        self.known.remove(partition);
        self.to_restart.remove(partition);
    }

    /// The topic in which the partition's position was reached; none as long as it is unknown.
    pub(super) fn of(&self, partition: &Partition) -> Option<&Option<TopicId>> {
        self.known.get(partition)
    }

    /// Takes a partition's topic as known.
    #[cfg(test)]
    pub(super) fn verify(&mut self, partition: &Partition) {
        self.known.insert(partition.clone(), None);
    }

    /// Partitions to be read from their beginning.
    pub(super) fn to_restart(&self) -> &BTreeMap<Partition, Recreated> {
        &self.to_restart
    }

    /// Records that a partition is read from its beginning.
    pub(super) fn restarted(&mut self, partition: &Partition) {
        if let Some(recreated) = self.to_restart.remove(partition) {
            self.known
                .insert(partition.clone(), Some(recreated.present));
        }
    }

    /// The assigned partitions whose topic is not known yet.
    pub(super) fn unknown(&self, assigned: &BTreeSet<Partition>) -> BTreeSet<Partition> {
        let unknown = assigned.iter().filter(|partition| {
            !self.known.contains_key(partition) && !self.to_restart.contains_key(partition)
        });
        unknown.cloned().collect()
    }

    /// Follows a lookup for the present assignment. Returns the partitions that must be read from their beginning from now on.
    pub(super) fn follow(
        &mut self,
        lookup: &Lookup,
        assigned: &BTreeSet<Partition>,
    ) -> Vec<Partition> {
        let mut recreated = Vec::new();
        for partition in assigned {
            match lookup.topics.get(&partition.topic) {
                Some(Ok(Some(present))) => match self.verdict(partition, present, lookup) {
                    Verdict::Pending => {}
                    Verdict::Same => {
                        self.known.insert(partition.clone(), Some(present.clone()));
                    }
                    Verdict::Recreated(old) => {
                        self.known.remove(partition);
                        let present = present.clone();
                        self.to_restart
                            .insert(partition.clone(), Recreated { present, old });
                        recreated.push(partition.clone());
                    }
                },
                Some(Ok(None)) => {
                    self.known.entry(partition.clone()).or_default();
                }
                Some(Err(_)) | None => {}
            }
        }
        for (topic, described) in &lookup.topics {
            if let Ok(Some(id)) = described {
                self.before.insert(topic.clone(), id.clone());
            }
        }
        recreated
    }

    /// Whether a partition's position was reached in the present topic.
    fn verdict(&self, partition: &Partition, present: &TopicId, lookup: &Lookup) -> Verdict {
        if let Some(to) = self.to_restart.get(partition) {
            return if to.present == *present {
                Verdict::Pending
            } else {
                Verdict::Recreated(Some(to.present.clone()))
            };
        }
        let committed = lookup.committed.get(partition);
        let reached = match (self.known.get(partition), committed) {
            (Some(known), _) => known.as_ref(),
            (None, Some(Committed::Offset(committed))) => committed.as_ref(),
            // The consumer began at the beginning, perhaps at that of an older topic.
            (None, Some(Committed::Nothing)) => match self.before.get(&partition.topic) {
                None => return Verdict::Recreated(None),
                before => before,
            },
            // It was assigned after the lookup had begun.
            (None, None) => return Verdict::Pending,
        };
        match reached {
            Some(old) if old != present => Verdict::Recreated(Some(old.clone())),
            _ => Verdict::Same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        Partition {
            topic: "payment".to_owned(),
            number: 0,
        }
    }

    fn id(id: &str) -> TopicId {
        TopicId::from_metadata(&format!("topic-id={id}")).unwrap()
    }

    /// A committed offset, and the id committed with it.
    fn offset(of: &str) -> Committed {
        Committed::Offset(Some(id(of)))
    }

    /// A lookup of a topic with this id.
    fn found(present: &str, committed: Committed) -> Lookup {
        Lookup {
            version: 0,
            topics: [("payment".to_owned(), Ok(Some(id(present))))].into(),
            committed: [(partition(), committed)].into(),
        }
    }

    /// Follows a lookup. Returns whether the partition must be read from its beginning.
    fn follows(identity: &mut Identity, lookup: &Lookup) -> bool {
        !identity.follow(lookup, &[partition()].into()).is_empty()
    }

    #[test]
    fn an_offset_of_the_same_topic_is_kept_and_one_of_another_is_not() {
        for (committed, restarts) in [
            (offset("a"), false),
            (offset("b"), true),
            // Committed by an older version.
            (Committed::Offset(None), false),
            (Committed::Nothing, true),
        ] {
            let mut identity = Identity::default();
            let restarted = follows(&mut identity, &found("a", committed.clone()));
            assert_eq!(restarted, restarts, "{committed:?}");
            assert_eq!(identity.of(&partition()).is_some(), !restarts);
            identity.restarted(&partition());
            assert_eq!(identity.of(&partition()), Some(&Some(id("a"))));
        }
    }

    #[test]
    fn a_topic_that_has_not_changed_since_before_the_assignment_is_read_on() {
        let mut identity = Identity::default();
        identity.follow(&found("a", Committed::Nothing), &BTreeSet::new());
        assert!(!follows(&mut identity, &found("a", Committed::Nothing)));
        identity.forget(&partition());
        assert!(follows(&mut identity, &found("b", Committed::Nothing)));
    }

    #[test]
    fn a_partition_is_read_from_the_beginning_of_the_last_topic() {
        let mut identity = Identity::default();
        assert!(!follows(&mut identity, &found("a", offset("a"))));
        assert!(!follows(&mut identity, &found("a", Committed::Nothing)));
        assert!(follows(&mut identity, &found("b", Committed::Nothing)));
        assert_eq!(identity.of(&partition()), None);
        assert!(!follows(&mut identity, &found("b", Committed::Nothing)));
        assert!(identity.unknown(&[partition()].into()).is_empty());
        assert!(follows(&mut identity, &found("c", Committed::Nothing)));
        identity.restarted(&partition());
        assert_eq!(identity.of(&partition()), Some(&Some(id("c"))));
        identity.forget(&partition());
        assert_eq!(identity.unknown(&[partition()].into()).len(), 1);
    }
}
