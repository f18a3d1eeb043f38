//! Back-off of what fails again and again: 10 s, doubling up to 5 min, forgotten after 10 quiet minutes (upstream:
//! client-go util/flowcontrol.Backoff).
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

const FIRST: Duration = Duration::from_secs(10);
const LAST: Duration = Duration::from_secs(300);

/// The back-off of one thing. The first retry is free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    entry: Option<(Duration, Timestamp)>,
}

/// A retry that must wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// The whole delay, as messages name it.
    pub(crate) delay: Duration,
    /// When it is over.
    pub(crate) until: Timestamp,
}

impl Backoff {
    /// Whether a retry after the failure at `failed_at` must wait.
    pub(crate) fn wait(&self, failed_at: Timestamp, now: Timestamp) -> Option<Wait> {
        let (delay, last) = self.entry?;
        if is_over(failed_at, last) {
            return None;
        }
        let until = failed_at.checked_add(SignedDuration::try_from(delay).ok()?).ok()?;
        (now < until).then_some(Wait { delay, until })
    }

    /// Counts a retry (or failure) at `now`, after a failure at `failed_at`.
    pub(crate) fn next(&mut self, failed_at: Timestamp, now: Timestamp) {
        let delay = match self.entry {
            Some((delay, last)) if !is_over(failed_at, last) => (delay * 2).min(LAST),
            _ => FIRST,
        };
        self.entry = Some((delay, now));
    }
}

/// A thing that held for twice the longest delay starts anew.
fn is_over(failed_at: Timestamp, last: Timestamp) -> bool {
    failed_at.duration_since(last) > SignedDuration::try_from(LAST * 2).unwrap_or(SignedDuration::MAX)
}

/// A delay as Go prints it: `10s`, `1m20s`, `5m0s`.
pub(crate) fn go_duration(delay: Duration) -> String {
    let seconds = delay.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_first_retry_is_free_and_later_ones_double() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.wait(at(0), at(0)), None);
        backoff.next(at(0), at(0));
        assert_eq!(backoff.wait(at(1), at(5)).unwrap().until, at(11));
        assert_eq!(backoff.wait(at(1), at(11)), None);
        backoff.next(at(1), at(11));
        assert_eq!(backoff.wait(at(12), at(12)).unwrap().delay, Duration::from_secs(20));
    }

    #[test]
    fn it_never_exceeds_five_minutes() {
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            backoff.next(at(0), at(0));
        }
        assert_eq!(backoff.wait(at(1), at(1)).unwrap().delay, LAST);
    }

    #[test]
    fn ten_quiet_minutes_reset_it() {
        let mut backoff = Backoff::default();
        backoff.next(at(0), at(0));
        backoff.next(at(0), at(0));
        assert_eq!(backoff.wait(at(700), at(700)), None);
        backoff.next(at(700), at(700));
        assert_eq!(backoff.wait(at(701), at(701)).unwrap().delay, FIRST);
    }

    #[test]
    fn delays_print_as_in_go() {
        assert_eq!(go_duration(Duration::from_secs(10)), "10s");
        assert_eq!(go_duration(Duration::from_secs(80)), "1m20s");
        assert_eq!(go_duration(Duration::from_secs(300)), "5m0s");
    }
}
