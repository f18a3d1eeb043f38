//! What another server says that it serves, as the last look at it found it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};

/// The findings of one look.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Found {
    /// The resources of the version, as aggregated discovery lists them; `None` when the server does not list it.
    pub(super) resources: Option<Vec<Value>>,
    /// Whether the server has answered.
    pub(super) is_current: bool,
    /// Its OpenAPI documents: their URLs by place (`apis/GROUP/VERSION`).
    pub(super) places: BTreeMap<String, String>,
}

/// The findings of the last look.
#[derive(Debug, Default)]
pub(super) struct Shown(RwLock<Arc<Found>>);

impl Shown {
    pub(super) fn get(&self) -> Arc<Found> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, found: Found) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(found);
    }
}

impl Found {
    /// The entry of aggregated discovery. Of a server that does not answer only the version is shown.
    pub(super) fn entry(&self, version: &str) -> Value {
        let freshness = if self.is_current { "Current" } else { "Stale" };
        match &self.resources {
            Some(resources) if self.is_current => {
                json!({"version": version, "resources": resources, "freshness": freshness})
            }
            _ => json!({"version": version, "freshness": freshness}),
        }
    }
}
