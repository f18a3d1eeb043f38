//! What an author of an operator gets from `TestCluster`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use cluster::TestCluster;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
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

#[tokio::test(flavor = "multi_thread")]
async fn other_users_have_only_the_rights_that_roles_give_them() {
    let cluster = TestCluster::start().await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(cluster.client_as("somebody", &[]));
    let refused = pods.list(&ListParams::default()).await.unwrap_err();
    assert!(refused.to_string().contains("cannot list resource \"pods\""), "{refused}");
    cluster.stop().await.unwrap();
}
