//! Attacks on who somebody is and what they may do.

use std::sync::Arc;

use apiserver::testing::TestServer;
use apiserver::{AdmissionConfig, Config};
use axum::body::Body;
use faults::Attack;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;

use crate::client::{Client, MERGE, expect};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// Lets a user do something everywhere.
async fn grant(admin: &Client, user: &str, verbs: &[&str], group: &str, resources: &[&str]) {
    let rules = json!([{"verbs": verbs, "apiGroups": [group], "resources": resources}]);
    let name = format!("{user}-{}", resources.join("-").replace('/', "-"));
    expect(
        admin.post(&format!("{RBAC}/clusterroles"), &json!({"metadata": {"name": name}, "rules": rules})).await,
        201,
    );
    let binding = json!({"metadata": {"name": name}, "subjects": [{"kind": "User", "name": user}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}});
    expect(admin.post(&format!("{RBAC}/clusterrolebindings"), &binding).await, 201);
}

#[tokio::test]
async fn a_label_makes_no_role_part_of_another_without_the_right_to_escalate() {
    let server = TestServer::start().await;
    let (admin, jane) = (Client::admin(&server), Client::of(server.service_as("jane", &[])));
    let all = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];
    grant(&admin, "jane", &["*"], "rbac.authorization.k8s.io", &all).await;
    // Not the verbs that `*` holds, too.
    let verbs = json!([{"op": "replace", "path": "/rules/0/verbs", "value": ["get", "create", "update", "patch"]}]);
    let role = format!("{RBAC}/clusterroles/jane-{}", all.join("-"));
    expect(admin.patch(&role, crate::client::JSON_PATCH, &verbs).await, 200);
    let label = json!({"metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}});
    let annotation = json!({"metadata": {"annotations": {"a": "b"}}});
    let (mut tried, mut through) = (0, 0);
    for path in ["clusterroles/cluster-admin", "clusterroles/admin", "clusterrolebindings/cluster-admin"] {
        let path = format!("{RBAC}/{path}");
        for change in [&label, &annotation] {
            let mut whole = expect(admin.get(&path).await, 200);
            for (field, value) in change["metadata"].as_object().unwrap() {
                whole["metadata"][field] = value.clone();
            }
            for status in [jane.patch(&path, MERGE, change).await.0, jane.put(&path, &whole).await.0] {
                tried += 1;
                through += u64::from(status != StatusCode::FORBIDDEN);
            }
        }
        let held = json!({"metadata": {"finalizers": ["example.com/hold"]}});
        expect(jane.patch(&path, MERGE, &held).await, 200);
    }
    let aggregated = json!({"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    expect(jane.patch(&role, MERGE, &aggregated).await, 403);
    Attack::new("door: labels on roles and bindings without escalate").tried(tried + 1, through).record();
}

#[tokio::test]
async fn nobody_runs_as_themselves_who_wants_to_be_somebody_else() {
    let server = TestServer::start().await;
    let admin = Client::admin(&server);
    let who = async |headers: &[(&str, &[u8])]| {
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let mut request = Request::post(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = admin.raw(request.body(Body::from("{}")).unwrap()).await;
        let status = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let tree: Value = serde_json::from_slice(&body).unwrap();
        (status.as_u16(), tree["status"]["userInfo"]["username"].as_str().unwrap_or("").to_owned())
    };
    assert_eq!(who(&[("impersonate-user", "josé".as_bytes())]).await, (201, "josé".to_owned()));
    assert_eq!(who(&[]).await.1, "test-admin");
    let (user, latin): ((&str, &[u8]), &[u8]) = (("impersonate-user", b"jane"), b"jos\xe9");
    let attempts: [&[(&str, &[u8])]; 9] = [
        &[("impersonate-user", latin)],
        &[("impersonate-user", b"")],
        &[("impersonate-user", b"\xff")],
        &[user, ("impersonate-group", latin)],
        &[user, ("impersonate-uid", latin)],
        &[user, ("impersonate-extra-scopes", latin)],
        &[user, ("impersonate-extra-%e9", b"v")],
        &[("impersonate-group", latin)],
        &[("authorization", b"Bearer \xff")],
    ];
    let mut through = 0;
    for headers in attempts {
        let (status, name) = who(headers).await;
        through += u64::from(status != 400);
        assert_eq!(name, "", "{headers:?}");
    }
    Attack::new("door: headers that say who somebody is and are no text").tried(9, through).record();
}

#[tokio::test]
async fn a_websocket_into_a_pod_needs_the_right_to_create_one() {
    let server = TestServer::start().await;
    let admin = Client::admin(&server);
    let streams = ["pods/exec", "pods/attach", "pods/portforward"];
    grant(&admin, "reader", &["get"], "", &streams).await;
    grant(&admin, "writer", &["get", "create"], "", &streams).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    expect(admin.post(PODS, &pod).await, 201);
    let mut through = 0;
    for what in ["exec?command=id", "attach?stdout=1", "portforward?ports=80"] {
        let open = async |user: &str| {
            let headers = [("upgrade", "websocket"), ("connection", "upgrade")];
            let client = Client::of(server.service_as(user, &[]));
            client.send(Method::GET, &format!("{PODS}/p/{what}"), &headers, Vec::new()).await
        };
        let (status, answer) = open("reader").await;
        through += u64::from(status != StatusCode::FORBIDDEN);
        assert!(answer["message"].as_str().unwrap().starts_with("pods \"p\" is forbidden"), "{answer}");
        assert_eq!(open("writer").await.0, StatusCode::BAD_REQUEST, "the pod has no host yet");
    }
    Attack::new("door: WebSockets into pods by who may only get").tried(3, through).record();
}

#[tokio::test]
async fn a_proxy_leads_nobody_to_the_machine_itself() {
    let server = TestServer::start().await;
    let admin = Client::admin(&server);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    expect(admin.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await, 201);
    let addresses = json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"},
        {"type": "Hostname", "address": "localhost"}]}});
    expect(admin.patch("/api/v1/nodes/n/status", MERGE, &addresses).await, 200);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    expect(admin.post(PODS, &pod).await, 201);
    let (mut tried, mut through) = (0, 0);
    for address in
        ["127.0.0.1", "127.1.2.3", "169.254.169.254", "0.0.0.0", "224.0.0.1", "::1", "fe80::1", "::", "192.0.2.7"]
    {
        let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}});
        if admin.patch(&format!("{PODS}/p/status"), MERGE, &status).await.0 != 200 {
            continue;
        }
        tried += 1;
        let (status, answer) = admin.get(&format!("{PODS}/p:{port}/proxy/")).await;
        through += u64::from(status != StatusCode::BAD_REQUEST || answer["message"] != "address not allowed");
    }
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    expect(admin.post("/api/v1/namespaces/default/services", &service).await, 201);
    let endpoint =
        json!({"addresses": ["10.9.8.7"], "targetRef": {"kind": "Pod", "namespace": "default", "name": "p"}});
    let slice = json!({"metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}}, "addressType": "IPv4",
        "ports": [{"name": "", "port": port}], "endpoints": [endpoint]});
    expect(admin.post("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice).await, 201);
    tried += 1;
    through += u64::from(admin.get("/api/v1/namespaces/default/services/s:80/proxy/").await.0 != 503);
    // The kubelet's own port is the only one of a node that is dialled without a look at the address.
    let localhost = json!({"status": {"addresses": [{"type": "Hostname", "address": "localhost"}]}});
    expect(admin.patch("/api/v1/nodes/n/status", MERGE, &localhost).await, 200);
    tried += 1;
    let (status, answer) = admin.get(&format!("/api/v1/nodes/n:{port}/proxy/")).await;
    assert!(status == StatusCode::BAD_REQUEST && answer["message"] == "address not allowed", "{answer}");
    let dialled = tokio::time::timeout(std::time::Duration::from_millis(50), listener.accept()).await.is_ok();
    assert!(!dialled, "nobody has connected");
    Attack::new("door: proxies to the machine's own addresses").tried(tried, through).record();
}

#[tokio::test]
async fn where_all_is_allowed_nobody_is_anonymous() {
    let config = Config { authorization_modes: vec!["RBAC".into(), "AlwaysAllow".into()], ..Config::default() };
    let server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
    for path in ["/api/v1/secrets", "/readyz", "/version"] {
        assert_eq!(Client::of(server.anonymous()).get(path).await.0, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(Client::of(server.service_as("jane", &[])).get("/api/v1/secrets").await.0, StatusCode::OK);
    Attack::new("door: anonymous requests with AlwaysAllow").tried(3, 0).record();
}

#[tokio::test]
async fn without_the_flag_no_container_is_privileged() {
    let admission = AdmissionConfig { allow_privileged: false, ..AdmissionConfig::default() };
    let config = Config { admission, ..Config::default() };
    let server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
    let admin = Client::admin(&server);
    let spec = json!({"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": true}}]});
    let refused = expect(admin.post(PODS, &json!({"metadata": {"name": "p"}, "spec": spec})).await, 422);
    let why = "spec.containers[0].securityContext.privileged: Forbidden: disallowed by cluster policy";
    assert!(refused["message"].as_str().unwrap().contains(why), "{refused}");
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": spec});
    let deployment =
        json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    expect(admin.post("/apis/apps/v1/namespaces/default/deployments", &deployment).await, 422);
    expect(
        admin
            .post(PODS, &json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}))
            .await,
        201,
    );
    let ephemeral = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "i", "securityContext": {"privileged": true}}]}});
    expect(admin.patch(&format!("{PODS}/p/ephemeralcontainers"), crate::client::STRATEGIC, &ephemeral).await, 422);
}

