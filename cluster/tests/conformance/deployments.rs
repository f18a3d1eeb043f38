//! Deployments and their ReplicaSets.

use cluster::TestCluster;
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const WEB: &str = "/apis/apps/v1/namespaces/default/deployments/web";
const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
const PODS: &str = "/api/v1/namespaces/default/pods";
const REVISION: &str = "deployment.kubernetes.io/revision";

fn spec(replicas: u32, image: &str, more: Value) -> Value {
    let labels = json!({"app": "web"});
    let pod = json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": image}]});
    let mut spec = json!({"replicas": replicas, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn named(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "labels": {"static": "true"}}, "spec": spec})
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

/// All pods are of the newest template and available, and the controller has seen it.
fn is_complete(deployment: &Value) -> bool {
    let (status, wanted) = (&deployment["status"], &deployment["spec"]["replicas"]);
    status["observedGeneration"] == deployment["metadata"]["generation"]
        && ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|field| status[field] == *wanted)
}

async fn complete(api: &Api) {
    eventually("the deployment is complete", async || is_complete(&api.get(WEB).await)).await;
}

async fn images(api: &Api) -> Vec<String> {
    let mut pods = api.items(PODS).await;
    pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    pods.iter().map(|pod| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()).collect()
}

/// The set of an image.
async fn set_of(api: &Api, image: &str) -> Option<Value> {
    let of_image = |set: &Value| set["spec"]["template"]["spec"]["containers"][0]["image"] == image;
    api.items(SETS).await.into_iter().find(of_image)
}

async fn replicas_of(api: &Api, image: &str) -> Option<u64> {
    set_of(api, image).await.and_then(|set| set["spec"]["replicas"].as_u64())
}

/// A ReplicaSet that was there before the Deployment whose selector it matches, with as many pods.
async fn earlier_set(api: &Api, replicas: u32, annotations: Value) {
    let mut set = named("earlier", spec(replicas, "a:1", json!({})));
    set["metadata"]["labels"] = json!({"app": "web"});
    set["metadata"]["annotations"] = annotations;
    api.create(SETS, &set).await;
    eventually("the earlier set runs", async || {
        api.get(&format!("{SETS}/earlier")).await["status"]["availableReplicas"].as_u64() == Some(u64::from(replicas))
    })
    .await;
}

