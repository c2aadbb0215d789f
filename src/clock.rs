//! The time, by two clocks, and the boot that one of them counts from.

use std::fs;
use std::io;
use std::ops::Add;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A moment by the clock since the boot, which goes on while the host sleeps (clock_gettime(2),
/// `CLOCK_BOOTTIME`), and by the wall clock, which alone tells that a virtual machine was stopped.
/// It is written as two numbers of nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Moment {
    /// Since the boot.
    pub boot: Duration,
    /// Unix time.
    pub wall: Duration,
}

impl Moment {
    /// This one.
    pub fn now() -> Self {
        let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
        Moment { boot: read(ClockId::Boottime), wall: read(ClockId::Realtime) }
    }

    /// How much later this is than another moment, by the clock that says more: what was true
    /// before a sleep need not be true now. Nothing, if it is earlier.
    pub fn since(self, earlier: Moment) -> Duration {
        self.since_by_boot(earlier).max(self.wall.saturating_sub(earlier.wall))
    }

    /// The same by the clock since the boot alone, for what has to be done within some time: it is
    /// never set.
    pub fn since_by_boot(self, earlier: Moment) -> Duration {
        self.boot.saturating_sub(earlier.boot)
    }
}

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Which boot this is: the kernel says it, or the unit (`BOOT_ID=%b`), as its sandbox hides what the
/// kernel says.
///
/// # Errors
/// Neither says it.
pub(crate) fn boot_id() -> io::Result<String> {
    let by_unit = || std::env::var("BOOT_ID").ok().filter(|id| !id.is_empty());
    let by_kernel = fs::read_to_string(BOOT_ID).map_err(|e| io::Error::other(format!("{BOOT_ID}: {e}")));
    let id = by_kernel.or_else(|e| by_unit().ok_or(e))?;
    // systemd writes it without the dashes.
    Ok(id.trim().replace('-', ""))
}

impl From<(u64, u64)> for Moment {
    fn from((boot, wall): (u64, u64)) -> Self {
        Moment { boot: Duration::from_nanos(boot), wall: Duration::from_nanos(wall) }
    }
}

impl From<Moment> for (u64, u64) {
    fn from(moment: Moment) -> Self {
        // They suffice for 584 years.
        let nanoseconds = |time: Duration| time.as_nanos().try_into().unwrap_or(u64::MAX);
        (nanoseconds(moment.boot), nanoseconds(moment.wall))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    /// By both clocks.
    fn add(self, time: Duration) -> Moment {
        Moment { boot: self.boot.saturating_add(time), wall: self.wall.saturating_add(time) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_that_says_more_tells_the_age() {
        let at = |boot, wall| Moment { boot: Duration::from_secs(boot), wall: Duration::from_secs(wall) };
        let table = [
            ("nothing happened", at(101, 1001), 1, 1),
            ("the host slept, and its wall clock was not set", at(160, 1060), 60, 60),
            ("a virtual machine was stopped", at(101, 1060), 60, 1),
            ("the wall clock was set back", at(103, 900), 3, 3),
            ("the same moment", at(100, 1000), 0, 0),
            ("an earlier one", at(99, 999), 0, 0),
        ];
        for (what, now, age, by_boot) in table {
            assert_eq!(now.since(at(100, 1000)).as_secs(), age, "{what}");
            assert_eq!(now.since_by_boot(at(100, 1000)).as_secs(), by_boot, "{what}");
        }
    }

    #[test]
    fn both_clocks_run() {
        let before = Moment::now();
        assert!(before.boot > Duration::ZERO && before.wall > Duration::from_secs(1_700_000_000));
        std::thread::sleep(Duration::from_millis(2));
        assert!(Moment::now().since_by_boot(before) >= Duration::from_millis(2));
    }
}
