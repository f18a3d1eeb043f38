//! Controllers that hear of their own writes later than of what these had others do.

use std::convert::Infallible;
use std::sync::Arc;

use futures::StreamExt as _;
use http::{Request, Response};
use http_body_util::{BodyStream, StreamBody};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::client::Body;
use store::embedded::EmbeddedStore;
use tower::ServiceExt as _;

use super::*;

const LATE: Duration = Duration::from_secs(5);

/// A client to whom watches of one kind show everything later.
fn late(server: &TestServer, plural: &'static str) -> Client {
    let service = server.service();
    let service = tower::service_fn(move |request: Request<Body>| {
        let service = service.clone();
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let by = if is_watch && request.uri().path().ends_with(plural) { LATE } else { Duration::ZERO };
        async move {
            let Ok(answer) = service.oneshot(request).await;
            let frames = |body| {
                BodyStream::new(body).then(move |frame| async move {
                    sleep(by).await;
                    frame
                })
            };
            Ok::<Response<_>, Infallible>(answer.map(|body| StreamBody::new(frames(body).boxed())))
        }
    });
    Client::new(service, "default")
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_counted_is_not_replaced_before_the_count_is_seen() {
    let server = TestServer::with(apiserver::Config::default(), Arc::new(EmbeddedStore::in_step())).await;
    let client = late(&server, "/jobs");
    let cluster = Cluster::over(server, client, Config::default());
    let template = json!({ "spec": { "restartPolicy": "Never", "containers": [{ "name": "c", "image": "i" }] } });
    cluster.create::<Job>(json!({ "metadata": { "name": "once" }, "spec": { "template": template } })).await;
    let pods = cluster.api::<Pod>();
    let names = async || {
        let found = pods.list(&ListParams::default()).await.unwrap().items;
        found.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
    };
    eventually("there is a pod", async || !names().await.is_empty()).await;
    let first = names().await;
    // The controller knows of its first status.
    sleep(LATE * 2).await;
    let ended = json!({ "status": { "phase": "Succeeded" } });
    pods.patch_status(&first[0], &PatchParams::default(), &Patch::Merge(ended)).await.unwrap();
    eventually("the job is complete", async || {
        let job = cluster.api::<Job>().get("once").await.unwrap();
        job.status.and_then(|status| status.succeeded) == Some(1)
    })
    .await;
    sleep(LATE * 4).await;
    assert_eq!(names().await, first);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_waits_until_it_sees_the_set_that_it_made() {
    let server = TestServer::with(apiserver::Config::default(), Arc::new(EmbeddedStore::in_step())).await;
    let client = late(&server, "/replicasets");
    let cluster = Cluster::over(server, client, Config::default());
    let mut wanted = deployment("web", 2, "a");
    wanted["spec"]["strategy"] = json!({ "type": "Recreate" });
    cluster.create::<Deployment>(wanted).await;
    let sizes = async || {
        let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
        sets.iter().map(|set| set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)).collect::<Vec<_>>()
    };
    eventually("there is a set", async || sizes().await == [2]).await;
    let image = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "c", "image": "b" }] } } } });
    let api = cluster.api::<Deployment>();
    api.patch("web", &PatchParams::default(), &Patch::Strategic(image)).await.unwrap();
    sleep(LATE / 2).await;
    assert_eq!(sizes().await, [2], "the old set goes before there is a new one");
    eventually("the new set follows", async || {
        let mut sizes = sizes().await;
        sizes.sort_unstable();
        sizes == [0, 2]
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_given_back_to_a_quota_whose_booking_is_seen_later() {
    let server = TestServer::with(apiserver::Config::default(), Arc::new(EmbeddedStore::in_step())).await;
    let client = late(&server, "/resourcequotas");
    let cluster = Cluster::over(server, client, Config::default());
    let quota = json!({ "metadata": { "name": "few" }, "spec": { "hard": { "pods": "2" } } });
    cluster.create::<ResourceQuota>(quota).await;
    let used = async || {
        let status = cluster.api::<ResourceQuota>().get("few").await.unwrap().status;
        status.and_then(|status| status.used).map(|used| used["pods"].0.clone())
    };
    eventually("it is counted", async || used().await.as_deref() == Some("0")).await;
    // The controller knows of its first status.
    sleep(LATE * 2).await;
    let containers = json!([{ "name": "c", "image": "i" }]);
    cluster.create::<Pod>(json!({ "metadata": { "name": "short" }, "spec": { "containers": containers } })).await;
    assert_eq!(used().await.as_deref(), Some("1"));
    cluster.api::<Pod>().delete("short", &DeleteParams::default().grace_period(0)).await.unwrap();
    eventually("it is given back", async || used().await.as_deref() == Some("0")).await;
}
