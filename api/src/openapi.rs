//! OpenAPI v3 documents, computed from the catalog: one for each group and version, small ones for the other
//! paths, and an index of them.
//!
//! Structure comes from the schemas, descriptions from `data/descriptions.txt.gz`, which is not read before the first
//! document is asked for. The deprecated `/watch/` paths are left out.

mod components;
mod general;
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
    for place in places(catalog) {
        let url = url(catalog, &place);
        paths.insert(place, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// The URL of the document at a place, with its hash.
pub fn url(catalog: &Catalog, place: &str) -> String {
    format!("/openapi/v3/{place}?hash={}", hash(catalog, place))
}

/// Where documents are, below `/openapi/v3/`.
fn places(catalog: &Catalog) -> Vec<String> {
    let mut places = general::places(catalog);
    places.extend(versions(catalog).map(|(group, version)| root(&group, &version)));
    places
}

/// Every group with each of its versions.
fn versions(catalog: &Catalog) -> impl Iterator<Item = (String, String)> {
    let groups = catalog.groups().into_iter();
    let pairs: Vec<(String, String)> = groups
        .flat_map(|group| group.versions.into_iter().map(move |version| (group.name.to_owned(), version.to_string())))
        .collect();
    pairs.into_iter()
}

/// The document at a place (`api/v1`, `apis/<group>/<version>`, `apis/<group>`, `version`); `None` when nothing is
/// served there.
pub fn document(catalog: &Catalog, place: &str) -> Option<Value> {
    let (group, version) = group_version(place).unwrap_or_default();
    let rows = rows(catalog, place);
    let paths = if rows.is_empty() { general::paths(catalog, place)? } else { paths::of(&rows, place) };
    let bearer = json!({"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"});
    let mut components = json!({"securitySchemes": {"BearerToken": bearer}});
    let schemas = components::of(&rows, &paths, group, version);
    if schemas.as_object().is_some_and(|schemas| !schemas.is_empty()) {
        components["schemas"] = schemas;
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.2"},
        "components": components,
        "paths": paths,
    }))
}

/// Whether a document is at the place.
pub fn is_served(catalog: &Catalog, place: &str) -> bool {
    !rows(catalog, place).is_empty() || general::paths(catalog, place).is_some()
}

/// The resources that the document at a place is about.
fn rows<'c>(catalog: &'c Catalog, place: &'c str) -> Vec<&'c Resource> {
    let Some((group, version)) = group_version(place) else { return Vec::new() };
    catalog.group_version(group, version).map(AsRef::as_ref).collect()
}

/// A hash of what a document is made of: cheaper than the document.
pub fn hash(catalog: &Catalog, place: &str) -> String {
    let mut hash = Sha512::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(place);
    for row in rows(catalog, place) {
        hash.update(format!("{}/{}/{}/{:?}/{:?}", row.group, row.version, row.plural, row.verbs, row.subresources));
        if let Some(custom) = &row.custom {
            let digest = || Sha512::digest(components::custom(row).to_string()).into();
            hash.update(custom.published(&row.version, digest));
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
