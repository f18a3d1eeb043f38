//! The OpenAPI documents of other servers. They stay there: this server only says where they are. Upstream:
//! `controllers/openapiv3/aggregator`.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::catalog::Catalog;

use super::table::{Claim, Table};

/// The server of the version that a document is about, if that is another one. The document of a group is that of
/// whoever serves it alone.
pub(crate) fn of_document(table: &Table, catalog: &Catalog, place: &str) -> Option<Arc<Claim>> {
    let parts: Vec<&str> = place.split('/').collect();
    match parts.as_slice() {
        ["apis", group, version] => table.claim(group, version).cloned(),
        ["api", version] => table.claim("", version).cloned(),
        ["apis", _] if !api::openapi::is_served(catalog, place) => {
            table.claims().find(|claim| claim.shown.get().places.contains_key(place)).cloned()
        }
        _ => None,
    }
}

/// The URLs of all documents of other servers, by place.
pub(crate) fn places(table: &Table, catalog: &Catalog) -> BTreeMap<String, String> {
    let mut places = BTreeMap::new();
    for claim in table.claims() {
        let found = claim.shown.get();
        let of_version = |place: &str| place.matches('/').count() != 1 || place.starts_with("api/");
        let listed =
            found.places.iter().filter(|(place, _)| of_version(place) || !api::openapi::is_served(catalog, place));
        places.extend(listed.map(|(place, url)| (place.clone(), url.clone())));
    }
    places
}
