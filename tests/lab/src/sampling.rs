//! Looking at the same things again and again, and what was seen when.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What the threads that look share.
#[derive(Clone)]
pub struct Sampling {
    start: Instant,
    stop: Arc<AtomicBool>,
    pause: Duration,
}

impl Sampling {
    /// Begins now, with so much time between two looks at the same thing.
    pub fn new(pause: Duration) -> Self {
        Sampling { start: Instant::now(), stop: Arc::default(), pause }
    }

    /// Waits for the next look.
    pub fn rest(&self) {
        thread::sleep(self.pause);
    }

    pub fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Since it began.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// From a moment on (since the sampling's start) a value, which is 0 for no.
pub type Change = (Duration, u32);

/// Something that changes, noted by one thread and read by another.
#[derive(Debug, Clone, Default)]
pub struct Track(Arc<Mutex<Vec<Change>>>);

impl Track {
    pub fn note(&self, at: Duration, value: u32) {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.last().map_or(0, |(_, last)| *last) != value {
            changes.push((at, value));
        }
    }

    pub fn changes(&self) -> Vec<Change> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The longest time from one of these moments to the next.
pub fn longest_gap(times: &[Duration]) -> Option<(Duration, Duration)> {
    times.windows(2).map(|pair| (pair[0], pair[1])).max_by_key(|(from, to)| *to - *from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(times: &[u64]) -> Vec<Duration> {
        times.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn a_track_keeps_changes_alone_and_begins_with_no() {
        let track = Track::default();
        for (at, value) in [(10, 0), (20, 1), (30, 1), (40, 2), (50, 0), (60, 0)] {
            track.note(Duration::from_millis(at), value);
        }
        let times = ms(&[20, 40, 50]);
        assert_eq!(track.changes(), [(times[0], 1), (times[1], 2), (times[2], 0)]);
    }

    type Gap = Option<(u64, u64)>;

    #[test]
    fn the_longest_gap() {
        let table: [(&[u64], Gap); 4] =
            [(&[], None), (&[5], None), (&[0, 20, 40], Some((20, 40))), (&[0, 20, 500, 520, 900], Some((20, 500)))];
        for (times, gap) in table {
            let gap = gap.map(|(from, to)| (Duration::from_millis(from), Duration::from_millis(to)));
            assert_eq!(longest_gap(&ms(times)), gap, "{times:?}");
        }
    }
}
