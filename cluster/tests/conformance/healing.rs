//! What a cluster cannot do without comes back when somebody deletes or damages it.

use cluster::TestCluster;
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const FLOWS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const TRUST: &str = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
const ROOT_CA: &str = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt";

/// Waits until there is another object at a path than the one with this uid.
async fn is_back(api: &Api, path: &str, before: &Value) -> Value {
    eventually(&format!("{path} is back"), async || {
        api.find(path).await.is_some_and(|now| now["metadata"]["uid"] != before["metadata"]["uid"])
    })
    .await;
    api.get(path).await
}

/// Conformance: [sig-auth] ServiceAccounts should guarantee kube-root-ca.crt exist in any namespace [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_comes_back() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    eventually("every namespace has the root certificates", async || api.find(ROOT_CA).await.is_some()).await;
    for path in [
        "/api/v1/namespaces/default/services/kubernetes",
        "/api/v1/namespaces/default/serviceaccounts/default",
        "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical",
        &format!("{RBAC}/clusterroles/system:discovery"),
        &format!("{RBAC}/clusterrolebindings/system:discovery"),
        &format!("{RBAC}/namespaces/kube-system/roles/extension-apiserver-authentication-reader"),
        &format!("{FLOWS}/service-accounts"),
        "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations/workload-low",
        TRUST,
        ROOT_CA,
    ] {
        let before = api.get(path).await;
        api.delete(path, "Background").await;
        let after = is_back(&api, path, &before).await;
        for field in ["spec", "data", "rules", "subjects", "roleRef", "value"] {
            assert_eq!(after[field], before[field], "{path}");
        }
    }
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-auth] ServiceAccounts should guarantee kube-root-ca.crt exist in any namespace [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_put_right() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    eventually("every namespace has the root certificates", async || api.find(ROOT_CA).await.is_some()).await;
    let role = format!("{RBAC}/clusterroles/system:discovery");
    let binding = format!("{RBAC}/clusterrolebindings/system:discovery");
    let schema = format!("{FLOWS}/service-accounts");
    for (path, field, damage) in [
        (role.as_str(), "rules", json!([])),
        (binding.as_str(), "subjects", json!([])),
        (schema.as_str(), "spec", json!({"matchingPrecedence": 77})),
        (TRUST, "data", json!({"client-ca-file": "nonsense"})),
        (ROOT_CA, "data", json!({"ca.crt": "nonsense", "more": "x"})),
    ] {
        let before = api.get(path).await;
        api.merge(path, &json!({"metadata": {"labels": {"team": "blue"}}, field: damage})).await;
        eventually(&format!("{path} is right"), async || api.get(path).await[field] == before[field]).await;
        assert_eq!(api.get(path).await["metadata"]["labels"]["team"], "blue", "{path}");
    }
    cluster.stop().await.unwrap();
}

/// Whoever wants to look after roles and schemas himself says so by their annotations.
#[tokio::test(flavor = "multi_thread")]
async fn what_asks_to_be_left_alone_is_and_nothing_is_written_then() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let (role, schema) = (format!("{RBAC}/clusterroles/system:discovery"), format!("{FLOWS}/service-accounts"));
    let annotated = |key: &str, more: Value| {
        let mut change = json!({"metadata": {"annotations": {key: "false"}}});
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        change
    };
    api.merge(&role, &annotated("rbac.authorization.kubernetes.io/autoupdate", json!({"rules": []}))).await;
    let spec = json!({"spec": {"matchingPrecedence": 77}});
    api.merge(&schema, &annotated("apf.kubernetes.io/autoupdate-spec", spec)).await;
    // Another object of the same kind shows that whoever looks has looked.
    for path in [format!("{RBAC}/clusterroles/system:basic-user"), format!("{FLOWS}/global-default")] {
        let before = api.get(&path).await;
        api.delete(&path, "Background").await;
        is_back(&api, &path, &before).await;
    }
    assert!(api.get(&role).await["rules"].as_array().is_none_or(Vec::is_empty));
    assert_eq!(api.get(&schema).await["spec"]["matchingPrecedence"], 77);
    let versions = async || {
        let mut versions = Vec::new();
        for path in [format!("{RBAC}/clusterroles"), FLOWS.to_owned()] {
            versions.extend(api.items(&path).await.iter().map(|one| one["metadata"]["resourceVersion"].clone()));
        }
        versions
    };
    eventually("two seconds without a write", async || {
        let before = versions().await;
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        versions().await == before
    })
    .await;
    cluster.stop().await.unwrap();
}
