//! What `[sig-auth]` asks of the API server alone: accounts, their tokens, reviews and requests for certificates.

use apiserver::testing::{TestServer, certificate, certificate_request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Value, json};

use super::operations::Operations;
use super::{start, start_without_fairness};
use crate::client::{Answer, Client, MERGE, STRATEGIC, expect};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1";
const JSON: (&str, &str) = ("content-type", "application/json");

/// Conformance: [sig-auth] ServiceAccounts should run through the lifecycle of a ServiceAccount [Conformance]
#[tokio::test]
async fn an_account_lives_and_dies() {
    let (_server, client) = start_without_fairness().await;
    let selector = "labelSelector=static%3Dtrue";
    let mut events = client.watch(&format!("{ACCOUNTS}?watch=1&{selector}")).await;
    let account = json!({"metadata": {"name": "robot", "labels": {"static": "true"}}});
    expect(client.post(ACCOUNTS, &account).await, 201);
    let told = events.soon().await.unwrap();
    assert_eq!((&told["type"], &told["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("robot")));
    let patch = json!({"automountServiceAccountToken": false});
    expect(client.patch(&format!("{ACCOUNTS}/robot"), STRATEGIC, &patch).await, 200);
    let told = events.soon().await.unwrap();
    assert_eq!((&told["type"], &told["object"]["automountServiceAccountToken"]), (&json!("MODIFIED"), &json!(false)));
    let everywhere = format!("/api/v1/serviceaccounts?{selector}");
    let found = expect(client.get(&everywhere).await, 200)["items"].clone();
    assert_eq!(
        (&found[0]["metadata"]["name"], &found[0]["automountServiceAccountToken"]),
        (&json!("robot"), &json!(false))
    );
    expect(client.delete(&format!("{ACCOUNTS}?{selector}")).await, 200);
    assert_eq!(events.soon().await.unwrap()["type"], "DELETED");
    assert_eq!(expect(client.get(&everywhere).await, 200)["items"], json!([]));
}

/// Conformance: [sig-auth] ServiceAccounts should update a ServiceAccount [Conformance]
#[tokio::test]
async fn an_account_is_updated() {
    let (_server, client) = start_without_fairness().await;
    let account = json!({"metadata": {"name": "robot"}, "automountServiceAccountToken": true});
    let mut account = expect(client.post(ACCOUNTS, &account).await, 201);
    account["automountServiceAccountToken"] = json!(false);
    let updated = expect(client.put(&format!("{ACCOUNTS}/robot"), &account).await, 200);
    assert_eq!(updated["automountServiceAccountToken"], json!(false));
    let stored = expect(client.get(&format!("{ACCOUNTS}/robot")).await, 200);
    assert_eq!(stored["automountServiceAccountToken"], json!(false));
}

/// A token of the account `robot`, which is made.
async fn token(client: &Client) -> String {
    expect(client.post(ACCOUNTS, &json!({"metadata": {"name": "robot"}})).await, 201);
    let asked = json!({"spec": {"expirationSeconds": 3600}});
    let issued = expect(client.post(&format!("{ACCOUNTS}/robot/token"), &asked).await, 201);
    issued["status"]["token"].as_str().unwrap().to_owned()
}

/// Conformance: [sig-auth] ServiceAccounts should create a serviceAccountToken and ensure a successful TokenReview [Conformance]
#[tokio::test]
async fn the_token_of_an_account_is_known_by_a_review() {
    let (_server, client) = start_without_fairness().await;
    let token = token(&client).await;
    assert!(!token.is_empty());
    let review = async |token: &str| {
        let review = json!({"spec": {"token": token}});
        expect(client.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await, 201)["status"].clone()
    };
    let status = review(&token).await;
    assert_eq!((&status["authenticated"], status.get("error")), (&json!(true), None), "{status}");
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:robot");
    let account = expect(client.get(&format!("{ACCOUNTS}/robot")).await, 200);
    assert_eq!(status["user"]["uid"], account["metadata"]["uid"]);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let backwards: String = signature.chars().rev().collect();
    assert_ne!(review(&format!("{signed}.{backwards}")).await["authenticated"], json!(true));
}

async fn get_with(client: &Client, token: &str, path: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    client.send(Method::GET, path, &[("authorization", &bearer)], Vec::new()).await
}

/// What a pod of the suite does: it finds the keys by its own token, and checks the token with them.
///
/// Conformance: [sig-auth] ServiceAccounts ServiceAccountIssuerDiscovery should support OIDC discovery of service account issuer [Conformance]
#[tokio::test]
async fn the_holder_of_a_token_finds_what_it_is_checked_with() {
    let (server, client) = start_without_fairness().await;
    let (token, stranger) = (token(&client).await, Client::of(server.anonymous()));
    server.server().registry().freshen().await.unwrap();
    let document = "/.well-known/openid-configuration";
    assert_eq!(stranger.get(document).await.0, 403);
    let document = expect(get_with(&stranger, &token, document).await, 200);
    let keys = document["jwks_uri"].as_str().unwrap();
    let path = &keys[keys.find("/openid/").unwrap()..];
    let keys: JwkSet = serde_json::from_value(expect(get_with(&stranger, &token, path).await, 200)).unwrap();
    let header = jsonwebtoken::decode_header(&token).unwrap();
    let algorithms = document["id_token_signing_alg_values_supported"].clone();
    assert!(algorithms.as_array().unwrap().contains(&json!(header.alg)), "{algorithms}");
    let key = DecodingKey::from_jwk(keys.find(header.kid.as_ref().unwrap()).unwrap()).unwrap();
    let mut rules = Validation::new(header.alg);
    rules.set_issuer(&[document["issuer"].as_str().unwrap()]);
    rules.set_audience(&[document["issuer"].as_str().unwrap()]);
    let claims = jsonwebtoken::decode::<Value>(&token, &key, &rules).unwrap().claims;
    assert_eq!(claims["sub"], "system:serviceaccount:default:robot");
}

/// Asks a review whether an account may list ConfigMaps of the default namespace.
async fn is_allowed(client: &Client, reviews: &str, user: &str) -> bool {
    let attributes = json!({"namespace": "default", "verb": "list", "version": "v1", "resource": "configmaps"});
    let mut review = json!({"spec": {"resourceAttributes": attributes, "user": user}});
    if reviews.contains("/namespaces/") {
        review["metadata"] = json!({"namespace": "default"});
    }
    expect(client.post(reviews, &review).await, 201)["status"]["allowed"].as_bool().unwrap()
}

/// Conformance: [sig-auth] SubjectReview should support SubjectReview API operations [Conformance]
#[tokio::test]
async fn reviews_say_what_happens_to_who_is_reviewed() {
    let (server, client) = start().await;
    expect(client.post(ACCOUNTS, &json!({"metadata": {"name": "robot"}})).await, 201);
    let user = "system:serviceaccount:default:robot";
    let lists = async || {
        let path = "/api/v1/namespaces/default/configmaps";
        client.send(Method::GET, path, &[JSON, ("impersonate-user", user)], Vec::new()).await.0 == 200
    };
    let agree = async |expected: bool| {
        assert_eq!(lists().await, expected);
        for reviews in ["subjectaccessreviews", "namespaces/default/localsubjectaccessreviews"] {
            assert_eq!(is_allowed(&client, &format!("{REVIEWS}/{reviews}"), user).await, expected, "{reviews}");
        }
    };
    agree(false).await;
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
    let subject = json!({"kind": "ServiceAccount", "name": "robot", "namespace": "default"});
    let binding = json!({"metadata": {"name": "b"}, "roleRef": role, "subjects": [subject]});
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    expect(client.post(bindings, &binding).await, 201);
    settle(&server).await;
    agree(true).await;
}

async fn settle(server: &TestServer) {
    server.server().registry().freshen().await.unwrap();
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn signing_request() -> Value {
    let request = STANDARD.encode(certificate_request("e2e-example", &[]));
    json!({"request": request, "signerName": "example.com/e2e", "usages": ["digital signature", "client auth"],
        "expirationSeconds": 86_400})
}

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "e2e", "message": "Set from an e2e test",
        "lastUpdateTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

/// Conformance: [sig-auth] Certificates API [Privileged:ClusterAdmin] should support CSR API operations [Conformance]
#[tokio::test]
async fn requests_for_certificates_support_all_operations() {
    let kind = Operations {
        group: "certificates.k8s.io",
        plural: "certificatesigningrequests",
        path: REQUESTS.to_owned(),
        names: ["one", "two", "three"],
        object: json!({"spec": signing_request()}),
        field: "/metadata/annotations/patched",
        changed: &json!("updated"),
        status: json!({"conditions": [condition("StatusUpdate")]}),
    };
    kind.work().await;
}

/// Conformance: [sig-auth] Certificates API [Privileged:ClusterAdmin] should support CSR API operations [Conformance]
#[tokio::test]
async fn a_request_is_approved_and_answered_by_subresources() {
    let (_server, client) = start_without_fairness().await;
    let object = json!({"metadata": {"name": "r"}, "spec": signing_request()});
    let created = expect(client.post(REQUESTS, &object).await, 201);
    let (approval, status) = (format!("{REQUESTS}/r/approval"), format!("{REQUESTS}/r/status"));
    let uid = |object: &Value| object["metadata"]["uid"].clone();
    assert_eq!(uid(&expect(client.get(&approval).await, 200)), uid(&created));
    let patch = json!({"metadata": {"annotations": {"patchedapproval": "true"}},
        "status": {"conditions": [condition("ApprovalPatch")]}});
    let patched = expect(client.patch(&approval, MERGE, &patch).await, 200);
    assert_eq!(patched["status"]["conditions"][0]["type"], "ApprovalPatch");
    assert_eq!(patched["metadata"]["annotations"]["patchedapproval"], "true");
    let mut approved = patched;
    approved["status"]["conditions"].as_array_mut().unwrap().push(condition("Approved"));
    let approved = expect(client.put(&approval, &approved).await, 200);
    assert_eq!(approved["status"]["conditions"].as_array().unwrap().len(), 2);

    assert_eq!(uid(&expect(client.get(&status).await, 200)), uid(&created));
    let certificate = STANDARD.encode(pem(&certificate("e2e-example", &[])));
    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"certificate": certificate}});
    let mut patched = expect(client.patch(&status, MERGE, &patch).await, 200);
    assert_eq!(patched["status"]["certificate"], json!(certificate));
    assert_eq!(patched["metadata"]["annotations"]["patchedstatus"], "true");
    patched["status"]["conditions"].as_array_mut().unwrap().push(condition("StatusUpdate"));
    let updated = expect(client.put(&status, &patched).await, 200);
    let kinds: Vec<_> = updated["status"]["conditions"].as_array().unwrap().iter().map(|one| &one["type"]).collect();
    assert_eq!(kinds, ["ApprovalPatch", "Approved", "StatusUpdate"]);
    expect(client.delete(&format!("{REQUESTS}/r")).await, 200);
    expect(client.get(&format!("{REQUESTS}/r")).await, 404);
}
