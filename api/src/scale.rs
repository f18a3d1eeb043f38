//! `Scale` of `autoscaling/v1`: the replicas of a workload, seen without knowing its kind (upstream: `scaleFromDeployment`
//! and its like, and `apiextensions-apiserver`'s `scaleFromCustomResource`).

use serde_json::{Value, json};

use crate::custom::Scale;
use crate::selector::LabelSelector;
use crate::{ApiError, Object, Resource};

/// Where built-in workloads, and every `Scale`, have their replicas.
pub const REPLICAS: [&str; 2] = ["spec", "replicas"];

/// What the `Scale` of an object shows.
struct Shown {
    replicas: i64,
    current: i64,
    selector: String,
}

impl Shown {
    fn of(row: &Resource, parent: &Object) -> Result<Self, ApiError> {
        match row.custom.as_ref().and_then(|custom| custom.scale.as_ref()) {
            Some(scale) => Self::of_custom(scale, parent),
            None => Self::of_workload(row, parent),
        }
    }

    fn of_workload(row: &Resource, parent: &Object) -> Result<Self, ApiError> {
        let selector = parent.get(&["spec", "selector"]);
        let selector = match (row.plural.as_ref(), selector) {
            ("replicationcontrollers", Some(Value::Object(labels))) => LabelSelector::of_map(labels),
            (_, selector) => LabelSelector::of_value(selector)?,
        };
        Ok(Self {
            replicas: parent.integer(&REPLICAS).unwrap_or(0),
            current: parent.integer(&["status", "replicas"]).unwrap_or(0),
            selector: selector.to_string(),
        })
    }

    fn of_custom(scale: &Scale, parent: &Object) -> Result<Self, ApiError> {
        let at = scale.spec_replicas.as_str();
        let replicas = scale.spec_replicas.integer(parent).map_err(ApiError::internal)?;
        let missing = || ApiError::internal(format!("the spec replicas field {at:?} does not exist"));
        let selector = scale.label_selector.as_ref().map_or(Ok(None), |path| path.string(parent));
        Ok(Self {
            replicas: replicas.ok_or_else(missing)?,
            current: scale.status_replicas.integer(parent).map_err(ApiError::internal)?.unwrap_or(0),
            selector: selector.map_err(ApiError::internal)?.unwrap_or("").to_owned(),
        })
    }
}

/// The path of the replicas in an object that can be scaled.
pub fn replicas_path(row: &Resource) -> Vec<&str> {
    let custom = row.custom.as_ref().and_then(|custom| custom.scale.as_ref());
    custom.map_or_else(|| REPLICAS.to_vec(), |scale| scale.spec_replicas.fields())
}

/// The `Scale` of an object. Fails when a custom object lacks the replicas, or has something else in their place.
pub fn scale_of(row: &Resource, parent: &Object) -> Result<Object, ApiError> {
    let shown = Shown::of(row, parent)?;
    let mut metadata = json!({"name": parent.name()});
    if row.namespaced {
        metadata["namespace"] = parent.namespace().into();
    }
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = parent.get(&["metadata", field]) {
            metadata[field] = value.clone();
        }
    }
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": {},
        "status": {"replicas": shown.current},
    });
    if shown.replicas != 0 {
        scale["spec"]["replicas"] = shown.replicas.into();
    }
    if !shown.selector.is_empty() {
        scale["status"]["selector"] = shown.selector.into();
    }
    Object::from_value(scale).ok_or_else(|| ApiError::internal("a scale is an object"))
}
