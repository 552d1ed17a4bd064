//! The circuit breaker: a burst of dead letters stops the listener before a whole topic ends in `dead_letter`.
//!
//! | state | permits | leaves it when |
//! | --- | --- | --- |
//! | closed | the dead letters that are left in the window | they are used up: open |
//! | open | nothing | the pause has passed: half-open |
//! | half-open | one message, or one dead letter | a message is applied: closed; one becomes a dead letter, or fails for an unknown reason: open again, for twice as long |
//!
//! It counts dead letters that say something about the topic or the handler: not deferred ones, whose time has not come, and not
//! those behind an earlier one of their key, which would be parked whatever they are.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::duration;

/// When the circuit breaker opens, and for how long.
///
/// Once it is open, the listener takes no message from Kafka for `pause`; automatic retries of dead letters go on. It is then
/// half-open: the listener tries messages one by one. The first one that it applies closes the breaker; one that becomes a dead
/// letter opens it again, for twice as long.
///
/// ```
/// use std::time::Duration;
/// use outbox::listener::{BreakerPolicy, Config};
///
/// let mut config = Config::new("127.0.0.1:9092", "payments", "payment");
/// config.breaker = BreakerPolicy { max_dead_letters: 20, ..BreakerPolicy::default() };
/// assert_eq!(config.breaker.window, Duration::from_secs(60));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerPolicy {
    /// The dead letters within `window` that open it; 0 counts as 1. It does not count deferred and parked messages.
    pub max_dead_letters: u32,
    /// Setting `window_s`, in seconds. With 0, it counts together only the dead letters of a single transaction.
    #[serde(rename = "window_s", with = "duration::seconds")]
    pub window: Duration,
    /// Setting `pause_s`, in seconds: how long it stays open. It doubles up to [`MAX_PAUSE`] while no message is applied.
    #[serde(rename = "pause_s", with = "duration::seconds")]
    pub pause: Duration,
}

/// The longest time that the circuit breaker stays open.
pub const MAX_PAUSE: Duration = Duration::from_secs(600);

