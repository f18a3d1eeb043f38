//! DefaultStorageClass and DefaultIngressClass: the class that the cluster's owner marked as default.

use std::sync::Arc;

use api::{ApiError, Object};
use async_trait::async_trait;

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
