//! What an author of an operator gets from `TestCluster`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use cluster::TestCluster;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewStatus};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(30);

fn deployment(replicas: i32) -> Deployment {
    let labels = json!({"app": "web"});
    let spec = json!({
        "replicas": replicas, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}},
    });
    serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_become_available_and_namespaces_finish_deleting() {
    let cluster = TestCluster::start().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "mine"}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), "mine");
    deployments.create(&PostParams::default(), &deployment(3)).await.unwrap();

    let available = await_condition(deployments.clone(), "web", conditions::is_deployment_completed());
    if tokio::time::timeout(PATIENCE, available).await.is_err() {
        let pods = Api::<Pod>::namespaced(cluster.client(), "mine").list(&ListParams::default()).await.unwrap();
        panic!("not available in time: {}", serde_json::to_string_pretty(&pods).unwrap());
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "mine");
    assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 3);

    let uid = namespaces.get("mine").await.unwrap().metadata.uid.unwrap();
    namespaces.delete("mine", &DeleteParams::default()).await.unwrap();
    let gone = await_condition(namespaces, "mine", conditions::is_deleted(&uid));
    tokio::time::timeout(PATIENCE, gone).await.expect("deleted in time").unwrap();
    cluster.stop().await.unwrap();
}

/// As `kubectl get --show-managed-fields` shows it, and as conflicts of server-side apply name them.
#[tokio::test(flavor = "multi_thread")]
async fn what_components_write_is_owned_by_the_names_that_kubernetes_gives_them() {
    let cluster = TestCluster::start().await.unwrap();
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client());
    deployments.create(&PostParams::default(), &deployment(1)).await.unwrap();
    let available = await_condition(deployments.clone(), "web", conditions::is_deployment_completed());
    tokio::time::timeout(PATIENCE, available).await.expect("available in time").unwrap();
    let web = deployments.get("web").await.unwrap();
    assert_eq!(status_managers(&web.metadata), ["kube-controller-manager"]);
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let pod = pods.list(&ListParams::default()).await.unwrap().items.remove(0);
    let mut managers = status_managers(&pod.metadata);
    // It says so when a pod comes before its node is ready.
    managers.retain(|manager| manager != "kube-scheduler");
    assert_eq!(managers, ["kubelet"]);
    cluster.stop().await.unwrap();
}

fn status_managers(metadata: &ObjectMeta) -> Vec<String> {
    let entries = metadata.managed_fields.iter().flatten();
    let of_status = entries.filter(|entry| entry.subresource.as_deref() == Some("status"));
    of_status.filter_map(|entry| entry.manager.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_users_have_only_the_rights_that_roles_give_them() {
    let cluster = TestCluster::start().await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(cluster.client_as("somebody", &[]));
    let refused = pods.list(&ListParams::default()).await.unwrap_err();
    assert!(refused.to_string().contains("cannot list resource \"pods\""), "{refused}");
    cluster.stop().await.unwrap();
}

async fn review(cluster: &TestCluster, token: &str) -> TokenReviewStatus {
    let review: TokenReview = serde_json::from_value(json!({"metadata": {}, "spec": {"token": token}})).unwrap();
    let answer = Api::all(cluster.client()).create(&PostParams::default(), &review).await.unwrap();
    answer.status.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_secret_is_good_until_one_of_both_goes() {
    let cluster = TestCluster::start().await.unwrap();
    let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client());
    let secrets: Api<Secret> = Api::default_namespaced(cluster.client());
    let account = serde_json::from_value(json!({"metadata": {"name": "robot"}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let kind = "kubernetes.io/service-account-token";
    for (name, account) in [("token", "robot"), ("orphan", "nobody")] {
        let metadata = json!({"name": name, "annotations": {"kubernetes.io/service-account.name": account}});
        let secret = serde_json::from_value(json!({"metadata": metadata, "type": kind})).unwrap();
        secrets.create(&PostParams::default(), &secret).await.unwrap();
    }
    let has_token =
        |secret: Option<&Secret>| secret.is_some_and(|it| it.data.iter().any(|it| it.contains_key("token")));
    let filled = await_condition(secrets.clone(), "token", has_token);
    let secret = tokio::time::timeout(PATIENCE, filled).await.expect("filled in time").unwrap().unwrap();
    let data = secret.data.unwrap();
    assert_eq!(data["namespace"].0, b"default");
    assert!(data["ca.crt"].0.starts_with(b"-----BEGIN CERTIFICATE-----"));
    let token = String::from_utf8(data["token"].0.clone()).unwrap();

    let good = review(&cluster, &token).await;
    let user = good.user.unwrap();
    assert_eq!(user.username.as_deref(), Some("system:serviceaccount:default:robot"));
    assert!(user.groups.unwrap().contains(&"system:serviceaccounts:default".to_owned()));
    let label = |value: serde_json::Value| {
        let labels = json!({"kubernetes.io/legacy-token-invalid-since": value});
        Patch::Merge(json!({"metadata": {"labels": labels}}))
    };
    secrets.patch("token", &PatchParams::default(), &label("2026-01-01".into())).await.unwrap();
    let marked = review(&cluster, &token).await;
    assert!(marked.error.unwrap().contains("has been marked invalid"));
    secrets.patch("token", &PatchParams::default(), &label(serde_json::Value::Null)).await.unwrap();
    let emptied = Patch::Merge(json!({"data": {"token": "eA=="}}));
    secrets.patch("token", &PatchParams::default(), &emptied).await.unwrap();
    let changed = review(&cluster, &token).await;
    assert!(changed.error.unwrap().contains("does not match server's copy"));

    for name in ["orphan", "token"] {
        let gone = await_condition(secrets.clone(), name, |secret: Option<&Secret>| secret.is_none());
        tokio::time::timeout(PATIENCE, gone).await.expect("gone in time").unwrap();
        let _ = accounts.delete("robot", &DeleteParams::default()).await;
    }
    assert_ne!(review(&cluster, &token).await.authenticated, Some(true));
    cluster.stop().await.unwrap();
}
