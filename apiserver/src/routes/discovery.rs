//! Discovery: which groups, versions and resources there are, in the old form and the aggregated one; `/version`; and
//! the list of paths. Upstream: `endpoints/discovery`; KEP-3352.

use api::ApiError;
use api::catalog::{Catalog, Group};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::aggregator::{Table, groups};
use crate::call::{Call, method_not_allowed};
use crate::request::headers as header;
use crate::request::info::Deed;
use crate::request::negotiate::{Accept, Offer};
use crate::response::{self, Answer};
use crate::routes::health;

/// What made this server: clients show it beside upstream's compiler.
const COMPILER: &str = concat!("rust", env!("CARGO_PKG_RUST_VERSION"));
/// What it was made of, if the build says so.
const COMMIT: &str = match option_env!("CORACLE_COMMIT") {
    Some(commit) => commit,
    None => concat!("coracle-", env!("CARGO_PKG_VERSION")),
};

/// Answers every path that is neither a resource nor health, metrics or OpenAPI.
pub(crate) fn answer(call: &Call<'_>) -> Result<Answer, ApiError> {
    let path = call.info.path.trim_end_matches('/');
    let catalog = call.core.registry.catalog();
    let table = call.core.aggregator.table();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let accept = Accept::encoding_of(call.headers(), call.is_pretty());
    let tree = match parts.as_slice() {
        [""] => return Ok(raw(&paths(call, &groups(&catalog, &table)))),
        // What upstream's aggregator answers itself takes any method.
        ["api" | "version"] | ["api", "v1"] | ["apis", _, _]
            if call.info.deed != Deed::Visit(Method::GET) && is_known(&catalog, &parts) =>
        {
            return Err(method_not_allowed());
        }
        ["version"] => return Ok(raw(&version())),
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

/// What upstream prints for people, whoever asks: indented, and in the order of its fields.
fn raw(document: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec_pretty(document).expect("JSON trees with string keys always serialise");
    response::json_bytes(StatusCode::OK, bytes.into())
}

/// The document `/version`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    major: &'static str,
    minor: &'static str,
    emulation_major: &'static str,
    emulation_minor: &'static str,
    min_compatibility_major: &'static str,
    min_compatibility_minor: &'static str,
    git_version: &'static str,
    git_commit: &'static str,
    git_tree_state: &'static str,
    build_date: &'static str,
    go_version: &'static str,
    compiler: &'static str,
    platform: String,
}

fn version() -> Version {
    Version {
        major: "1",
        minor: "36",
        emulation_major: "1",
        emulation_minor: "36",
        min_compatibility_major: "1",
        min_compatibility_minor: "35",
        git_version: daemon::reported_version(),
        git_commit: COMMIT,
        git_tree_state: "clean",
        build_date: "1970-01-01T00:00:00Z",
        go_version: COMPILER,
        compiler: "rustc",
        platform: format!("{}/{}", std::env::consts::OS, go_arch()),
    }
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The paths that there are for this client to look at.
fn paths(call: &Call<'_>, groups: &[Group<'_>]) -> Value {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for group in groups.iter().filter(|group| !group.name.is_empty()) {
        paths.push(format!("/apis/{}", group.name));
        paths.extend(group.versions.iter().map(|version| format!("/apis/{}/{version}", group.name)));
    }
    let others = [
        "/.well-known/openid-configuration",
        "/debug/api_priority_and_fairness/dump_priority_levels",
        "/debug/api_priority_and_fairness/dump_queues",
        "/flagz",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/openid/v1/jwks",
        "/statusz",
        "/version",
    ];
    let is_there = |path: &&str| match *path {
        "/.well-known/openid-configuration" | "/openid/v1/jwks" => call.core.tokens.is_some(),
        path => !path.starts_with("/debug/") || call.core.config.limits.fair,
    };
    paths.extend(others.into_iter().filter(is_there).map(str::to_owned));
    paths.extend(health::paths(call.core));
    paths.sort();
    json!({"paths": paths})
}
