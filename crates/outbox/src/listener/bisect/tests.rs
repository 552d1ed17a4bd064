//! Batches in parts, without a database.

use super::*;
use crate::message::Position;

/// Messages of these keys; what fails is known by its index.
struct Rig {
    work: Work,
    /// Never to be applied.
    poison: BTreeSet<usize>,
    /// Fails, nobody knows why, as many times.
    strange: BTreeMap<usize, u32>,
    /// Takes too long.
    slow: BTreeSet<usize>,
    /// Keys that somebody else has locked after as many runs.
    busy: BTreeMap<char, usize>,
    /// Indices in the order in which they were settled, and whether they were applied.
    log: Vec<(usize, bool)>,
    runs: usize,
    waited: Duration,
    /// How long each run takes.
    takes: Duration,
    /// As many runs, and the connection is lost.
    most_runs: usize,
}

fn by_offset(message: &Message) -> Uuid {
    Uuid::from_u128(message.at.offset.try_into().unwrap())
}

impl Rig {
    fn new(keys: &str) -> Self {
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
            work: Work {
                messages,
                epochs: [(("t".to_owned(), 0), None)].into(),
                taken: Moment::now(),
                most: 500,
                full: false,
            },
            poison: BTreeSet::new(),
            strange: BTreeMap::new(),
            slow: BTreeSet::new(),
            busy: BTreeMap::new(),
            log: Vec::new(),
            runs: 0,
            waited: Duration::ZERO,
            takes: Duration::ZERO,
            most_runs: usize::MAX,
        }
    }

    fn run(&mut self) -> Result<Settled, Box<Unsettled>> {
        let work = self.work.clone();
        let mut split = Bisection::new(&work, by_offset);
        let outcome = self.parts(&mut split);
        split.ended(outcome)
    }

    fn parts(&mut self, split: &mut Bisection<'_>) -> Result<(), Failure> {
        let ids: Vec<Uuid> = self.work.messages.iter().map(by_offset).collect();
        while let Some(part) = split.next()? {
            self.runs += 1;
            self.waited += part.wait;
            split.spent += part.wait + self.takes;
            if self.runs > self.most_runs {
                return Err(Failure::Transient("connection lost".into()));
            }
            assert!(self.runs < 10_000, "it goes round in circles");
            assert!(part.messages.len() <= self.work.most);
            let wanted: Vec<usize> = part
                .messages
                .iter()
                .copied()
                .filter(|m| !split.refused.contains_key(&ids[*m]))
                .collect();
            let busy = self.busy(&part);
            if !busy.is_empty() && !split.patient {
                split.failed(part, Stop::Busy(busy))?;
                continue;
            }
            if wanted.iter().any(|message| self.poison.contains(message)) {
                split.failed(part, Stop::Failure(Failure::Poison("23514".into())))?;
                continue;
            }
            if wanted.iter().any(|message| self.slow.contains(message)) {
                split.failed(part, Stop::TooSlow("57014".into()))?;
                continue;
            }
            let strange = wanted
                .iter()
                .find(|m| self.strange.get(m).is_some_and(|left| *left > 0));
            if let Some(strange) = strange {
                if part.messages.len() == 1 {
                    *self.strange.get_mut(strange).unwrap() -= 1;
                }
                split.failed(part, Stop::Failure(Failure::Unknown("XX000".into())))?;
                continue;
            }
            self.log.extend(
                part.messages
                    .iter()
                    .map(|message| (*message, wanted.contains(message))),
            );
            let settled = Settled {
                held: [(("t".to_owned(), 0), 7)].into(),
                applied: wanted.len(),
                fresh: part.messages.len(),
                dead_lettered: part.messages.len() - wanted.len(),
                ..Settled::default()
            };
            split.settled(&part, settled);
        }
        Ok(())
    }

    fn busy(&self, part: &Part) -> HashSet<Key> {
        let locked = self.busy.iter().filter(|(_, after)| self.runs > **after);
        let locked: HashSet<Key> = locked
            .map(|(key, _)| ("t".to_owned(), key.to_string().into_bytes()))
            .collect();
        let messages = part.messages.iter().map(|m| &self.work.messages[*m]);
        messages
            .filter_map(Message::topic_key)
            .filter(|key| locked.contains(key))
            .collect()
    }

    fn of_key(&self, key: char) -> Vec<usize> {
        let key = Some(key.to_string().into_bytes());
        let of_key = self
            .log
            .iter()
            .filter(|(message, _)| self.work.messages[*message].key == key);
        of_key.map(|(message, _)| *message).collect()
    }
}

