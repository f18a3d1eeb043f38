//! The documents of paths that are no resources: discovery, the server's version, and what it tells of the tokens of
//! ServiceAccounts.

use serde_json::{Map, Value, json};

use super::operations::{META, answers};
use super::paths::{camel, upper_first};
use crate::catalog::Catalog;

/// Where these documents are, below `/openapi/v3/`.
pub(super) fn places(catalog: &Catalog) -> Vec<String> {
    let groups = catalog.groups().into_iter().filter(|group| !group.name.is_empty());
    let builtin = groups.filter(|group| is_builtin(catalog, group.name)).map(|group| format!("apis/{}", group.name));
    let fixed = [".well-known/openid-configuration", "api", "apis", "openid/v1/jwks", "version"];
    fixed.into_iter().map(str::to_owned).chain(builtin).collect()
}

/// Groups of custom resources are discovered in the same way, but no document says so.
fn is_builtin(catalog: &Catalog, group: &str) -> bool {
    catalog.iter().any(|row| row.group == group && !row.is_custom())
}

/// The paths of the document at that place; `None` when there is none.
pub(super) fn paths(catalog: &Catalog, place: &str) -> Option<Value> {
    let operation = match place.strip_prefix("apis/") {
        Some(group) if is_builtin(catalog, group) => group_discovery(group),
        Some(_) => return None,
        None => fixed(place)?,
    };
    let mut paths = Map::new();
    paths.insert(format!("/{place}/"), json!({"get": operation}));
    Some(Value::Object(paths))
}

fn group_discovery(group: &str) -> Value {
    let tag = camel(group.strip_suffix(".k8s.io").unwrap_or(group));
    json!({
        "tags": [tag], "description": "get information of a group",
        "operationId": format!("get{}APIGroup", upper_first(&tag)),
        "responses": answers(&format!("{META}.APIGroup"), &[200], false),
    })
}

fn fixed(place: &str) -> Option<Value> {
    let versions = "get available API versions";
    let (tag, id, description, responses) = match place {
        "api" => ("core", "getCoreAPIVersions", versions, answers(&format!("{META}.APIVersions"), &[200], false)),
        "apis" => ("apis", "getAPIVersions", versions, answers(&format!("{META}.APIGroupList"), &[200], false)),
        "version" => {
            let info = super::reference("io.k8s.apimachinery.pkg.version.Info");
            ("version", "getCodeVersion", "get the version information for this server", one("application/json", info))
        }
        "openid/v1/jwks" => (
            "openid",
            "getServiceAccountIssuerOpenIDKeyset",
            "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
            one("application/jwk-set+json", json!({"type": "string"})),
        ),
        ".well-known/openid-configuration" => (
            "WellKnown",
            "getServiceAccountIssuerOpenIDConfiguration",
            "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
            one("application/json", json!({"type": "string"})),
        ),
        _ => return None,
    };
    Some(json!({"tags": [tag], "description": description, "operationId": id, "responses": responses}))
}

/// An answer in one form alone.
fn one(form: &str, schema: Value) -> Value {
    let mut content = Map::new();
    content.insert(form.to_owned(), json!({"schema": schema}));
    json!({"200": {"description": "OK", "content": content}, "401": {"description": "Unauthorized"}})
}
