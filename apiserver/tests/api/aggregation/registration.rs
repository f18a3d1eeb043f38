//! The APIServices of what this server serves itself.

use apiserver::testing::TestServer;
use serde_json::{Value, json};

use super::extension::FLUNDERS;
use super::{SERVICES, Stage, until};
use crate::client::{Client, MERGE, expect};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn definition(plural: &str, group: &str, versions: &[&str]) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let version =
        |name: &&str| json!({"name": name, "served": true, "storage": *name == versions[0], "schema": schema});
    let names = json!({"plural": plural, "kind": format!("Kind{plural}")});
    json!({"metadata": {"name": format!("{plural}.{group}")}, "spec": {"group": group, "scope": "Namespaced",
        "names": names, "versions": versions.iter().map(version).collect::<Vec<_>>()}})
}

async fn until_gone(client: &Client, name: &str) {
    while client.get(&format!("{SERVICES}/{name}")).await.0 != 404 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn built_in_versions_have_apiservices_that_come_back() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let all = expect(client.get(SERVICES).await, 200);
    let items = all["items"].as_array().unwrap();
    assert_eq!(items.len(), 21);
    for item in items {
        assert_eq!(item["metadata"]["labels"], json!({"kube-aggregator.kubernetes.io/automanaged": "onstart"}));
        let condition = &item["status"]["conditions"][0];
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("Local")), "{item}");
        assert_eq!(condition["message"], "Local APIServices are always available");
    }
    let apps = format!("{SERVICES}/v1.apps");
    let before = expect(client.get(&apps).await, 200);
    assert_eq!(
        before["spec"],
        json!({"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15})
    );
    expect(client.delete(&apps).await, 200);
    let is_new = |answer: &(http::StatusCode, Value)| {
        answer.0 == 200 && answer.1["metadata"]["uid"] != before["metadata"]["uid"]
    };
    let mut answer = client.get(&apps).await;
    while !is_new(&answer) {
        tokio::task::yield_now().await;
        answer = client.get(&apps).await;
    }
    assert_eq!(answer.1["spec"], before["spec"]);
}

#[tokio::test]
async fn custom_versions_have_apiservices_while_they_are_served() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    expect(client.post(DEFINITIONS, &definition("as", "example.com", &["v1", "v2"])).await, 201);
    expect(client.post(DEFINITIONS, &definition("bs", "example.com", &["v2"])).await, 201);
    for name in ["v1.example.com", "v2.example.com"] {
        until(&client, name, "Local").await;
        let made = expect(client.get(&format!("{SERVICES}/{name}")).await, 200);
        assert_eq!(made["metadata"]["labels"], json!({"kube-aggregator.kubernetes.io/automanaged": "true"}));
        assert_eq!(
            (&made["spec"]["groupPriorityMinimum"], &made["spec"]["versionPriority"]),
            (&json!(1000), &json!(100))
        );
    }
    // What is deleted or changed is put right.
    let path = format!("{SERVICES}/v1.example.com");
    expect(client.patch(&path, MERGE, &json!({"spec": {"versionPriority": 7}})).await, 200);
    while expect(client.get(&path).await, 200)["spec"]["versionPriority"] != 100 {
        tokio::task::yield_now().await;
    }
    let uid = expect(client.get(&path).await, 200)["metadata"]["uid"].clone();
    expect(client.delete(&path).await, 200);
    loop {
        let (status, made) = client.get(&path).await;
        if status == 200 && made["metadata"]["uid"] != uid {
            break;
        }
        tokio::task::yield_now().await;
    }
    expect(client.delete(&format!("{DEFINITIONS}/as.example.com")).await, 200);
    until_gone(&client, "v1.example.com").await;
    expect(client.get(&format!("{SERVICES}/v2.example.com")).await, 200);
    expect(client.delete(&format!("{DEFINITIONS}/bs.example.com")).await, 200);
    until_gone(&client, "v2.example.com").await;
}

#[tokio::test]
async fn an_apiservice_with_a_service_is_stronger_than_a_definition() {
    let stage = Stage::start().await;
    stage.ready().await;
    let definition = definition("flunders", "wardle.example.com", &["v1alpha1"]);
    expect(stage.client.post(DEFINITIONS, &definition).await, 201);
    let established = format!("{DEFINITIONS}/flunders.wardle.example.com");
    while !expect(stage.client.get(&established).await, 200)["status"].to_string().contains("\"Established\"") {
        tokio::task::yield_now().await;
    }
    stage.extension.asked();
    expect(stage.client.get(FLUNDERS).await, 200);
    assert_eq!(stage.extension.asked().len(), 1);
    // Without it, the definition counts.
    expect(stage.client.delete(&format!("{SERVICES}/{}", super::WARDLE)).await, 200);
    until(&stage.client, super::WARDLE, "Local").await;
    while expect(stage.client.get(FLUNDERS).await, 200)["kind"] != "KindflundersList" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_group_of_apiservices_cannot_be_given_away() {
    let stage = Stage::with(|_| {}).await;
    let mut spec = stage.spec();
    spec["group"] = "apiregistration.k8s.io".into();
    spec["version"] = "v1".into();
    let name = "v1.apiregistration.k8s.io";
    expect(stage.client.post(SERVICES, &json!({"metadata": {"name": name}, "spec": spec})).await, 201);
    until(&stage.client, name, "FailedDiscoveryCheck").await;
    let available = json!({"status": {"conditions": [{"type": "Available", "status": "True", "reason": "Said"}]}});
    expect(stage.client.patch(&format!("{SERVICES}/{name}/status"), MERGE, &available).await, 200);
    stage.server.server().registry().freshen().await.unwrap();
    assert_eq!(expect(stage.client.get(SERVICES).await, 200)["kind"], "APIServiceList");
}
