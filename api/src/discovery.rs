//! Discovery documents, computed from the catalog: which groups, versions and resources there are.

use base64::Engine as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256, Sha512};

use crate::catalog::{Catalog, Group};
use crate::resource::{GroupVersionKind, Resource, Subresource, Text, Verb, join_group_version};

/// `/api`.
pub fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

/// `/apis`, of these groups in their order.
pub fn group_list(groups: &[Group<'_>]) -> Value {
    let groups: Vec<Value> = groups.iter().filter(|group| !group.name.is_empty()).map(group_value).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`; `None` when there is no such group among these.
pub fn group(groups: &[Group<'_>], name: &str) -> Option<Value> {
    let found = groups.iter().find(|group| group.name == name && !name.is_empty())?;
    let mut value = group_value(found);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(value)
}

fn group_value(group: &Group<'_>) -> Value {
    let version = |version: &&str| json!({"groupVersion": join_group_version(group.name, version), "version": version});
    let versions: Vec<Value> = group.versions.iter().map(version).collect();
    json!({"name": group.name, "preferredVersion": versions.first(), "versions": versions})
}

/// `/api/v1` and `/apis/<group>/<version>`; `None` when nothing is served there.
pub fn resource_list(catalog: &Catalog, group: &str, version: &str) -> Option<Value> {
    let mut rows: Vec<_> = catalog.group_version(group, version).collect();
    if rows.is_empty() {
        return None;
    }
    rows.sort_by(|one, other| one.plural.cmp(&other.plural));
    let mut resources = Vec::new();
    for row in rows {
        resources.push(resource_value(row));
        resources.extend(sorted(&row.subresources).into_iter().map(|sub| subresource_value(row, sub)));
    }
    let mut list = json!({
        "kind": "APIResourceList", "groupVersion": join_group_version(group, version), "resources": resources,
    });
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Some(list)
}

fn resource_value(row: &Resource) -> Value {
    let mut value = json!({
        "name": row.plural, "singularName": row.singular, "namespaced": row.namespaced, "kind": row.kind,
        "verbs": verbs(row),
    });
    add_names(&mut value, row);
    if row.is_stored() {
        value["storageVersionHash"] = storage_version_hash(row).into();
    }
    value
}

/// The verbs of a resource. While its definition is being deleted, only those are shown that help with that.
fn verbs(row: &Resource) -> Vec<&'static str> {
    let terminating = row.custom.as_ref().is_some_and(|custom| custom.terminating);
    let shown = |verb: &&Verb| !terminating || !matches!(verb, Verb::Create | Verb::Update | Verb::Patch);
    row.verbs.iter().filter(shown).map(|verb| verb.as_str()).collect()
}

fn add_names(value: &mut Value, row: &Resource) {
    for (name, texts) in [("shortNames", &row.short_names), ("categories", &row.categories)] {
        if !texts.is_empty() {
            value[name] = json!(texts);
        }
    }
}

fn subresource_value(row: &Resource, sub: &Subresource) -> Value {
    let mut value = json!({
        "name": format!("{}/{}", row.plural, sub.name), "singularName": "", "namespaced": row.namespaced,
        "kind": sub.kind.as_ref().map_or(&row.kind, |of| &of.kind), "verbs": sub.verbs,
    });
    if let Some(of) = sub.kind.as_ref().filter(|of| is_elsewhere(row, of)) {
        if !of.group.is_empty() {
            value["group"] = json!(of.group);
        }
        value["version"] = json!(of.version);
    }
    value
}

/// Whether a subresource's bodies are of another group or version than the resource.
fn is_elsewhere(row: &Resource, of: &GroupVersionKind) -> bool {
    of.group != row.group || of.version != row.version
}

fn sorted(subresources: &[Subresource]) -> Vec<&Subresource> {
    let mut sorted: Vec<&Subresource> = subresources.iter().collect();
    sorted.sort_by(|one, other| one.name.cmp(&other.name));
    sorted
}

/// A hash of the version in which objects are stored, by which clients see that it changed.
pub fn storage_version_hash(row: &Resource) -> String {
    let version = row.hash_version.as_ref().unwrap_or(&row.storage_version);
    let hash = Sha256::digest(format!("{}/{version}/{}", row.storage_group, row.kind));
    base64::engine::general_purpose::STANDARD.encode(&hash[..8])
}

/// `APIGroupDiscoveryList` of the core group (`/api`) or of all others (`/apis`), of these groups in their order;
/// `api_version` is `v2` or `v2beta1`. `elsewhere` knows the entries of the versions, by group and version, that other
/// servers serve.
pub fn aggregated(
    catalog: &Catalog,
    groups: &[Group<'_>],
    core: bool,
    api_version: &str,
    elsewhere: impl Fn(&str, &str) -> Option<Value>,
) -> Value {
    let items: Vec<Value> = groups
        .iter()
        .filter(|group| group.name.is_empty() == core)
        .map(|group| aggregated_group(catalog, group, &elsewhere))
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{api_version}"), "metadata": {},
        "items": items,
    })
}

fn aggregated_group(catalog: &Catalog, group: &Group<'_>, elsewhere: &impl Fn(&str, &str) -> Option<Value>) -> Value {
    let own = |version: &str| aggregated_version(catalog, group.name, version);
    let entry = |version: &&str| elsewhere(group.name, version).unwrap_or_else(|| own(version));
    let versions: Vec<Value> = group.versions.iter().map(entry).collect();
    let metadata =
        if group.name.is_empty() { Map::new() } else { Map::from_iter([("name".to_owned(), group.name.into())]) };
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_version(catalog: &Catalog, group: &str, version: &str) -> Value {
    let mut rows: Vec<_> = catalog.group_version(group, version).collect();
    rows.sort_by(|one, other| one.plural.cmp(&other.plural));
    let resources: Vec<Value> = rows.into_iter().map(|row| aggregated_resource(row)).collect();
    json!({"version": version, "resources": resources, "freshness": "Current"})
}

fn aggregated_resource(row: &Resource) -> Value {
    let mut value = json!({
        "resource": row.plural, "responseKind": response_kind(row, None),
        "scope": if row.namespaced { "Namespaced" } else { "Cluster" }, "singularResource": row.singular,
        "verbs": verbs(row),
    });
    add_names(&mut value, row);
    let subresources: Vec<Value> = sorted(&row.subresources)
        .into_iter()
        .map(|sub| json!({"subresource": sub.name, "responseKind": response_kind(row, sub.kind.as_ref()), "verbs": sub.verbs}))
        .collect();
    if !subresources.is_empty() {
        value["subresources"] = subresources.into();
    }
    value
}

/// Group and version of built-in kinds are left empty where they are those of the document around them; custom ones
/// are spelled out.
fn response_kind(row: &Resource, of: Option<&GroupVersionKind>) -> Value {
    let spelled_out = matches!(row.columns, crate::resource::Columns::Custom(_));
    let own = Text::Borrowed("");
    match of {
        Some(of) if spelled_out || is_elsewhere(row, of) => {
            json!({"group": of.group, "version": of.version, "kind": of.kind})
        }
        Some(of) => json!({"group": own, "version": own, "kind": of.kind}),
        None if spelled_out => json!({"group": row.group, "version": row.version, "kind": row.kind}),
        None => json!({"group": own, "version": own, "kind": row.kind}),
    }
}

/// The `ETag` of a document: its SHA-512 in upper-case hex, quoted.
pub fn etag(document: &[u8]) -> String {
    let hex: String = Sha512::digest(document).iter().map(|byte| format!("{byte:02X}")).collect();
    format!("\"{hex}\"")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn reference() -> Option<PathBuf> {
        let root = std::env::var_os("CORACLE_REFERENCE").map_or_else(|| PathBuf::from("../../shared"), PathBuf::from);
        if !root.join("golden/cases").is_dir() {
            eprintln!("SKIP: no reference files at {}", root.display());
            return None;
        }
        Some(root)
    }

    fn read(path: PathBuf) -> Value {
        serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("JSON")
    }

    #[test]
    fn aggregated_discovery_is_the_references() {
        let Some(root) = reference() else { return };
        let want = read(root.join("reference/discovery/aggregated_v2.json"));
        let catalog = Catalog::everything();
        let got = aggregated(&catalog, &catalog.groups(), false, "v2", |_, _| None);
        for (want, got) in
            want["items"].as_array().expect("a list").iter().zip(got["items"].as_array().expect("a list"))
        {
            assert_eq!(got, want);
        }
        assert_eq!(got, want);
    }

    #[test]
    fn recorded_discovery_is_the_same() {
        let Some(root) = reference() else { return };
        let cases = read(root.join("golden/cases/discovery.json"));
        let catalog = Catalog::builtin();
        let mut seen = 0;
        for step in cases["cases"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|case| case["steps"].as_array().into_iter().flatten())
        {
            if !step["select"].is_null() || step["expect"]["status"] != 200 {
                continue;
            }
            let path = step["request"]["path"].as_str().expect("a path").trim_matches('/');
            let parts: Vec<&str> = path.split('/').collect();
            let got = match parts.as_slice() {
                ["api"] if step["request"]["headers"].is_object() => {
                    Some(aggregated(&catalog, &catalog.groups(), true, "v2", |_, _| None))
                }
                ["api", "v1"] => resource_list(&catalog, "", "v1"),
                ["apis", name] => group(&catalog.groups(), name),
                ["apis", group, version] => resource_list(&catalog, group, version),
                _ => continue,
            };
            seen += 1;
            let mut want = step["expect"]["body"].clone();
            if parts == ["api", "v1"] {
                want.as_object_mut().expect("an object").remove("apiVersion");
            }
            assert_eq!(got.as_ref(), Some(&want), "{path}");
        }
        assert!(seen > 20, "only {seen} documents were compared");
    }

    #[test]
    fn an_unknown_group_or_version_is_not_there() {
        let catalog = Catalog::builtin();
        assert_eq!(group(&catalog.groups(), "nothing.example.com"), None);
        assert_eq!(group(&catalog.groups(), ""), None);
        assert_eq!(resource_list(&catalog, "apps", "v9"), None);
    }

    #[test]
    fn an_etag_is_a_quoted_hash() {
        assert!(etag(b"").starts_with("\"CF83E1357EEFB8BD"));
    }
}
