//! Clients by their tokens, each with a deadline.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use mio::Token;

/// All entries get the same time, so the order in which they came is the order of their deadlines.
/// A token is never given twice.
pub(super) struct DeadlineMap<T> {
    timeout: Duration,
    entries: HashMap<Token, T>,
    /// It may name entries that were removed.
    deadlines: VecDeque<(Instant, Token)>,
}

impl<T> DeadlineMap<T> {
    pub(super) fn new(timeout: Duration) -> Self {
        DeadlineMap { timeout, entries: HashMap::new(), deadlines: VecDeque::new() }
    }

    pub(super) fn insert(&mut self, now: Instant, token: Token, entry: T) {
        self.entries.insert(token, entry);
        self.deadlines.push_back((now + self.timeout, token));
    }

    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        self.entries.get_mut(&token)
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<T> {
        let entry = self.entries.remove(&token);
        self.forget_removed();
        entry
    }

    /// The one that came first, if its deadline is over.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<T> {
        self.next_deadline().filter(|deadline| *deadline <= now).and_then(|_| self.pop_oldest())
    }

    /// The one that came first.
    pub(super) fn pop_oldest(&mut self) -> Option<T> {
        let (_, token) = *self.deadlines.front()?;
        self.remove(token)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn forget_removed(&mut self) {
        while self.deadlines.front().is_some_and(|(_, token)| !self.entries.contains_key(token)) {
            self.deadlines.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_go_in_the_order_in_which_they_came() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut map = DeadlineMap::new(Duration::from_millis(100));
        for (ms, name) in ["first", "second", "third", "fourth"].into_iter().enumerate() {
            map.insert(at(ms as u64), Token(ms), name);
        }
        assert_eq!(map.pop_expired(at(99)), None);
        assert_eq!(map.pop_expired(at(100)), Some("first"));
        assert_eq!(map.remove(Token(2)), Some("third"));
        assert_eq!(map.next_deadline(), Some(at(101)));
        assert_eq!(map.pop_oldest(), Some("second"));
        assert_eq!(map.next_deadline(), Some(at(103)), "of the third, which is gone, nothing is left");
        assert_eq!((map.len(), map.pop_expired(at(102))), (1, None));
        assert_eq!(map.remove(Token(3)), Some("fourth"));
        assert_eq!((map.len(), map.next_deadline(), map.pop_oldest()), (0, None, None));
    }
}
