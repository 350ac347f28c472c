//! When every database is looked at: a tick of an idle server must cost next to nothing, and growth must not wait.

use std::time::Duration;

/// New data after which everybody is looked at, in bytes. A young MySQL comes to that within a few minutes by its own undo pages: one for each
/// commit, until each of its rollback segments has some.
const MUCH: u64 = 1 << 20;
/// How long a little new data may wait at least, and at most.
const LITTLE_WAITS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// In between, a look at everybody because of a little takes this part of the time: one in a hundred.
const SHARE: u32 = 100;
/// How long everybody waits at most while tables are being made: one in another engine creates no page.
const ALL_WAIT: Duration = Duration::from_secs(30);
/// How long everybody waits at most while no page is new and no table was made: who is near the quota, or over it, is looked at all the same.
const IDLE_WAITS: Duration = Duration::from_secs(120);

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
    /// Bytes of pages that were created since `earlier`.
    pub fn new_bytes(&self, earlier: u64) -> u64 {
        self.pages_created.saturating_sub(earlier).saturating_mul(self.page_size)
    }

    /// Whether the server was started anew since `earlier`: its counters began at zero.
    pub fn is_restart(&self, earlier: &Self) -> bool {
        self.uptime < earlier.uptime || self.pages_created < earlier.pages_created
    }
}

/// Whether to look at everybody, given the counters at the last scan, how long ago that was and how long it took.
pub fn opens(now: &Counters, at_last_scan: &Counters, since: Duration, took: Duration) -> bool {
    let new_bytes = now.new_bytes(at_last_scan.pages_created);
    let little_waits = took.saturating_mul(SHARE).clamp(LITTLE_WAITS.0, LITTLE_WAITS.1);
    now.is_restart(at_last_scan)
        || new_bytes >= MUCH
        || (new_bytes > 0 && since >= little_waits)
        || since >= if now.definitions == at_last_scan.definitions { IDLE_WAITS } else { ALL_WAIT }
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
        let opens = |pages, seconds| opens(&counters(pages, 60), &before, Duration::from_secs(seconds), Duration::from_millis(200));
        assert!(!opens(100, 119) && opens(100, 120), "idle");
        assert!(!opens(163, 19) && opens(101, 20), "a little");
        assert!(opens(164, 0), "1 MiB");
        let opens = |seconds| super::opens(&counters(101, 60), &before, Duration::from_secs(seconds), Duration::from_secs(1));
        assert!(!opens(59) && opens(60), "a little, where a look is dear");
    }

    #[test]
    fn a_table_that_was_made_waits_half_a_minute() {
        let now = Counters { definitions: 1, ..counters(100, 60) };
        let opens = |seconds| opens(&now, &counters(100, 50), Duration::from_secs(seconds), Duration::ZERO);
        assert!(!opens(29) && opens(30));
    }

    #[test]
    fn a_restart_opens() {
        assert!(opens(&counters(5, 1), &counters(100, 50), Duration::ZERO, Duration::ZERO));
        assert!(opens(&counters(100, 1), &counters(100, 50), Duration::ZERO, Duration::ZERO));
    }

    proptest::proptest! {
        #[test]
        fn growth_never_waits_longer_than_a_minute_and_five_seconds_where_a_look_is_cheap(
            pages in 1_u64.., more in 1_u64.., uptime: u64, took: u32
        ) {
            let now = counters(pages.saturating_add(more), uptime);
            proptest::prop_assume!(now.pages_created > pages);
            let opens = |since, took| opens(&now, &counters(pages, uptime), since, took);
            proptest::prop_assert!(opens(LITTLE_WAITS.1, Duration::from_millis(took.into())));
            proptest::prop_assert!(opens(LITTLE_WAITS.0, Duration::from_millis(50)));
        }
    }
}
