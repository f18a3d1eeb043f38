//! Parameters: objects that bindings hand to policies.

use std::sync::Arc;

use api::{Object, Resource};
use serde_json::Value;

use super::binding::ParamRef;
use super::text;
use crate::admission::{Attributes, Environment};
use crate::watch_cache::WatchCache;

/// `paramKind`.
pub(super) struct ParamKind {
    api_version: String,
    kind: String,
}

impl ParamKind {
    pub(super) fn read(spec: &Value) -> Option<Self> {
        let tree = spec.get("paramKind").filter(|tree| !tree.is_null())?;
        Some(Self { api_version: text(tree, "apiVersion").to_owned(), kind: text(tree, "kind").to_owned() })
    }

    /// The resource that has the kind; the error is why the policy cannot act.
    pub(super) fn row<'a>(&self, attributes: &Attributes<'a>) -> Result<&'a Arc<Resource>, String> {
        let meant = |row: &&Arc<Resource>| row.api_version() == self.api_version && row.kind == self.kind;
        attributes.catalog.iter().find(meant).ok_or_else(|| {
            let (group, version) = self.api_version.split_once('/').unwrap_or(("", &self.api_version));
            format!("failed to find resource referenced by paramKind: '{group}/{version}, Kind={}'", self.kind)
        })
    }
}

/// The objects with which a policy acts on a request, each once; one of `None` when it acts without. The error is what the
/// policy could not be configured by.
pub(super) async fn find(
    environment: &Environment,
    kind: Option<&ParamKind>,
    wanted: Option<&ParamRef>,
    attributes: &Attributes<'_>,
) -> Result<Vec<Option<Object>>, String> {
    let (Some(kind), Some(wanted)) = (kind, wanted) else { return Ok(vec![None]) };
    let row = kind.row(attributes)?;
    let namespace = namespace(row, wanted, attributes)?;
    let found = list(&environment.cache, row, wanted, namespace)?;
    let stored = attributes.catalog.storage_row(row);
    let found = environment.converters.convert(attributes.catalog, stored, row, found).await;
    let found = found.map_err(|err| err.to_string())?;
    match (found.is_empty(), wanted.may_be_missing) {
        (true, false) => Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned()),
        _ => Ok(found.into_iter().map(Some).collect()),
    }
}

/// The objects that are meant, as they are stored.
fn list(cache: &WatchCache, row: &Resource, wanted: &ParamRef, namespace: &str) -> Result<Vec<Object>, String> {
    let Some(cache) = cache.resource(&row.storage_prefix) else { return Ok(Vec::new()) };
    match &wanted.selector {
        None => {
            let found = cache.get(&cache.key(namespace, &wanted.name));
            Ok(found.map(|cached| cached.object()).into_iter().collect())
        }
        Some(selector) => {
            let selector = selector.as_ref().map_err(ToString::to_string)?;
            let snapshot = cache.snapshot();
            let all = snapshot.objects.values().filter(|cached| cached.namespace() == namespace);
            Ok(all.map(|cached| cached.object()).filter(|object| selector.matches(object)).collect())
        }
    }
}

fn namespace<'a>(row: &Resource, wanted: &'a ParamRef, attributes: &'a Attributes<'_>) -> Result<&'a str, String> {
    match (row.namespaced, wanted.namespace.as_str(), attributes.namespace_name()) {
        (false, "", _) => Ok(""),
        (false, _, _) => Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned()),
        (true, "", "") => {
            Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".to_owned())
        }
        (true, "", of_request) => Ok(of_request),
        (true, own, _) => Ok(own),
    }
}
