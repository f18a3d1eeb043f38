//! Small things in which this server once differed from kube-apiserver v1.36.2. `tests/differences.md` lists them all, and
//! the tests of those that are held elsewhere.

use apiserver::testing::TestServer;
use http::Method;
use serde_json::{Value, json};

use crate::client::{APPLY, Client, JSON_PATCH, MERGE, STRATEGIC, expect};

const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: (&str, &str) = ("content-type", "application/json");
const YAML: (&str, &str) = ("content-type", "application/yaml");

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn message(answer: &Value) -> &str {
    answer["message"].as_str().unwrap_or_default()
}

/// The fields that an answer complains about, in its order.
fn fields(answer: &Value) -> Vec<&str> {
    let causes = answer["details"]["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
    causes.iter().filter_map(|cause| cause["field"].as_str()).collect()
}

async fn warnings(client: &Client, method: Method, path: &str, kind: (&str, &str), body: &str) -> (u16, Vec<String>) {
    let request = http::Request::builder().method(method).uri(path).header(kind.0, kind.1);
    let answer = client.raw(request.body(axum::body::Body::from(body.to_owned())).unwrap()).await;
    let texts = answer.headers().get_all("warning").iter().map(|text| text.to_str().unwrap().to_owned());
    (answer.status().as_u16(), texts.collect())
}

#[tokio::test]
async fn an_approval_answers_all_that_the_patch_changed() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let pem = apiserver::testing::certificate_request("jane", &[]);
    let spec = json!({"request": base64(pem.as_bytes()), "signerName": "example.com/x", "usages": ["client auth"]});
    expect(client.post(requests, &json!({"metadata": {"name": "r"}, "spec": spec})).await, 201);
    let condition = json!({"type": "ApprovalPatch", "status": "True", "reason": "e2e"});
    for (path, annotation) in [("approval", "patchedapproval")] {
        let patch = json!({"metadata": {"annotations": {annotation: "true"}}, "status": {"conditions": [condition]}});
        let answer = expect(client.patch(&format!("{requests}/r/{path}"), STRATEGIC, &patch).await, 200);
        assert_eq!(answer["metadata"]["annotations"][annotation], "true", "{answer}");
        let stored = expect(client.get(&format!("{requests}/r")).await, 200);
        assert_eq!(stored["metadata"]["annotations"][annotation], "true");
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test]
async fn a_pod_may_replace_the_tolerations_that_it_was_given() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let mut stored = expect(client.post(PODS, &pod("p")).await, 201);
    assert_eq!(stored["metadata"]["generation"], 1);
    let own = json!([{"key": "foo", "operator": "Equal", "value": "bar", "effect": "NoSchedule"}]);
    stored["spec"]["tolerations"] = own.clone();
    let updated = expect(client.put(&format!("{PODS}/p"), &stored).await, 200);
    assert_eq!((&updated["metadata"]["generation"], &updated["spec"]["tolerations"][0]), (&2.into(), &own[0]));
    assert_eq!(updated["spec"]["tolerations"].as_array().unwrap().len(), 3, "the defaults are there again");
    // Of those that the pod tolerates bad nodes with, another is not given.
    let all = json!({"metadata": {"name": "q"}, "spec": {"containers": [{"name": "c", "image": "i"}],
        "tolerations": [{"operator": "Exists"}]}});
    expect(client.post(PODS, &all).await, 201);
    let narrowed = json!([{"op": "replace", "path": "/spec/tolerations",
        "value": [{"operator": "Exists"}, {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]}]);
    expect(client.patch(&format!("{PODS}/q"), JSON_PATCH, &narrowed).await, 200);
}

#[tokio::test]
async fn events_are_selected_by_who_reports_them_in_both_groups() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let (core, new) = ("/api/v1/namespaces/default/events", "/apis/events.k8s.io/v1/namespaces/default/events");
    let old_style = json!({"metadata": {"name": "old"}, "reason": "R", "source": {"component": "kubelet"}, "type": "Normal",
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}});
    expect(client.post(core, &old_style).await, 201);
    let new_style = json!({"metadata": {"name": "new"}, "reason": "R", "reportingController": "example.com/c",
        "reportingInstance": "i", "action": "a", "type": "Normal", "eventTime": "2026-11-30T00:00:00.000000Z",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"}});
    expect(client.post(new, &new_style).await, 201);
    for (path, selector, want) in [
        (core, "source=kubelet", vec!["old"]),
        (core, "source=example.com/c", vec!["new"]),
        (core, "reportingComponent=example.com/c", vec!["new"]),
        (core, "involvedObject.name=p", vec!["new", "old"]),
        (new, "reportingController=example.com/c", vec!["new"]),
        (new, "regarding.name=p,reason=R", vec!["new", "old"]),
    ] {
        let list = expect(client.get(&format!("{path}?fieldSelector={selector}")).await, 200);
        let mut names: Vec<&str> =
            list["items"].as_array().unwrap().iter().map(|event| event["metadata"]["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, want, "{selector}");
    }
}

#[tokio::test]
async fn a_pod_that_is_refused_is_warned_of_as_well() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let mut valid = pod("q");
    valid["metadata"]["annotations"] = json!({"container.apparmor.security.beta.kubernetes.io/c": "runtime/default"});
    let (status, texts) = warnings(&client, Method::POST, PODS, JSON, &valid.to_string()).await;
    assert!(status == 201 && texts.iter().any(|text| text.contains("deprecated since v1.30")), "{status} {texts:?}");
    let mut nameless = valid.clone();
    nameless["spec"]["containers"][0]["image"] = "".into();
    nameless["metadata"]["name"] = "r".into();
    let (status, texts) = warnings(&client, Method::POST, PODS, JSON, &nameless.to_string()).await;
    assert!(status == 422 && texts.iter().any(|text| text.contains("deprecated since v1.30")), "{status} {texts:?}");
}

#[tokio::test]
async fn an_autoscaler_has_the_default_behaviour_where_it_says_nothing() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let scaler = |name: &str, behavior: Value| {
        json!({"metadata": {"name": name}, "spec": {"maxReplicas": 3, "behavior": behavior,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 50}}}]}})
    };
    let down = json!({"scaleDown": {"stabilizationWindowSeconds": 7}});
    let made = expect(client.post(path, &scaler("a", down)).await, 201);
    let up = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]});
    assert_eq!(made["spec"]["behavior"]["scaleUp"], up);
    for direction in ["scaleUp", "scaleDown"] {
        let none = json!({direction: {"policies": []}});
        let refused = expect(client.post(path, &scaler("b", none)).await, 422);
        let words = format!("spec.behavior.{direction}.policies: Required value: must specify at least one Policy");
        assert!(message(&refused).contains(&words), "{refused}");
    }
}