#[tokio::test]
async fn a_node_asks_for_tokens_for_those_that_its_pods_talk_to() {
    let server = TestServer::start().await;
    let admin = Client::admin(&server);
    let node = Client::of(server.service_as("system:node:n", &["system:nodes"]));
    expect(admin.post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "a"}})).await, 201);
    let driver = json!({"metadata": {"name": "csi.example.com"}, "spec": {"tokenRequests": [{"audience": "driver"}]}});
    expect(admin.post("/apis/storage.k8s.io/v1/csidrivers", &driver).await, 201);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "serviceAccountName": "a",
        "containers": [{"name": "c", "image": "i"}], "volumes": [
            {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "vault"}}]}},
            {"name": "w", "csi": {"driver": "csi.example.com"}}]}});
    let pod = expect(admin.post(PODS, &pod).await, 201);
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": pod["metadata"]["uid"]});
    let ask = async |audiences: &[&str]| {
        let request = json!({"spec": {"audiences": audiences, "boundObjectRef": bound}});
        node.post("/api/v1/namespaces/default/serviceaccounts/a/token", &request).await
    };
    for audiences in [&[][..], &["vault"], &["driver"]] {
        expect(ask(audiences).await, 201);
    }
    let mut through = 0;
    for audiences in [&["bank"][..], &["vault", "bank"], &["https://kubernetes.default.svc"], &["vault", "vault"]] {
        through += u64::from(ask(audiences).await.0 != StatusCode::FORBIDDEN);
    }
    let answer = expect(ask(&["bank"]).await, 403);
    let why = "serviceaccounts \"a\" is forbidden: audience \"bank\" not found in pod spec volume, system:node:n is not \
               authorized to request tokens for this audience";
    assert_eq!(answer["message"], why);
    let rules =
        json!([{"verbs": ["request-serviceaccounts-token-audience"], "apiGroups": [""], "resources": ["bank"]}]);
    expect(
        admin.post(&format!("{RBAC}/clusterroles"), &json!({"metadata": {"name": "bank"}, "rules": rules})).await,
        201,
    );
    let binding = json!({"metadata": {"name": "bank"}, "subjects": [{"kind": "Group", "name": "system:nodes"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "bank"}});
    expect(admin.post(&format!("{RBAC}/clusterrolebindings"), &binding).await, 201);
    expect(ask(&["bank"]).await, 201);
    Attack::new("door: tokens of a node for audiences that no pod has").tried(4, through).record();
}

