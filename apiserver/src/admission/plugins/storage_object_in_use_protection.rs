//! StorageObjectInUseProtection: claims and volumes go only when nobody uses them.

use api::Object;
use async_trait::async_trait;
use serde_json::Value;

use super::{Phases, Plugin};
use crate::admission::{Attributes, MutatingAdmission, Operation, Outcome, Warnings};

pub(super) const PLUGIN: Plugin =
    Plugin::on("StorageObjectInUseProtection", |_| Phases::mutating(StorageObjectInUseProtection));

struct StorageObjectInUseProtection;

#[async_trait]
impl MutatingAdmission for StorageObjectInUseProtection {
    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Object>, _: &mut Warnings) -> Outcome {
        let Some(object) =
            object.filter(|_| attributes.operation == Operation::Create && attributes.subresource.is_empty())
        else {
            return Ok(());
        };
        let finalizer = match (attributes.resource.group.as_ref(), attributes.resource.plural.as_ref()) {
            ("", "persistentvolumes") => "kubernetes.io/pv-protection",
            ("", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
            ("storage.k8s.io", "volumeattributesclasses") => "kubernetes.io/vac-protection",
            _ => return Ok(()),
        };
        protect(object, finalizer);
        Ok(())
    }
}

/// Gives an object a finalizer, which a controller takes off when nobody uses the object any more.
pub(super) fn protect(object: &mut Object, finalizer: &str) {
    let mut finalizers: Vec<Value> = object.finalizers().into_iter().map(Value::from).collect();
    if !finalizers.iter().any(|known| known == finalizer) {
        finalizers.push(finalizer.into());
        object.set_metadata("finalizers", finalizers);
    }
}
