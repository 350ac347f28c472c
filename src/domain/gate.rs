//! When every database is looked at: a tick of an idle server must cost next to nothing, and growth must not wait.

use std::time::Duration;

/// New data after which everybody is looked at, in bytes.
const MUCH: u64 = 256 << 10;
/// How long a little new data may wait.
const LITTLE_WAITS: Duration = Duration::from_secs(5);
/// How long everybody waits at most, whatever the counters say.
const ALL_WAIT: Duration = Duration::from_secs(30);

/// The server's counters, as of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// `Innodb_pages_created`: every new byte of InnoDB is in a page that was created.
    pub pages_created: u64,
    /// `Innodb_page_size` in bytes.
    pub page_size: u64,
    /// `Uptime` in seconds.
    pub uptime: u64,
    /// Statements that can give a table another engine or tablespace (`Com_create_table` and the like).
    pub definitions: u64,
}

impl Counters {
    /// Whether the server was started anew since `earlier`: its counters began at zero.
    pub fn is_restart(&self, earlier: &Self) -> bool {
        self.uptime < earlier.uptime || self.pages_created < earlier.pages_created
    }
}

/// Whether to look at everybody, given the counters at the last scan and how long ago that was.
pub fn opens(now: &Counters, at_last_scan: &Counters, since: Duration) -> bool {
    let pages = now.pages_created.saturating_sub(at_last_scan.pages_created);
    now.is_restart(at_last_scan) || pages.saturating_mul(now.page_size) >= MUCH || (pages > 0 && since >= LITTLE_WAITS) || since >= ALL_WAIT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(pages_created: u64, uptime: u64) -> Counters {
        Counters { pages_created, page_size: 16 << 10, uptime, definitions: 0 }
    }

    #[test]
    fn idle_waits_little_waits_less_and_much_does_not() {
        let before = counters(100, 50);
        let opens = |pages, seconds| opens(&counters(pages, 60), &before, Duration::from_secs(seconds));
        assert!(!opens(100, 29) && opens(100, 30), "idle");
        assert!(!opens(115, 4) && opens(101, 5), "a little");
        assert!(opens(116, 0), "256 KiB");
    }

    #[test]
    fn a_restart_opens() {
        assert!(opens(&counters(5, 1), &counters(100, 50), Duration::ZERO));
        assert!(opens(&counters(100, 1), &counters(100, 50), Duration::ZERO));
    }

    proptest::proptest! {
        #[test]
        fn growth_never_waits_longer_than_five_seconds(pages in 1_u64.., more in 1_u64.., uptime: u64) {
            let now = counters(pages.saturating_add(more), uptime);
            proptest::prop_assume!(now.pages_created > pages);
            proptest::prop_assert!(opens(&now, &counters(pages, uptime), LITTLE_WAITS));
        }
    }
}
