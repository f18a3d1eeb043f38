//! Resizes of pods.

use apiserver::testing::TestServer;
use serde_json::{Value, json};

use crate::client::{Client, expect};

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
