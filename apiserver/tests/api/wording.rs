//! Refusals in upstream's words, next to the recorded ones: parameters, subresources, reviews and whole kinds.

use apiserver::testing::TestServer;
use http::Method;
use serde_json::{Value, json};

use crate::client::{Client, expect};

const TABLE: [(&str, &str); 1] = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
const NAMESPACE: &str = "/api/v1/namespaces/default";

/// Sends requests and compares the code and the message of the answer.
async fn check(client: &Client, requests: &[(Method, &str, Value, u16, &str)]) {
    for (method, path, body, code, message) in requests {
        let (headers, bytes) = match body {
            Value::Null => (vec![], Vec::new()),
            body => (vec![("content-type", "application/json")], serde_json::to_vec(body).unwrap()),
        };
        let answer = expect(client.send(method.clone(), path, &headers, bytes).await, *code);
        assert_eq!(answer["message"], *message, "{method} {path}");
    }
}

#[tokio::test]
async fn numbers_paths_and_tables_are_refused_in_upstreams_words() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let large = "strconv.ParseInt: parsing \"99999999999999999999\": value out of range";
    let not_here = "the server does not allow this method on the requested resource";
    check(
        &client,
        &[
            (Method::GET, "/api/v1/pods?limit=99999999999999999999", Value::Null, 400, large),
            (Method::POST, "/api/v1", Value::Null, 405, not_here),
            (Method::PUT, "/apis/apps/v1", Value::Null, 405, not_here),
            (Method::DELETE, "/version", Value::Null, 405, not_here),
            (
                Method::GET,
                "/api/v1/nodes?fieldSelector=metadata.namespace%3Da",
                Value::Null,
                400,
                "field label not supported: metadata.namespace",
            ),
        ],
    )
    .await;
    let path = "/api/v1/pods?includeObject=Some";
    let refused = expect(client.send(Method::GET, path, &TABLE, Vec::new()).await, 400);
    let why = "must be 'Metadata', 'Object', 'None', or empty";
    let message = format!("Unable to convert to Table as requested: includeObject: Invalid value: \"Some\": {why}");
    assert_eq!(refused["message"], message);
    expect(client.get(path).await, 200);
}

#[tokio::test]
async fn subresources_are_refused_in_upstreams_words() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let post = |path: &str, body: Value| (Method::POST, format!("{NAMESPACE}{path}"), body);
    let (account, service, pod) = (
        json!({"metadata": {"name": "default"}}),
        json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}),
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
    );
    for (method, path, body) in [post("/serviceaccounts", account), post("/services", service), post("/pods", pod)] {
        let bytes = serde_json::to_vec(&body).unwrap();
        client.send(method, &path, &[("content-type", "application/json")], bytes).await;
    }
    let node = json!({"kind": "Node", "name": "n"});
    let token = |spec: Value| json!({"spec": spec});
    let requests = [
        ("POST", "/bindings", json!({"target": node}), 400, "Name parameter required."),
        (
            "POST",
            "/pods/p/eviction?dryRun=All",
            json!({"metadata": {"name": "p"}, "deleteOptions": {"dryRun": ["Some"]}}),
            500,
            "Non-matching dry-run options in request and content: [All] and [Some]",
        ),
        (
            "GET",
            "/pods/p/log?sinceTime=x",
            Value::Null,
            400,
            "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\"",
        ),
        ("GET", "/pods/ftp:p:/proxy", Value::Null, 400, "invalid pod request \"ftp:p:\""),
        ("GET", "/services/s:81/proxy", Value::Null, 503, "no service port 81 found for service \"s\""),
        (
            "POST",
            "/serviceaccounts/default/token",
            token(
                json!({"boundObjectRef": {"kind": "Role", "apiVersion": "rbac.authorization.k8s.io/v1", "name": "r"}}),
            ),
            400,
            "cannot bind token to object of type rbac.authorization.k8s.io/v1, Kind=Role",
        ),
        (
            "POST",
            "/serviceaccounts/default/token",
            json!({"metadata": {"name": "other"}}),
            422,
            "TokenRequest.authentication.k8s.io \"default\" is invalid: metadata.name: Invalid value: \"other\": must \
             match the service account name if specified",
        ),
    ];
    for (method, path, body, code, message) in requests {
        check(&client, &[(method.parse().unwrap(), &format!("{NAMESPACE}{path}"), body, code, message)]).await;
    }
}