#[tokio::test]
async fn a_selector_is_judged_as_it_selects() {
    let server = TestServer::start().await;
    let admin = Client::admin(&server);
    let node = Client::of(server.service_as("system:node:n", &["system:nodes"]));
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "other", "containers": [{"name": "c", "image": "i"}]}});
    expect(admin.post(PODS, &pod).await, 201);
    let rules = json!([{"verbs": ["list", "watch"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"]}]);
    expect(
        admin.post(&format!("{RBAC}/clusterroles"), &json!({"metadata": {"name": "mine"}, "rules": rules})).await,
        201,
    );
    let binding = json!({"metadata": {"name": "mine"}, "subjects": [{"kind": "User", "name": "jane"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "mine"}});
    expect(admin.post(&format!("{RBAC}/clusterrolebindings"), &binding).await, 201);
    expect(admin.post("/api/v1/namespaces/default/configmaps", &json!({"metadata": {"name": "theirs"}})).await, 201);
    let jane = Client::of(server.service_as("jane", &[]));
    let maps = "/api/v1/namespaces/default/configmaps?fieldSelector=";
    let mut through = 0;
    let attempts = [
        (&node, "/api/v1/pods?fieldSelector=metadata.name!%3Da%5C,spec.nodeName%3Dn".to_owned()),
        (&node, "/api/v1/pods?fieldSelector=spec.nodeName!%3Dn".to_owned()),
        (&jane, format!("{maps}metadata.name!%3Da%5C,metadata.name%3Dmine")),
        (&jane, format!("{maps}metadata.name!%3Dmine")),
        (&jane, format!("{maps}metadata.name%3Dmine&fieldSelector=metadata.name%3Dtheirs")),
    ];
    for (client, line) in &attempts {
        let (status, answer) = client.get(line).await;
        let shown = answer["items"].as_array().is_some_and(|items| !items.is_empty());
        through += u64::from(status == StatusCode::OK && shown);
    }
    assert_eq!(node.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn").await.0, StatusCode::OK);
    assert_eq!(jane.get(&format!("{maps}metadata.name%3Dmine")).await.0, StatusCode::OK);
    Attack::new("door: selectors that read otherwise than they select").tried(attempts.len() as u64, through).record();
}

#[tokio::test]
async fn a_write_that_creates_needs_the_right_to_create() {
    let server = TestServer::start().await;
    let admin = Client::admin(&server);
    grant(&admin, "jane", &["get", "update", "patch"], "coordination.k8s.io", &["leases"]).await;
    grant(&admin, "jane", &["get", "update", "patch"], "", &["configmaps"]).await;
    let jane = Client::of(server.service_as("jane", &[]));
    let lease = "/apis/coordination.k8s.io/v1/namespaces/default/leases/x";
    let body = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "x"}});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}});
    let apply = async |path: &str, body: &Value| {
        jane.patch(&format!("{path}?fieldManager=jane"), crate::client::APPLY, body).await.0
    };
    let attempts = [
        jane.put(lease, &body).await.0,
        apply(lease, &body).await,
        apply("/api/v1/namespaces/default/configmaps/x", &map).await,
    ];
    let through = attempts.iter().filter(|status| **status != StatusCode::FORBIDDEN).count();
    let made = expect(admin.put(lease, &body).await, 201);
    assert_eq!(jane.put(lease, &made).await.0, StatusCode::OK, "what is there may be updated");
    Attack::new("door: updates and patches that create").tried(attempts.len() as u64, through as u64).record();
}
