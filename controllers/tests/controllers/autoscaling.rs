//! HorizontalPodAutoscalers, with a server of metrics that is played: what it serves is answered before requests reach the
//! API server, as its aggregator would.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apiserver::testing::TestServer;
use bytes::Bytes;
use controllers::{Config, Tuning};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus};
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::serde_json::{Value, from_value, json};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::core::ApiResource;
use kube::{Api, Client, ResourceExt};
use tower::{Service as _, service_fn};

use super::{Cluster, deployment, eventually};

const PODS: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods";
const QUEUE: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/queue";

type Answer = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// What is answered by path, and who asked.
#[derive(Clone, Default)]
struct Metrics(Arc<Mutex<Played>>);

#[derive(Default)]
struct Played {
    answers: BTreeMap<String, Option<String>>,
    asked: Vec<String>,
}

impl Metrics {
    fn say(&self, path: &str, answer: Value) {
        self.say_text(path, &answer.to_string());
    }

    fn say_text(&self, path: &str, answer: &str) {
        self.0.lock().unwrap().answers.insert(path.to_owned(), Some(answer.to_owned()));
    }

    fn hang(&self, path: &str) {
        self.0.lock().unwrap().answers.insert(path.to_owned(), None);
    }

    /// All pods use this much of a resource.
    fn say_usage(&self, pods: &[Pod], resource: &str, amount: &str) {
        let of = |pod: &Pod| {
            let containers = json!([{"name": "c", "usage": {resource: amount}}]);
            let metadata = json!({"name": pod.name_any(), "namespace": "default"});
            json!({"metadata": metadata, "timestamp": "2026-11-01T00:00:00Z", "window": "30s", "containers": containers})
        };
        self.say(PODS, json!({"items": pods.iter().map(of).collect::<Vec<_>>()}));
    }

    fn asked(&self, path: &str) -> Vec<String> {
        self.0.lock().unwrap().asked.iter().filter(|asked| asked.starts_with(path)).cloned().collect()
    }

    /// What is answered: nothing to what it does not serve, and the inner nothing is never.
    fn answer(&self, uri: &http::Uri) -> Option<Option<String>> {
        let mut played = self.0.lock().unwrap();
        let found = played.answers.get(uri.path()).cloned();
        if found.is_some() {
            played.asked.push(uri.to_string());
        }
        found
    }
}

async fn start(change: impl FnOnce(&mut Tuning)) -> (Cluster, Metrics) {
    let mut config = Config {
        controllers: vec!["horizontalpodautoscaling".to_owned(), "deployment".to_owned(), "replicaset".to_owned()],
        ..Config::default()
    };
    config.tuning.autoscaling.sync_period = Duration::from_millis(50);
    config.tuning.autoscaling.downscale_stabilization = Duration::from_secs(2);
    change(&mut config.tuning);
    let (server, metrics) = (TestServer::start().await, Metrics::default());
    let (inner, played) = (server.service(), metrics.clone());
    let service = service_fn(move |request: Request<Body>| {
        let (mut inner, found) = (inner.clone(), played.answer(request.uri()));
        async move {
            match found {
                Some(Some(answer)) => {
                    let body = Full::from(answer).map_err(|never| match never {}).boxed_unsync();
                    Ok::<Response<Answer>, Infallible>(Response::new(body))
                }
                Some(None) => std::future::pending().await,
                None => Ok(inner.call(request).await?.map(|body| body.map_err(Into::into).boxed_unsync())),
            }
        }
    });
    (Cluster::over(server, Client::new(service, "default"), config), metrics)
}

fn autoscaler(name: &str, target: (&str, &str, &str), metric: Value) -> Value {
    let (version, kind, target) = target;
    let target = json!({"apiVersion": version, "kind": kind, "name": target});
    json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"minReplicas": 1, "maxReplicas": 10, "scaleTargetRef": target, "metrics": [metric]},
    })
}

fn by_cpu(percent: i32) -> Value {
    let target = json!({"type": "Utilization", "averageUtilization": percent});
    json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
}

