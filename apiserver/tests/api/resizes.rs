//! Resizes of pods.

use apiserver::testing::TestServer;
use serde_json::{Value, json};

use crate::client::{Client, MERGE, STRATEGIC, expect};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn container(name: &str, cpu: &str) -> Value {
    json!({"name": name, "image": "i", "resources": {"requests": {"cpu": cpu}}})
}

#[tokio::test]
async fn a_resize_takes_resources_and_refuses_other_containers() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    client.post("/api/v1/namespaces/default/serviceaccounts", &account).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
        "containers": [container("a", "1"), container("b", "1")], "initContainers": [container("init", "1")],
        "resources": {"requests": {"cpu": "2"}},
    }});
    let pod = expect(client.post(PODS, &pod).await, 201);
    let resize = format!("{PODS}/p/resize");

    let mut larger = pod.clone();
    larger["spec"]["containers"][0]["image"] = "other".into();
    larger["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "2".into();
    larger["spec"]["initContainers"][0]["resources"]["requests"]["cpu"] = "2".into();
    larger["spec"]["resources"]["requests"]["cpu"] = "4".into();
    larger["spec"]["nodeName"] = "n".into();
    let resized = expect(client.put(&resize, &larger).await, 200);
    let spec = &resized["spec"];
    assert_eq!(spec["containers"][0]["image"], "i");
    assert_eq!(spec["containers"][0]["resources"], json!({"requests": {"cpu": "2"}}));
    assert_eq!(spec["initContainers"][0]["resources"], json!({"requests": {"cpu": "2"}}));
    assert_eq!(spec["resources"], json!({"requests": {"cpu": "4"}}));
    assert_eq!(spec["nodeName"], Value::Null);

    let mut others = resized.clone();
    others["spec"]["containers"].as_array_mut().expect("containers").swap(0, 1);
    let refused = expect(client.put(&resize, &others).await, 422);
    let text = "spec.containers[1].name: Forbidden: containers may not be renamed or reordered on resize";
    assert!(refused["message"].as_str().is_some_and(|message| message.contains(text)), "{refused}");
    others["spec"]["containers"].as_array_mut().expect("containers").pop();
    let refused = expect(client.put(&resize, &others).await, 422);
    let text = "spec.containers: Forbidden: containers may not be added or removed on resize";
    assert!(refused["message"].as_str().is_some_and(|message| message.contains(text)), "{refused}");
}

#[tokio::test]
async fn a_resize_beyond_the_whole_node_is_refused_with_its_cause() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    client.post("/api/v1/namespaces/default/serviceaccounts", &account).await;
    let node = |name: &str, os: &str| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/os": os}},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi"}}})
    };
    expect(client.post("/api/v1/nodes", &node("n", "linux")).await, 201);
    expect(client.post("/api/v1/nodes", &node("w", "windows")).await, 201);
    let resize = async |name: &str, on: &str, requests: Value| {
        let one = json!({"name": "a", "image": "i", "resources": {"requests": {"cpu": "1", "memory": "1Mi"}}});
        let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": on, "containers": [one]}});
        client.post(PODS, &pod).await;
        // As a kubelet says that it can resize.
        let running = json!({"status": {"phase": "Running", "containerStatuses": [{
            "name": "a", "image": "i", "imageID": "i", "ready": true, "restartCount": 0, "started": true,
            "state": {"running": {}}, "resources": {"requests": {"cpu": "1", "memory": "1Mi"}}}]}});
        expect(client.patch(&format!("{PODS}/{name}/status"), MERGE, &running).await, 200);
        let change = json!({"spec": {"containers": [{"name": "a", "resources": {"requests": requests}}]}});
        client.patch(&format!("{PODS}/{name}/resize"), STRATEGIC, &change).await
    };
    expect(resize("p", "n", json!({"cpu": "2", "memory": "1Gi"})).await, 200);
    let refused = expect(resize("p", "n", json!({"cpu": "2001m", "memory": "2Gi"})).await, 403);
    let why = "pods \"p\" is forbidden: Node didn't have enough allocatable resources: cpu, requested: 2001, \
               allocatable: 2000; memory, requested: 2147483648, allocatable: 1073741824";
    assert_eq!(refused["message"], why);
    assert_eq!(refused["details"]["causes"], json!([{"reason": "NodeCapacity"}]));
    let refused = expect(resize("q", "w", json!({"cpu": "2"})).await, 403);
    assert_eq!(refused["details"]["causes"], json!([{"reason": "UnsupportedPlatform"}]));
    let refused = expect(resize("r", "gone", json!({"cpu": "2"})).await, 403);
    assert!(refused["message"].as_str().is_some_and(|text| text.ends_with("node \"gone\" not found")), "{refused}");
}