#[test]
fn a_batch_without_failure_is_one_run() {
    let mut rig = Rig::new("abc-a");
    let settled = rig.run().unwrap();
    assert_eq!((rig.runs, settled.applied), (1, 5));
}

#[test]
fn poison_is_found_in_a_few_runs_and_everything_else_is_applied_in_order() {
    let mut rig = Rig::new(&"abcdefgh".repeat(60));
    rig.poison = [17, 300].into();
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (478, 2));
    assert!(rig.runs < 45, "{} runs", rig.runs);
    let order: Vec<usize> = rig.log.iter().map(|(message, _)| *message).collect();
    assert!(order.is_sorted(), "parts are run in order");
}

#[test]
fn all_may_be_poison() {
    let mut rig = Rig::new(&"ab".repeat(8));
    rig.poison = (0..16).collect();
    assert_eq!(rig.run().unwrap().dead_lettered, 16);
}

#[test]
fn what_fails_strangely_is_tried_a_few_times_while_others_go_on_and_its_key_waits() {
    let mut rig = Rig::new("abab-a");
    rig.strange = [(0, 2)].into();
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (6, 0));
    assert_eq!(rig.of_key('a'), [0, 2, 5], "in order");
    assert!(
        rig.log.first().is_some_and(|(first, _)| *first == 1),
        "b did not wait"
    );

    rig = Rig::new("abab-a");
    rig.strange = [(0, u32::MAX)].into();
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (5, 1));
    assert_eq!(rig.of_key('a'), [0, 2, 5]);
    assert!(rig.log.contains(&(0, false)));
}

#[test]
fn one_that_takes_too_long_alone_is_dead_lettered_where_others_can_be_applied() {
    let mut rig = Rig::new("abab-a");
    rig.slow = [0].into();
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (5, 1));
    assert_eq!(rig.of_key('a'), [0, 2, 5]);
    rig = Rig::new("ab");
    rig.slow = [0, 1].into();
    let unsettled = rig.run().unwrap_err();
    assert!(matches!(unsettled.failure, Failure::Unknown(_)));
}

#[test]
fn two_that_fail_strangely_of_one_key_end_in_order() {
    let mut rig = Rig::new("aaab");
    rig.strange = [(0, u32::MAX), (2, u32::MAX)].into();
    let Unsettled { settled, left, .. } = *rig.run().unwrap_err();
    assert_eq!((settled.applied, settled.dead_lettered), (2, 1));
    assert_eq!((rig.of_key('a'), left), (vec![0, 1], vec![2]));
    // It comes again, with what has come since.
    rig = Rig::new("ab");
    rig.strange = [(0, u32::MAX)].into();
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (1, 1));
}

#[test]
fn where_nothing_can_be_applied_any_more_nothing_is_dead_lettered() {
    let mut rig = Rig::new("abcdef");
    rig.work.most = 2;
    rig.strange = [(4, u32::MAX), (5, u32::MAX)].into();
    let Unsettled { settled, left, .. } = *rig.run().unwrap_err();
    assert_eq!((settled.applied, settled.dead_lettered), (4, 0));
    assert_eq!(left, [4, 5]);
    // One that can be applied after them shows that they are to blame.
    rig.strange.insert(0, 2);
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (4, 2));
}

#[test]
fn where_nothing_can_be_applied_nothing_is_dead_lettered() {
    let mut rig = Rig::new("ab-");
    rig.strange = [(0, u32::MAX), (1, u32::MAX), (2, u32::MAX)].into();
    for full in [false, true] {
        rig.work.full = full;
        let unsettled = rig.run().unwrap_err();
        assert!(matches!(unsettled.failure, Failure::Unknown(_)));
        assert_eq!(unsettled.left, [0, 1, 2]);
    }
    assert!(rig.log.is_empty());
}

#[test]
fn one_that_fails_strangely_and_leaves_no_room_for_others_is_dead_lettered() {
    let mut rig = Rig::new("aaaa");
    rig.strange = [(0, u32::MAX)].into();
    assert_eq!(rig.run().unwrap_err().left, [0, 1, 2, 3]);
    rig.work.full = true;
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (3, 1));
    assert_eq!(rig.of_key('a'), [0, 1, 2, 3]);
}

#[test]
fn many_that_fail_strangely_wait_together() {
    let mut rig = Rig::new(&"-".repeat(100));
    rig.strange = (0..99).map(|message| (message, u32::MAX)).collect();
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (1, 99));
    assert_eq!(rig.waited, FIRST_WAIT * (1 + 2 + 4 + 8));
}

