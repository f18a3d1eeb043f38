//! Webhooks that know tokens and that decide who may do what.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use apiserver::testing::TestServer;
use apiserver::{AuthenticationConfig, AuthorizationConfig, Config, ReviewVersion, TokenWebhookConfig, WebhookConfig};
use faults::Attack;
use http::Method;
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;
use tempfile::TempDir;

use crate::client::{Client, expect};
use crate::hook_server::HookServer;

const PODS: &str = "/api/v1/namespaces/default/pods";

/// A kubeconfig file for a webhook.
pub(crate) fn kubeconfig(directory: &TempDir, hook: &HookServer, path: &str) -> PathBuf {
    let file = directory.path().join(format!("hook-{}.kubeconfig", hook.port));
    let cluster = json!({"server": format!("https://localhost:{}{path}", hook.port), "certificate-authority-data": hook.ca_bundle});
    let content = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "h", "cluster": cluster}], "users": [{"name": "u", "user": {"token": "ours"}}],
        "contexts": [{"name": "c", "context": {"cluster": "h", "user": "u"}}]});
    std::fs::write(&file, content.to_string()).unwrap();
    file
}

async fn server(config: Config) -> TestServer {
    TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await
}

fn by_modes(modes: &[&str], webhook: WebhookConfig) -> Config {
    Config {
        authorization_modes: modes.iter().map(|&mode| mode.to_owned()).collect(),
        authorization: AuthorizationConfig { webhook, ..AuthorizationConfig::default() },
        ..Config::default()
    }
}

fn user(server: &TestServer, name: &str) -> Client {
    Client::of(server.service_as(name, &[]))
}

/// Says yes to jane, no to mallory, and nothing of others.
fn decide(spec: &Value) -> Value {
    match spec["user"].as_str().unwrap() {
        "jane" => json!({"allowed": true, "reason": "it is jane"}),
        "mallory" => json!({"allowed": false, "denied": true, "reason": "it is mallory"}),
        "both" => json!({"allowed": true, "denied": true}),
        _ => json!({"allowed": false, "reason": "who is that?"}),
    }
}

#[tokio::test]
async fn a_webhook_decides_and_its_answers_are_kept() {
    let (directory, hook) = (tempfile::tempdir().unwrap(), HookServer::reviewing(decide).await);
    let file = Some(kubeconfig(&directory, &hook, "/authorize"));
    let webhook = WebhookConfig { file, version: ReviewVersion::V1, ..WebhookConfig::default() };
    let server = server(by_modes(&["Webhook", "AlwaysAllow"], webhook)).await;
    hook.asked();
    // Each certificate is another extra of its user, so one is used for all.
    let (jane, others) = (user(&server, "jane"), user(&server, "others"));
    for _ in 0..3 {
        expect(jane.get(PODS).await, 200);
    }
    let asked = hook.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0]["apiVersion"], "authorization.k8s.io/v1");
    let wanted = json!({"namespace": "default", "verb": "list", "version": "v1", "resource": "pods"});
    assert_eq!(asked[0]["spec"]["resourceAttributes"], wanted);
    assert_eq!(asked[0]["spec"]["groups"], json!(["system:authenticated"]));
    let refused = expect(user(&server, "mallory").get(PODS).await, 403);
    assert!(refused["message"].as_str().unwrap().ends_with("it is mallory"), "{refused}");
    expect(user(&server, "both").get(PODS).await, 403);
    // Nothing is said of them: the next authorizer allows it.
    expect(others.get(PODS).await, 200);
    expect(others.get(PODS).await, 200);
    assert_eq!(hook.asked().len(), 3);
    // Another question is another answer.
    expect(user(&server, "jane").get(&format!("{PODS}/x")).await, 404);
    assert_eq!(hook.asked().len(), 1);
}

#[tokio::test]
async fn what_gives_no_answer_allows_nothing() {
    let (directory, hook) = (tempfile::tempdir().unwrap(), HookServer::reviewing(|_| json!("no status")).await);
    let file = kubeconfig(&directory, &hook, "/hang");
    let (mut tried, mut got_through) = (0, 0);
    for failure in [apiserver::FailurePolicy::NoOpinion, apiserver::FailurePolicy::Deny] {
        let timeout = Duration::from_millis(200);
        let webhook = WebhookConfig { file: Some(file.clone()), timeout, failure, ..WebhookConfig::default() };
        let server = server(by_modes(&["Webhook", "RBAC"], webhook)).await;
        for _ in 0..5 {
            tried += 1;
            let (status, answer) = user(&server, "jane").get(PODS).await;
            got_through += u64::from(status != 403);
            assert!(answer["message"].as_str().unwrap().contains("context deadline exceeded"), "{answer}");
        }
    }
    let file = kubeconfig(&directory, &hook, "/");
    let webhook = WebhookConfig { file: Some(file), ..WebhookConfig::default() };
    let server = server(by_modes(&["Webhook", "RBAC"], webhook)).await;
    tried += 1;
    got_through += u64::from(user(&server, "jane").get(PODS).await.0 != 403);
    Attack::new("authorisation: webhooks that hang or answer nonsense").tried(tried, got_through).record();
}

