//! The budgets of the design, section 2, and what the reference reached on the same kind of machine (two cores).
//!
//! Where the design says "10 x", the number here is ten times the reference: the budget of the embedded store.

/// What a value should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// At least this.
    Least(f64),
    /// Less than this.
    Below(f64),
}

impl Budget {
    /// Whether the value keeps to it.
    pub fn met(self, value: f64) -> bool {
        match self {
            Self::Least(least) => value >= least,
            Self::Below(most) => value < most,
        }
    }
}

/// A budget and the reference's number, as text with its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expectation {
    pub budget: Budget,
    pub reference: &'static str,
}

const fn least(budget: f64, reference: &'static str) -> Option<Expectation> {
    Some(Expectation { budget: Budget::Least(budget), reference })
}

const fn below(budget: f64, reference: &'static str) -> Option<Expectation> {
    Some(Expectation { budget: Budget::Below(budget), reference })
}

/// Upstream's objectives for the 99th percentile, in milliseconds (sig-scalability).
pub const SLO_MUTATING: Option<Expectation> = below(1_000.0, "1 s (objective)");
pub const SLO_READING: Option<Expectation> = below(1_000.0, "1 s (objective)");
pub const SLO_LISTING: Option<Expectation> = below(30_000.0, "30 s (objective)");
pub const SLO_POD_START: Option<Expectation> = below(5_000.0, "5 s (objective)");
/// No number of the reference is known.
pub const STALLED_READERS: Option<Expectation> = below(100.0, "-");
pub const DEFINITION_MEMORY: Option<Expectation> = below(1.0, "6.3 MiB");
pub const OPENAPI_INDEX: Option<Expectation> = below(5.0, "-");
pub const OPENAPI_V3: Option<Expectation> = below(0.3, "0.43 s (254 documents)");
pub const OPENAPI_V2: Option<Expectation> = below(0.3, "0.33 s");
pub const CREATES: Option<Expectation> = least(10_600.0, "1,060/s");
pub const GETS: Option<Expectation> = least(32_600.0, "3,260/s");
pub const LISTS: Option<Expectation> = least(950.0, "95 MB/s");
pub const SELECTOR_LISTS: Option<Expectation> = least(7_090.0, "709/s");
pub const FAN_OUT: Option<Expectation> = least(487_000.0, "48,700 events/s");
pub const FAN_OUT_P99: Option<Expectation> = below(5.0, "11 ms");
pub const SCHEDULED: Option<Expectation> = least(7_000.0, "600-760 pods/s");
pub const POD_START_P50: Option<Expectation> = below(100.0, "468 ms");
pub const POD_START_P99: Option<Expectation> = below(250.0, "593 ms");
pub const PODS_AT_ONCE: Option<Expectation> = below(1.5, "7.1 s");
pub const NAMESPACE_DELETED: Option<Expectation> = below(1.5, "6.3 s");
pub const LOST: Option<Expectation> = below(1.0, "-");
pub const COLD_START: Option<Expectation> = below(100.0, "3,800 ms");
pub const IDLE_MEMORY: Option<Expectation> = below(60.0, "515 MiB; 750 MiB after load");
pub const IDLE_CPU: Option<Expectation> = below(0.2, "5-20 % (k3s)");
pub const IDLE_WRITES: Option<Expectation> = below(1000.0, "6-11 kB/s (k3s)");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_met_from_its_own_side() {
        assert!(Budget::Least(10.0).met(10.0) && !Budget::Least(10.0).met(9.9));
        assert!(Budget::Below(10.0).met(9.9) && !Budget::Below(10.0).met(10.0));
    }
}
