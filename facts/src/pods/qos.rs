//! Quality of service classes (upstream: pkg/apis/core/v1/helper/qos).

use std::fmt;

use super::demand::{Demand, Share, read};
use crate::amounts::{Amounts, List, add};

/// What an amount must be said of for a pod to have a class.
const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// A pod's quality of service class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    /// Limits of CPU and memory everywhere, and requests equal to them.
    Guaranteed,
    /// Some requests or limits.
    Burstable,
    /// None.
    BestEffort,
}

impl QosClass {
    /// As the API writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Demand<'_> {
    /// The class that the spec gives the pod: by what it asks for as a whole, or else by what its containers do.
    pub fn qos_class(&self) -> QosClass {
        if self.is_sized() { class(std::iter::once(&self.own)) } else { class(self.shares()) }
    }
}

fn class<'s, 'a: 's>(shares: impl Iterator<Item = &'s Share<'a>>) -> QosClass {
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    let mut all_limited = true;
    for share in shares {
        add(&mut requests, &compute(share.asked.requests));
        let own = compute(share.asked.limits);
        all_limited &= own.len() == COMPUTE.len();
        add(&mut limits, &own);
    }
    match (requests.is_empty() && limits.is_empty(), all_limited && requests == limits) {
        (true, _) => QosClass::BestEffort,
        (false, true) => QosClass::Guaranteed,
        (false, false) => QosClass::Burstable,
    }
}

/// Those amounts of CPU and memory that are more than nothing.
fn compute(list: Option<List<'_>>) -> Amounts<'_> {
    let mut amounts = read(list);
    amounts.retain(|name, amount| COMPUTE.contains(name) && amount.signum() > 0);
    amounts
}