#[test]
fn many_that_take_long_are_dead_lettered_one_by_one() {
    let mut rig = Rig::new(&"-".repeat(33));
    rig.slow = (0..32).collect();
    rig.takes = Duration::from_secs(10);
    // Each stands alone after 65, and is tried four times more.
    rig.most_runs = 65 + 12;
    let settled = rig.run().unwrap_err().settled;
    assert_eq!((settled.applied, settled.dead_lettered), (1, 2));
}

#[test]
fn no_part_is_larger_than_a_transaction_may_be() {
    let mut rig = Rig::new("abcdefg");
    rig.work.most = 3;
    rig.run().unwrap();
    assert_eq!((rig.runs, rig.log.len()), (3, 7));
    // Nor what is run after one that it waited for.
    for most in 1..3 {
        rig = Rig::new("aaaaaab");
        rig.work.most = most;
        rig.strange = [(0, 2)].into();
        rig.run().unwrap();
        assert_eq!(rig.of_key('a'), [0, 1, 2, 3, 4, 5]);
    }
}

#[test]
fn what_was_settled_is_not_tried_again() {
    let mut rig = Rig::new("abcd");
    rig.work.messages[3].at.partition = 1;
    rig.work.most = 1;
    let mut split = Bisection::new(&rig.work, by_offset);
    for (message, fails) in [(0, false), (1, true), (2, false), (3, false)] {
        let part = split.next().unwrap().unwrap();
        assert_eq!(part.messages, [message]);
        if fails {
            let strange = Stop::Failure(Failure::Unknown("XX000".into()));
            split.failed(part, strange).unwrap();
        } else if message == 3 {
            let superseded = Settled {
                superseded: [("t".to_owned(), 1)].into(),
                ..Settled::default()
            };
            split.settled(&part, superseded);
        } else {
            let settled = Settled {
                applied: 1,
                ..Settled::default()
            };
            split.settled(&part, settled);
        }
    }
    let lost = Failure::Transient("connection lost".into());
    let unsettled = split.ended(Err(lost)).unwrap_err();
    assert_eq!(unsettled.left, [1]);
    assert_eq!(unsettled.settled.superseded.len(), 1, "and are read again");
}

#[test]
fn a_message_that_fails_though_it_was_left_out_is_not_to_blame() {
    let work = Rig::new("a").work;
    let mut split = Bisection::new(&work, by_offset);
    for _ in 0..2 {
        let part = split.next().unwrap().unwrap();
        let outcome = split.failed(
            part,
            Stop::Failure(Failure::Poison("disk full of NULs".into())),
        );
        if let Err(failure) = outcome {
            assert!(matches!(failure, Failure::Unknown(_)));
            return;
        }
    }
    panic!("it was believed");
}

#[test]
fn what_was_claimed_meanwhile_is_left_out() {
    let work = Rig::new("ab").work;
    let mut split = Bisection::new(&work, by_offset);
    let part = split.next().unwrap().unwrap();
    split.failed(part, Stop::TooManyDeadLetters).unwrap();
    let part = split.next().unwrap().unwrap();
    let superseded = Settled {
        superseded: [("t".to_owned(), 0)].into(),
        ..Settled::default()
    };
    split.settled(&part, superseded);
    assert_eq!(split.next().unwrap(), None);
}

#[test]
fn what_somebody_else_holds_up_is_left_over_and_nothing_else() {
    let mut rig = Rig::new("abab-a");
    rig.busy = [('a', 0)].into();
    let Unsettled {
        settled,
        left,
        failure,
    } = *rig.run().unwrap_err();
    let Failure::Transient(why) = failure else {
        panic!("{failure}");
    };
    assert!(why.is::<BusyKeys>());
    assert_eq!((settled.applied, left), (3, vec![0, 2, 5]));

    // It is waited for where what is left over leaves no room for others, whatever else fails.
    rig = Rig::new("abab-a");
    rig.work.full = true;
    rig.busy = [('a', 0)].into();
    rig.strange = [(1, u32::MAX)].into();
    rig.poison = [5].into();
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (4, 2));
    assert_eq!(rig.of_key('a'), [0, 2, 5]);

    // It does not go round in circles where it is held up itself.
    rig = Rig::new("ab");
    rig.strange = [(0, 1)].into();
    rig.busy = [('a', 2)].into();
    let unsettled = rig.run().unwrap_err();
    assert_eq!((unsettled.left, rig.of_key('b')), (vec![0], vec![1]));
}
