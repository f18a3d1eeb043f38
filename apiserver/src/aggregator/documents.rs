//! What another server tells of itself (discovery, and where its OpenAPI documents are), read with care: only what
//! belongs there goes on to clients, and only of the version that it answers for. Pure. Upstream: `discoveryManager`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The resources of a version in an `APIGroupDiscoveryList`; `None` inside when it is not listed, and outside when the
/// document is something else.
pub(super) fn listed(document: &Value, group: &str, version: &str) -> Option<Option<Vec<Value>>> {
    if document["kind"] != "APIGroupDiscoveryList" {
        return None;
    }
    let groups = list(document, "items").filter(|item| item["metadata"]["name"].as_str().unwrap_or("") == group);
    let mut versions = groups.flat_map(|item| list(item, "versions")).filter(|item| item["version"] == version);
    Some(versions.next().map(|found| list(found, "resources").filter_map(resource).collect()))
}

/// The same of an `APIResourceList`, as servers from before aggregated discovery have it.
pub(super) fn converted(document: &Value) -> Option<Vec<Value>> {
    if document["kind"] != "APIResourceList" {
        return None;
    }
    let mut resources: Vec<Value> = Vec::new();
    for item in list(document, "resources") {
        let Some(name) = item["name"].as_str().filter(|name| !name.contains('/')) else { continue };
        let mut made = json!({
            "resource": name, "responseKind": item, "singularResource": item["singularName"],
            "scope": if item["namespaced"] == true { "Namespaced" } else { "Cluster" },
        });
        for field in ["verbs", "shortNames", "categories"] {
            made[field] = item[field].clone();
        }
        let below: Vec<Value> = list(document, "resources").filter_map(|item| subresource_of(name, item)).collect();
        made["subresources"] = below.into();
        resources.extend(resource(&made));
    }
    Some(resources)
}

