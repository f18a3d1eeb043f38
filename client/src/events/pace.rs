//! How fast events may be sent: a burst, then a steady rate.

use std::time::Duration;

use tokio::time::Instant;

/// Upstream's limits for the client of a scheduler, and for the events of a kubelet.
const BURST: u32 = 100;
const PER_SECOND: u32 = 50;

/// Gives out turns.
#[derive(Debug)]
pub(super) struct Pace {
    /// When as many turns as a burst has are free again: each turn moves it on by its part of a second.
    rested: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { rested: Instant::now() }
    }

    /// Waits for a turn.
    pub(super) async fn turn(&mut self) {
        let one = Duration::from_secs(1) / PER_SECOND;
        self.rested = self.rested.max(Instant::now()) + one;
        if let Some(at) = self.rested.checked_sub(one * BURST) {
            tokio::time::sleep_until(at).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_what_comes_after_it_is_not() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        for _ in 0..BURST {
            pace.turn().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..PER_SECOND {
            pace.turn().await;
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(990) && took <= Duration::from_millis(1010), "{took:?}");
        tokio::time::sleep(Duration::from_secs(10)).await;
        let rested = Instant::now();
        for _ in 0..BURST {
            pace.turn().await;
        }
        assert!(rested.elapsed() <= Duration::from_millis(1));
    }
}
