//! What the flags change.

use std::sync::Arc;
use std::time::Duration;

use apiserver::testing::TestServer;
use apiserver::{AdmissionConfig, Config, DefaultTolerationSeconds};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;

use crate::client::Client;
use crate::hook_server::{HookServer, allow};

async fn server(config: Config) -> TestServer {
    TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await
}

fn pod() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn pods_tolerate_bad_nodes_for_as_long_as_they_are_told() {
    let toleration_seconds = DefaultTolerationSeconds {
        default_not_ready_toleration_seconds: 30,
        default_unreachable_toleration_seconds: 20,
    };
    let config = Config { toleration_seconds, ..Config::default() };
    let server = server(config).await;
    let (_, pod) = Client::admin(&server).post("/api/v1/namespaces/default/pods", &pod()).await;
    let seconds = |key: &str| {
        let tolerations = pod["spec"]["tolerations"].as_array().unwrap();
        tolerations.iter().find(|toleration| toleration["key"] == key).unwrap()["tolerationSeconds"].clone()
    };
    assert_eq!(seconds("node.kubernetes.io/not-ready"), 30);
    assert_eq!(seconds("node.kubernetes.io/unreachable"), 20);
}

#[tokio::test]
async fn tokens_live_no_longer_than_the_flag_allows() {
    let config = Config {
        service_account_max_token_expiration: Some(Duration::from_secs(7200)),
        service_account_extend_token_expiration: false,
        ..Config::default()
    };
    let server = server(config).await;
    let client = Client::admin(&server);
    let request = json!({"spec": {"expirationSeconds": 100_000}});
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let (status, answer) = client.post(path, &request).await;
    assert_eq!((status, &answer["spec"]["expirationSeconds"]), (StatusCode::CREATED, &json!(7200)), "{answer}");

    // What a kubelet asks for is not prolonged.
    client.post("/api/v1/namespaces/default/pods", &pod()).await;
    server.server().registry().freshen().await.unwrap();
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "p"});
    let (_, answer) = client.post(path, &json!({"spec": {"expirationSeconds": 3607, "boundObjectRef": bound}})).await;
    let token = answer["status"]["token"].as_str().unwrap_or_else(|| panic!("{answer}"));
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3607);
    assert_eq!(claims["kubernetes.io"]["warnafter"], Value::Null);
}

#[tokio::test]
async fn versions_are_turned_on_and_off() {
    let words = ["batch/v1=false", "api/alpha=true", "api/beta=true"];
    let runtime_config = words.iter().map(|word| word.parse().unwrap()).collect();
    let server = server(Config { runtime_config, ..Config::default() }).await;
    let client = Client::admin(&server);
    assert_eq!(client.get("/apis/batch/v1").await.0, StatusCode::NOT_FOUND);
    assert_eq!(client.get("/apis/batch/v1/namespaces/default/jobs").await.0, StatusCode::NOT_FOUND);
    let (_, groups) = client.get("/apis").await;
    let versions: Vec<&str> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["versions"].as_array().unwrap())
        .map(|version| version["groupVersion"].as_str().unwrap())
        .collect();
    assert!(versions.iter().any(|version| version.contains("alpha")), "{versions:?}");
    for version in versions {
        let (status, list) = client.get(&format!("/apis/{version}")).await;
        assert_eq!(status, StatusCode::OK, "{version}");
        for resource in list["resources"].as_array().unwrap() {
            let name = resource["name"].as_str().unwrap();
            let lists = resource["verbs"].as_array().unwrap().contains(&json!("list"));
            if lists && !name.contains('/') {
                let (status, answer) = client.get(&format!("/apis/{version}/{name}")).await;
                assert_eq!(status, StatusCode::OK, "{version}/{name}: {answer}");
            }
        }
    }
}

#[tokio::test]
async fn anonymous_requests_need_the_flag_and_authorisers_are_asked_in_order() {
    let server = server(Config {
        anonymous_auth: false,
        authorization_modes: vec!["AlwaysAllow".into(), "AlwaysDeny".into()],
        ..Config::default()
    })
    .await;
    assert_eq!(Client::of(server.anonymous()).get("/healthz").await.0, StatusCode::UNAUTHORIZED);
    let jane = Client::of(server.service_as("jane", &[]));
    assert_eq!(jane.get("/api/v1/secrets").await.0, StatusCode::OK);
}