fn subresource_of(resource: &str, item: &Value) -> Option<Value> {
    let name = item["name"].as_str()?.strip_prefix(resource)?.strip_prefix('/')?;
    Some(json!({"subresource": name, "responseKind": item, "verbs": item["verbs"]}))
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn resource(item: &Value) -> Option<Value> {
    let mut made = common(item, "resource")?;
    let scope = item["scope"].as_str().filter(|scope| matches!(*scope, "Namespaced" | "Cluster"))?;
    made.insert("scope".into(), scope.into());
    made.insert("singularResource".into(), item["singularResource"].as_str().unwrap_or("").into());
    add_texts(&mut made, item, &["shortNames", "categories"]);
    let below: Vec<Value> =
        list(item, "subresources").filter_map(|it| common(it, "subresource")).map(Value::from).collect();
    if !below.is_empty() {
        made.insert("subresources".into(), below.into());
    }
    Some(made.into())
}

/// The name of a resource or subresource, what is answered of it, and what can be done with it.
fn common(item: &Value, name: &str) -> Option<Map<String, Value>> {
    let mut made = Map::new();
    made.insert(name.to_owned(), item[name].as_str().filter(|name| !name.is_empty())?.into());
    if item["responseKind"].is_object() {
        made.insert("responseKind".into(), kind(&item["responseKind"]));
    }
    made.insert("verbs".into(), json!([]));
    add_texts(&mut made, item, &["verbs"]);
    Some(made)
}

fn kind(item: &Value) -> Value {
    let text = |field: &str| item[field].as_str().unwrap_or("");
    json!({"group": text("group"), "version": text("version"), "kind": text("kind")})
}

fn add_texts(made: &mut Map<String, Value>, item: &Value, fields: &[&str]) {
    for field in fields {
        let texts: Vec<&str> = list(item, field).filter_map(Value::as_str).collect();
        if !texts.is_empty() {
            made.insert((*field).to_owned(), json!(texts));
        }
    }
}

/// The URLs of the OpenAPI documents in an index that are about a version or its group, by place.
pub(super) fn places(index: &Value, group: &str, version: &str) -> BTreeMap<String, String> {
    let wanted = if group.is_empty() {
        vec![format!("api/{version}")]
    } else {
        vec![format!("apis/{group}/{version}"), format!("apis/{group}")]
    };
    let url = |place: &String| {
        let url = index["paths"][place]["serverRelativeURL"].as_str()?;
        let rest = url.strip_prefix("/openapi/v3/")?.strip_prefix(place.as_str())?;
        (rest.is_empty() || rest.starts_with('?')).then(|| url.to_owned())
    };
    wanted.into_iter().filter_map(|place| url(&place).map(|url| (place, url))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_list_of_groups_only_the_version_counts_and_only_what_belongs_there() {
        let flunders = json!({"resource": "flunders", "responseKind": {"group": "", "version": "", "kind": "Flunder"},
            "scope": "Namespaced", "singularResource": "flunder", "verbs": ["get", "list"],
            "subresources": [{"subresource": "status", "responseKind": {"group": "", "version": "", "kind": "Flunder"},
                "verbs": ["get"]}]});
        let mut odd = flunders.clone();
        odd["surprise"] = json!({"a": [1, 2, 3]});
        odd["verbs"] = json!(["get", 7, "list"]);
        let version = |name: &str, resources: Value| json!({"version": name, "resources": resources});
        let item = |name: &str, versions: Value| json!({"metadata": {"name": name}, "versions": versions});
        let document = json!({"kind": "APIGroupDiscoveryList", "items": [
            item("apps", json!([version("v1", json!([flunders]))])),
            item("wardle.example.com", json!([version("v1", json!([odd, {"resource": "noscope"}, 7]))])),
        ]});
        assert_eq!(listed(&document, "wardle.example.com", "v1"), Some(Some(vec![flunders])));
        assert_eq!(listed(&document, "wardle.example.com", "v2"), Some(None));
        assert_eq!(listed(&json!({"kind": "APIGroupList"}), "a", "v1"), None);
        for odd in [json!([]), json!("x"), json!({"kind": "APIGroupDiscoveryList", "items": 7})] {
            assert!(listed(&odd, "a", "v1").is_none_or(|found| found.is_none()));
        }
    }

    #[test]
    fn a_list_of_resources_becomes_an_entry_with_its_subresources() {
        let document = json!({"kind": "APIResourceList", "groupVersion": "wardle.example.com/v1", "resources": [
            {"name": "fischers", "singularName": "fischer", "namespaced": false, "kind": "Fischer", "verbs": ["get"]},
            {"name": "fischers/status", "singularName": "", "namespaced": false, "kind": "Fischer", "verbs": ["patch"]},
            {"name": "fischersmore", "singularName": "", "namespaced": true, "kind": "More", "group": "g", "version": "v9",
                "verbs": [], "shortNames": ["fm"]},
        ]});
        let own = json!({"group": "", "version": "", "kind": "Fischer"});
        let expected = json!([
            {"resource": "fischers", "responseKind": own, "scope": "Cluster", "singularResource": "fischer", "verbs": ["get"],
                "subresources": [{"subresource": "status", "responseKind": own, "verbs": ["patch"]}]},
            {"resource": "fischersmore", "responseKind": {"group": "g", "version": "v9", "kind": "More"},
                "scope": "Namespaced", "singularResource": "", "verbs": [], "shortNames": ["fm"]},
        ]);
        assert_eq!(converted(&document).map(Value::from), Some(expected));
        assert_eq!(converted(&json!({"kind": "Status"})), None);
    }

    #[test]
    fn of_an_index_only_urls_of_the_version_itself_count() {
        let index = json!({"paths": {
            "apis/g/v1": {"serverRelativeURL": "/openapi/v3/apis/g/v1?hash=A"},
            "apis/g": {"serverRelativeURL": "/openapi/v3/apis/gg"},
            "apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=B"},
        }});
        let expected = [("apis/g/v1".to_owned(), "/openapi/v3/apis/g/v1?hash=A".to_owned())];
        assert_eq!(places(&index, "g", "v1"), BTreeMap::from(expected));
        let evil = json!({"paths": {"apis/g/v1": {"serverRelativeURL": "https://elsewhere.example.com/"}}});
        assert!(places(&evil, "g", "v1").is_empty() && places(&json!(7), "g", "v1").is_empty());
    }
}
