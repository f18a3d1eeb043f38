//! Small plugins: default classes, protection of volumes in use, and the taint of new nodes.

use std::sync::Arc;

use api::{ApiError, Object};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::admission::{Attributes, MutatingAdmission, Operation, Warnings};
use crate::watch_cache::{ResourceCache, WatchCache};

/// DefaultStorageClass and DefaultIngressClass: the class that the cluster's owner marked as default.
pub struct DefaultClass {
    classes: Arc<ResourceCache>,
    kind: &'static Classes,
}

/// Which objects get which classes.
struct Classes {
    plugin: &'static str,
    plural: &'static str,
    mark: &'static str,
    of: (&'static str, &'static str),
    field: &'static str,
    /// The annotation that named a class before there was a field.
    legacy: &'static str,
}

const STORAGE: Classes = Classes {
    plugin: "DefaultStorageClass",
    plural: "storageclasses",
    mark: "storageclass.kubernetes.io/is-default-class",
    of: ("", "persistentvolumeclaims"),
    field: "storageClassName",
    legacy: "volume.beta.kubernetes.io/storage-class",
};
const INGRESS: Classes = Classes {
    plugin: "DefaultIngressClass",
    plural: "ingressclasses",
    mark: "ingressclass.kubernetes.io/is-default-class",
    of: ("networking.k8s.io", "ingresses"),
    field: "ingressClassName",
    legacy: "kubernetes.io/ingress.class",
};

impl DefaultClass {
    /// For PersistentVolumeClaims.
    pub fn storage(cache: &WatchCache) -> Option<Self> {
        Some(Self { classes: cache.resource(STORAGE.plural)?, kind: &STORAGE })
    }

    /// For Ingresses.
    pub fn ingress(cache: &WatchCache) -> Option<Self> {
        Some(Self { classes: cache.resource(INGRESS.plural)?, kind: &INGRESS })
    }

    /// The newest default class; of equally old ones the first by name.
    fn default_class(&self) -> Option<(String, usize)> {
        let snapshot = self.classes.snapshot();
        let marked = snapshot
            .objects
            .values()
            .map(|cached| cached.object())
            .filter(|class| class.annotation(self.kind.mark) == Some("true"));
        let mut marked: Vec<(String, String)> = marked
            .map(|class| (class.text(&["metadata", "creationTimestamp"]).to_owned(), class.name().to_owned()))
            .collect();
        marked.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let count = marked.len();
        marked.into_iter().next().map(|(_, name)| (name, count))
    }
}

#[async_trait]
impl MutatingAdmission for DefaultClass {
    fn name(&self) -> &'static str {
        self.kind.plugin
    }

    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut Object>,
        _warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        let (group, plural) = self.kind.of;
        let Some(object) = object.filter(|_| attributes.is(group, plural) && attributes.operation == Operation::Create)
        else {
            return Ok(());
        };
        if object.get(&["spec", self.kind.field]).is_some() || object.annotation(self.kind.legacy).is_some() {
            return Ok(());
        }
        match self.default_class() {
            Some((_, count)) if count > 1 && plural == "ingresses" => {
                let why = format!("{count} default IngressClasses were found, only 1 allowed");
                Err(ApiError::forbidden(attributes.resource.qualified(), attributes.name, &why))
            }
            Some((name, _)) => {
                object.set(&["spec", self.kind.field], name);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// StorageObjectInUseProtection: claims and volumes go only when nobody uses them.
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

/// TaintNodesByCondition: a new node takes no pods before it is known to be ready.
pub struct TaintNodesByCondition;

#[async_trait]
impl MutatingAdmission for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut Object>,
        _warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        let Some(node) = object.filter(|_| attributes.is("", "nodes") && attributes.operation == Operation::Create)
        else {
            return Ok(());
        };
        let mut taints = node.get(&["spec", "taints"]).and_then(Value::as_array).cloned().unwrap_or_default();
        let not_ready = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
        if !taints
            .iter()
            .any(|taint| taint.get("key") == not_ready.get("key") && taint.get("effect") == not_ready.get("effect"))
        {
            taints.push(not_ready);
            node.set(&["spec", "taints"], taints);
        }
        Ok(())
    }
}
