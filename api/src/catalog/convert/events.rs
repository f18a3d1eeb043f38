//! Events: `v1` and `events.k8s.io/v1` are two views of one stored object.

use super::rename;
use crate::object::Object;

/// Names in `v1`, names in `events.k8s.io/v1`.
const FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

pub(super) fn core_to_new(event: &mut Object) {
    for (core, new) in FIELDS {
        rename(event.root_mut(), core, new);
    }
}

pub(super) fn new_to_core(event: &mut Object) {
    for (core, new) in FIELDS {
        rename(event.root_mut(), new, core);
    }
}
