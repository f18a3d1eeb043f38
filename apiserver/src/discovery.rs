//! Discovery: which groups, versions and resources there are, in the old form and the aggregated one; `/version`; and
//! the list of paths.

use api::ApiError;
use api::catalog::{Catalog, Group};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::aggregator::{Table, groups};
use crate::handler::{Call, method_not_allowed};
use crate::headers as header;
use crate::negotiate::{Accept, Offer};
use crate::request_info::Deed;
use crate::response::{self, Answer};

/// Answers every path that is neither a resource nor health, metrics or OpenAPI.
pub(crate) fn answer(call: &Call<'_>) -> Result<Answer, ApiError> {
    let path = call.info.path.trim_end_matches('/');
    let catalog = call.core.registry.catalog();
    let table = call.core.aggregator.table();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let accept = Accept::encoding_of(call.headers(), call.is_pretty());
    let tree = match parts.as_slice() {
        [""] => paths(&groups(&catalog, &table)),
        // What upstream's aggregator answers itself takes any method.
        ["api" | "version"] | ["api", "v1"] | ["apis", _, _]
            if call.info.deed != Deed::Visit(Method::GET) && is_known(&catalog, &parts) =>
        {
            return Err(method_not_allowed());
        }
        ["version"] => version(),
        ["api" | "apis"] => match aggregated_version(call) {
            Some(version) => return Ok(aggregated(call, (&catalog, &table), parts[0] == "api", version)),
            None => {
                acceptable(call)?;
                if parts[0] == "api" {
                    api::discovery::api_versions(&host(call))
                } else {
                    api::discovery::group_list(&groups(&catalog, &table))
                }
            }
        },
        ["api", "v1"] => api::discovery::resource_list(&catalog, "", "v1").ok_or_else(ApiError::unknown_resource)?,
        ["api", _] => return Err(ApiError::unknown_resource()),
        ["apis", group] => match api::discovery::group(&groups(&catalog, &table), group) {
            Some(tree) => tree,
            None => return Ok(response::page_not_found()),
        },
        ["apis", group, version] => {
            if !catalog.groups().iter().any(|known| known.name == *group) {
                return Ok(response::page_not_found());
            }
            api::discovery::resource_list(&catalog, group, version).ok_or_else(ApiError::unknown_resource)?
        }
        _ => return Ok(response::page_not_found()),
    };
    Ok(response::value(StatusCode::OK, accept, &tree))
}

/// Whether there is something at a path of discovery.
fn is_known(catalog: &Catalog, parts: &[&str]) -> bool {
    match parts {
        ["apis", group, version] => api::discovery::resource_list(catalog, group, version).is_some(),
        _ => true,
    }
}

fn acceptable(call: &Call<'_>) -> Result<(), ApiError> {
    Accept::for_object(call.headers(), false, Offer::All).map(|_| ())
}

fn host(call: &Call<'_>) -> String {
    let config = &call.core.config;
    std::net::SocketAddr::new(config.advertise_address.unwrap_or(config.bind_address), config.secure_port).to_string()
}

/// `v2` or `v2beta1` when the client prefers the aggregated form.
fn aggregated_version(call: &Call<'_>) -> Option<&'static str> {
    let header = header::shown(call.headers(), http::header::ACCEPT);
    header.split(',').find_map(|clause| {
        let parameters: Vec<&str> = clause.split(';').map(str::trim).collect();
        if parameters.first() != Some(&"application/json") {
            return None;
        }
        if !parameters.contains(&"as=APIGroupDiscoveryList") {
            return Some(None);
        }
        match () {
            () if parameters.contains(&"v=v2") => Some(Some("v2")),
            () if parameters.contains(&"v=v2beta1") => Some(Some("v2beta1")),
            () => None,
        }
    })?
}

/// The aggregated form, which clients keep by its `ETag`.
fn aggregated(call: &Call<'_>, (catalog, table): (&Catalog, &Table), core: bool, version: &'static str) -> Answer {
    let elsewhere = |group: &str, version: &str| table.claim(group, version).map(|claim| claim.entry(version));
    let tree = api::discovery::aggregated(catalog, &groups(catalog, table), core, version, elsewhere);
    let kind = match version {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    };
    let bytes = serde_json::to_vec(&tree).expect("JSON trees with string keys always serialise");
    let etag = api::discovery::etag(&bytes);
    let known = header::shown(call.headers(), IF_NONE_MATCH);
    let mut answer = if known.split(',').any(|one| one.trim() == etag) {
        let mut unchanged = response::with_type(StatusCode::NOT_MODIFIED, kind, Bytes::new());
        unchanged.headers_mut().remove(CONTENT_TYPE);
        unchanged
    } else {
        response::with_type(StatusCode::OK, kind, bytes.into())
    };
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        answer.headers_mut().insert(ETAG, etag);
    }
    answer
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35", "gitVersion": daemon::reported_version(), "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, go_arch()),
    })
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn paths(groups: &[Group<'_>]) -> Value {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for group in groups.iter().filter(|group| !group.name.is_empty()) {
        paths.push(format!("/apis/{}", group.name));
        paths.extend(group.versions.iter().map(|version| format!("/apis/{}/{version}", group.name)));
    }
    let others = [
        "/healthz",
        "/healthz/etcd",
        "/healthz/log",
        "/healthz/ping",
        "/livez",
        "/livez/etcd",
        "/livez/log",
        "/livez/ping",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/readyz/informer-sync",
        "/readyz/ping",
        "/version",
    ];
    paths.extend(others.map(str::to_owned));
    paths.sort();
    json!({"paths": paths})
}
