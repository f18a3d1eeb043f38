//! Percentiles and rates.

use std::time::Duration;

/// Durations, sorted.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// The smallest value that at least `part` (0 to 1) of the values do not exceed: the nearest rank. `None` of nothing.
    pub fn percentile(&self, part: f64) -> Option<Duration> {
        let rank = (self.0.len() as f64 * part.clamp(0.0, 1.0)).ceil() as usize;
        self.0.get(rank.max(1) - 1).copied()
    }

    /// The percentile in milliseconds.
    pub fn milliseconds(&self, part: f64) -> Option<f64> {
        self.percentile(part).map(|value| value.as_secs_f64() * 1000.0)
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<I: IntoIterator<Item = Duration>>(values: I) -> Self {
        let mut values: Vec<Duration> = values.into_iter().collect();
        values.sort_unstable();
        Self(values)
    }
}

/// So many in a second; 0 when no time has passed.
pub fn per_second(count: f64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(milliseconds: impl IntoIterator<Item = u64>) -> Latencies {
        milliseconds.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let hundred = latencies((1..=100).rev());
        assert_eq!(
            [0.0, 0.5, 0.99, 1.0].map(|part| hundred.milliseconds(part)),
            [Some(1.0), Some(50.0), Some(99.0), Some(100.0)]
        );
        assert_eq!(latencies([3, 1, 2]).milliseconds(0.5), Some(2.0));
        assert_eq!(latencies([7]).milliseconds(0.99), Some(7.0));
    }

    #[test]
    fn a_part_outside_of_the_range_is_the_nearest_end() {
        assert_eq!(latencies([1, 2]).milliseconds(-1.0), Some(1.0));
        assert_eq!(latencies([1, 2]).milliseconds(2.0), Some(2.0));
    }

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(Latencies::default().percentile(0.5), None);
    }

    #[test]
    fn rates_are_per_second_and_finite() {
        assert_eq!(per_second(300.0, Duration::from_millis(1500)), 200.0);
        assert_eq!(per_second(300.0, Duration::ZERO), 0.0);
    }
}
