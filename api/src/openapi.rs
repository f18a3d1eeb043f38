//! OpenAPI v3 documents, computed from the catalog: one for each group and version, and an index of them.
//!
//! Structure comes from the schemas, descriptions from `data/descriptions.txt.gz`, which is not read before the first
//! document is asked for. The deprecated `/watch/` paths are left out.

mod components;
pub mod message;
mod paths;
#[cfg(test)]
mod tests;
pub mod v2;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha512};

use crate::catalog::Catalog;
use crate::resource::Resource;

/// `/openapi/v3`: where the documents are. Their URLs carry a hash, so that clients can cache them for ever.
pub fn index(catalog: &Catalog) -> Value {
    let mut paths = Map::new();
    for group in catalog.groups() {
        for version in group.versions {
            let path = root(group.name, version);
            let url = format!("/openapi/v3/{path}?hash={}", hash(catalog, group.name, version));
            paths.insert(path, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

/// `/openapi/v3/api/v1`, `/openapi/v3/apis/<group>/<version>`; `None` when nothing is served there.
pub fn document(catalog: &Catalog, group: &str, version: &str) -> Option<Value> {
    let rows: Vec<&Resource> = catalog.group_version(group, version).map(AsRef::as_ref).collect();
    if rows.is_empty() {
        return None;
    }
    let paths = paths::of(&rows, &root(group, version));
    let bearer = json!({"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"});
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.2"},
        "components": {
            "schemas": components::of(&rows, &paths, group, version),
            "securitySchemes": {"BearerToken": bearer},
        },
        "paths": paths,
    }))
}

/// A hash of what a document is made of: cheaper than the document.
pub fn hash(catalog: &Catalog, group: &str, version: &str) -> String {
    let mut hash = Sha512::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    for row in catalog.group_version(group, version) {
        hash.update(format!("{}/{}/{}/{:?}/{:?}", row.group, row.version, row.plural, row.verbs, row.subresources));
        if row.schema().node().definition.is_none() {
            hash.update(components::custom(row).to_string());
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// `api/v1`, `apis/apps/v1`.
fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The name of the definition of a resource's objects, with `List` after it for its lists.
fn definition_of(row: &Resource) -> String {
    match row.schema().node().definition.as_deref() {
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