#[tokio::test]
async fn times_of_leases_have_six_digits() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    expect(client.post(path, &json!({"metadata": {"name": "l"}, "spec": {}})).await, 201);
    let renew = |time: &str| json!({"spec": {"renewTime": time}});
    expect(client.patch(&format!("{path}/l"), MERGE, &renew("2026-11-30T00:00:00.123456Z")).await, 200);
    let refused =
        expect(client.patch(&format!("{path}/l"), MERGE, &renew("2026-11-30T00:00:00.123456789Z")).await, 422);
    assert!(message(&refused).contains("cannot parse"), "{refused}");
}

#[tokio::test]
async fn yaml_that_says_something_twice_is_warned_of_in_the_words_of_the_reference() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\ndata:\n  a: b\n  a: c\n";
    let (status, texts) = warnings(&client, Method::POST, MAPS, YAML, twice).await;
    assert_eq!((status, texts), (201, vec!["299 - \"line 7: key \\\"a\\\" already set in map\"".to_owned()]));
}

#[tokio::test]
async fn what_only_the_store_refuses_a_dry_run_lets_pass() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let map = json!({"metadata": {"name": "m", "resourceVersion": "1"}});
    expect(client.post(&format!("{MAPS}?dryRun=All"), &map).await, 201);
    let refused = expect(client.post(MAPS, &map).await, 500);
    assert!(message(&refused).contains("resourceVersion should not be set on objects to be created"), "{refused}");
}

#[tokio::test]
async fn an_apply_names_what_it_applies() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let nameless = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "g-"}});
    let refused = expect(client.patch(&format!("{MAPS}/m?fieldManager=t"), APPLY, &nameless).await, 400);
    assert!(message(&refused).contains("was undeterminable"), "{refused}");
    let with_uid = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "uid": "u"}});
    let refused = expect(client.patch(&format!("{MAPS}/m?fieldManager=t"), APPLY, &with_uid).await, 409);
    let text = "uid mismatch: the provided object specified uid u, and no existing object was found";
    assert!(message(&refused).contains(text), "{refused}");
}

#[tokio::test]
async fn quantities_are_rounded_where_they_become_defaults() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let mut small = pod("p");
    small["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "0.1m"}});
    let made = expect(client.post(PODS, &small).await, 201);
    assert_eq!(made["spec"]["containers"][0]["resources"]["requests"]["cpu"], "1m");
}

#[tokio::test]
async fn nobody_marks_an_object_as_deleted_by_writing() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    expect(client.post(MAPS, &json!({"metadata": {"name": "m"}})).await, 201);
    let mark = json!({"metadata": {"deletionTimestamp": "2026-11-30T00:00:00Z"}});
    let refused = expect(client.patch(&format!("{MAPS}/m"), MERGE, &mark).await, 422);
    // Upstream validates changes of metadata twice.
    assert_eq!(fields(&refused), ["metadata.deletionTimestamp", "metadata.deletionTimestamp"]);
}

