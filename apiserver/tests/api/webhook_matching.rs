//! What webhooks are told of a request, and which requests they are told of.

use serde_json::{Value, json};

use crate::client::expect;
use crate::hook_server::{HookServer, allow, deny, patched};
use crate::webhooks::Stage;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SCALERS: &str = "namespaces/default/horizontalpodautoscalers";

#[tokio::test]
async fn a_review_tells_who_does_what_to_which_object() {
    let stage = Stage::with(allow).await;
    let hook = stage.webhook(&["*"], &["configmaps"]);
    stage.configure("validating", "look", &json!([hook])).await;
    expect(stage.map("a", &json!({"k": "1"})).await, 201);
    expect(
        stage
            .client
            .patch(&format!("{MAPS}/a?dryRun=All"), "application/merge-patch+json", &json!({"data": {"k": "2"}}))
            .await,
        200,
    );
    expect(stage.client.delete(&format!("{MAPS}/a")).await, 200);
    let [create, update, delete] = stage.hook.asked().try_into().unwrap();
    let resource = json!({"group": "", "version": "v1", "resource": "configmaps"});
    for request in [&create, &update, &delete] {
        assert_eq!((&request["resource"], &request["requestResource"]), (&resource, &resource));
        assert_eq!(request["kind"]["kind"], "ConfigMap");
        assert_eq!((&request["name"], &request["namespace"]), (&json!("a"), &json!("default")));
        assert_eq!(request["userInfo"]["username"], "test-admin");
        assert!(request.get("subResource").is_none());
    }
    assert_eq!((&create["operation"], &create["dryRun"]), (&json!("CREATE"), &json!(false)));
    assert_eq!((&create["object"]["data"]["k"], &create["oldObject"]), (&json!("1"), &Value::Null));
    assert_eq!(create["options"]["kind"], "CreateOptions");
    assert_eq!((&update["operation"], &update["dryRun"]), (&json!("UPDATE"), &json!(true)));
    assert_eq!((&update["object"]["data"]["k"], &update["oldObject"]["data"]["k"]), (&json!("2"), &json!("1")));
    assert_eq!(update["options"]["kind"], "PatchOptions");
    assert_eq!((&delete["object"], &delete["oldObject"]["data"]["k"]), (&Value::Null, &json!("1")));
    assert_eq!(delete["options"]["kind"], "DeleteOptions");
}

#[tokio::test]
async fn a_webhook_sees_objects_in_the_version_of_its_rule() {
    let stage = Stage::with(|request| {
        assert_eq!(request["object"]["spec"]["targetCPUUtilizationPercentage"], 60);
        patched(&json!([{"op": "replace", "path": "/spec/targetCPUUtilizationPercentage", "value": 70}]))
    })
    .await;
    let mut hook = stage.webhook(&["CREATE"], &["horizontalpodautoscalers"]);
    hook["rules"][0]["apiGroups"] = json!(["autoscaling"]);
    stage.configure("mutating", "cpu", &json!([hook])).await;
    let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}});
    let target = json!({"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"});
    let spec = json!({"maxReplicas": 3, "scaleTargetRef": target, "metrics": [metric]});
    let scaler = json!({"metadata": {"name": "a"}, "spec": spec});
    let made = expect(stage.client.post(&format!("/apis/autoscaling/v2/{SCALERS}"), &scaler).await, 201);
    assert_eq!(made["apiVersion"], "autoscaling/v2");
    assert_eq!(made["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 70);
    let [asked] = stage.hook.asked().try_into().unwrap();
    assert_eq!((&asked["kind"]["version"], &asked["requestKind"]["version"]), (&json!("v1"), &json!("v2")));
}

#[tokio::test]
async fn a_scale_is_shown_as_a_scale_and_changed_as_one() {
    let stage = Stage::with(|_| patched(&json!([{"op": "replace", "path": "/spec/replicas", "value": 2}]))).await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    expect(stage.client.post(deployments, &json!({"metadata": {"name": "web"}, "spec": spec})).await, 201);
    let mut hook = stage.webhook(&["UPDATE"], &["deployments/scale"]);
    hook["rules"][0]["apiGroups"] = json!(["apps"]);
    stage.configure("mutating", "cap", &json!([hook])).await;
    let wish = json!({"spec": {"replicas": 9}});
    let scale = format!("{deployments}/web/scale");
    let got = expect(stage.client.patch(&scale, "application/merge-patch+json", &wish).await, 200);
    assert_eq!(got["spec"]["replicas"], 2);
    let [asked] = stage.hook.asked().try_into().unwrap();
    assert_eq!((&asked["object"]["kind"], &asked["object"]["spec"]["replicas"]), (&json!("Scale"), &json!(9)));
    assert_eq!(asked["oldObject"]["spec"]["replicas"], 1);
    assert_eq!(asked["kind"], json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}));
}

