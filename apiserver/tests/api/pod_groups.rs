//! Groups of pods, and the workloads whose templates they are made of, where they are served.

use std::sync::Arc;

use apiserver::Config;
use apiserver::testing::TestServer;
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;

use crate::client::{Client, MERGE, expect};

const GROUPS: &str = "/apis/scheduling.k8s.io/v1alpha2/namespaces/default/podgroups";
const WORKLOADS: &str = "/apis/scheduling.k8s.io/v1alpha2/namespaces/default/workloads";
const PODS: &str = "/api/v1/namespaces/default/pods";

async fn start() -> (TestServer, Client) {
    let runtime_config = vec!["scheduling.k8s.io/v1alpha2=true".parse().unwrap()];
    let config = Config { runtime_config, ..Config::default() };
    let server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
    let client = Client::admin(&server);
    (server, client)
}

fn workload() -> Value {
    let template = json!({"name": "workers", "schedulingPolicy": {"gang": {"minCount": 2}}});
    json!({"metadata": {"name": "training"}, "spec": {"podGroupTemplates": [template]}})
}

fn group(name: &str, workload: &str, template: &str) -> Value {
    let of = json!({"workload": {"workloadName": workload, "podGroupTemplateName": template}});
    json!({"metadata": {"name": name},
        "spec": {"podGroupTemplateRef": of, "schedulingPolicy": {"gang": {"minCount": 2}}}})
}

#[tokio::test]
async fn a_group_is_made_of_a_template_that_is_there() {
    let (_server, client) = start().await;
    let refused = async |group: &Value, why: &str| {
        let answer = expect(client.post(GROUPS, group).await, 403);
        let name = group["metadata"]["name"].as_str().unwrap();
        let message = format!("podgroups.scheduling.k8s.io {name:?} is forbidden: PodGroup rejected: {why}");
        assert_eq!(answer["message"], message);
    };
    refused(&group("g", "training", "workers"), "Workload \"training\" not found").await;
    expect(client.post(WORKLOADS, &workload()).await, 201);
    let why = "PodGroupTemplate \"drivers\" not found in Workload \"training\"";
    refused(&group("g", "training", "drivers"), why).await;
    let made = expect(client.post(GROUPS, &group("g", "training", "workers")).await, 201);
    assert_eq!(made["metadata"]["finalizers"], json!(["scheduling.k8s.io/podgroup-protection"]));
    // A group of its own needs no workload.
    let alone = json!({"metadata": {"name": "alone"}, "spec": {"schedulingPolicy": {"basic": {}}}});
    expect(client.post(GROUPS, &alone).await, 201);
}

#[tokio::test]
async fn what_is_behind_gates_is_dropped_and_the_rest_stays_as_it_is() {
    let (_server, client) = start().await;
    let spec = json!({"schedulingPolicy": {"gang": {"minCount": 2}}, "priority": 7, "priorityClassName": "high",
        "schedulingConstraints": {"topology": [{"key": "rack"}]}, "disruptionMode": "PodGroup",
        "resourceClaims": [{"name": "c", "resourceClaimName": "c"}]});
    let made = expect(client.post(GROUPS, &json!({"metadata": {"name": "g"}, "spec": spec})).await, 201);
    let kept = json!({"schedulingPolicy": {"gang": {"minCount": 2}}, "disruptionMode": "Pod"});
    assert_eq!(made["spec"], kept);
    let one = format!("{GROUPS}/g");
    let larger = json!({"spec": {"schedulingPolicy": {"gang": {"minCount": 3}}}});
    let refused = expect(client.patch(&one, MERGE, &larger).await, 422);
    assert!(refused["message"].as_str().unwrap().ends_with("field is immutable"), "{refused}");
    let status = json!({"status": {"resourceClaimStatuses": [{"name": "c"}], "conditions": [{"type": "PodGroupScheduled",
        "status": "True", "reason": "Scheduled", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let told = expect(client.patch(&format!("{one}/status"), MERGE, &status).await, 200);
    assert_eq!(told["status"]["conditions"][0]["type"], "PodGroupScheduled");
    assert_eq!(told["status"].get("resourceClaimStatuses"), None);
    let wrong = json!({"status": {"conditions": [{"type": "PodGroupScheduled", "status": "Perhaps"}]}});
    expect(client.patch(&format!("{one}/status"), MERGE, &wrong).await, 422);
    let empty = expect(client.post(WORKLOADS, &json!({"metadata": {"name": "w"}, "spec": {}})).await, 422);
    assert!(empty["message"].as_str().unwrap().contains("spec.podGroupTemplates: Required value"), "{empty}");
}

#[tokio::test]
async fn a_pod_names_its_group_and_stays_in_it() {
    let (_server, client) = start().await;
    let pod = |group: Value| json!({"metadata": {"name": "p"}, "spec": {"schedulingGroup": group, "containers": [{"name": "c", "image": "i"}]}});
    for (group, why) in [
        (json!({}), "spec.schedulingGroup: Invalid value: \"\": must specify one of: `podGroupName`"),
        (json!({"podGroupName": "A"}), "spec.schedulingGroup.podGroupName: Invalid value: \"A\": a lowercase RFC 1123"),
    ] {
        let refused = expect(client.post(PODS, &pod(group)).await, 422);
        assert!(refused["message"].as_str().unwrap().contains(why), "{refused}");
    }
    // The group may come later.
    expect(client.post(PODS, &pod(json!({"podGroupName": "g"}))).await, 201);
    let other = json!({"spec": {"schedulingGroup": {"podGroupName": "other"}}});
    let refused = expect(client.patch(&format!("{PODS}/p"), MERGE, &other).await, 422);
    assert!(refused["message"].as_str().unwrap().contains("pod updates may not change fields other than"), "{refused}");
}