#[tokio::test]
async fn the_status_of_a_pod_is_checked_as_upstream_does() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    expect(client.post(PODS, &pod("p")).await, 201);
    let status = format!("{PODS}/p/status");
    let refused = expect(client.patch(&status, MERGE, &json!({"status": {"qosClass": "Guaranteed"}})).await, 422);
    assert!(fields(&refused) == ["status.qosClass"] && message(&refused).contains("field is immutable"), "{refused}");
    let twice = json!({"status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}]}});
    let refused = expect(client.patch(&status, MERGE, &twice).await, 422);
    assert!(message(&refused).contains("podIPs"), "{refused}");
    let resize = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}});
    let unknown = json!({"spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "nowhere"}});
    expect(client.post(PODS, &json!({"metadata": {"name": "q"}, "spec": unknown["spec"]})).await, 201);
    let (code, answer) = client.patch(&format!("{PODS}/q/resize"), STRATEGIC, &resize).await;
    assert!(code.is_client_error(), "a node that nobody knows cannot resize: {answer}");
}

#[tokio::test]
async fn all_that_is_wrong_with_a_definition_is_told() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let definition = json!({"metadata": {"name": "wrong"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"}, "versions": []}});
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let refused = expect(client.post(path, &definition).await, 422);
    assert!(fields(&refused).contains(&"metadata.name"), "{refused}");
    assert!(fields(&refused).iter().any(|field| field.starts_with("spec")), "{refused}");
}

#[tokio::test]
async fn a_patch_may_name_a_version_that_is_no_more() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let deployment =
        json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    expect(client.post(path, &deployment).await, 201);
    let patched = expect(client.patch(&format!("{path}/d"), MERGE, &json!({"apiVersion": "apps/v1beta1"})).await, 200);
    assert_eq!(patched["apiVersion"], "apps/v1");
}

#[tokio::test]
async fn a_stream_to_a_node_that_nobody_knows_is_not_found() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let mut placed = pod("p");
    placed["spec"]["nodeName"] = "nowhere".into();
    expect(client.post(PODS, &placed).await, 201);
    for what in ["exec?command=id", "attach", "portforward?ports=80", "log"] {
        let answer = expect(client.get(&format!("{PODS}/p/{what}")).await, 404);
        assert_eq!(message(&answer), "pods \"nowhere\" not found", "{what}");
    }
}

#[tokio::test]
async fn quotas_divide_pods_by_whether_they_end() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    for scope in ["Terminating", "NotTerminating"] {
        let selector = json!({"matchExpressions": [{"scopeName": scope, "operator": "Exists"}]});
        let name = scope.to_lowercase();
        let quota = json!({"metadata": {"name": name}, "spec": {"hard": {"pods": "1"}, "scopeSelector": selector}});
        expect(client.post(quotas, &quota).await, 201);
        let counted = json!({"status": {"hard": {"pods": "1"}, "used": {"pods": "0"}}});
        expect(client.patch(&format!("{quotas}/{name}/status"), MERGE, &counted).await, 200);
    }
    let used =
        async |name: &str| expect(client.get(&format!("{quotas}/{name}")).await, 200)["status"]["used"]["pods"].clone();
    let mut ending = pod("ending");
    ending["spec"]["activeDeadlineSeconds"] = 3600.into();
    expect(client.post(PODS, &ending).await, 201);
    assert_eq!((used("terminating").await, used("notterminating").await), ("1".into(), "0".into()));
    expect(client.post(PODS, &pod("lasting")).await, 201);
    assert_eq!((used("terminating").await, used("notterminating").await), ("1".into(), "1".into()));
    for more in [ending, pod("lasting")] {
        let mut more = more;
        more["metadata"]["name"] = "more".into();
        let refused = expect(client.post(PODS, &more).await, 403);
        assert!(message(&refused).contains("exceeded quota"), "{refused}");
    }
    // Both at once are nothing that a pod can be.
    let both = json!({"metadata": {"name": "both"}, "spec": {"hard": {"pods": "1"}, "scopes": ["Terminating", "NotTerminating"]}});
    expect(client.post(quotas, &both).await, 422);
}

#[tokio::test]
async fn policies_warn_of_a_scale_whether_or_not_it_is_refused() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    expect(client.post(path, &json!({"metadata": {"name": "d"}, "spec": spec})).await, 201);
    let group = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic";
    let rules = json!([{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"],
        "resources": ["deployments/scale"]}]);
    for (name, limit, action) in [("careful", 2, "Warn"), ("strict", 3, "Deny")] {
        let expression = format!("object.spec.replicas < {limit}");
        let policy = json!({"metadata": {"name": name}, "spec": {"matchConstraints": {"resourceRules": rules},
            "validations": [{"expression": expression, "message": "too many"}]}});
        expect(client.post(&format!("{group}ies"), &policy).await, 201);
        let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": [action]}});
        expect(client.post(&format!("{group}ybindings"), &binding).await, 201);
    }
    server.server().registry().freshen().await.unwrap();
    for (replicas, code) in [(1, 200), (2, 200), (3, 422)] {
        let patch = json!({"spec": {"replicas": replicas}}).to_string();
        let kind = ("content-type", MERGE);
        let (status, texts) = warnings(&client, Method::PATCH, &format!("{path}/d/scale"), kind, &patch).await;
        assert_eq!((status, texts.len()), (code, usize::from(replicas > 1)), "{replicas}: {texts:?}");
    }
}