#[tokio::test]
async fn an_eviction_is_asked_about_and_its_delete_is_not() {
    let stage = Stage::with(allow).await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    expect(stage.client.post(pods, &pod).await, 201);
    stage.configure("validating", "look", &json!([stage.webhook(&["*"], &["pods", "pods/eviction"])])).await;
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    expect(stage.client.post(&format!("{pods}/p/eviction"), &eviction).await, 201);
    let [asked] = stage.hook.asked().try_into().unwrap();
    assert_eq!((&asked["operation"], &asked["kind"]["kind"]), (&json!("CREATE"), &json!("Eviction")));
}

#[tokio::test]
async fn reviews_are_asked_about_like_other_creations() {
    let stage = Stage::with(|request| {
        let is_local = request["object"]["kind"] == "LocalSubjectAccessReview";
        if is_local { deny("not here") } else { allow(request) }
    })
    .await;
    let mut hook = stage.webhook(&["CREATE"], &["*"]);
    hook["rules"][0]["apiGroups"] = json!(["authentication.k8s.io", "authorization.k8s.io"]);
    stage.configure("validating", "look", &json!([hook])).await;
    let attributes = json!({"namespace": "default", "verb": "get", "resource": "pods"});
    let (access, token) = ("/apis/authorization.k8s.io/v1", "/apis/authentication.k8s.io/v1");
    for (path, kind, spec) in [
        (
            format!("{access}/subjectaccessreviews"),
            "SubjectAccessReview",
            json!({"user": "u", "resourceAttributes": attributes}),
        ),
        (
            format!("{access}/selfsubjectaccessreviews"),
            "SelfSubjectAccessReview",
            json!({"resourceAttributes": attributes}),
        ),
        (format!("{access}/selfsubjectrulesreviews"), "SelfSubjectRulesReview", json!({"namespace": "default"})),
        (format!("{token}/tokenreviews"), "TokenReview", json!({"token": "t"})),
        (format!("{token}/selfsubjectreviews"), "SelfSubjectReview", json!({})),
    ] {
        let review = json!({"spec": spec});
        let answered = expect(stage.client.post(&path, &review).await, 201);
        assert!(answered["status"].is_object(), "{kind}");
        let [asked] = stage.hook.asked().try_into().unwrap_or_else(|asked| panic!("{kind}: {asked:?}"));
        assert_eq!((&asked["operation"], &asked["kind"]["kind"]), (&json!("CREATE"), &json!(kind)));
        assert_eq!(asked["object"]["kind"], kind);
        assert_ne!(asked["object"]["status"]["allowed"], true, "nothing is answered yet");
        assert_eq!(asked["options"]["kind"], "CreateOptions");
    }
    let local = format!("{access}/namespaces/default/localsubjectaccessreviews");
    let review = json!({"spec": {"user": "u", "resourceAttributes": attributes}});
    let refused = expect(stage.client.post(&local, &review).await, 403);
    assert!(refused["message"].as_str().unwrap().ends_with("not here"), "{refused}");
    assert_eq!(stage.hook.asked()[0]["namespace"], "default");
    // What is no review at all is refused before anybody is asked.
    expect(stage.client.post(&format!("{token}/tokenreviews"), &json!({"spec": {}})).await, 400);
    assert!(stage.hook.asked().is_empty());
}

#[tokio::test]
async fn bindings_and_tokens_are_asked_about_as_what_they_are() {
    let stage = Stage::with(allow).await;
    let default = "/api/v1/namespaces/default";
    for name in ["p", "q"] {
        let pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        expect(stage.client.post(&format!("{default}/pods"), &pod).await, 201);
    }
    let resources = ["pods/binding", "bindings", "serviceaccounts/token"];
    stage.configure("validating", "look", &json!([stage.webhook(&["*"], &resources)])).await;
    let binding = |name: &str| json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "n"}});
    let token = json!({"spec": {"audiences": ["a"], "expirationSeconds": 600}});
    for (path, body, kind, resource, subresource, name) in [
        ("pods/p/binding", binding("p"), "Binding", "pods", json!("binding"), "p"),
        ("bindings", binding("q"), "Binding", "bindings", Value::Null, "q"),
        ("serviceaccounts/default/token", token, "TokenRequest", "serviceaccounts", json!("token"), "default"),
    ] {
        expect(stage.client.post(&format!("{default}/{path}"), &body).await, 201);
        let [asked] = stage.hook.asked().try_into().unwrap_or_else(|asked| panic!("{path}: {asked:?}"));
        assert_eq!((&asked["operation"], &asked["kind"]["kind"]), (&json!("CREATE"), &json!(kind)), "{path}");
        assert_eq!((&asked["resource"]["resource"], &asked["subResource"]), (&json!(resource), &subresource), "{path}");
        assert_eq!((&asked["name"], &asked["object"]["kind"]), (&json!(name), &json!(kind)), "{path}");
    }
}