#[tokio::test]
async fn always_deny_stops_all_but_masters() {
    let server = server(Config { authorization_modes: vec!["AlwaysDeny".into()], ..Config::default() }).await;
    let jane = Client::of(server.service_as("jane", &[]));
    assert_eq!(jane.get("/api/v1/secrets").await.0, StatusCode::FORBIDDEN);
    assert_eq!(Client::admin(&server).get("/api/v1/secrets").await.0, StatusCode::OK);
}

#[tokio::test]
async fn what_cannot_be_is_refused_at_the_start() {
    let refused = |config: Config| {
        let store = Arc::new(EmbeddedStore::in_memory());
        match apiserver::ApiServer::new(config, store, daemon::detached()) {
            Ok(_) => panic!("it starts"),
            Err(err) => err.to_string(),
        }
    };
    let modes = |modes: &[&str]| Config {
        authorization_modes: modes.iter().map(|&mode| mode.to_owned()).collect(),
        ..Config::default()
    };
    assert!(refused(modes(&["Webhook"])).contains("needs --authorization-webhook-config-file"));
    assert!(refused(modes(&["RBAC", "RBAC"])).contains("more than once"));
    assert!(refused(modes(&["Rbac"])).contains("unknown mode"));
    let enable_admission_plugins = vec!["NoSuchPlugin".into()];
    let admission = AdmissionConfig { enable_admission_plugins, ..AdmissionConfig::default() };
    assert!(refused(Config { admission, ..Config::default() }).contains("--enable-admission-plugins"));
}

#[tokio::test]
async fn requests_take_no_longer_than_their_clients_wait() {
    let server = server(Config::default()).await;
    let client = Client::admin(&server);
    let hook = HookServer::start(allow).await;
    let webhook = json!({
        "name": "hang.example.com", "clientConfig": hook.client_config("/hang"), "timeoutSeconds": 30,
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
        "sideEffects": "None", "admissionReviewVersions": ["v1"],
    });
    let configuration = json!({"metadata": {"name": "hang"}, "webhooks": [webhook]});
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    assert_eq!(client.post(path, &configuration).await.0, StatusCode::CREATED);
    server.server().registry().freshen().await.unwrap();
    let slow = "/api/v1/namespaces/default/configmaps?timeout=50ms";
    let (status, answer) = client.post(slow, &json!({"metadata": {"name": "c"}})).await;
    assert_eq!((status, &answer["reason"]), (StatusCode::GATEWAY_TIMEOUT, &json!("Timeout")), "{answer}");
    assert_eq!(answer["message"], "Timeout: request did not complete within the allotted timeout");
}

#[tokio::test]
async fn pod_security_has_defaults_and_exemptions_from_the_admission_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admission.yaml");
    let text = r"
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {enforce: baseline, warn: restricted}
    exemptions: {namespaces: [kube-system], usernames: [trusted]}
";
    std::fs::write(&path, text).unwrap();
    let admission = AdmissionConfig { admission_control_config_file: Some(path), ..AdmissionConfig::default() };
    let server = server(Config { admission, ..Config::default() }).await;
    let client = Client::admin(&server);
    let mut privileged = pod();
    privileged["spec"]["hostNetwork"] = true.into();
    let pods = "/api/v1/namespaces/default/pods";
    let (status, answer) = client.post(pods, &privileged).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(answer["message"].as_str().unwrap().contains("violates PodSecurity \"baseline:latest\""), "{answer}");
    let trusted = [
        ("content-type", "application/json"),
        ("impersonate-user", "trusted"),
        ("impersonate-group", "system:masters"),
    ];
    let (status, answer) = client.send(Method::POST, pods, &trusted, privileged.to_string().into_bytes()).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let open = json!({"metadata": {"name": "open", "labels": {"pod-security.kubernetes.io/enforce": "privileged"}}});
    client.post("/api/v1/namespaces", &open).await;
    server.server().registry().freshen().await.unwrap();
    privileged["spec"]["automountServiceAccountToken"] = false.into();
    for namespace in ["open", "kube-system"] {
        let account = json!({"metadata": {"name": "default"}});
        client.post(&format!("/api/v1/namespaces/{namespace}/serviceaccounts"), &account).await;
        server.server().registry().freshen().await.unwrap();
        let (status, answer) = client.post(&format!("/api/v1/namespaces/{namespace}/pods"), &privileged).await;
        assert_eq!(status, StatusCode::CREATED, "a namespace's own labels, and exemptions, are stronger: {answer}");
    }
}
