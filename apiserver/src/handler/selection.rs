//! The selection of a list, watch or deletecollection, from its path and query.

use std::sync::Arc;

use api::selector::{FieldSelector, LabelSelector};
use api::{ApiError, Object, Resource};

use crate::call::Routed;
use crate::registry::{List, Registry};
use crate::watch_cache::Selection;

/// Reads selectors. Field selectors may only name the fields that the resource offers.
pub(crate) fn selection(routed: &Routed<'_>) -> Result<Selection, ApiError> {
    let query = routed.call.query;
    let info = routed.call.info;
    let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or(""))?;
    let fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or(""), &routed.client_row)?;
    let mut selection = Selection {
        namespace: (routed.client_row.namespaced && !info.namespace.is_empty()).then(|| info.namespace.clone()),
        name: fields.name().map(str::to_owned),
        labels,
        fields,
    };
    // Whoever may list or watch one name sees that one, however the selector reads.
    if !info.name.is_empty() {
        selection.name = Some(info.name.clone());
    }
    if routed.client_row.namespaced && selection.namespace.is_none() {
        selection.namespace = selection.fields.namespace().map(str::to_owned);
    }
    Ok(selection)
}

/// Fields that can only be selected by after conversion: what a webhook makes of a custom object, the cache cannot know.
pub(crate) struct LateFields {
    registry: Arc<Registry>,
    stored_row: Arc<Resource>,
    client_row: Arc<Resource>,
    fields: FieldSelector,
}

impl LateFields {
    /// Takes such fields out of a selection.
    pub(crate) fn take(routed: &Routed<'_>, selection: &mut Selection) -> Option<Self> {
        let by_webhook = routed.client_row.custom.as_ref().is_some_and(|custom| custom.is_converted_elsewhere());
        let of_metadata = |field: &str| matches!(field, "metadata.name" | "metadata.namespace");
        if !by_webhook || selection.fields.requirements().iter().all(|wanted| of_metadata(&wanted.field)) {
            return None;
        }
        Some(Self {
            registry: routed.call.core.registry.clone(),
            stored_row: routed.stored_row().clone(),
            client_row: routed.client_row.clone(),
            fields: std::mem::take(&mut selection.fields),
        })
    }

    /// Which of these objects are selected.
    pub(crate) async fn select(&self, objects: Vec<Object>) -> Result<Vec<bool>, ApiError> {
        let converted = self.registry.convert(&self.stored_row, &self.client_row, objects).await?;
        Ok(converted.iter().map(|object| self.fields.matches(object)).collect())
    }

    /// Leaves in a list what is selected. A page of a longer list may become shorter.
    pub(crate) async fn narrow(&self, mut list: List) -> Result<List, ApiError> {
        let selected = self.select(list.items.iter().map(|cached| cached.object()).collect()).await?;
        let mut selected = selected.into_iter();
        list.items.retain(|| selected.next() == Some(true));
        list.remaining = None;
        Ok(list)
    }
}