fn by_queue(each: &str) -> Value {
    let metric = json!({"name": "queue", "selector": {"matchLabels": {"of": "jobs"}}});
    json!({"type": "External", "external": {"metric": metric, "target": {"type": "AverageValue", "averageValue": each}}})
}

fn queue_of(length: &str) -> Value {
    json!({"items": [{"metricName": "queue", "metricLabels": {}, "timestamp": "2026-11-01T00:00:00Z", "value": length}]})
}

fn web(replicas: i32) -> Value {
    let mut web = deployment("web", replicas, "i");
    web["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
    web
}

const WEB: (&str, &str, &str) = ("apps/v1", "Deployment", "web");

/// What a status says of the use of a resource.
fn used(status: HorizontalPodAutoscalerStatus) -> Option<(i32, String)> {
    let current = status.current_metrics?.into_iter().next()?.resource?.current;
    Some((current.average_utilization?, current.average_value?.0))
}

impl Cluster {
    /// Plays the kubelet: all pods run since long ago.
    async fn run_since_long_ago(&self) -> Vec<Pod> {
        let long_ago = "2026-01-01T00:00:00Z";
        let pods = self.pods("app=web").await;
        for pod in pods.iter().filter(|pod| pod.status.as_ref().is_none_or(|status| status.start_time.is_none())) {
            let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": long_ago});
            let status = json!({"phase": "Running", "startTime": long_ago, "conditions": [ready]});
            let change = Patch::Strategic(json!({"status": status}));
            let _gone_meanwhile =
                self.api::<Pod>().patch_status(&pod.name_any(), &PatchParams::default(), &change).await;
        }
        pods
    }

    async fn replicas(&self) -> i32 {
        self.api::<Deployment>().get("web").await.unwrap().spec.unwrap().replicas.unwrap()
    }

    async fn scaler(&self, name: &str) -> HorizontalPodAutoscaler {
        self.api().get(name).await.unwrap()
    }

    /// Waits for a condition with this status and reason, and gives its message.
    async fn says(&self, name: &str, condition: &str, status: &str, reason: &str) -> String {
        let found = async || {
            let conditions = self.scaler(name).await.status.and_then(|status| status.conditions).unwrap_or_default();
            let found = conditions.into_iter().find(|known| known.type_ == condition)?;
            let is_it = found.status == status && found.reason.as_deref() == Some(reason);
            is_it.then(|| found.message.unwrap_or_default())
        };
        eventually(&format!("{name}: {condition} {status} {reason}"), async || found().await.is_some()).await;
        found().await.unwrap_or_default()
    }

    async fn events_of(&self, name: &str) -> Vec<(String, String)> {
        let fields = format!("involvedObject.kind=HorizontalPodAutoscaler,involvedObject.name={name}");
        let events = self.api::<Event>().list(&ListParams::default().fields(&fields)).await.unwrap().items;
        events.into_iter().map(|it| (it.reason.unwrap_or_default(), it.message.unwrap_or_default())).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_grows_and_shrinks_with_the_use_of_its_requests_and_nothing_is_written_twice() {
    let (cluster, metrics) = start(|_| ()).await;
    cluster.create::<Deployment>(web(2)).await;
    eventually("two pods", async || cluster.run_since_long_ago().await.len() == 2).await;
    metrics.say_usage(&cluster.run_since_long_ago().await, "cpu", "200m");
    cluster.create::<HorizontalPodAutoscaler>(autoscaler("a", WEB, by_cpu(50))).await;
    eventually("ten replicas", async || {
        metrics.say_usage(&cluster.run_since_long_ago().await, "cpu", "200m");
        cluster.replicas().await == 10
    })
    .await;
    let message = cluster.says("a", "ScalingLimited", "True", "TooManyReplicas").await;
    assert_eq!(message, "the desired replica count is more than the maximum replica count");
    let why = "reason: cpu resource utilization (percentage of request) above target";
    let grown = ("SuccessfulRescale".to_owned(), format!("New size: 4; {why}"));
    eventually("an event", async || cluster.events_of("a").await.contains(&grown)).await;
    eventually("a status", async || {
        metrics.say_usage(&cluster.run_since_long_ago().await, "cpu", "200m");
        let status = cluster.scaler("a").await.status.unwrap();
        (status.current_replicas, status.desired_replicas) == (Some(10), 10)
    })
    .await;
    let status = cluster.scaler("a").await.status.unwrap();
    assert!(status.last_scale_time.is_some() && status.observed_generation.is_none());
    assert_eq!(used(status), Some((200, "200m".to_owned())));
    eventually("all pods run", async || {
        metrics.say_usage(&cluster.run_since_long_ago().await, "cpu", "50m");
        used(cluster.scaler("a").await.status.unwrap()) == Some((50, "50m".to_owned()))
    })
    .await;
    cluster.says("a", "ScalingLimited", "False", "DesiredWithinRange").await;
    cluster.says("a", "AbleToScale", "True", "ReadyForNewScale").await;
    let (written, asked) = (cluster.scaler("a").await.resource_version(), metrics.asked(PODS).len());
    eventually("more rounds", async || metrics.asked(PODS).len() > asked + 3).await;
    assert_eq!(cluster.scaler("a").await.resource_version(), written, "nothing new is not written");
    metrics.say_usage(&cluster.pods("app=web").await, "cpu", "10m");
    cluster.says("a", "AbleToScale", "True", "ScaleDownStabilized").await;
    eventually("two replicas", async || cluster.replicas().await == 2).await;
    assert!(metrics.asked(PODS)[0].ends_with("?labelSelector=app%3Dweb"), "{:?}", metrics.asked(PODS)[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stops_an_autoscaler_is_said() {
    let (cluster, metrics) = start(|_| ()).await;
    let check = async |name: &str, condition: &str, reason: &str, want: &str| {
        let message = cluster.says(name, condition, "False", reason).await;
        assert!(message.contains(want), "{name}: {message}");
    };
    cluster.create::<HorizontalPodAutoscaler>(autoscaler("a", WEB, by_cpu(50))).await;
    check("a", "AbleToScale", "FailedGetScale", "current scale: deployments.apps \"web\" not found").await;
    let unknown = ("example.com/v1", "Gadget", "g");
    cluster.create::<HorizontalPodAutoscaler>(autoscaler("b", unknown, by_cpu(50))).await;
    check("b", "AbleToScale", "FailedGetScale", "no matches for kind \"Gadget\" in group \"example.com\"").await;
    cluster.create::<HorizontalPodAutoscaler>(autoscaler("c", ("batch/v1", "Job", "j"), by_cpu(50))).await;
    check("c", "AbleToScale", "FailedGetScale", "unable to get the target's current scale").await;
    let sly = ("apps/v1", "Deployment", "web?x");
    cluster.create::<HorizontalPodAutoscaler>(autoscaler("d", sly, by_cpu(50))).await;
    check("d", "AbleToScale", "FailedGetScale", "deployments.apps \"web?x\" not found").await;
    let web = web(2);
    cluster.create::<Deployment>(web).await;
    cluster.says("a", "AbleToScale", "True", "SucceededGetScale").await;
    let none = "unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: \
                the server could not find the requested resource";
    check("a", "ScalingActive", "FailedGetResourceMetric", none).await;
    // Those of one that has not told much yet: who tells too much is not heard.
    cluster.create::<Deployment>(deployment("other", 1, "i")).await;
    let other = ("apps/v1", "Deployment", "other");
    cluster.create::<HorizontalPodAutoscaler>(autoscaler("e", other, by_cpu(50))).await;
    for (name, reason) in
        [("a", "FailedGetScale"), ("e", "FailedGetResourceMetric"), ("e", "FailedComputeMetricsReplicas")]
    {
        eventually(reason, async || cluster.events_of(name).await.iter().any(|(known, _)| known == reason)).await;
    }
    metrics.say(PODS, json!({"items": []}));
    let message = "no metrics returned from resource metrics API";
    eventually(message, async || {
        cluster.says("a", "ScalingActive", "False", "FailedGetResourceMetric").await.ends_with(message)
    })
    .await;
    for odd in [
        "",
        "{",
        "[]",
        "{\"items\": [{\"metadata\": {\"name\": \"p\"}, \"containers\": [{\"name\": \"c\", \"usage\": {\"cpu\": \"NaN\"}}]}]}",
    ] {
        metrics.say_text(PODS, odd);
        eventually(odd, async || {
            let said = cluster.says("a", "ScalingActive", "False", "FailedGetResourceMetric").await;
            said.contains("unable to fetch metrics from resource metrics API: ") && !said.contains("could not find")
        })
        .await;
        metrics.say(PODS, json!({"items": []}));
        eventually(message, async || {
            cluster.says("a", "ScalingActive", "False", "FailedGetResourceMetric").await.ends_with(message)
        })
        .await;
    }
    assert_eq!(cluster.replicas().await, 2, "nobody scaled it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_kept_between_bounds_without_metrics_and_left_alone_at_zero() {
    let (cluster, _metrics) = start(|_| ()).await;
    cluster.create::<Deployment>(web(0)).await;
    let mut scaler = autoscaler("a", WEB, by_cpu(50));
    scaler["spec"]["minReplicas"] = json!(3);
    scaler["spec"]["maxReplicas"] = json!(5);
    cluster.create::<HorizontalPodAutoscaler>(scaler).await;
    let message = cluster.says("a", "ScalingActive", "False", "ScalingDisabled").await;
    assert_eq!(message, "scaling is disabled since the replica count of the target is zero");
    for (replicas, into, why) in [(1, 3, "below Spec.MinReplicas"), (9, 5, "above Spec.MaxReplicas")] {
        let change = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        cluster.api::<Deployment>().patch("web", &PatchParams::default(), &change).await.unwrap();
        eventually(why, async || cluster.replicas().await == into).await;
    }
    let told = "New size: 3; reason: Current number of replicas below Spec.MinReplicas";
    eventually(told, async || cluster.events_of("a").await.iter().any(|(_, message)| message == told)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_autoscalers_of_the_same_pods_stop_each_other() {
    let (cluster, metrics) = start(|_| ()).await;
    cluster.create::<Deployment>(web(2)).await;
    eventually("pods", async || cluster.run_since_long_ago().await.len() == 2).await;
    metrics.say_usage(&cluster.pods("app=web").await, "cpu", "50m");
    cluster.create::<HorizontalPodAutoscaler>(autoscaler("a", WEB, by_cpu(50))).await;
    cluster.says("a", "ScalingActive", "True", "ValidMetricFound").await;
    cluster.create::<HorizontalPodAutoscaler>(autoscaler("b", WEB, by_cpu(50))).await;
    let want = "pods by selector app=web are controlled by multiple HPAs: [default/a default/b]";
    for name in ["a", "b"] {
        assert_eq!(cluster.says(name, "ScalingActive", "False", "AmbiguousSelector").await, want);
    }
    cluster.api::<HorizontalPodAutoscaler>().delete("b", &Default::default()).await.unwrap();
    cluster.says("a", "ScalingActive", "True", "ValidMetricFound").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_kind_is_scaled_by_what_is_outside_and_by_an_object() {
    let (cluster, metrics) = start(|_| ()).await;
    let kind = define_gadgets(&cluster).await;
    let gadgets: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), "default", &kind);
    let gadget =
        json!({"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "g"}, "spec": {"count": 2}});
    gadgets.create(&PostParams::default(), &from_value(gadget).unwrap()).await.unwrap();
    let status = Patch::Merge(json!({"status": {"count": 2, "selector": "app=g,x!=y"}}));
    gadgets.patch_status("g", &PatchParams::default(), &status).await.unwrap();
    metrics.say(QUEUE, queue_of("35"));
    let target = ("example.com/v1", "Gadget", "g");
    cluster.create::<HorizontalPodAutoscaler>(autoscaler("a", target, by_queue("10"))).await;
    let count = async || gadgets.get_scale("g").await.unwrap().spec.unwrap().replicas;
    eventually("four", async || count().await == Some(4)).await;
    assert!(metrics.asked(QUEUE)[0].ends_with("?labelSelector=of%3Djobs"), "{:?}", metrics.asked(QUEUE)[0]);
    let told = "New size: 4; reason: external metric queue(&LabelSelector{MatchLabels:map[string]string{of: jobs,},\
                MatchExpressions:[]LabelSelectorRequirement{},}) above target";
    eventually(told, async || cluster.events_of("a").await.iter().any(|(_, message)| message == told)).await;
    // Now by a metric of an Ingress.
    let object = json!({"type": "Object", "object": {
        "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "i"},
        "metric": {"name": "requests"}, "target": {"type": "AverageValue", "averageValue": "100"},
    }});
    let change = Patch::Merge(json!({"spec": {"metrics": [object]}}));
    cluster.api::<HorizontalPodAutoscaler>().patch("a", &PatchParams::default(), &change).await.unwrap();
    let message = "no custom metrics API (custom.metrics.k8s.io) registered";
    let said = cluster.says("a", "ScalingActive", "False", "FailedGetObjectMetric").await;
    assert!(said.ends_with(message), "{said}");
    let version = json!({"groupVersion": "custom.metrics.k8s.io/v1beta1", "version": "v1beta1"});
    let group = json!({"name": "custom.metrics.k8s.io", "versions": [version], "preferredVersion": version});
    metrics.say("/apis/custom.metrics.k8s.io", group);
    let path = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/default/ingresses.networking.k8s.io/i/requests";
    let object = json!({"kind": "Ingress", "name": "i"});
    let value = json!({"describedObject": object, "metricName": "requests", "timestamp": null, "value": "650"});
    metrics.say(path, json!({"items": [value]}));
    let status = Patch::Merge(json!({"status": {"count": 4}}));
    gadgets.patch_status("g", &PatchParams::default(), &status).await.unwrap();
    eventually("seven", async || count().await == Some(7)).await;
    let status = Patch::Merge(json!({"status": {"selector": null}}));
    gadgets.patch_status("g", &PatchParams::default(), &status).await.unwrap();
    cluster.says("a", "ScalingActive", "False", "InvalidSelector").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_holds_up_a_worker_for_a_while_only() {
    let (cluster, metrics) = start(|tuning| tuning.autoscaling.autoscaler_workers = 1).await;
    cluster.create::<Deployment>(web(1)).await;
    eventually("a pod", async || cluster.run_since_long_ago().await.len() == 1).await;
    cluster.create::<Deployment>(deployment("other", 1, "i")).await;
    metrics.hang(QUEUE);
    let other = ("apps/v1", "Deployment", "other");
    cluster.create::<HorizontalPodAutoscaler>(autoscaler("hangs", other, by_queue("1"))).await;
    eventually("it hangs", async || !metrics.asked(QUEUE).is_empty()).await;
    cluster.create::<HorizontalPodAutoscaler>(autoscaler("a", WEB, by_cpu(50))).await;
    eventually("the other one grows", async || {
        metrics.say_usage(&cluster.run_since_long_ago().await, "cpu", "200m");
        cluster.replicas().await == 4
    })
    .await;
    let said = cluster.says("hangs", "ScalingActive", "False", "FailedGetExternalMetric").await;
    assert!(said.ends_with("no answer within 10 seconds"), "{said}");
}

/// A kind of its own that can be scaled.
async fn define_gadgets(cluster: &Cluster) -> ApiResource {
    let count = json!({"type": "object", "properties": {"count": {"type": "integer"}, "selector": {"type": "string"}}});
    let scale = json!({"specReplicasPath": ".spec.count", "statusReplicasPath": ".status.count",
        "labelSelectorPath": ".status.selector"});
    cluster.define("Gadget", json!({"spec": count, "status": count}), json!({"status": {}, "scale": scale})).await
}
