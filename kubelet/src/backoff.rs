//! Back-off of what fails again and again: 10 s, doubling up to 5 min or what the administrator says, forgotten after 10
//! quiet minutes (upstream: client-go util/flowcontrol.Backoff).
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

const FIRST: Duration = Duration::from_secs(10);
/// Never longer.
pub(crate) const LAST: Duration = Duration::from_secs(300);
/// A thing that held for so long starts anew, however short its delays are.
const QUIET: SignedDuration = SignedDuration::from_mins(10);

/// The back-off of one thing. The first retry is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    entry: Option<(Duration, Timestamp)>,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::up_to(LAST)
    }
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
    /// One whose delays are at most `longest`, the first one, too (KEP-4603).
    pub(crate) fn up_to(longest: Duration) -> Self {
        Self { entry: None, longest }
    }

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
            Some((delay, last)) if !is_over(failed_at, last) => delay * 2,
            _ => FIRST,
        };
        self.entry = Some((delay.min(self.longest), now));
    }
}

fn is_over(failed_at: Timestamp, last: Timestamp) -> bool {
    failed_at.duration_since(last) > QUIET
}

/// A delay of a second or more as Go prints it: `1.5s`, `10s`, `1m20s`, `5m0s`.
pub(crate) fn go_duration(delay: Duration) -> String {
    let minutes = delay.as_secs() / 60;
    let seconds = (delay - Duration::from_secs(minutes * 60)).as_secs_f64();
    if minutes == 0 { format!("{seconds}s") } else { format!("{minutes}m{seconds}s") }
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
    fn a_shorter_limit_holds_from_the_first_delay_on() {
        let mut backoff = Backoff::up_to(Duration::from_secs(1));
        for second in [0, 1, 2] {
            backoff.next(at(second), at(second));
            assert_eq!(backoff.wait(at(second), at(second)).unwrap().delay, Duration::from_secs(1));
        }
        let mut backoff = Backoff::up_to(Duration::from_secs(25));
        let delays = [10, 20, 25, 25].map(|seconds| {
            backoff.next(at(0), at(0));
            (backoff.wait(at(0), at(0)).unwrap().delay, Duration::from_secs(seconds))
        });
        assert!(delays.iter().all(|(found, wanted)| found == wanted), "{delays:?}");
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
        assert_eq!(go_duration(Duration::from_millis(1500)), "1.5s");
        assert_eq!(go_duration(Duration::from_secs(10)), "10s");
        assert_eq!(go_duration(Duration::from_secs(80)), "1m20s");
        assert_eq!(go_duration(Duration::from_secs(300)), "5m0s");
    }
}
