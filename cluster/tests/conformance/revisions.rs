//! ControllerRevisions.

use cluster::TestCluster;
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const SETS: &str = "/apis/apps/v1/namespaces/default/daemonsets";
const REVISIONS: &str = "/apis/apps/v1/namespaces/default/controllerrevisions";
const SELECTED: &str = "labelSelector=daemonset-name%3Dd";

async fn revisions(api: &Api) -> Vec<Value> {
    api.items(&format!("{REVISIONS}?{SELECTED}")).await
}

async fn are(api: &Api, count: usize) {
    eventually(&format!("{count} revisions"), async || revisions(api).await.len() == count).await;
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// Conformance: [sig-apps] ControllerRevision [Serial] should manage the lifecycle of a ControllerRevision [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_set_gets_along_with_revisions_that_others_make_and_delete() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let labels = json!({"daemonset-name": "d"});
    let template = json!({"metadata": {"labels": labels},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "a:1"}]}});
    let set = json!({"metadata": {"name": "d", "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": template}});
    let set = api.create(SETS, &set).await;
    eventually("the daemon runs", async || api.get(&format!("{SETS}/d")).await["status"]["numberAvailable"] == 1).await;
    let everywhere = api.items(&format!("/apis/apps/v1/controllerrevisions?{SELECTED}")).await;
    assert_eq!(everywhere.len(), 1);
    let first = everywhere[0].clone();
    let owner = &first["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["uid"]), (&json!("DaemonSet"), &set["metadata"]["uid"]));
    let path = format!("{REVISIONS}/{}", name(&first));
    let patched = api.strategic(&path, &json!({"metadata": {"labels": {"revision": "patched"}}})).await;
    assert_eq!(patched["metadata"]["labels"]["revision"], "patched");

    // Another of the same content, as somebody makes it who then deletes the first.
    let mut labels_of_second = labels.clone();
    labels_of_second["controller-revision-hash"] = json!("7f8b9c");
    let second = json!({"metadata": {"name": "d-7f8b9c", "labels": labels_of_second,
        "ownerReferences": first["metadata"]["ownerReferences"]},
        "data": first["data"], "revision": first["revision"].as_u64().unwrap() + 1});
    api.create(REVISIONS, &second).await;
    are(&api, 2).await;
    api.delete(&path, "Background").await;
    are(&api, 1).await;
    let left = format!("{REVISIONS}/{}", name(&revisions(&api).await[0]));
    let updated = api.update(&left, |one| one["metadata"]["labels"]["revision"] = json!("updated")).await;
    assert_eq!(updated["metadata"]["labels"]["revision"], "updated");

    let patch = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}});
    api.strategic(&format!("{SETS}/d"), &patch).await;
    are(&api, 2).await;
    eventually("the daemon is replaced", async || {
        let set = api.get(&format!("{SETS}/d")).await;
        set["status"]["observedGeneration"] == set["metadata"]["generation"]
            && set["status"]["updatedNumberScheduled"] == 1
    })
    .await;
    api.delete_collection(&format!("{REVISIONS}?labelSelector=revision%3Dupdated")).await;
    are(&api, 1).await;
    assert_eq!(revisions(&api).await[0]["revision"], 3);
    cluster.stop().await.unwrap();
}
