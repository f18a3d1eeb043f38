//! The controllers against a real API server in the same process. Every test asserts the state reached, with a deadline.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "controllers/attachments.rs"]
mod attachments;
#[path = "controllers/autoscaling.rs"]
mod autoscaling;
#[path = "controllers/bootstrap.rs"]
mod bootstrap;
#[path = "controllers/late_news.rs"]
mod late_news;
#[path = "controllers/load_balancers.rs"]
mod load_balancers;
#[path = "controllers/metrics.rs"]
mod metrics;
#[path = "controllers/volumes.rs"]
mod volumes;

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use apiserver::testing::TestServer;
use controllers::{Config, Ranges};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{NetworkPolicy, ServiceCIDR};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::serde_json::{Value, from_value, json};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

const DEADLINE: Duration = Duration::from_secs(30);

struct Cluster {
    client: Client,
    metrics: daemon::Metrics,
    _server: TestServer,
    _controllers: AbortOnDropHandle<()>,
}

impl Cluster {
    async fn start() -> Self {
        Self::with(Config { root_ca: Some("certificates".to_owned()), ..Config::default() }).await
    }

    async fn with(config: Config) -> Self {
        let server = TestServer::start().await;
        let client = Client::new(server.service(), "default");
        Self::over(server, client, config)
    }

    /// With controllers that reach the server by this client.
    fn over(server: TestServer, client: Client, config: Config) -> Self {
        let process = daemon::Process::new(CancellationToken::new());
        let metrics = process.metrics.clone();
        let running = controllers::run(config, client.clone(), process);
        let task = tokio::spawn(async move { running.await.expect("controllers run until they are stopped") });
        Self { client, metrics, _server: server, _controllers: AbortOnDropHandle::new(task) }
    }

    async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let object: K = from_value(object).unwrap();
        let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
        Api::namespaced(self.client.clone(), &namespace).create(&PostParams::default(), &object).await.unwrap()
    }

    fn api<K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Defines a kind of its own, of objects with these fields, and waits until it is served.
    async fn define(&self, kind: &str, fields: Value, subresources: Value) -> ApiResource {
        let (singular, plural) = (kind.to_lowercase(), format!("{}s", kind.to_lowercase()));
        let schema = json!({ "type": "object", "properties": fields });
        let version = json!({
            "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema }, "subresources": subresources,
        });
        let names = json!({ "plural": plural, "singular": singular, "kind": kind, "listKind": format!("{kind}List") });
        let name = format!("{plural}.example.com");
        let definition = json!({
            "metadata": { "name": name },
            "spec": { "group": "example.com", "scope": "Namespaced", "names": names, "versions": [version] },
        });
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        definitions.create(&PostParams::default(), &from_value(definition).unwrap()).await.unwrap();
        eventually("the kind is served", async || {
            let found = definitions.get(&name).await.unwrap();
            let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
            conditions.iter().any(|known| known.type_ == "Established" && known.status == "True")
        })
        .await;
        ApiResource {
            group: "example.com".to_owned(),
            version: "v1".to_owned(),
            api_version: "example.com/v1".to_owned(),
            kind: kind.to_owned(),
            plural,
        }
    }

    async fn define_widgets(&self) -> ApiResource {
        let spec = json!({ "type": "object", "properties": { "size": { "type": "integer" } } });
        self.define("Widget", json!({ "spec": spec }), json!({})).await
    }

    async fn pods(&self, selector: &str) -> Vec<Pod> {
        self.api::<Pod>().list(&ListParams::default().labels(selector)).await.unwrap().items
    }

    /// Plays the kubelet: pods of the selector run, are ready and have an address.
    async fn run_pods(&self, selector: &str) {
        for (number, pod) in self.pods(selector).await.iter().enumerate() {
            let is_ready = pod
                .status
                .iter()
                .flat_map(|status| status.conditions.iter().flatten())
                .any(|known| known.type_ == "Ready");
            if is_ready {
                continue;
            }
            let ready = json!({ "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" });
            let ip = format!("10.0.{}.{}", pod.name_any().len(), number + 1);
            let status = json!({ "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }], "conditions": [ready] });
            let change = Patch::Strategic(json!({ "status": status }));
            let _gone_meanwhile =
                self.api::<Pod>().patch_status(&pod.name_any(), &PatchParams::default(), &change).await;
        }
    }

    /// Plays the kubelet until the Deployment is complete.
    async fn roll_out(&self, name: &str, selector: &str, replicas: i32) {
        eventually("a complete rollout", async || {
            self.run_pods(selector).await;
            let deployment = self.api::<Deployment>().get(name).await.unwrap();
            let (status, generation) = (deployment.status.unwrap_or_default(), deployment.metadata.generation);
            let is = |number: Option<i32>| number == Some(replicas);
            is(status.updated_replicas)
                && is(status.available_replicas)
                && is(status.replicas)
                && status.observed_generation >= generation
        })
        .await;
    }
}

/// Waits until `check` holds.
async fn eventually<F: Future<Output = bool>>(what: &str, check: impl Fn() -> F) {
    let wait = async {
        while !check().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("{what} within {DEADLINE:?}"));
}

fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "replicas": replicas, "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name } }, "spec": { "containers": [{ "name": "c", "image": image }] } },
        },
    })
}

