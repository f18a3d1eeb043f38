//! Tokens by which machines join.

use k8s_openapi::api::core::v1::Secret;

use super::*;

fn config() -> Config {
    Config { controllers: vec!["bootstrapsigner".to_owned(), "tokencleaner".to_owned()], ..Config::default() }
}

fn token(id: &str, change: Value) -> Value {
    let mut data = json!({"token-id": id, "token-secret": "0123456789abcdef", "usage-bootstrap-signing": "true"});
    data.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    json!({
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token", "stringData": data,
    })
}

fn in_seconds(seconds: i64) -> String {
    let at = k8s_openapi::jiff::Timestamp::now() + k8s_openapi::jiff::SignedDuration::from_secs(seconds);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Cluster {
    /// The names of the signatures of `cluster-info`.
    async fn signatures(&self) -> Vec<String> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), "kube-public");
        let data = maps.get("cluster-info").await.unwrap().data.unwrap_or_default();
        data.into_keys().filter(|name| name.starts_with("jws-")).collect()
    }

    async fn has_signatures(&self, ids: &[&str]) {
        let expected: Vec<String> = ids.iter().map(|id| format!("jws-kubeconfig-{id}")).collect();
        eventually(&format!("{ids:?} have signed"), async || self.signatures().await == expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn good_tokens_sign_where_the_cluster_is_and_those_that_have_expired_go() {
    let cluster = Cluster::with(config()).await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "kube-public");
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), "kube-system");
    let map = json!({"metadata": {"name": "cluster-info", "namespace": "kube-public"},
        "data": {"kubeconfig": "kind: Config\n", "jws-kubeconfig-forged": "x"}});
    cluster.create::<ConfigMap>(map).await;
    cluster.create::<Secret>(token("aaaaaa", json!({}))).await;
    cluster.create::<Secret>(token("bbbbbb", json!({"expiration": in_seconds(3)}))).await;
    cluster.create::<Secret>(token("cccccc", json!({"usage-bootstrap-signing": "false"}))).await;
    cluster.create::<Secret>(token("dddddd", json!({"expiration": in_seconds(-60)}))).await;
    cluster.create::<Secret>(token("eeeeee", json!({"expiration": "tomorrow"}))).await;
    cluster.has_signatures(&["aaaaaa", "bbbbbb"]).await;
    // Its time passes; nobody says so.
    cluster.has_signatures(&["aaaaaa"]).await;
    eventually("what has expired is gone", async || {
        let left = secrets.list(&ListParams::default()).await.unwrap().items;
        let mut names: Vec<String> = left.iter().map(ResourceExt::name_any).collect();
        names.retain(|name| name.starts_with("bootstrap-token-"));
        names == ["bootstrap-token-aaaaaa", "bootstrap-token-cccccc"]
    })
    .await;
    // What is signed changes, and its signature with it.
    let signature = async || maps.get("cluster-info").await.unwrap().data.unwrap()["jws-kubeconfig-aaaaaa"].clone();
    let before = signature().await;
    let patch = Patch::Merge(json!({"data": {"kubeconfig": "kind: Config # 2\n"}}));
    maps.patch("cluster-info", &PatchParams::default(), &patch).await.unwrap();
    eventually("it is signed anew", async || signature().await != before).await;
    secrets.delete("bootstrap-token-aaaaaa", &DeleteParams::default()).await.unwrap();
    cluster.has_signatures(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_looks_after_tokens_who_was_not_asked_by_name() {
    let cluster = Cluster::start().await;
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), "kube-system");
    cluster.create::<Secret>(token("dddddd", json!({"expiration": in_seconds(-60)}))).await;
    cluster.create::<ConfigMap>(json!({"metadata": {"name": "later"}})).await;
    // Controllers that do run have come by meanwhile.
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "default");
    eventually("others work", async || accounts.get_opt("default").await.unwrap().is_some()).await;
    assert!(secrets.get_opt("bootstrap-token-dddddd").await.unwrap().is_some());
}