#[tokio::test]
async fn connections_are_asked_about_with_their_options() {
    let stage = Stage::with(|_| deny("no connections")).await;
    let resources = ["pods/*", "services/proxy", "nodes/proxy"];
    stage.configure("validating", "look", &json!([stage.webhook(&["CONNECT"], &resources)])).await;
    let pods = "/api/v1/namespaces/default/pods";
    let exec = json!({"stdout": true, "tty": true, "container": "c", "command": ["ls", "-l"]});
    for (path, kind, subresource, want) in [
        (
            format!("{pods}/p/exec?stdout=1&tty=true&stdin=false&container=c&command=ls&command=-l"),
            "PodExecOptions",
            "exec",
            exec,
        ),
        (format!("{pods}/p/attach?stdin=true&command=ls"), "PodAttachOptions", "attach", json!({"stdin": true})),
        (
            format!("{pods}/p/portforward?ports=80,81&ports=82&tty=1"),
            "PodPortForwardOptions",
            "portforward",
            json!({"ports": [80, 81, 82]}),
        ),
        (format!("{pods}/p/proxy/a/b?container=c"), "PodProxyOptions", "proxy", json!({"path": "/a/b"})),
        (
            "/api/v1/namespaces/default/services/s/proxy/a/".to_owned(),
            "ServiceProxyOptions",
            "proxy",
            json!({"path": "/a/"}),
        ),
        ("/api/v1/nodes/n/proxy/metrics".to_owned(), "NodeProxyOptions", "proxy", json!({"path": "/metrics"})),
    ] {
        for method in [http::Method::GET, http::Method::POST] {
            expect(stage.client.send(method, &path, &[], Vec::new()).await, 403);
            let [asked] = stage.hook.asked().try_into().unwrap_or_else(|asked| panic!("{path}: {asked:?}"));
            assert_eq!((&asked["operation"], &asked["kind"]["kind"]), (&json!("CONNECT"), &json!(kind)), "{path}");
            assert_eq!((&asked["subResource"], &asked["oldObject"]), (&json!(subresource), &Value::Null), "{path}");
            let mut want = want.clone();
            want["kind"] = kind.into();
            want["apiVersion"] = "v1".into();
            assert_eq!(asked["object"], want, "{path}");
        }
    }
}

#[tokio::test]
async fn a_dry_run_is_refused_where_a_webhook_has_side_effects() {
    let stage = Stage::with(allow).await;
    // A configuration from a time when that could be written.
    let mut hook = stage.webhook(&["CREATE"], &["configmaps"]);
    hook["sideEffects"] = "Some".into();
    let configuration = json!({
        "kind": "ValidatingWebhookConfiguration", "apiVersion": "admissionregistration.k8s.io/v1",
        "metadata": {"name": "old"}, "webhooks": [hook],
    });
    let key = "/registry/validatingwebhookconfigurations/old";
    let value = configuration.to_string().into_bytes().into();
    stage.server.store().put(key, value, store::Expected::Absent, None).await.unwrap();
    stage.settle().await;
    let map = json!({"metadata": {"name": "a"}});
    let refused = expect(stage.client.post(&format!("{MAPS}?dryRun=All"), &map).await, 400);
    assert_eq!(refused["message"], "admission webhook \"hook.example.com\" does not support dry run");
    expect(stage.client.post(MAPS, &map).await, 201);
}

#[tokio::test]
async fn a_webhook_that_asks_is_called_again_after_a_later_change() {
    let stage = Stage::with(|request| {
        let data = &request["object"]["data"];
        match (data.get("counted"), data.get("late")) {
            (None, None) => patched(&json!([{"op": "add", "path": "/data/counted", "value": "once"}])),
            (Some(_), None) => patched(&json!([{"op": "add", "path": "/data/late", "value": "yes"}])),
            _ => patched(&json!([{"op": "replace", "path": "/data/counted", "value": "twice"}])),
        }
    })
    .await;
    let hooks = [("one.hook.example.com", "IfNeeded"), ("two.hook.example.com", "Never")].map(|(name, policy)| {
        let mut hook = stage.webhook(&["CREATE"], &["configmaps"]);
        hook["name"] = name.into();
        hook["reinvocationPolicy"] = policy.into();
        hook
    });
    stage.configure("mutating", "rounds", &json!(hooks)).await;
    let made = expect(stage.map("a", &json!({"x": "y"})).await, 201);
    assert_eq!(made["data"], json!({"x": "y", "counted": "twice", "late": "yes"}));
    assert_eq!(stage.hook.asked().len(), 3);
}

