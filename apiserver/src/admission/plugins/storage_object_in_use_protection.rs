//! StorageObjectInUseProtection: claims and volumes go only when nobody uses them.

use api::{ApiError, Object};
use async_trait::async_trait;
use serde_json::Value;

use crate::admission::{Attributes, MutatingAdmission, Operation, Warnings};

/// The plugin.
pub struct StorageObjectInUseProtection;

#[async_trait]
impl MutatingAdmission for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut Object>,
        _warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
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
        let mut finalizers: Vec<Value> = object.finalizers().into_iter().map(Value::from).collect();
        if !finalizers.iter().any(|known| known == finalizer) {
            finalizers.push(finalizer.into());
            object.set_metadata("finalizers", finalizers);
        }
        Ok(())
    }
}
