//! What was acknowledged holds for the next request: no decision is made by what was before.

use apiserver::testing::TestServer;
use axum::body::Body;
use faults::Attack;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::client::{Client, MERGE, expect};

const ROUNDS: u64 = 200;
const JSON: (&str, &str) = ("content-type", "application/json");
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";

fn privileged() -> Value {
    let container = json!({"name": "c", "image": "i", "securityContext": {"privileged": true}});
    json!({"metadata": {"generateName": "p-"}, "spec": {"hostPID": true, "containers": [container]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_strict_as_soon_as_its_label_was_acknowledged() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let (namespace, pods) = ("/api/v1/namespaces/default", "/api/v1/namespaces/default/pods?dryRun=All");
    let mut through = 0;
    for _ in 0..ROUNDS {
        for (level, want) in [("privileged", 201), ("restricted", 403)] {
            let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
            expect(client.patch(namespace, MERGE, &label).await, 200);
            let (status, _) = client.post(pods, &privileged()).await;
            through += u64::from(status.as_u16() != want);
        }
    }
    Attack::new("door: a pod right after its namespace became strict").tried(ROUNDS, through).record();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stricter_level_warns_of_pods_that_were_acknowledged_a_moment_ago() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}).to_string();
    for others in 0..40 {
        expect(client.post("/api/v1/namespaces/default/pods", &privileged()).await, 201);
        let request = Request::patch("/api/v1/namespaces/default?dryRun=All").header("content-type", MERGE);
        let answer = client.raw(request.body(Body::from(label.clone())).unwrap()).await;
        let warnings: String = answer.headers().get_all("warning").iter().map(|it| it.to_str().unwrap()).collect();
        let all = match others {
            0 => "privileged",
            1 => "(and 1 other pod)",
            _ => &format!("(and {others} other pods)"),
        };
        assert!(warnings.contains(all), "{others}: {warnings}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_may_name_a_class_as_soon_as_that_was_acknowledged() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    for round in 0..ROUNDS {
        let name = format!("class-{round}");
        let class = json!({"metadata": {"name": name}, "value": round});
        expect(client.post("/apis/scheduling.k8s.io/v1/priorityclasses", &class).await, 201);
        let spec = json!({"priorityClassName": name, "containers": [{"name": "c", "image": "i"}]});
        let pod = json!({"metadata": {"generateName": "p-"}, "spec": spec});
        let made = expect(client.post("/api/v1/namespaces/default/pods?dryRun=All", &pod).await, 201);
        assert_eq!(made["spec"]["priority"], round);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_is_gone_as_soon_as_its_end_was_acknowledged() {
    let server = TestServer::start().await;
    let (admin, jane) = (Client::admin(&server), Client::of(server.service_as("jane", &[])));
    let binding = json!({"metadata": {"name": "b"}, "subjects": [{"kind": "User", "name": "jane"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}});
    let (mut through, mut refused) = (0, 0);
    for _ in 0..ROUNDS {
        expect(admin.post(BINDINGS, &binding).await, 201);
        refused += u64::from(jane.get("/api/v1/namespaces/default/pods").await.0 != 200);
        expect(admin.delete(&format!("{BINDINGS}/b")).await, 200);
        through += u64::from(jane.get("/api/v1/namespaces/default/pods").await.0 != 403);
    }
    assert_eq!(refused, 0, "and it is there as soon as it was given");
    Attack::new("door: a request right after its role binding was deleted").tried(ROUNDS, through).record();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_account_and_a_policy_begins_at_once() {
    let server = TestServer::start().await;
    let (admin, anonymous) = (Client::admin(&server), Client::of(server.anonymous()));
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let mut through = 0;
    for _ in 0..ROUNDS / 4 {
        expect(admin.post(accounts, &json!({"metadata": {"name": "a"}})).await, 201);
        let issued = expect(admin.post(&format!("{accounts}/a/token"), &json!({"spec": {}})).await, 201);
        let bearer = format!("Bearer {}", issued["status"]["token"].as_str().unwrap());
        let headers = [JSON, ("authorization", bearer.as_str())];
        expect(anonymous.send(Method::POST, who, &headers, b"{}".to_vec()).await, 201);
        expect(admin.delete(&format!("{accounts}/a")).await, 200);
        through += u64::from(anonymous.send(Method::POST, who, &headers, b"{}".to_vec()).await.0 != 401);
    }
    Attack::new("door: a token right after its account was deleted").tried(ROUNDS / 4, through).record();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_refuses_as_soon_as_it_was_acknowledged() {
    let server = TestServer::start().await;
    let admin = Client::admin(&server);
    let root = "/apis/admissionregistration.k8s.io/v1";
    let rules =
        json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]);
    let policy = json!({"metadata": {"name": "no"}, "spec": {"matchConstraints": {"resourceRules": rules},
        "validations": [{"expression": "false"}]}});
    let binding = json!({"metadata": {"name": "no"}, "spec": {"policyName": "no", "validationActions": ["Deny"]}});
    expect(admin.post(&format!("{root}/validatingadmissionpolicies"), &policy).await, 201);
    let bindings = format!("{root}/validatingadmissionpolicybindings");
    let map = json!({"metadata": {"generateName": "m-"}});
    let (mut through, mut refused) = (0, 0);
    for _ in 0..ROUNDS / 4 {
        expect(admin.post(&bindings, &binding).await, 201);
        through += u64::from(admin.post("/api/v1/namespaces/default/configmaps?dryRun=All", &map).await.0 != 422);
        expect(admin.delete(&format!("{bindings}/no")).await, 200);
        refused += u64::from(admin.post("/api/v1/namespaces/default/configmaps?dryRun=All", &map).await.0 != 201);
    }
    assert_eq!(refused, 0);
    Attack::new("door: a write right after a policy was bound").tried(ROUNDS / 4, through).record();
}