fn structured(hook: &Path, condition: &str, failure: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n\
         - {{type: Webhook, name: first, webhook: {{timeout: 1s, subjectAccessReviewVersion: v1, failurePolicy: {failure}, \
         matchConditionSubjectAccessReviewVersion: v1, matchConditions: [{{expression: \"{condition}\"}}], \
         connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {}}}}}}}\n- {{type: RBAC, name: rbac}}\n",
        hook.display()
    )
}

#[tokio::test]
async fn a_file_says_when_a_webhook_is_asked_and_is_followed() {
    let (directory, hook) = (tempfile::tempdir().unwrap(), HookServer::reviewing(decide).await);
    let kubeconfig = kubeconfig(&directory, &hook, "/");
    let file = directory.path().join("authz.yaml");
    let about_pods = "has(request.resourceAttributes) && request.resourceAttributes.resource == 'pods'";
    std::fs::write(&file, structured(&kubeconfig, about_pods, "Deny")).unwrap();
    let poll = Duration::from_millis(30);
    let authorization = AuthorizationConfig { file: Some(file.clone()), poll, ..AuthorizationConfig::default() };
    let server = server(Config { authorization, ..Config::default() }).await;
    hook.asked();
    let jane = user(&server, "jane");
    expect(jane.get(PODS).await, 200);
    expect(jane.get("/api/v1/namespaces/default/secrets").await, 403);
    assert_eq!(hook.asked().len(), 1, "it was asked of pods alone");
    // A file that cannot be used changes nothing; one that can counts soon.
    std::fs::write(&file, "kind: Nonsense").unwrap();
    tokio::time::timeout(Duration::from_secs(30), async {
        let new = directory.path().join("new.yaml");
        std::fs::write(&new, structured(&kubeconfig, "request.user != 'jane'", "Deny")).unwrap();
        expect(jane.get(PODS).await, 200);
        std::fs::rename(&new, &file).unwrap();
        while jane.get(PODS).await.0 != 403 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the new file counts in time");
    expect(jane.get("/api/v1/namespaces/default/secrets").await, 403);
}

#[tokio::test]
async fn a_webhook_knows_tokens() {
    let (directory, hook) = (tempfile::tempdir().unwrap(), HookServer::reviewing(know).await);
    let file = Some(kubeconfig(&directory, &hook, "/authenticate"));
    let token_webhook = TokenWebhookConfig { file, version: ReviewVersion::V1, ..TokenWebhookConfig::default() };
    let api_audiences = vec!["us".to_owned()];
    let server = server(Config { token_webhook, api_audiences, ..Config::default() }).await;
    let client = Client::of(server.anonymous());
    let who = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        client.send(Method::POST, path, &headers, b"{}".to_vec()).await
    };
    for _ in 0..3 {
        let answer = expect(who("good").await, 201);
        let info = &answer["status"]["userInfo"];
        assert_eq!((&info["username"], &info["groups"]), (&json!("jane"), &json!(["dev", "system:authenticated"])));
    }
    let asked = hook.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        (&asked[0]["apiVersion"], &asked[0]["spec"]),
        (&json!("authentication.k8s.io/v1"), &json!({"token": "good", "audiences": ["us"]}))
    );
    let mut got_through = 0;
    let bad = ["bad", "elsewhere", "nameless", "error"];
    for token in bad {
        got_through += u64::from(who(token).await.0 != 401);
    }
    Attack::new("authentication: tokens that the webhook does not vouch for")
        .tried(bad.len() as u64, got_through)
        .record();
}

fn know(spec: &Value) -> Value {
    let user = json!({"username": "jane", "groups": ["dev"]});
    match spec["token"].as_str().unwrap() {
        "good" => json!({"authenticated": true, "user": user, "audiences": ["us"]}),
        "elsewhere" => json!({"authenticated": true, "user": user, "audiences": ["them"]}),
        "nameless" => json!({"authenticated": true, "user": {}}),
        "error" => json!({"authenticated": false, "error": "out of order"}),
        _ => json!({"authenticated": false}),
    }
}

#[tokio::test]
async fn nobody_comes_without_credentials_but_where_a_file_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("authn.yaml");
    let text = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n\
                anonymous: {enabled: true, conditions: [{path: /livez}]}";
    std::fs::write(&file, text).unwrap();
    let authentication = AuthenticationConfig { file: Some(file), ..AuthenticationConfig::default() };
    let server = server(Config { authentication, ..Config::default() }).await;
    let client = Client::of(server.anonymous());
    assert_eq!(client.get("/livez").await.0, 200);
    let elsewhere = ["/readyz", "/livez/ping", "/version", "/api", PODS, "/livez/../version"];
    let mut got_through = 0;
    for path in elsewhere {
        got_through += u64::from(client.get(path).await.0 != 401);
    }
    Attack::new("authentication: anonymous requests beyond the paths of the file")
        .tried(elsewhere.len() as u64, got_through)
        .record();
}

#[tokio::test]
async fn a_file_that_allows_all_allows_nothing_to_those_who_do_not_say_who_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("authz.yaml");
    let all = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n- {type: AlwaysAllow, name: all}\n";
    std::fs::write(&file, all).unwrap();
    let authorization = AuthorizationConfig { file: Some(file), ..AuthorizationConfig::default() };
    let server = server(Config { authorization, ..Config::default() }).await;
    expect(user(&server, "jane").get(PODS).await, 200);
    let (status, answer) = Client::of(server.anonymous()).get(PODS).await;
    assert!(status == 403, "{status}: {answer}");
}
