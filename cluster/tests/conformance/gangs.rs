//! Gangs: pods that start together or not at all.

use cluster::{NODE, TestCluster};
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const PODS: &str = "/api/v1/namespaces/default/pods";
const EVENTS: &str = "/api/v1/namespaces/default/events";
const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const GROUPS: &str = "/apis/scheduling.k8s.io/v1alpha2/namespaces/default/podgroups";
/// A resource of which the node has as much as a test says.
const RESOURCE: &str = "example.com/fake";

async fn start(room: u32) -> (TestCluster, Api) {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    set_room(&api, room).await;
    (cluster, api)
}

async fn set_room(api: &Api, room: u32) {
    let amounts = json!({RESOURCE: room.to_string()});
    let status = json!({"status": {"capacity": amounts, "allocatable": amounts}});
    api.merge(&format!("/api/v1/nodes/{NODE}/status"), &status).await;
}

fn containers() -> Value {
    let amounts = json!({RESOURCE: "1"});
    json!([{"name": "c", "image": "web:1", "resources": {"requests": amounts, "limits": amounts}}])
}

fn spec(class: &str) -> Value {
    json!({"priorityClassName": class, "terminationGracePeriodSeconds": 0, "containers": containers()})
}

/// Pods `<gang>-0`, `<gang>-1`, ... of which `least` must start together.
async fn create(api: &Api, gang: &str, count: usize, least: usize, class: &str) {
    let labels = json!({"scheduling.x-k8s.io/pod-group": gang, "scheduling.x-k8s.io/min-available": least.to_string()});
    for number in 0..count {
        let metadata = json!({"name": format!("{gang}-{number}"), "labels": labels});
        api.create(PODS, &json!({"metadata": metadata, "spec": spec(class)})).await;
    }
}

/// How many pods whose names begin so have a node.
async fn placed(api: &Api, gang: &str) -> usize {
    let of_gang = |pod: &&Value| pod["metadata"]["name"].as_str().unwrap().starts_with(gang);
    let pods = api.items(PODS).await;
    pods.iter().filter(of_gang).filter(|pod| pod["spec"]["nodeName"].is_string()).count()
}

async fn are_placed(api: &Api, gang: &str, want: usize) {
    eventually(&format!("{want} pods of {gang} have nodes"), async || placed(api, gang).await == want).await;
}

