//! Label selectors as controllers use them (upstream: `metav1.LabelSelectorAsSelector`).

use facts::labels;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::core::{Selector, SelectorExt};

/// A selector that selects nothing when it is empty or malformed: no controller may claim everything by accident.
pub(crate) fn selector(from: &LabelSelector) -> Option<Selector> {
    let selector = Selector::try_from(from.clone()).ok()?;
    (!selector.selects_all()).then_some(selector)
}

/// Whether the labels of `meta` match.
pub(crate) fn matches(selector: &Selector, meta: &ObjectMeta) -> bool {
    selector.matches(labels::of(meta))
}
