//! Claims of devices.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Amounts, number, object_count, one};
use crate::Object;

/// What follows the name of a device class in the names of quotas.
const OF_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// Upstream's `AllocationResultsMaxSize`: no claim gets more devices, even if it asks for all.
const MOST: usize = 32;

fn count_name() -> String {
    object_count("resource.k8s.io", "resourceclaims")
}

pub(super) fn counts(name: &str) -> bool {
    name == count_name() || name.ends_with(OF_CLASS)
}

/// The worst case: of alternatives, the most of each class.
pub(super) fn usage(claim: &Object) -> Amounts {
    let mut usage = Amounts::from([(count_name(), one())]);
    let requests = claim.get(&["spec", "devices", "requests"]).and_then(Value::as_array);
    for request in requests.into_iter().flatten() {
        let mut most: BTreeMap<&str, usize> = BTreeMap::new();
        let alternatives = request.get("firstAvailable").and_then(Value::as_array).into_iter().flatten();
        for asked in request.get("exactly").into_iter().chain(alternatives) {
            let class = asked.get("deviceClassName").and_then(Value::as_str).unwrap_or_default();
            let known = most.entry(class).or_default();
            *known = (*known).max(devices(asked));
        }
        for (class, devices) in most {
            *usage.entry(format!("{class}{OF_CLASS}")).or_default() += number(devices);
        }
    }
    usage
}

fn devices(asked: &Value) -> usize {
    match asked.get("allocationMode").and_then(Value::as_str) {
        Some("ExactCount") | None => {
            asked.get("count").and_then(Value::as_u64).map_or(1, |count| usize::try_from(count).unwrap_or(usize::MAX))
        }
        Some("All") => MOST,
        // A mode of a later version is not counted.
        Some(_) => 0,
    }
}
