//! Who may do what: roles, nodes, tokens, impersonation and reviews.

use apiserver::Config;
use apiserver::testing::TestServer;
use http::Method;
use serde_json::{Value, json};

use crate::client::Client;

const JSON: (&str, &str) = ("content-type", "application/json");
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

async fn as_user(server: &TestServer, user: &str, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let (status, answer) = Client::admin(server)
        .send(method, path, &[JSON, ("impersonate-user", user)], body.to_string().into_bytes())
        .await;
    (status.as_u16(), answer)
}

async fn create(server: &TestServer, path: &str, body: &Value) -> Value {
    let (status, answer) = Client::admin(server).post(path, body).await;
    assert_eq!(status, 201, "{answer}");
    answer
}

fn binding(kind: &str, role: &str, subject: &Value) -> Value {
    json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}, "subjects": [subject]})
}

#[tokio::test]
async fn a_binding_gives_its_role_in_its_namespace_until_it_is_deleted() {
    let server = TestServer::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    assert_eq!(as_user(&server, "jane", Method::GET, pods, &json!({})).await.0, 403);
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    create(&server, &bindings, &binding("ClusterRole", "view", &json!({"kind": "User", "name": "jane"}))).await;
    server.server().registry().freshen().await.unwrap();
    assert_eq!(as_user(&server, "jane", Method::GET, pods, &json!({})).await.0, 200);
    assert_eq!(as_user(&server, "jane", Method::GET, "/api/v1/namespaces/kube-system/pods", &json!({})).await.0, 403);
    assert_eq!(as_user(&server, "jane", Method::GET, "/api/v1/namespaces/default/secrets", &json!({})).await.0, 403);
    Client::admin(&server).delete(&format!("{bindings}/b")).await;
    server.server().registry().freshen().await.unwrap();
    assert_eq!(as_user(&server, "jane", Method::GET, pods, &json!({})).await.0, 403);
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let server = TestServer::start().await;
    let rules = json!([{"verbs": ["*"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"]}]);
    create(&server, &format!("{RBAC}/clusterroles"), &json!({"metadata": {"name": "binder"}, "rules": rules})).await;
    let (user, bindings) = (json!({"kind": "User", "name": "jane"}), format!("{RBAC}/namespaces/default/rolebindings"));
    // `*` on bindings is not the verb `bind` on roles.
    create(&server, &bindings, &binding("ClusterRole", "binder", &user)).await;
    server.server().registry().freshen().await.unwrap();
    let mut more = binding("ClusterRole", "cluster-admin", &user);
    more["metadata"]["name"] = "more".into();
    let (status, answer) = as_user(&server, "jane", Method::POST, &bindings, &more).await;
    assert_eq!(status, 403, "{answer}");
    assert!(
        answer["message"].as_str().unwrap().contains("is attempting to grant RBAC permissions not currently held"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_second_start_writes_nothing() {
    let server = TestServer::start().await;
    let before = server.store().revision().await.unwrap();
    let store = server.store().clone();
    server.stop().await;
    let again = TestServer::with(Config::default(), store.clone()).await;
    assert_eq!(store.revision().await.unwrap(), before);
    again.stop().await;
}

#[tokio::test]
async fn a_token_is_good_as_long_as_its_account_lives() {
    let server = TestServer::start().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    create(&server, accounts, &json!({"metadata": {"name": "a"}})).await;
    server.server().registry().freshen().await.unwrap();
    let issued = create(&server, &format!("{accounts}/a/token"), &json!({"spec": {}})).await;
    let bearer = format!("Bearer {}", issued["status"]["token"].as_str().unwrap());
    let client = Client::of(server.anonymous());
    let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (_, answer) = client.send(Method::POST, who, &[JSON, ("authorization", &bearer)], b"{}".to_vec()).await;
    assert_eq!(answer["status"]["userInfo"]["username"], "system:serviceaccount:default:a", "{answer}");
    Client::admin(&server).delete(&format!("{accounts}/a")).await;
    server.server().registry().freshen().await.unwrap();
    let (status, _) = client.send(Method::POST, who, &[JSON, ("authorization", &bearer)], b"{}".to_vec()).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn a_node_reads_the_secrets_of_its_own_pods_only() {
    let server = TestServer::start().await;
    for name in ["mine", "other"] {
        create(&server, "/api/v1/namespaces/default/secrets", &json!({"metadata": {"name": name}})).await;
    }
    server.server().registry().freshen().await.unwrap();
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "secret": {"secretName": "mine"}}]}});
    create(&server, "/api/v1/namespaces/default/pods", &pod).await;
    server.server().registry().freshen().await.unwrap();
    let node = |name: &str| Client::of(server.service_as(&format!("system:node:{name}"), &["system:nodes"]));
    let mine = "/api/v1/namespaces/default/secrets/mine";
    assert_eq!(node("n1").get(mine).await.0, 200);
    assert_eq!(node("n2").get(mine).await.0, 403);
    assert_eq!(node("n1").get("/api/v1/namespaces/default/secrets/other").await.0, 403);
    assert_eq!(node("n1").get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await.0, 200);
    assert_eq!(node("n1").get("/api/v1/pods").await.0, 403);
    let (status, answer) = node("n1").post("/api/v1/nodes", &json!({"metadata": {"name": "n2"}})).await;
    assert_eq!(status, 403, "{answer}");
}

#[tokio::test]
async fn our_components_may_do_their_work() {
    let server = TestServer::start().await;
    let review = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let manager = "system:kube-controller-manager";
    let cases = [
        (manager, "delete", "", "pods"),
        (manager, "create", "", "pods"),
        (manager, "create", "apps", "replicasets"),
        (manager, "update", "apps", "deployments/status"),
        (manager, "create", "discovery.k8s.io", "endpointslices"),
        (manager, "create", "", "serviceaccounts"),
        (manager, "update", "", "namespaces/finalize"),
        (manager, "patch", "", "nodes"),
        (manager, "update", "certificates.k8s.io", "certificatesigningrequests/approval"),
        ("system:kube-scheduler", "create", "", "pods/binding"),
        ("system:kube-scheduler", "create", "events.k8s.io", "events"),
        ("system:kube-proxy", "watch", "discovery.k8s.io", "endpointslices"),
    ];
    for (user, verb, group, resource) in cases {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let asked = json!({"verb": verb, "group": group, "resource": resource, "subresource": subresource});
        let answer = create(&server, review, &json!({"spec": {"user": user, "resourceAttributes": asked}})).await;
        assert_eq!(answer["status"]["allowed"], true, "{user} {verb} {resource}/{subresource}");
    }
}