#[tokio::test]
async fn only_objects_with_the_labels_are_shown() {
    let stage = Stage::with(|_| deny("no")).await;
    let mut hook = stage.webhook(&["*"], &["configmaps"]);
    hook["objectSelector"] = json!({"matchLabels": {"guard": "on"}});
    stage.configure("validating", "some", &json!([hook])).await;
    expect(stage.map("free", &json!({})).await, 201);
    let guarded = json!({"metadata": {"name": "a", "labels": {"guard": "on"}}});
    expect(stage.client.post(MAPS, &guarded).await, 403);
    let label = json!({"metadata": {"labels": {"guard": "on"}}});
    expect(stage.client.patch(&format!("{MAPS}/free"), "application/merge-patch+json", &label).await, 403);
}

#[tokio::test]
async fn warnings_reach_the_client_whatever_the_verdict() {
    let stage = Stage::with(|request| {
        let bad = request["object"]["data"].get("bad").is_some();
        json!({"allowed": !bad, "warnings": ["mind the gap"]})
    })
    .await;
    stage.configure("validating", "warn", &json!([stage.webhook(&["CREATE"], &["configmaps"])])).await;
    for (name, data, status) in [("a", json!({}), 201), ("b", json!({"bad": "1"}), 400)] {
        let body = json!({"metadata": {"name": name}, "data": data}).to_string();
        let request = http::Request::post(MAPS).header("content-type", "application/json").body(body.into()).unwrap();
        let answer = stage.client.raw(request).await;
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers()["warning"], "299 - \"mind the gap\"");
    }
}

#[tokio::test]
async fn answers_that_make_no_sense_fail_by_the_policy() {
    let stage = Stage::with(|request| match request["name"].as_str() {
        Some("uid") => json!({"uid": "another", "allowed": true}),
        Some("patch") => patched(&json!([{"op": "remove", "path": "/nothing/here"}])),
        _ => patched(&json!([{"op": "add", "path": "/data", "value": 1}])),
    })
    .await;
    stage.configure("mutating", "odd", &json!([stage.webhook(&["CREATE"], &["configmaps"])])).await;
    let refused = expect(stage.map("uid", &json!({})).await, 500)["message"].to_string();
    assert!(refused.contains("received invalid webhook response: expected response.uid="), "{refused}");
    for name in ["patch", "type"] {
        let refused = expect(stage.map(name, &json!({})).await, 500)["message"].to_string();
        assert!(refused.starts_with("\"Internal error occurred: "), "{refused}");
    }
}

#[tokio::test]
async fn a_webhook_may_be_a_service() {
    let stage = Stage::with(|_| deny("from a Service")).await;
    let mut hook = stage.webhook(&["CREATE"], &["configmaps"]);
    let service = json!({"namespace": "default", "name": "hook", "port": stage.hook.port, "path": "/check"});
    hook["clientConfig"] = json!({"service": service, "caBundle": stage.hook.ca_bundle});
    stage.configure("validating", "service", &json!([hook])).await;
    let refused = expect(stage.map("a", &json!({})).await, 500)["message"].to_string();
    let url = format!("https://hook.default.svc:{}/check?timeout=10s", stage.hook.port);
    assert!(refused.contains(&url) && refused.contains("service \\\"hook\\\" not found"), "{refused}");
    let service = json!({"metadata": {"name": "hook"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    expect(stage.client.post("/api/v1/namespaces/default/services", &service).await, 201);
    stage.settle().await;
    expect(stage.map("a", &json!({})).await, 403);
}

#[tokio::test]
async fn a_webhook_may_change_nothing_that_is_deleted() {
    let stage = Stage::with(|_| patched(&json!([{"op": "add", "path": "/data", "value": {}}]))).await;
    expect(stage.map("a", &json!({})).await, 201);
    stage.configure("mutating", "late", &json!([stage.webhook(&["DELETE"], &["configmaps"])])).await;
    let refused = expect(stage.client.delete(&format!("{MAPS}/a")).await, 500)["message"].to_string();
    assert!(refused.contains("attempted to modify the object, which is not supported for this operation"), "{refused}");
}

#[tokio::test]
async fn a_failing_webhook_in_front_keeps_nobody_from_being_asked() {
    let stage = Stage::with(|_| deny("asked")).await;
    let mut broken = stage.webhook(&["CREATE"], &["configmaps"]);
    broken["name"] = "broken.hook.example.com".into();
    broken["failurePolicy"] = "Ignore".into();
    broken["clientConfig"]["caBundle"] = HookServer::start(allow).await.ca_bundle.into();
    let hooks = json!([broken, stage.webhook(&["CREATE"], &["configmaps"])]);
    stage.configure("validating", "both", &hooks).await;
    expect(stage.map("a", &json!({})).await, 403);
}