/// Selects the slices of the Service `web`.
const OF_WEB: &str = "kubernetes.io/service-name=web";

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "default" },
        "spec": { "selector": { "app": name }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    })
}

fn pod(namespace: &str, name: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": namespace, "labels": labels },
        "spec": { "terminationGracePeriodSeconds": 0, "containers": [{ "name": "c", "image": "i" }] },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_rolls_out_scales_and_cleans_up() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(deployment("web", 3, "a")).await;
    cluster.roll_out("web", "app=web", 3).await;
    assert_eq!(cluster.pods("app=web").await.len(), 3, "never more pods than wanted");
    let first = cluster.api::<Deployment>().get("web").await.unwrap();
    assert_eq!(first.annotations()["deployment.kubernetes.io/revision"], "1");
    assert_eq!(first.metadata.generation, Some(1), "what the controller notes is no new generation");
    let entries = first.managed_fields().iter().filter(|entry| entry.subresource.as_deref() == Some("status")).count();
    assert_eq!((first.managed_fields().len(), entries), (2, 1), "{:?}", first.managed_fields());
    let image = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "c", "image": "b" }] } } } });
    let api = cluster.api::<Deployment>();
    api.patch("web", &PatchParams::default(), &Patch::Strategic(image)).await.unwrap();
    cluster.roll_out("web", "app=web", 3).await;
    let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
    let mut sizes: Vec<_> = sets.iter().map(|set| set.spec.as_ref().unwrap().replicas).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [Some(0), Some(3)]);
    let live = api.get("web").await.unwrap();
    assert_eq!(live.annotations()["deployment.kubernetes.io/revision"], "2");
    assert_eq!(live.metadata.generation, Some(2));
    api.patch("web", &PatchParams::default(), &Patch::Merge(json!({ "spec": { "replicas": 1 } }))).await.unwrap();
    cluster.roll_out("web", "app=web", 1).await;
    api.delete("web", &DeleteParams::background()).await.unwrap();
    eventually("everything of the deployment is collected", async || {
        let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap();
        sets.items.is_empty() && cluster.pods("app=web").await.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settled_cluster_writes_nothing() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(deployment("web", 2, "a")).await;
    cluster.roll_out("web", "app=web", 2).await;
    let api = cluster.api::<ConfigMap>();
    let revision = async || api.list(&ListParams::default()).await.unwrap().metadata.resource_version;
    // Events and the status of the new generation may still be on their way.
    eventually("a second without writes", async || {
        let before = revision().await;
        sleep(Duration::from_secs(1)).await;
        revision().await == before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replicaset_replaces_adopts_and_releases_pods() {
    let cluster = Cluster::start().await;
    let orphan: Pod = cluster.create(pod("default", "orphan", json!({ "app": "web" }))).await;
    // The slice of a Service shows when the controllers know of the pod: the ReplicaSet must not be quicker.
    cluster.run_pods("app=web").await;
    cluster.create::<Service>(service("web")).await;
    eventually("the pod is known", async || {
        let slices = cluster.api::<EndpointSlice>().list(&ListParams::default().labels(OF_WEB)).await.unwrap();
        slices.items.iter().any(|slice| slice.endpoints.iter().flatten().count() == 1)
    })
    .await;
    let mut set = deployment("web", 3, "a");
    set["kind"] = json!("ReplicaSet");
    let set: ReplicaSet = cluster.create(set).await;
    let owned = async || {
        let mut pods = cluster.pods("app=web").await;
        pods.retain(|pod| pod.owner_references().iter().any(|owner| Some(&owner.uid) == set.metadata.uid.as_ref()));
        pods
    };
    eventually("two new pods beside the adopted one", async || owned().await.len() == 3).await;
    assert!(owned().await.iter().any(|pod| pod.uid() == orphan.uid()));
    let pods = cluster.api::<Pod>();
    pods.patch(
        "orphan",
        &PatchParams::default(),
        &Patch::Merge(json!({ "metadata": { "labels": { "app": "other" } } })),
    )
    .await
    .unwrap();
    eventually("the relabelled pod is let go and replaced", async || {
        pods.get("orphan").await.unwrap().owner_references().is_empty() && owned().await.len() == 3
    })
    .await;
    let victim = owned().await[0].name_any();
    pods.delete(&victim, &DeleteParams::default().grace_period(0)).await.unwrap();
    eventually("a deleted pod is replaced", async || {
        let now = owned().await;
        now.len() == 3 && now.iter().all(|pod| pod.name_any() != victim)
    })
    .await;
    let status = async || cluster.api::<ReplicaSet>().get("web").await.unwrap().status.unwrap();
    eventually("the status counts them", async || status().await.replicas == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_to_completion_and_its_pods_can_go() {
    let cluster = Cluster::start().await;
    let job: Job = cluster
        .create(json!({ "metadata": { "name": "work" }, "spec": {
            "completions": 3, "parallelism": 2, "backoffLimit": 0,
            "template": { "spec": { "restartPolicy": "Never", "containers": [{ "name": "c", "image": "img" }] } },
        } }))
        .await;
    eventually("the Job is complete", async || {
        for pod in cluster.pods("job-name=work").await {
            let change = Patch::Strategic(json!({ "status": { "phase": "Succeeded" } }));
            let _gone_meanwhile =
                cluster.api::<Pod>().patch_status(&pod.name_any(), &PatchParams::default(), &change).await;
        }
        let status = cluster.api::<Job>().get("work").await.unwrap().status.unwrap_or_default();
        status.completion_time.is_some()
    })
    .await;
    let status = cluster.api::<Job>().get("work").await.unwrap().status.unwrap();
    assert_eq!((status.succeeded, status.failed, status.active), (Some(3), None, None));
    eventually("no pod is held", async || {
        cluster.pods("job-name=work").await.iter().all(|pod| pod.finalizers().is_empty())
    })
    .await;

    let second: Job = cluster
        .create(json!({ "metadata": { "name": "endless" }, "spec": { "template": { "spec": {
            "restartPolicy": "Never", "containers": [{ "name": "c", "image": "img" }] } } } }))
        .await;
    assert_ne!(job.uid(), second.uid());
    eventually("it has a pod", async || cluster.pods("job-name=endless").await.len() == 1).await;
    cluster.api::<Job>().delete("endless", &DeleteParams::background()).await.unwrap();
    eventually("its pod is gone too", async || cluster.pods("job-name=endless").await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cronjob_makes_the_jobs_that_are_due() {
    let cluster = Cluster::start().await;
    let cron: CronJob = cluster
        .create(json!({ "metadata": { "name": "tick" }, "spec": {
            "schedule": "@every 1s", "concurrencyPolicy": "Forbid",
            "jobTemplate": { "metadata": { "labels": { "made": "by-cron" } }, "spec": { "template": { "spec": {
                "restartPolicy": "Never", "containers": [{ "name": "c", "image": "img" }] } } } },
        } }))
        .await;
    let jobs = ListParams::default().labels("made=by-cron");
    eventually("a Job", async || !cluster.api::<Job>().list(&jobs).await.unwrap().items.is_empty()).await;
    let job = cluster.api::<Job>().list(&jobs).await.unwrap().items.remove(0);
    assert_eq!(job.owner_references()[0].uid, cron.uid().unwrap());
    eventually("the CronJob knows it", async || {
        let status = cluster.api::<CronJob>().get("tick").await.unwrap().status.unwrap_or_default();
        status.last_schedule_time.is_some() && status.active.iter().flatten().any(|active| active.uid == job.uid())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_finds_its_ready_pods() {
    let cluster = Cluster::start().await;
    cluster.create::<Service>(service("web")).await;
    cluster.create::<Pod>(pod("default", "a", json!({ "app": "web" }))).await;
    cluster.run_pods("app=web").await;
    let slices = async || {
        let list = ListParams::default().labels(OF_WEB);
        cluster.api::<EndpointSlice>().list(&list).await.unwrap().items
    };
    let ready = async || {
        let slices = slices().await;
        let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        endpoints.filter(|endpoint| endpoint.conditions.as_ref().is_some_and(|known| known.ready == Some(true))).count()
    };
    eventually("the pod is an endpoint", async || ready().await == 1).await;
    let legacy = async || cluster.api::<Endpoints>().get_opt("web").await.unwrap().and_then(|found| found.subsets);
    eventually("older clients see it, too", async || legacy().await.is_some()).await;
    cluster.api::<Pod>().delete("a", &DeleteParams::default().grace_period(0)).await.unwrap();
    eventually("no endpoint is left", async || ready().await == 0 && legacy().await.is_none()).await;
    cluster.api::<Service>().delete("web", &DeleteParams::default()).await.unwrap();
    eventually("the slices are collected", async || slices().await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_furnished_and_later_emptied() {
    let cluster = Cluster::start().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let shop: Namespace = from_value(json!({ "metadata": { "name": "shop" } })).unwrap();
    namespaces.create(&PostParams::default(), &shop).await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "shop");
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "shop");
    eventually("the default account and the root certificates", async || {
        accounts.get_opt("default").await.unwrap().is_some()
            && maps.get_opt("kube-root-ca.crt").await.unwrap().is_some()
    })
    .await;
    cluster.create::<Pod>(pod("shop", "a", json!({}))).await;
    let held = json!({ "metadata": { "name": "held", "namespace": "shop", "finalizers": ["example.com/hold"] } });
    cluster.create::<ConfigMap>(held).await;
    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    eventually("the finalizer is reported", async || {
        let Some(shop) = namespaces.get_opt("shop").await.unwrap() else { panic!("gone in spite of the finalizer") };
        let conditions = shop.status.and_then(|status| status.conditions).unwrap_or_default();
        conditions.iter().any(|known| known.type_ == "NamespaceFinalizersRemaining" && known.status == "True")
    })
    .await;
    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    maps.patch("held", &PatchParams::default(), &free).await.unwrap();
    eventually("the namespace is gone", async || namespaces.get_opt("shop").await.unwrap().is_none()).await;
}

fn owned_map(name: &str, owner: &ConfigMap) -> Value {
    let reference = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": owner.name_any(), "uid": owner.uid(), "blockOwnerDeletion": true,
    });
    json!({ "metadata": { "name": name, "namespace": "default", "ownerReferences": [reference] } })
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_collected_in_all_three_ways() {
    let cluster = Cluster::start().await;
    let maps = cluster.api::<ConfigMap>();
    let exists = async |name: &str| maps.get_opt(name).await.unwrap().is_some();
    for (name, params) in [
        ("background", DeleteParams::background()),
        ("foreground", DeleteParams::foreground()),
        ("orphan", DeleteParams::orphan()),
    ] {
        let owner: ConfigMap = cluster.create(json!({ "metadata": { "name": name, "namespace": "default" } })).await;
        let child = format!("{name}-child");
        cluster.create::<ConfigMap>(owned_map(&child, &owner)).await;
        maps.delete(name, &params).await.unwrap();
        eventually("the owner is gone", async || !exists(name).await).await;
        if name == "orphan" {
            eventually("the child is free", async || maps.get(&child).await.unwrap().owner_references().is_empty())
                .await;
        } else {
            eventually("the child is gone, too", async || !exists(&child).await).await;
        }
    }
    let mut ghost: ConfigMap = from_value(json!({ "metadata": { "name": "ghost", "uid": "no-such-uid" } })).unwrap();
    ghost.metadata.namespace = Some("default".to_owned());
    cluster.create::<ConfigMap>(owned_map("of-a-ghost", &ghost)).await;
    eventually("a child of nobody is collected", async || !exists("of-a-ghost").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_tainted_and_its_pods_go() {
    let ranges = Ranges::out_of(vec!["10.244.0.0/16".to_owned()]);
    let mut config = Config { ranges, ..Config::default() };
    config.tuning.node_monitor_grace_period = Duration::from_secs(1);
    let cluster = Cluster::with(config).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    for name in ["silent", "talking"] {
        let node: Node = from_value(json!({ "metadata": { "name": name } })).unwrap();
        nodes.create(&PostParams::default(), &node).await.unwrap();
    }
    let beat = async |name: &str| {
        let now = client::clock::time();
        let ready = json!({ "type": "Ready", "status": "True", "lastHeartbeatTime": now, "lastTransitionTime": now, "reason": "KubeletReady", "message": "" });
        let change = Patch::Strategic(json!({ "status": { "conditions": [ready] } }));
        nodes.patch_status(name, &PatchParams::default(), &change).await.unwrap();
    };
    beat("silent").await;
    let mut bound = pod("default", "a", json!({}));
    bound["spec"]["nodeName"] = json!("silent");
    bound["spec"]["tolerations"] = json!([{ "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1 }]);
    cluster.create::<Pod>(bound).await;
    eventually("the silent node is tainted", async || {
        beat("talking").await;
        sleep(Duration::from_millis(500)).await;
        let taints = nodes.get("silent").await.unwrap().spec.unwrap_or_default().taints.unwrap_or_default();
        taints.iter().any(|taint| taint.key == "node.kubernetes.io/unreachable" && taint.effect == "NoExecute")
    })
    .await;
    eventually("its pod is evicted", async || {
        // With no node ready at all, nothing would be evicted.
        beat("talking").await;
        let pod = cluster.api::<Pod>().get_opt("a").await.unwrap();
        pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some())
    })
    .await;
    let ranges: Vec<_> = nodes
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .filter_map(|node| node.spec?.pod_cidr)
        .collect();
    assert!(ranges.len() == 2 && ranges[0] != ranges[1], "{ranges:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_told_how_long_it_may_keep_what_it_has_read() {
    let cluster = Cluster::start().await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let node: Node = from_value(json!({ "metadata": { "name": "n" } })).unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    eventually("the annotation is there", async || {
        let node = nodes.get("n").await.unwrap();
        node.annotations().get("node.alpha.kubernetes.io/ttl").is_some_and(|ttl| ttl == "0")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_nothing_acts_on_says_so_once() {
    let cluster = Cluster::with(Config { notice_patience: Duration::ZERO, ..Config::default() }).await;
    let policy = json!({ "metadata": { "name": "p" }, "spec": { "podSelector": {} } });
    cluster.create::<NetworkPolicy>(policy).await;
    let mut plain = service("plain");
    plain["spec"]["type"] = json!("NodePort");
    cluster.create::<Service>(plain).await;
    let mut balanced = service("balanced");
    balanced["spec"]["type"] = json!("LoadBalancer");
    cluster.create::<Service>(balanced).await;
    let told = async || {
        let events = cluster.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        let told = events.into_iter().filter(|event| event.reason.as_deref() == Some("NotActedOn"));
        told.map(|event| (event.involved_object.name.unwrap_or_default(), event.count)).collect::<Vec<_>>()
    };
    eventually("both are told of", async || told().await.len() >= 2).await;
    let touched = Patch::Merge(json!({ "metadata": { "labels": { "a": "b" } } }));
    cluster.api::<NetworkPolicy>().patch("p", &PatchParams::default(), &touched).await.unwrap();
    sleep(Duration::from_millis(300)).await;
    let mut told = told().await;
    told.sort();
    assert_eq!(told, [("balanced".to_owned(), Some(1)), ("p".to_owned(), Some(1))]);
}

/// Makes a pod on a node that uses the claim `data`.
fn pod_with_claim() -> Value {
    let mut pod = pod("default", "user", json!({}));
    pod["spec"]["nodeName"] = "a-node".into();
    pod["spec"]["volumes"] = json!([{ "name": "v", "persistentVolumeClaim": { "claimName": "data" } }]);
    pod
}

#[tokio::test]
async fn a_claim_in_use_is_gone_only_after_its_last_pod() {
    // The node is nobody's, so that nothing but this test ends the pod.
    let controllers = vec!["persistentvolumeclaim-protection-controller".to_owned()];
    let cluster = Cluster::with(Config { controllers, ..Config::default() }).await;
    let resources = json!({ "requests": { "storage": "1Gi" } });
    let spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": resources });
    for name in ["data", "unused"] {
        let claim: PersistentVolumeClaim = cluster.create(json!({ "metadata": { "name": name }, "spec": spec })).await;
        assert_eq!(claim.metadata.finalizers.unwrap(), ["kubernetes.io/pvc-protection"]);
    }
    let _user: Pod = cluster.create(pod_with_claim()).await;
    let claims = cluster.api::<PersistentVolumeClaim>();
    for name in ["data", "unused"] {
        claims.delete(name, &DeleteParams::default()).await.unwrap();
    }
    eventually("the unused claim is gone", async || claims.get_opt("unused").await.unwrap().is_none()).await;
    assert!(claims.get("data").await.unwrap().metadata.deletion_timestamp.is_some());
    cluster.api::<Pod>().delete("user", &DeleteParams::default().grace_period(0)).await.unwrap();
    eventually("the claim follows its pod", async || claims.get_opt("data").await.unwrap().is_none()).await;
}

#[tokio::test]
async fn a_bound_volume_stays_until_it_is_released() {
    // The volume has the phases that this test gives it.
    let controllers = vec!["persistentvolume-protection-controller".to_owned()];
    let cluster = Cluster::with(Config { controllers, ..Config::default() }).await;
    let volumes: Api<PersistentVolume> = Api::all(cluster.client.clone());
    let spec =
        json!({ "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Gi" }, "hostPath": { "path": "/srv/x" } });
    let volume = from_value(json!({ "metadata": { "name": "v" }, "spec": spec })).unwrap();
    volumes.create(&PostParams::default(), &volume).await.unwrap();
    let phase = async |phase: &str| {
        let change = Patch::Merge(json!({ "status": { "phase": phase } }));
        volumes.patch_status("v", &PatchParams::default(), &change).await.unwrap();
    };
    phase("Bound").await;
    volumes.delete("v", &DeleteParams::default()).await.unwrap();
    let volume = volumes.get("v").await.unwrap();
    assert_eq!(volume.metadata.finalizers.unwrap(), ["kubernetes.io/pv-protection"]);
    phase("Released").await;
    eventually("the released volume is gone", async || volumes.get_opt("v").await.unwrap().is_none()).await;
}

#[tokio::test]
async fn a_class_of_volume_attributes_stays_while_a_claim_has_it() {
    let cluster = Cluster::start().await;
    let classes: Api<VolumeAttributesClass> = Api::all(cluster.client.clone());
    let class = json!({ "metadata": { "name": "gold" }, "driverName": "d.example.com", "parameters": { "iops": "1" } });
    classes.create(&PostParams::default(), &from_value(class).unwrap()).await.unwrap();
    let resources = json!({ "requests": { "storage": "1Gi" } });
    let spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": resources, "volumeAttributesClassName": "gold" });
    let _claim: PersistentVolumeClaim = cluster.create(json!({ "metadata": { "name": "data" }, "spec": spec })).await;
    classes.delete("gold", &DeleteParams::default()).await.unwrap();
    assert!(classes.get("gold").await.unwrap().metadata.deletion_timestamp.is_some());
    cluster.api::<PersistentVolumeClaim>().delete("data", &DeleteParams::default()).await.unwrap();
    eventually("the class is gone", async || classes.get_opt("gold").await.unwrap().is_none()).await;
}

#[tokio::test]
async fn a_range_of_services_stays_until_the_last_has_gone() {
    let controllers = vec!["service-cidr-controller".to_owned()];
    let cluster = Cluster::with(Config { controllers, ..Config::default() }).await;
    let cidrs: Api<ServiceCIDR> = Api::all(cluster.client.clone());
    for (name, range) in [("used", "10.7.0.0/24"), ("unused", "10.8.0.0/24")] {
        let cidr = json!({ "metadata": { "name": name }, "spec": { "cidrs": [range] } });
        cidrs.create(&PostParams::default(), &from_value(cidr).unwrap()).await.unwrap();
    }
    let ready = async |name: &str| {
        let status = cidrs.get(name).await.unwrap().status.unwrap_or_default();
        status.conditions.unwrap_or_default().first().map(|ready| (ready.status.clone(), ready.reason.clone()))
    };
    for name in ["used", "unused", "kubernetes"] {
        let is_ready = async || ready(name).await == Some(("True".to_owned(), String::new()));
        eventually("the range is ready", is_ready).await;
        let finalizers = cidrs.get(name).await.unwrap().metadata.finalizers.unwrap();
        assert_eq!(finalizers, ["networking.k8s.io/service-cidr-finalizer"]);
    }
    let spec = json!({ "ports": [{ "port": 80 }], "clusterIP": "10.7.0.9" });
    let _user: Service = cluster.create(json!({ "metadata": { "name": "user" }, "spec": spec })).await;
    for name in ["used", "unused"] {
        cidrs.delete(name, &DeleteParams::default()).await.unwrap();
    }
    let waits = async || ready("used").await == Some(("False".to_owned(), "Terminating".to_owned()));
    eventually("the range says why it stays", waits).await;
    cluster.api::<Service>().delete("user", &DeleteParams::default()).await.unwrap();
    for name in ["used", "unused"] {
        eventually("the range has gone", async || cidrs.get_opt(name).await.unwrap().is_none()).await;
    }
}

#[tokio::test]
async fn a_role_of_roles_follows_its_parts() {
    let cluster = Cluster::start().await;
    let roles: Api<ClusterRole> = Api::all(cluster.client.clone());
    let verbs = async || -> Vec<String> {
        let rules = roles.get("whole").await.unwrap().rules.unwrap_or_default();
        rules.into_iter().flat_map(|rule| rule.verbs).collect()
    };
    let make = async |role: Value| {
        roles.create(&PostParams::default(), &from_value(role).unwrap()).await.unwrap();
    };
    let selector = json!({ "matchLabels": { "part-of": "whole" } });
    make(json!({ "metadata": { "name": "whole" }, "aggregationRule": { "clusterRoleSelectors": [selector] } })).await;
    for (name, verb) in [("b", "list"), ("a", "get")] {
        let rule = json!({ "apiGroups": [""], "resources": ["pods"], "verbs": [verb] });
        make(json!({ "metadata": { "name": name, "labels": { "part-of": "whole" } }, "rules": [rule] })).await;
    }
    eventually("both parts are in", async || verbs().await == ["get", "list"]).await;
    roles.delete("a", &DeleteParams::default()).await.unwrap();
    eventually("one part is out", async || verbs().await == ["list"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_told_what_does_not_fit_its_kinds() {
    let cluster = Cluster::start().await;
    cluster.define_widgets().await;
    let rule = json!({
        "apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["widgets"],
    });
    let policy: ValidatingAdmissionPolicy = from_value(json!({
        "metadata": { "name": "widgets" },
        "spec": {
            "matchConstraints": { "resourceRules": [rule] }, "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" },
            "validations": [
                { "expression": "object.spec.size < int(params.data.most)" },
                { "expression": "object.spec.weight < 3", "messageExpression": "object.spec.size + 'x'" },
            ],
        },
    }))
    .unwrap();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(cluster.client.clone());
    policies.create(&PostParams::default(), &policy).await.unwrap();
    let status = async || policies.get("widgets").await.unwrap().status.unwrap_or_default();
    eventually("the policy is checked", async || status().await.observed_generation == Some(1)).await;
    let warnings = status().await.type_checking.unwrap().expression_warnings.unwrap();
    let [weight, message] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert_eq!(weight.field_ref, "spec.validations[1].expression");
    let want = "example.com/v1, Kind=Widget: ERROR: <input>:1:12: undefined field 'weight'";
    assert!(weight.warning.starts_with(want), "{}", weight.warning);
    assert_eq!(message.field_ref, "spec.validations[1].messageExpression");
    let better = json!({ "spec": { "validations": [{ "expression": "object.spec.size < 3" }] } });
    policies.patch("widgets", &PatchParams::default(), &Patch::Merge(better)).await.unwrap();
    eventually("it is checked again", async || status().await.observed_generation == Some(2)).await;
    assert_eq!(status().await.type_checking.and_then(|checking| checking.expression_warnings), None);
}

/// A custom resource, which the controllers have to discover.
#[tokio::test(flavor = "multi_thread")]
async fn custom_resources_are_collected_and_go_with_their_namespace() {
    let cluster = Cluster::start().await;
    let resource = cluster.define_widgets().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let shop: Namespace = from_value(json!({ "metadata": { "name": "shop" } })).unwrap();
    namespaces.create(&PostParams::default(), &shop).await.unwrap();
    let widgets: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), "shop", &resource);
    let widget = |name: &str, owners: Value| {
        let tree = json!({
            "apiVersion": "example.com/v1", "kind": "Widget",
            "metadata": { "name": name, "ownerReferences": owners }, "spec": { "size": 1 },
        });
        from_value::<DynamicObject>(tree).unwrap()
    };
    let create = async |widget: DynamicObject| widgets.create(&PostParams::default(), &widget).await.unwrap();
    let owned_by = |owner: &DynamicObject| json!([{ "apiVersion": "example.com/v1", "kind": "Widget", "name": owner.name_any(), "uid": owner.metadata.uid }]);
    let owner = create(widget("owner", json!([]))).await;
    create(widget("child", owned_by(&owner))).await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "shop");
    let map = json!({ "metadata": { "name": "map", "ownerReferences": owned_by(&owner) } });
    maps.create(&PostParams::default(), &from_value(map).unwrap()).await.unwrap();
    create(widget("free", json!([]))).await;
    widgets.delete("owner", &DeleteParams::background()).await.unwrap();
    eventually("what the widget owned is collected", async || {
        widgets.get_opt("child").await.unwrap().is_none() && maps.get_opt("map").await.unwrap().is_none()
    })
    .await;
    assert!(widgets.get_opt("free").await.unwrap().is_some());
    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    eventually("the namespace goes with all in it", async || namespaces.get_opt("shop").await.unwrap().is_none()).await;
    assert!(widgets.list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_widget_goes_with_its_owner_of_a_built_in_kind() {
    let cluster = Cluster::start().await;
    let resource = cluster.define_widgets().await;
    let owner: ConfigMap = cluster.create(json!({ "metadata": { "name": "owner" } })).await;
    let widgets: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), "default", &resource);
    let reference = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid,
        "blockOwnerDeletion": true });
    let widget = json!({
        "apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": { "name": "owned", "ownerReferences": [reference] }, "spec": { "size": 1 },
    });
    widgets.create(&PostParams::default(), &from_value(widget).unwrap()).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "default");
    maps.delete("owner", &DeleteParams::foreground()).await.unwrap();
    eventually("the widget went before its owner", async || {
        widgets.get_opt("owned").await.unwrap().is_none() && maps.get_opt("owner").await.unwrap().is_none()
    })
    .await;
}
