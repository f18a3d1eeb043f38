//! How many seats a level could have used: over time, and smoothed (KEP-1040, borrowing).

use tokio::time::Instant;

/// What is left of an old demand after one period; half of it is gone after five minutes.
const DECAY: f64 = 0.977;

/// Follows a number over time.
#[derive(Clone, Debug)]
pub(super) struct Integrator {
    value: f64,
    since: Instant,
    began: Instant,
    sum: f64,
    squares: f64,
    most: f64,
}

/// What a number was like over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Observed {
    pub(super) seconds: f64,
    pub(super) average: f64,
    pub(super) deviation: f64,
    pub(super) most: f64,
}

impl Integrator {
    pub(super) fn new(now: Instant) -> Self {
        Self { value: 0.0, since: now, began: now, sum: 0.0, squares: 0.0, most: 0.0 }
    }

    fn advance(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        self.sum += self.value * seconds;
        self.squares += self.value * self.value * seconds;
        self.since = now;
    }

    pub(super) fn set(&mut self, now: Instant, value: f64) {
        self.advance(now);
        self.value = value;
        self.most = self.most.max(value);
    }

    /// What it was like since the last reset.
    pub(super) fn reset(&mut self, now: Instant) -> Observed {
        self.advance(now);
        let seconds = now.saturating_duration_since(self.began).as_secs_f64();
        let mut observed = Observed { seconds, most: self.most, ..Observed::default() };
        if seconds > 0.0 {
            observed.average = self.sum / seconds;
            observed.deviation = (self.squares / seconds - observed.average * observed.average).max(0.0).sqrt();
        }
        (self.began, self.sum, self.squares, self.most) = (now, 0.0, 0.0, self.value);
        observed
    }
}

/// The demand of a level.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Demand {
    pub(super) observed: Observed,
    pub(super) smoothed: f64,
}

impl Demand {
    /// The most seats that could have been used at once.
    pub(super) fn high_watermark(&self) -> f64 {
        self.observed.most.round()
    }

    /// Takes in what was observed over so many periods: many, if nobody looked because nothing happened.
    pub(super) fn update(&mut self, observed: Observed, periods: f64) {
        self.observed = observed;
        if observed.seconds <= 0.0 {
            return;
        }
        let envelope = observed.average + observed.deviation;
        let kept = DECAY.powf(periods);
        self.smoothed = envelope.max(kept * self.smoothed + (1.0 - kept) * envelope);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_number_is_weighed_by_how_long_it_was_so() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut integrator = Integrator::new(start);
        integrator.set(at(2), 4.0);
        integrator.set(at(3), 0.0);
        let observed = integrator.reset(at(4));
        assert_eq!((observed.seconds, observed.average, observed.most), (4.0, 1.0, 4.0));
        assert!((observed.deviation - 3.0_f64.sqrt()).abs() < 1e-9);
        assert_eq!(integrator.reset(at(5)), Observed { seconds: 1.0, ..Observed::default() });
    }

    #[test]
    fn demand_rises_at_once_and_falls_slowly() {
        let mut demand = Demand::default();
        demand.update(Observed { seconds: 10.0, average: 10.0, deviation: 2.0, most: 15.0 }, 1.0);
        assert_eq!((demand.smoothed, demand.high_watermark()), (12.0, 15.0));
        let (mut one_by_one, mut at_once) = (demand, demand);
        let nothing = Observed { seconds: 10.0, ..Observed::default() };
        (0..30).for_each(|_| one_by_one.update(nothing, 1.0));
        at_once.update(nothing, 30.0);
        assert!((one_by_one.smoothed - 6.0).abs() < 0.1, "half is left after five minutes");
        assert!((one_by_one.smoothed - at_once.smoothed).abs() < 1e-9);
    }
}
