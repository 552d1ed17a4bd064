//! The circuit breaker: a burst of letters stops the listener instead of emptying a topic into the table.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// When the circuit breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// Letters within `within_s` that open it; deferred ones and those behind another letter of their key do not count. At least
    /// one.
    pub letters: u32,
    /// Seconds. With 0, only so many letters of one transaction open it.
    pub within_s: u32,
    /// Seconds until messages are tried one by one, until one is applied, which closes it, or becomes a letter, too; doubled up
    /// to [`PAUSE_MOST`] as long as none is applied.
    pub pause_s: u32,
}

/// The longest wait between two tries.
pub const PAUSE_MOST: Duration = Duration::from_secs(600);

impl Default for Breaker {
    /// 100 letters within a minute; tried again after half a minute.
    fn default() -> Self {
        Self {
            letters: 100,
            within_s: 60,
            pause_s: 30,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    /// Nothing is tried until then.
    Open(Instant),
    /// One letter may still be written: the probe.
    HalfOpen,
}

/// The breaker as it stands.
#[derive(Debug)]
pub(super) struct Circuit {
    config: Breaker,
    state: State,
    recent: VecDeque<Instant>,
    pause: Duration,
}

impl Circuit {
    pub(super) fn new(config: Breaker) -> Self {
        Self {
            config,
            state: State::Closed,
            recent: VecDeque::new(),
            pause: Duration::from_secs(config.pause_s.into()),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Until when nothing is to be tried.
    pub(super) fn open_until(&self) -> Option<Instant> {
        match self.state {
            State::Open(until) if Instant::now() < until => Some(until),
            State::Open(_) | State::Closed | State::HalfOpen => None,
        }
    }

    /// Whether the next message is the probe.
    pub(super) fn probes(&self) -> bool {
        self.state == State::HalfOpen
    }

    /// How many letters may be written at `now`: none while it is open, one as the probe.
    pub(super) fn room(&mut self, now: Instant) -> usize {
        match self.state {
            State::Open(until) if now < until => 0,
            State::Open(_) => {
                self.state = State::HalfOpen;
                1
            }
            State::HalfOpen => 1,
            State::Closed => {
                let within = Duration::from_secs(self.config.within_s.into());
                while (self.recent.front()).is_some_and(|at| now.duration_since(*at) >= within) {
                    self.recent.pop_front();
                }
                self.limit().saturating_sub(self.recent.len())
            }
        }
    }

    /// Takes note of what a transaction has come to, and says whether it opened or closed.
    pub(super) fn note(&mut self, applied: usize, letters: usize, now: Instant) -> Option<Turn> {
        if letters == 0 {
            let closes = applied > 0 && self.state == State::HalfOpen;
            if closes {
                *self = Self::new(self.config);
            }
            return closes.then_some(Turn::Closed);
        }
        self.recent.extend(std::iter::repeat_n(now, letters));
        match self.state {
            State::HalfOpen => self.fail(now),
            State::Closed if self.recent.len() >= self.limit() => Some(self.open(now)),
            State::Closed | State::Open(_) => None,
        }
    }

    /// Takes note that none of those tried could be applied, and says whether it opened.
    pub(super) fn fail(&mut self, now: Instant) -> Option<Turn> {
        if self.state != State::HalfOpen {
            return None;
        }
        self.pause = self.pause.max((self.pause * 2).min(PAUSE_MOST));
        Some(self.open(now))
    }

    fn open(&mut self, now: Instant) -> Turn {
        self.recent.clear();
        self.state = State::Open(now + self.pause);
        Turn::Opened(self.pause)
    }

    /// A breaker that lets nothing pass would never close again.
    fn limit(&self) -> usize {
        usize::try_from(self.config.letters.max(1)).unwrap_or(usize::MAX)
    }
}

/// A change of the breaker's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Opened(Duration),
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: Breaker = Breaker {
        letters: 3,
        within_s: 60,
        pause_s: 10,
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn letters_that_come_slowly_leave_it_closed() {
        let (mut circuit, start) = (Circuit::new(CONFIG), Instant::now());
        for minute in 0..10 {
            let now = start + seconds(40 * minute);
            assert!(circuit.room(now) > 0);
            assert_eq!(circuit.note(0, 1, now), None, "letter {minute}");
        }
    }

    #[test]
    fn a_burst_opens_it_and_a_probe_that_is_applied_closes_it() {
        let (mut circuit, start) = (Circuit::new(CONFIG), Instant::now());
        assert_eq!(circuit.room(start), 3);
        assert_eq!(circuit.note(5, 2, start), None);
        assert_eq!(circuit.room(start), 1);
        assert_eq!(circuit.note(0, 1, start), Some(Turn::Opened(seconds(10))));
        assert_eq!(circuit.room(start + seconds(9)), 0);
        // The probe is a letter, too.
        assert_eq!(circuit.room(start + seconds(10)), 1);
        let later = start + seconds(10);
        assert_eq!(circuit.note(0, 1, later), Some(Turn::Opened(seconds(20))));
        assert_eq!(circuit.room(later + seconds(19)), 0);
        assert_eq!(circuit.room(later + seconds(20)), 1);
        assert_eq!(circuit.note(0, 0, later), None, "duplicates prove nothing");
        assert_eq!(circuit.note(1, 0, later), Some(Turn::Closed));
        assert_eq!(circuit.room(later), 3);
        assert_eq!(circuit.pause, seconds(10));
    }

    #[test]
    fn a_probe_that_ends_as_nothing_opens_it_for_longer() {
        let (mut circuit, start) = (Circuit::new(CONFIG), Instant::now());
        assert_eq!(circuit.fail(start), None, "it is closed");
        circuit.note(0, 3, start);
        assert_eq!(circuit.fail(start), None, "nothing was tried");
        let later = start + seconds(10);
        assert_eq!(circuit.room(later), 1);
        assert_eq!(circuit.fail(later), Some(Turn::Opened(seconds(20))));
        assert!(!circuit.is_closed());
        assert_eq!(circuit.room(later + seconds(19)), 0);
    }

    #[test]
    fn the_wait_has_a_bound() {
        let (mut circuit, mut now) = (Circuit::new(CONFIG), Instant::now());
        circuit.note(0, 3, now);
        for _ in 0..20 {
            now = circuit.open_until().unwrap();
            assert_eq!(circuit.room(now), 1);
            circuit.note(0, 1, now);
        }
        assert_eq!(circuit.open_until(), Some(now + PAUSE_MOST));
    }
}
