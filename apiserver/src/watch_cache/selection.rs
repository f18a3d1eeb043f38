//! Which objects a list or watch is about (upstream: `storage.SelectionPredicate`).

use std::sync::Arc;

use api::selector::{FieldRequirement, FieldSelector, LabelSelector};

use super::object::Cached;
use super::resource::ResourceCache;
use super::watchers::Interest;

/// A namespace, a name and selectors.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// `None` for all namespaces.
    pub namespace: Option<String>,
    /// `None` for all names.
    pub name: Option<String>,
    pub labels: LabelSelector,
    /// Fields other than name and namespace.
    pub fields: FieldSelector,
}

impl Selection {
    /// Whether it selects by labels or fields.
    pub fn has_selectors(&self) -> bool {
        !self.labels.is_everything() || !self.fields.is_everything()
    }

    /// Whether it selects this object of `cache`.
    pub fn matches(&self, cache: &ResourceCache, object: &Cached) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| namespace == object.namespace())
            && self.name.as_deref().is_none_or(|name| name == object.name())
            && (self.labels.is_everything() || self.labels.matches_with(|key| object.labels.get(key)))
            && self
                .fields
                .requirements()
                .iter()
                .all(|wanted| (value_of(cache, object, wanted) == wanted.value) == wanted.equals)
    }

    /// The narrowest thing it can be filed under.
    pub fn interest(&self, cache: &ResourceCache) -> Interest {
        let namespaced = cache.row().namespaced;
        match (&self.name, &self.namespace) {
            (Some(name), Some(namespace)) if namespaced => return Interest::Key(cache.key(namespace, name).into()),
            (Some(name), _) if !namespaced => return Interest::Key(cache.key("", name).into()),
            _ => {}
        }
        if let Some(value) = cache.indexed_field().and_then(|field| self.fields.exact(field)) {
            return Interest::Field(Arc::from(value));
        }
        match &self.namespace {
            Some(namespace) if namespaced => Interest::Namespace(namespace.as_str().into()),
            _ => Interest::Everything,
        }
    }

    /// The prefix below which all selected keys lie.
    pub fn prefix(&self, cache: &ResourceCache) -> String {
        match &self.namespace {
            Some(namespace) if cache.row().namespaced => format!("{}{namespace}/", cache.prefix()),
            _ => cache.prefix().to_owned(),
        }
    }
}

fn value_of<'a>(cache: &ResourceCache, object: &'a Cached, wanted: &'a FieldRequirement) -> &'a str {
    match wanted.field.as_str() {
        "metadata.name" => object.name(),
        "metadata.namespace" => object.namespace(),
        _ => {
            let at = cache.row().selectable_fields.iter().position(|known| known.path == wanted.path);
            at.and_then(|at| object.fields.get(at)).map_or(&wanted.absent, |value| value)
        }
    }
}