impl Default for BreakerPolicy {
    /// 100 dead letters within 60 s; open for 30 s.
    fn default() -> Self {
        Self {
            max_dead_letters: 100,
            window: Duration::from_secs(60),
            pause: Duration::from_secs(30),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    /// Nothing is applied until then.
    Open(Instant),
    /// A single message may be applied or dead-lettered: the probe.
    HalfOpen,
}

/// The circuit breaker's state.
#[derive(Debug)]
pub(super) struct Breaker {
    policy: BreakerPolicy,
    state: State,
    /// When the dead letters within the window were written.
    recent: VecDeque<Instant>,
    pause: Duration,
}

impl Breaker {
    pub(super) fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            state: State::Closed,
            recent: VecDeque::new(),
            pause: policy.pause.min(duration::LONGEST),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether the next transaction may hold one message only.
    pub(super) fn is_half_open(&self) -> bool {
        self.state == State::HalfOpen
    }

    /// When an open breaker becomes half-open; none if it is closed or half-open by now.
    pub(super) fn open_until(&self) -> Option<Instant> {
        match self.state {
            State::Open(until) if Instant::now() < until => Some(until),
            State::Open(_) | State::Closed | State::HalfOpen => None,
        }
    }

    /// How many dead letters the next transaction may write: none while the breaker is open, one while it is half-open.
    pub(super) fn permits(&mut self, now: Instant) -> usize {
        match self.state {
            State::Open(until) if now < until => 0,
            State::Open(_) => {
                self.state = State::HalfOpen;
                1
            }
            State::HalfOpen => 1,
            State::Closed => {
                let window = self.policy.window;
                while (self.recent.front()).is_some_and(|at| now.duration_since(*at) >= window) {
                    self.recent.pop_front();
                }
                self.limit().saturating_sub(self.recent.len())
            }
        }
    }

    /// Records what a transaction has committed.
    pub(super) fn record(
        &mut self,
        applied: usize,
        dead_letters: usize,
        now: Instant,
    ) -> Option<Transition> {
        if dead_letters == 0 {
            let closes = applied > 0 && self.state == State::HalfOpen;
            if closes {
                *self = Self::new(self.policy);
            }
            return closes.then_some(Transition::Closed);
        }
        self.recent.extend(std::iter::repeat_n(now, dead_letters));
        match self.state {
            State::HalfOpen => self.record_failure(now),
            State::Closed if self.recent.len() >= self.limit() => Some(self.open(now)),
            State::Closed | State::Open(_) => None,
        }
    }

    /// Records that a batch failed without an applied message.
    pub(super) fn record_failure(&mut self, now: Instant) -> Option<Transition> {
        if self.state != State::HalfOpen {
            return None;
        }
        self.pause = self.pause.max((self.pause * 2).min(MAX_PAUSE));
        Some(self.open(now))
    }

    fn open(&mut self, now: Instant) -> Transition {
        self.recent.clear();
        self.state = State::Open(now + self.pause);
        Transition::Opened(self.pause)
    }

    /// At least one: a breaker that permits no dead letter at all would never close again.
    fn limit(&self) -> usize {
        usize::try_from(self.policy.max_dead_letters.max(1)).unwrap_or(usize::MAX)
    }
}

/// A change of the breaker's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transition {
    /// For so long.
    Opened(Duration),
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy {
        max_dead_letters: 3,
        window: Duration::from_secs(60),
        pause: Duration::from_secs(10),
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn dead_letters_that_come_slowly_leave_it_closed() {
        let (mut breaker, start) = (Breaker::new(POLICY), Instant::now());
        for minute in 0..10 {
            let now = start + seconds(40 * minute);
            assert!(breaker.permits(now) > 0);
            assert_eq!(breaker.record(0, 1, now), None, "dead letter {minute}");
        }
    }

    #[test]
    fn a_burst_opens_it_and_a_probe_that_is_applied_closes_it() {
        let (mut breaker, start) = (Breaker::new(POLICY), Instant::now());
        assert_eq!(breaker.permits(start), 3);
        assert_eq!(breaker.record(5, 2, start), None);
        assert_eq!(breaker.permits(start), 1);
        assert_eq!(
            breaker.record(0, 1, start),
            Some(Transition::Opened(seconds(10)))
        );
        assert_eq!(breaker.permits(start + seconds(9)), 0);
        // The probe is a dead letter, too.
        assert_eq!(breaker.permits(start + seconds(10)), 1);
        let later = start + seconds(10);
        assert_eq!(
            breaker.record(0, 1, later),
            Some(Transition::Opened(seconds(20)))
        );
        assert_eq!(breaker.permits(later + seconds(19)), 0);
        assert_eq!(breaker.permits(later + seconds(20)), 1);
        assert_eq!(
            breaker.record(0, 0, later),
            None,
            "duplicates prove nothing"
        );
        assert_eq!(breaker.record(1, 0, later), Some(Transition::Closed));
        assert_eq!(breaker.permits(later), 3);
        assert_eq!(breaker.pause, seconds(10));
    }

    #[test]
    fn a_probe_that_ends_as_nothing_opens_it_for_longer() {
        let (mut breaker, start) = (Breaker::new(POLICY), Instant::now());
        assert_eq!(breaker.record_failure(start), None, "it is closed");
        breaker.record(0, 3, start);
        assert_eq!(breaker.record_failure(start), None, "nothing was tried");
        let later = start + seconds(10);
        assert_eq!(breaker.permits(later), 1);
        assert_eq!(
            breaker.record_failure(later),
            Some(Transition::Opened(seconds(20)))
        );
        assert!(!breaker.is_closed());
        assert_eq!(breaker.permits(later + seconds(19)), 0);
    }

    #[test]
    fn an_endless_pause_is_cut_to_the_longest_one() {
        let endless = BreakerPolicy {
            pause: Duration::MAX,
            ..POLICY
        };
        let (mut breaker, start) = (Breaker::new(endless), Instant::now());
        let opened = breaker.record(0, 3, start);
        assert_eq!(opened, Some(Transition::Opened(duration::LONGEST)));
    }

    #[test]
    fn the_wait_has_a_bound() {
        let (mut breaker, mut now) = (Breaker::new(POLICY), Instant::now());
        breaker.record(0, 3, now);
        for _ in 0..20 {
            now = breaker.open_until().unwrap();
            assert_eq!(breaker.permits(now), 1);
            breaker.record(0, 1, now);
        }
        assert_eq!(breaker.open_until(), Some(now + MAX_PAUSE));
    }
}