#[tokio::test]
async fn a_token_is_reviewed_for_its_audiences_only() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    client.post(&format!("{NAMESPACE}/serviceaccounts"), &json!({"metadata": {"name": "default"}})).await;
    let asked = json!({"spec": {"audiences": ["a", "b"]}});
    let path = format!("{NAMESPACE}/serviceaccounts/default/token");
    let token = expect(client.post(&path, &asked).await, 201)["status"]["token"].clone();
    let review = |audiences: Value| {
        let review = json!({"spec": {"token": token, "audiences": audiences}});
        let client = &client;
        async move {
            expect(client.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await, 201)["status"].clone()
        }
    };
    let wrong = review(json!(["x", "y"])).await;
    let why = "[invalid bearer token, token audiences [\"a\" \"b\"] is invalid for the target audiences [\"x\" \"y\"]]";
    assert_eq!(wrong, json!({"user": {}, "error": why}));
    assert_eq!(review(json!(["b", "x"])).await["audiences"], json!(["b"]));
}

#[tokio::test]
async fn devices_in_use_are_for_marked_namespaces() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let claims = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
    let request = json!({"name": "r", "exactly": {"deviceClassName": "c", "adminAccess": true}});
    let claim = json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [request]}}});
    let refused = expect(client.post(claims, &claim).await, 422);
    let why = "admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace";
    let field = "spec.devices.requests[0].adminAccess";
    let message = format!("ResourceClaim.resource.k8s.io \"c\" is invalid: {field}: Forbidden: {why}");
    assert_eq!(refused["message"], message);
    let mark = json!({"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}});
    expect(client.patch("/api/v1/namespaces/default", "application/merge-patch+json", &mark).await, 200);
    expect(client.post(claims, &claim).await, 201);
}

#[tokio::test]
async fn what_was_decided_about_a_certificate_stays_when_its_status_is_written() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let catalog = api::catalog::Catalog::builtin();
    let row = catalog.resource("certificates.k8s.io", "v1", "certificatesigningrequests").unwrap();
    expect(client.post(requests, &crate::samples::sample(row, "one")).await, 201);
    let path = format!("{requests}/one");
    let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "True", "reason": reason});
    let status = |conditions: Value| json!({"status": {"conditions": conditions}});
    let merge = "application/merge-patch+json";
    let approved = status(json!([condition("Approved", "Mine")]));
    expect(client.patch(&format!("{path}/approval"), merge, &approved).await, 200);
    let other = status(json!([condition("Approved", "Other"), condition("Failed", "F")]));
    let answer = expect(client.patch(&format!("{path}/status"), merge, &other).await, 200);
    assert_eq!(answer["status"]["conditions"][0]["reason"], "Mine");
    assert_eq!(answer["status"]["conditions"][1]["type"], "Failed");
}

#[tokio::test]
async fn what_is_only_created_has_no_items() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"kind": "Pod"}});
    let not_here = "the server could not find the requested resource";
    for path in [
        format!("{NAMESPACE}/bindings/a"),
        "/apis/authorization.k8s.io/v1/subjectaccessreviews/a".to_owned(),
        "/apis/authentication.k8s.io/v1/tokenreviews/a".to_owned(),
    ] {
        for method in [Method::GET, Method::DELETE, Method::PUT] {
            let answer = expect(client.send(method, &path, &[], Vec::new()).await, 404);
            assert_eq!(answer["message"], not_here, "{path}");
        }
        let applied = client.patch(&format!("{path}?fieldManager=m"), crate::client::APPLY, &binding).await;
        assert_eq!(expect(applied, 404)["message"], not_here, "{path}");
    }
    let gone = expect(client.post("/api/v1/namespaces/gone/bindings", &binding).await, 404);
    assert_eq!(gone["message"], "namespaces \"gone\" not found");
    let wrong = "target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\"";
    let refused = expect(client.post(&format!("{NAMESPACE}/bindings"), &binding).await, 500);
    assert!(refused["message"].as_str().unwrap().contains(wrong), "{refused}");
}

#[tokio::test]
async fn a_dry_run_minds_no_version_and_a_policy_no_slash() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let maps = format!("{NAMESPACE}/configmaps");
    let map = |metadata: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
    let versioned = map(json!({"name": "a", "resourceVersion": "5"}));
    expect(client.post(&format!("{maps}?dryRun=All"), &versioned).await, 201);
    let refused = expect(client.post(&maps, &versioned).await, 500);
    assert_eq!(refused["message"], "resourceVersion should not be set on objects to be created");
    let refused = expect(client.post(&maps, &map(json!({"name": "a", "finalizers": ["foo"]}))).await, 422);
    assert!(refused["message"].as_str().unwrap().contains("neither a standard finalizer name"), "{refused}");
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "b", "finalizers": ["foo"]}, "spec": {"policyName": "p", "validationActions": ["Deny"]}});
    let bindings = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
    expect(client.post(bindings, &binding).await, 201);
}
