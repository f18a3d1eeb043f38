//! OpenAPI v3 documents, computed from the catalog: one for each group and version, small ones for the other
//! paths, and an index of them.
//!
//! Structure comes from the schemas, descriptions from `data/descriptions.txt.gz`, which is not read before the first
//! document is asked for, and what custom resources look like from what their authors wrote.

mod components;
mod custom;
mod descriptions;
mod enums;
mod general;
pub mod message;
mod operations;
mod parameters;
mod paths;
#[cfg(test)]
mod tests;
pub mod v2;
mod v2_schema;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha512};

use custom::Language;
pub use enums::values_of;

use crate::catalog::Catalog;
use crate::resource::Resource;

/// What is published of a catalog: which documents there are, and the hash of what each is made of. Documents are made
/// when they are asked for.
#[derive(Debug)]
pub struct Places {
    catalog: Catalog,
    by_name: BTreeMap<String, Place>,
}

/// Where a document is.
#[derive(Debug)]
struct Place {
    rows: Vec<Arc<Resource>>,
    hash: String,
}

impl Places {
    /// What is published of this catalog.
    pub fn of(catalog: &Catalog) -> Self {
        let mut rows: BTreeMap<String, Vec<Arc<Resource>>> = BTreeMap::new();
        for place in general::places(catalog) {
            rows.entry(place).or_default();
        }
        for row in catalog.iter() {
            rows.entry(root(&row.group, &row.version)).or_default().push(row.clone());
        }
        let by_name = rows.into_iter().map(|(name, rows)| {
            let hash = hash(&name, &rows);
            (name, Place { rows, hash })
        });
        Self { by_name: by_name.collect(), catalog: catalog.clone() }
    }

    /// The catalog that this is published of.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Where documents are, below `/openapi/v3/`: `api/v1`, `apis/<group>/<version>`, `apis/<group>`, `version`, ...
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// A hash of what the document at a place is made of; `None` when nothing is there.
    pub fn hash(&self, place: &str) -> Option<&str> {
        self.by_name.get(place).map(|place| place.hash.as_str())
    }

    /// Whether a document tells of custom resources.
    pub fn is_custom(&self, place: &str) -> bool {
        self.by_name.get(place).is_some_and(|place| place.rows.iter().any(|row| row.is_custom()))
    }

    /// The URL of the document at a place, with its hash, so that clients can cache it for ever.
    pub fn url(&self, place: &str) -> Option<String> {
        self.hash(place).map(|hash| format!("/openapi/v3/{place}?hash={hash}"))
    }

    /// `/openapi/v3`: where the documents are, and those of other servers, by their URLs.
    pub fn index(&self, elsewhere: &BTreeMap<String, String>) -> Value {
        let own = self.names().filter_map(|place| Some((place.to_owned(), self.url(place)?)));
        let others = elsewhere.iter().map(|(place, url)| (place.clone(), url.clone()));
        let paths = own.chain(others).map(|(place, url)| (place, json!({"serverRelativeURL": url})));
        json!({"paths": paths.collect::<Map<_, _>>()})
    }

    /// The document at a place; `None` when nothing is there.
    pub fn document(&self, place: &str) -> Option<Value> {
        let rows: Vec<&Resource> = self.by_name.get(place)?.rows.iter().map(AsRef::as_ref).collect();
        let paths = match rows.is_empty() {
            true => general::paths(&self.catalog, place)?,
            false => paths::of(&rows, place),
        };
        let own = group_version(place).unwrap_or_default();
        let everywhere = [("", "v1"), own];
        let everywhere = if own == everywhere[0] { &everywhere[..1] } else { &everywhere[..] };
        let mut wanted = BTreeSet::new();
        components::add_references(&paths, &mut wanted);
        let schemas = components::of(&rows, wanted, everywhere, Language::V3);
        let mut components = Map::new();
        if !schemas.is_empty() {
            components.insert("schemas".into(), schemas.into());
        }
        // Documents of custom resources come from another builder, which gives them a title of its own.
        let custom = rows.iter().all(|row| row.is_custom()) && !rows.is_empty();
        let info = match custom {
            true => json!({"title": "Kubernetes CRD Swagger", "version": "v0.1.0"}),
            false => json!({"title": "Kubernetes", "version": "v1.36.2"}),
        };
        if !custom {
            components.insert("securitySchemes".into(), json!({"BearerToken": bearer()}));
        }
        Some(json!({"openapi": "3.0.0", "info": info, "components": components, "paths": paths}))
    }
}

/// Whether a document is at a place.
pub fn is_served(catalog: &Catalog, place: &str) -> bool {
    let is_version = |(group, version)| catalog.group_version(group, version).next().is_some();
    group_version(place).is_some_and(is_version) || general::paths(catalog, place).is_some()
}

fn bearer() -> Value {
    json!({"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"})
}

fn hash(place: &str, rows: &[Arc<Resource>]) -> String {
    let mut hash = Sha512::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(place);
    for row in rows {
        hash.update(format!(
            "{}/{}/{}/{}/{}/{}/{:?}/{:?}/{:?}",
            row.group,
            row.version,
            row.plural,
            row.kind,
            row.list_kind,
            row.namespaced,
            row.verbs,
            row.subresources,
            row.selectable_fields,
        ));
        if let Some(written) = row.custom.as_ref().and_then(|custom| custom.written(&row.version)) {
            hash.update(written.digest());
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The group and version of `api/v1` or `apis/apps/v1`.
fn group_version(place: &str) -> Option<(&str, &str)> {
    match place.split_once('/')? {
        ("api", version) if !version.contains('/') => Some(("", version)),
        ("apis", rest) => rest.split_once('/').filter(|(group, _)| !group.is_empty()),
        _ => None,
    }
}

/// `api/v1`, `apis/apps/v1`.
fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The name of the definition of a resource's objects, with `List` after it for its lists.
fn definition_of(row: &Resource) -> String {
    let built_in = row.custom.is_none().then(|| row.schema().node().definition.as_deref()).flatten();
    match built_in {
        Some(name) => name.to_owned(),
        None => {
            let reversed: Vec<&str> = row.group.rsplit('.').collect();
            format!("{}.{}.{}", reversed.join("."), row.version, row.kind)
        }
    }
}

/// A reference to a definition.
fn reference(definition: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{definition}")})
}
