//! DefaultStorageClass: claims that name no class get the one that the cluster's owner marked as default.

use std::sync::Arc;

use api::Object;
use async_trait::async_trait;

use super::claims::LEGACY_CLASS;
use super::{Phases, Plugin};
use crate::admission::{Attributes, MutatingAdmission, Outcome, Warnings};
use crate::watch_cache::ResourceCache;

pub(super) const PLUGIN: Plugin = Plugin::on("DefaultStorageClass", |server| {
    Phases::mutating(DefaultClass {
        classes: server.cache.resource("storageclasses")?,
        mark: "storageclass.kubernetes.io/is-default-class",
        of: ("", "persistentvolumeclaims"),
        field: "storageClassName",
        legacy: LEGACY_CLASS,
    })
});

/// Which objects get which classes.
pub(super) struct DefaultClass {
    pub(super) classes: Arc<ResourceCache>,
    /// The annotation of a default class.
    pub(super) mark: &'static str,
    /// Group and plural name of the objects.
    pub(super) of: (&'static str, &'static str),
    pub(super) field: &'static str,
    /// The annotation that named a class before there was a field.
    pub(super) legacy: &'static str,
}

impl DefaultClass {
    /// The newest default class; of equally old ones the first by name.
    fn default_class(&self) -> Option<(String, usize)> {
        let snapshot = self.classes.snapshot();
        let marked = snapshot
            .objects
            .values()
            .map(|cached| cached.object())
            .filter(|class| class.annotation(self.mark) == Some("true"));
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
    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Object>, _: &mut Warnings) -> Outcome {
        let (group, plural) = self.of;
        let Some(object) = object.filter(|_| attributes.creates(group, plural)) else { return Ok(()) };
        if object.get(&["spec", self.field]).is_some() || object.annotation(self.legacy).is_some() {
            return Ok(());
        }
        match self.default_class() {
            Some((_, count)) if count > 1 && plural == "ingresses" => {
                let why = format!("{count} default IngressClasses were found, only 1 allowed");
                Err(attributes.forbidden(&why))
            }
            Some((name, _)) => {
                object.set(&["spec", self.field], name);
                Ok(())
            }
            None => Ok(()),
        }
    }
}
