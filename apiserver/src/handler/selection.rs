//! The selection of a list, watch or deletecollection, from its path and query.

use api::ApiError;
use api::selector::{FieldSelector, LabelSelector};

use super::Routed;
use crate::watch_cache::Selection;

/// Reads selectors. Field selectors may only name the fields that the resource offers.
pub(crate) fn selection(routed: &Routed<'_>) -> Result<Selection, ApiError> {
    let query = routed.call.query;
    let info = routed.call.info;
    let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or(""))?;
    let fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or(""), &routed.row)?;
    let mut selection = Selection {
        namespace: (routed.row.namespaced && !info.namespace.is_empty()).then(|| info.namespace.clone()),
        name: fields.name().map(str::to_owned),
        labels,
        fields,
    };
    if info.verb == "watch" && selection.name.is_none() && !info.name.is_empty() {
        selection.name = Some(info.name.clone());
    }
    if routed.row.namespaced && selection.namespace.is_none() {
        selection.namespace = selection.fields.namespace().map(str::to_owned);
    }
    Ok(selection)
}
