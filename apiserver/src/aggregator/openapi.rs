//! The OpenAPI documents of other servers. Those of v3 stay there: this server only says where they are. Of the one
//! document of v2 they have parts. Upstream: `controllers/openapiv3/aggregator`, `controllers/openapi`.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::catalog::Catalog;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};

use super::look::Version;
use super::table::{Claim, Table};
use super::whole::Part;

/// So many servers are asked at a time.
const AT_ONCE: usize = 16;

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

/// The parts that servers which are available have of the document of v2, in the order of their groups and versions.
pub(crate) async fn parts(table: &Table) -> Vec<Arc<Part>> {
    let mut claims = BTreeMap::new();
    for (group, version) in table.claimed() {
        let claim = table.claim(group, version).filter(|claim| claim.is_available && !group.is_empty());
        claims.extend(claim.map(|claim| ((group.to_owned(), version.to_owned()), claim.clone())));
    }
    let asked: Vec<BoxFuture<'static, Option<Arc<Part>>>> =
        claims.into_iter().map(|((group, version), claim)| part(claim, Version { group, version }).boxed()).collect();
    futures::stream::iter(asked).buffered(AT_ONCE).filter_map(std::future::ready).collect().await
}

async fn part(claim: Arc<Claim>, version: Version) -> Option<Arc<Part>> {
    claim.whole.part(&claim.backend, &version).await
}