/// Conformance: [sig-apps] Deployment RollingUpdateDeployment should delete old pods and create new ones [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_adopts_an_earlier_set_and_rolls_out() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    earlier_set(&api, 1, json!({REVISION: "3546343826724305832"})).await;
    api.create(DEPLOYMENTS, &named("web", spec(1, "a:2", json!({})))).await;
    complete(&api).await;
    let deployment = api.get(WEB).await;
    assert_eq!(deployment["metadata"]["annotations"][REVISION], "3546343826724305833");
    let newest = set_of(&api, "a:2").await.unwrap();
    assert_eq!(newest["metadata"]["annotations"][REVISION], "3546343826724305833");
    let hash = &newest["spec"]["selector"]["matchLabels"]["pod-template-hash"];
    assert!(hash.is_string(), "{newest}");
    let earlier = set_of(&api, "a:1").await.unwrap();
    assert_eq!(earlier["spec"]["replicas"], 0);
    assert_eq!(earlier["metadata"]["ownerReferences"][0]["uid"], deployment["metadata"]["uid"]);
    eventually("only the new pod is left", async || images(&api).await == ["a:2"]).await;
    assert_eq!(api.items(PODS).await[0]["metadata"]["labels"]["pod-template-hash"], *hash);
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] Deployment RecreateDeployment should delete old pods and create new ones [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn new_pods_never_run_beside_old_ones_when_all_are_recreated() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    api.create(DEPLOYMENTS, &named("web", spec(2, "a:1", json!({"strategy": {"type": "Recreate"}})))).await;
    complete(&api).await;
    assert_eq!(api.get(WEB).await["metadata"]["annotations"][REVISION], "1");
    let mut events = api.watch(&format!("{PODS}?labelSelector=app%3Dweb")).await;
    api.merge(WEB, &image("a:2")).await;
    let mut old = 0;
    let mut new = 0;
    while new < 2 {
        let event = events.next().await;
        let is_old = event["object"]["spec"]["containers"][0]["image"] == "a:1";
        match (event["type"].as_str().unwrap(), is_old) {
            ("ADDED", true) => old += 1,
            ("DELETED", true) => old -= 1,
            ("ADDED", false) => {
                assert_eq!(old, 0, "a new pod came while old ones were there");
                new += 1;
            }
            _ => {}
        }
    }
    complete(&api).await;
    assert_eq!(images(&api).await, ["a:2", "a:2"]);
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] Deployment deployment should delete old replica sets [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn no_old_sets_are_kept_where_none_are_wanted() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    earlier_set(&api, 1, json!({})).await;
    api.create(DEPLOYMENTS, &named("web", spec(1, "a:2", json!({"revisionHistoryLimit": 0})))).await;
    complete(&api).await;
    eventually("the old set goes", async || {
        let sets = api.items(SETS).await;
        sets.len() == 1 && sets[0]["spec"]["template"]["spec"]["containers"][0]["image"] == "a:2"
    })
    .await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] Deployment deployment should support rollover [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_hangs_is_rolled_over() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    cluster.runtime().fail_pull("a:none", "no such image");
    earlier_set(&api, 1, json!({})).await;
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
    let more = json!({"minReadySeconds": 1, "strategy": strategy});
    api.create(DEPLOYMENTS, &named("web", spec(1, "a:none", more))).await;
    eventually("a pod of the bad image is tried", async || {
        images(&api).await.contains(&"a:none".to_owned()) && api.get(WEB).await["status"]["updatedReplicas"] == 1
    })
    .await;
    assert_eq!(replicas_of(&api, "a:1").await, Some(1), "the pod that works stays meanwhile");
    api.merge(WEB, &image("a:3")).await;
    complete(&api).await;
    assert_eq!(replicas_of(&api, "a:1").await, Some(0));
    assert_eq!(replicas_of(&api, "a:none").await, Some(0));
    eventually("only the new pod is left", async || images(&api).await == ["a:3"]).await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] Deployment deployment should support proportional scaling [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_hangs_is_scaled_in_proportion() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    cluster.runtime().fail_pull("a:none", "no such image");
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2, "maxSurge": 3}});
    api.create(DEPLOYMENTS, &named("web", spec(10, "a:1", json!({"strategy": strategy})))).await;
    complete(&api).await;
    api.merge(WEB, &image("a:none")).await;
    let has = async |old: u64, new: u64| {
        eventually(&format!("{old} old pods and {new} new ones are wanted"), async || {
            replicas_of(&api, "a:1").await == Some(old) && replicas_of(&api, "a:none").await == Some(new)
        })
        .await;
    };
    // Of ten two may be missing, and three may be more.
    has(8, 5).await;
    eventually("the old ones run", async || {
        set_of(&api, "a:1").await.is_some_and(|set| set["status"]["availableReplicas"] == 8)
    })
    .await;
    api.merge(WEB, &json!({"spec": {"replicas": 30}})).await;
    has(20, 13).await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] Deployment should run the lifecycle of a Deployment [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_lives_and_dies() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let selected = "labelSelector=static%3Dtrue";
    let everywhere = format!("/apis/apps/v1/deployments?{selected}");
    assert!(api.items(&everywhere).await.is_empty());
    let mut events = api.watch(&format!("{DEPLOYMENTS}?{selected}")).await;
    let mut object = named("web", spec(2, "a:1", json!({})));
    object["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(1);
    api.create(DEPLOYMENTS, &object).await;
    events.until("ADDED", |web| web["metadata"]["name"] == "web").await;
    events.until("MODIFIED", |web| web["status"]["readyReplicas"] == 2).await;

    let pod = json!({"terminationGracePeriodSeconds": 2, "containers": [{"name": "c", "image": "a:2"}]});
    let patch = json!({"metadata": {"labels": {"test": "patched"}},
        "spec": {"replicas": 1, "template": {"spec": pod}}});
    api.strategic(WEB, &patch).await;
    let has = |web: &Value, replicas: u64, image: &str| {
        let status = &web["status"];
        status["observedGeneration"] == web["metadata"]["generation"]
            && ["readyReplicas", "updatedReplicas"].iter().all(|field| status[field] == replicas)
            && status["unavailableReplicas"].as_u64().unwrap_or(0) == 0
            && web["spec"]["template"]["spec"]["containers"][0]["image"] == image
    };
    events.until("MODIFIED", |web| has(web, 1, "a:2")).await;
    assert_eq!(api.items(&everywhere).await[0]["metadata"]["labels"]["test"], "patched");

    // The object as it was first made, without a version: an unconditional update.
    object["metadata"]["labels"]["test"] = json!("updated");
    object["spec"] = spec(2, "a:3", json!({}));
    api.put(WEB, &object).await;
    let status = api.get(&format!("{WEB}/status")).await;
    assert_eq!(status["spec"]["template"]["spec"]["containers"][0]["image"], "a:3");
    events.until("MODIFIED", |web| has(web, 2, "a:3")).await;

    let patch = json!({"metadata": {"labels": {"test": "patched-status"}},
        "status": {"readyReplicas": 0, "availableReplicas": 0}});
    let patched = api.strategic(&format!("{WEB}/status"), &patch).await;
    assert_eq!(patched["status"]["readyReplicas"].as_u64().unwrap_or(0), 0);
    assert_eq!(patched["metadata"]["labels"]["test"], "updated", "labels are not written by way of the status");
    events.until("MODIFIED", |web| web["status"]["readyReplicas"].as_u64().unwrap_or(0) == 0).await;
    events.until("MODIFIED", |web| has(web, 2, "a:3")).await;
    api.delete_collection(&format!("{DEPLOYMENTS}?{selected}&gracePeriodSeconds=1")).await;
    events.until("DELETED", |web| web["metadata"]["name"] == "web").await;
    cluster.stop().await.unwrap();
}
