//! What clients learn of the server before anything else.

use serde_json::Value;

use super::start;
use crate::client::{Client, expect};

const AGGREGATED: [&str; 2] = [
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
];

/// Built-in groups, versions and resources that every client finds.
const EXPECTED: [(&str, &str, &str); 8] = [
    ("", "v1", "pods"),
    ("", "v1", "namespaces"),
    ("apps", "v1", "deployments"),
    ("batch", "v1", "cronjobs"),
    ("rbac.authorization.k8s.io", "v1", "clusterroles"),
    ("coordination.k8s.io", "v1", "leases"),
    ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
];

fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Whether an aggregated document has a resource.
fn has(document: &Value, group: &str, version: &str, resource: &str) -> bool {
    let named = |group: &&Value, name: &str| group["metadata"]["name"].as_str().unwrap_or("") == name;
    let group = items(document, "items").iter().find(|known| named(known, group));
    let version = group.and_then(|group| items(group, "versions").iter().find(|known| known["version"] == version));
    version.is_some_and(|version| items(version, "resources").iter().any(|known| known["resource"] == resource))
}

async fn aggregated(client: &Client, accept: &str) -> [Value; 2] {
    let core = expect(client.get_as("/api", accept).await, 200);
    let groups = expect(client.get_as("/apis", accept).await, 200);
    [core, groups]
}

/// Conformance: [sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers [Conformance]
#[tokio::test]
async fn aggregated_discovery_is_what_its_media_type_asks_for() {
    let (_server, client) = start().await;
    for document in aggregated(&client, AGGREGATED[0]).await {
        assert_eq!(
            (document["kind"].as_str(), document["apiVersion"].as_str()),
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io/v2"))
        );
    }
    let [core, groups] = aggregated(&client, AGGREGATED[0]).await;
    for (group, version, resource) in EXPECTED {
        let document = if group.is_empty() { &core } else { &groups };
        assert!(has(document, group, version, resource), "{resource}.{version}.{group}");
    }
    assert_eq!(expect(client.get("/apis").await, 200)["kind"], "APIGroupList");
}

/// Conformance: [sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface [Conformance]
#[tokio::test]
async fn aggregated_discovery_tells_what_the_plain_documents_tell() {
    let (_server, client) = start().await;
    // What a client sends that takes the one and the other.
    let accept = format!("{},{},application/json", AGGREGATED[0], AGGREGATED[1]);
    let [core, groups] = aggregated(&client, &accept).await;
    let plain = expect(client.get("/apis").await, 200);
    let mut roots: Vec<(String, String, String)> = vec![("".into(), "v1".into(), "/api/v1".into())];
    for group in items(&plain, "groups") {
        for version in items(group, "versions") {
            let root = format!("/apis/{}", version["groupVersion"].as_str().unwrap());
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            roots.push((text(&group["name"]), text(&version["version"]), root));
        }
    }
    assert_eq!(items(&groups, "items").len() + 1, items(&plain, "groups").len() + 1);
    for (group, version, root) in roots {
        let document = if group.is_empty() { &core } else { &groups };
        let resources = expect(client.get(&root).await, 200);
        let whole = items(&resources, "resources").iter().map(|resource| resource["name"].as_str().unwrap());
        for resource in whole.filter(|name| !name.contains('/')) {
            assert!(has(document, &group, &version, resource), "{resource}.{version}.{group}");
        }
    }
}

/// Conformance: [sig-api-machinery] Discovery should validate PreferredVersion for each APIGroup [Conformance]
#[tokio::test]
async fn every_group_prefers_one_of_its_versions() {
    let (_server, client) = start().await;
    let groups = expect(client.get("/apis").await, 200);
    assert!(!items(&groups, "groups").is_empty());
    for group in items(&groups, "groups") {
        let name = group["name"].as_str().unwrap();
        let one = expect(client.get(&format!("/apis/{name}")).await, 200);
        assert_eq!((one["kind"].as_str(), one["name"].as_str()), (Some("APIGroup"), Some(name)));
        assert!(items(&one, "versions").contains(&one["preferredVersion"]), "{one}");
        assert_eq!(one["preferredVersion"], group["preferredVersion"]);
    }
}

/// Conformance: [sig-api-machinery] Discovery should locate the groupVersion and a resource within each APIGroup [Conformance]
#[tokio::test]
async fn every_version_of_a_group_has_resources() {
    let (_server, client) = start().await;
    let groups = expect(client.get("/apis").await, 200);
    for version in items(&groups, "groups").iter().flat_map(|group| items(group, "versions")) {
        let name = version["groupVersion"].as_str().unwrap();
        let list = expect(client.get(&format!("/apis/{name}")).await, 200);
        assert_eq!((list["kind"].as_str(), list["groupVersion"].as_str()), (Some("APIResourceList"), Some(name)));
        let is_whole = |resource: &Value| resource["kind"].is_string() && !items(resource, "verbs").is_empty();
        assert!(items(&list, "resources").iter().any(is_whole), "{list}");
        assert!(items(&list, "resources").iter().all(is_whole), "{list}");
    }
}

/// Conformance: [sig-api-machinery] server version should find the server version [Conformance]
#[tokio::test]
async fn the_version_is_two_numbers() {
    let (_server, client) = start().await;
    let version = expect(client.get("/version").await, 200);
    for field in ["major", "minor"] {
        let number: u32 = version[field].as_str().unwrap().parse().unwrap();
        assert!(number > 0);
    }
    for field in ["gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"] {
        assert!(version[field].is_string(), "{field}");
    }
}