async fn says(api: &Api, pod: &str, text: &str) {
    eventually(&format!("{pod} is told {text:?}"), async || {
        api.items(EVENTS).await.iter().any(|event| {
            event["reason"] == "FailedScheduling"
                && event["involvedObject"]["name"] == pod
                && event["message"].as_str().is_some_and(|message| message.contains(text))
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_waits_for_its_pods_and_for_room_and_then_runs() {
    let (cluster, api) = start(2).await;
    create(&api, "gang", 2, 3, "").await;
    // A pod that came later is placed first: those before it wait for the third of them.
    create(&api, "alone", 1, 1, "").await;
    are_placed(&api, "alone", 1).await;
    assert_eq!(placed(&api, "gang").await, 0);
    let labels = json!({"scheduling.x-k8s.io/pod-group": "gang", "scheduling.x-k8s.io/min-available": "3"});
    api.create(PODS, &json!({"metadata": {"name": "gang-2", "labels": labels}, "spec": spec("")})).await;
    // One of them would fit, and gives its place back.
    says(&api, "gang-0", "waiting for minCount pods from a gang to be scheduled").await;
    says(&api, "gang-2", "Insufficient example.com/fake").await;
    assert_eq!(placed(&api, "gang").await, 0);
    set_room(&api, 4).await;
    are_placed(&api, "gang", 3).await;
    for pod in ["gang-0", "gang-1", "gang-2"] {
        eventually("the pod runs", async || api.get(&format!("{PODS}/{pod}")).await["status"]["phase"] == "Running")
            .await;
    }
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gangs_of_which_one_fits_do_not_block_each_other() {
    let (cluster, api) = start(3).await;
    tokio::join!(create(&api, "left", 3, 3, ""), create(&api, "right", 3, 3, ""));
    eventually("one gang has all nodes", async || {
        let both = (placed(&api, "left").await, placed(&api, "right").await);
        both == (3, 0) || both == (0, 3)
    })
    .await;
    let (first, second) = if placed(&api, "left").await == 3 { ("left", "right") } else { ("right", "left") };
    for number in 0..3 {
        api.delete(&format!("{PODS}/{first}-{number}"), "Background").await;
    }
    are_placed(&api, second, 3).await;
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_evicted_for_a_gang_that_does_not_fit_as_a_whole() {
    let (cluster, api) = start(3).await;
    api.create(CLASSES, &json!({"metadata": {"name": "high"}, "value": 1000})).await;
    create(&api, "small", 1, 1, "").await;
    create(&api, "important", 1, 1, "high").await;
    are_placed(&api, "small", 1).await;
    are_placed(&api, "important", 1).await;
    // One fits, another would by evicting `small`, the third by nothing.
    create(&api, "gang", 3, 3, "high").await;
    says(&api, "gang-0", "waiting for minCount pods from a gang to be scheduled").await;
    says(&api, "gang-2", "Insufficient example.com/fake").await;
    assert_eq!(api.get(&format!("{PODS}/small-0")).await["metadata"]["deletionTimestamp"], Value::Null);
    assert_eq!(placed(&api, "gang").await, 0);
    // With room for one more, evicting one makes the gang whole.
    set_room(&api, 4).await;
    are_placed(&api, "gang", 3).await;
    api.gone(&format!("{PODS}/small-0")).await;
    assert_eq!(placed(&api, "important").await, 1);
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_comes_later_joins_a_gang_that_runs() {
    let (cluster, api) = start(3).await;
    create(&api, "gang", 2, 2, "").await;
    are_placed(&api, "gang", 2).await;
    let labels = json!({"scheduling.x-k8s.io/pod-group": "gang", "scheduling.x-k8s.io/min-available": "2"});
    api.create(PODS, &json!({"metadata": {"name": "gang-late", "labels": labels}, "spec": spec("")})).await;
    are_placed(&api, "gang", 3).await;
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_group_says_how_many_start_together_and_is_told_what_became_of_them() {
    let served = vec!["scheduling.k8s.io/v1alpha2=true".parse().unwrap()];
    let cluster = TestCluster::with(served, scheduler::Config::default()).await.unwrap();
    let api = Api::of(&cluster);
    set_room(&api, 1).await;
    for number in 0..2 {
        let spec = json!({"schedulingGroup": {"podGroupName": "group"}, "containers": containers()});
        api.create(PODS, &json!({"metadata": {"name": format!("gang-{number}")}, "spec": spec})).await;
    }
    let policy = json!({"gang": {"minCount": 2}});
    api.create(GROUPS, &json!({"metadata": {"name": "group"}, "spec": {"schedulingPolicy": policy}})).await;
    let told = async |status: &str, reason: &str| {
        let group = api.get(&format!("{GROUPS}/group")).await;
        let conditions = group["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .iter()
            .any(|known| known["type"] == "PodGroupScheduled" && known["status"] == status && known["reason"] == reason)
    };
    eventually("the group is told that there is no room", async || told("False", "Unschedulable").await).await;
    assert_eq!(placed(&api, "gang").await, 0);
    set_room(&api, 2).await;
    are_placed(&api, "gang", 2).await;
    eventually("the group is told that it has places", async || told("True", "Scheduled").await).await;
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_group_stays_until_its_pods_have_ended() {
    let served = vec!["scheduling.k8s.io/v1alpha2=true".parse().unwrap()];
    let cluster = TestCluster::with(served, scheduler::Config::default()).await.unwrap();
    let api = Api::of(&cluster);
    set_room(&api, 2).await;
    for name in ["group", "empty"] {
        let policy = json!({"basic": {}});
        api.create(GROUPS, &json!({"metadata": {"name": name}, "spec": {"schedulingPolicy": policy}})).await;
    }
    let spec = json!({"schedulingGroup": {"podGroupName": "group"}, "terminationGracePeriodSeconds": 0,
        "containers": containers()});
    api.create(PODS, &json!({"metadata": {"name": "member"}, "spec": spec})).await;
    are_placed(&api, "member", 1).await;
    for name in ["group", "empty"] {
        api.delete(&format!("{GROUPS}/{name}"), "Background").await;
    }
    api.gone(&format!("{GROUPS}/empty")).await;
    let group = api.get(&format!("{GROUPS}/group")).await;
    assert!(group["metadata"]["deletionTimestamp"].is_string(), "{group}");
    api.delete(&format!("{PODS}/member"), "Background").await;
    api.gone(&format!("{GROUPS}/group")).await;
    cluster.stop().await.unwrap();
}
