//! PersistentVolumeClaimResize: only volumes whose class allows it grow.

use std::sync::Arc;

use api::{ApiError, Object};
use async_trait::async_trait;
use facts::quantity::Quantity;
use serde_json::Value;

use super::claims::LEGACY_CLASS;
use super::{Phases, Plugin};
use crate::admission::{Attributes, Operation, Outcome, ValidatingAdmission, Warnings};
use crate::watch_cache::ResourceCache;

pub(super) const PLUGIN: Plugin = Plugin::on("PersistentVolumeClaimResize", |server| {
    Phases::validating(PersistentVolumeClaimResize { classes: server.cache.resource("storageclasses")? })
});

struct PersistentVolumeClaimResize {
    classes: Arc<ResourceCache>,
}

impl PersistentVolumeClaimResize {
    /// Whether the class of a claim, which it keeps, lets its volumes grow.
    async fn may_grow(&self, claim: &Object, old: &Object) -> Result<bool, ApiError> {
        let class = class_of(claim);
        if class.is_empty() || class != class_of(old) {
            return Ok(false);
        }
        self.classes.settle().await?;
        let class = self.classes.get(&self.classes.key("", class)).map(|cached| cached.object());
        Ok(class.is_some_and(|class| class.get(&["allowVolumeExpansion"]) == Some(&Value::Bool(true))))
    }
}

fn class_of(claim: &Object) -> &str {
    claim.annotation(LEGACY_CLASS).unwrap_or_else(|| claim.text(&["spec", "storageClassName"]))
}

fn size(claim: &Object) -> Option<Quantity> {
    claim.get(&["spec", "resources", "requests", "storage"]).and_then(Quantity::of_value)
}

#[async_trait]
impl ValidatingAdmission for PersistentVolumeClaimResize {
    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>, _: &mut Warnings) -> Outcome {
        let changes = attributes.is("", "persistentvolumeclaims") && attributes.operation == Operation::Update;
        let (Some(claim), Some(old)) = (object.filter(|_| changes), attributes.old) else { return Ok(()) };
        if size(claim) <= size(old) {
            return Ok(());
        }
        let refuse = |why: &str| Err(attributes.forbidden(why));
        if old.text(&["status", "phase"]) != "Bound" {
            return refuse("Only bound persistent volume claims can be expanded");
        }
        if !self.may_grow(claim, old).await? {
            return refuse(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
                 support resize",
            );
        }
        Ok(())
    }
}
