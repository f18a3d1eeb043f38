//! Custom objects in one version: schema, defaults, pruning, subresources, apply, selectors, watches.

use apiserver::testing::TestServer;
use futures::{Stream, StreamExt as _};
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};

use super::{WIDGETS, define, definition, fields, redefine, version, widget, widgets};
use crate::client::{APPLY, Client, MERGE, STRATEGIC, expect};

async fn start(definition: &Value) -> (TestServer, Client) {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    define(&client, definition).await;
    (server, client)
}

/// Conformance: [sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] custom resource
/// defaulting for requests and from storage works [Conformance]
#[tokio::test]
async fn defaults_are_filled_in_for_requests_and_for_what_is_stored() {
    let string = json!({"type": "string"});
    let with = |a: Option<&str>, b: Option<&str>| {
        let field = |default: Option<&str>| default.map_or(string.clone(), |d| json!({"type": "string", "default": d}));
        json!([version("v1", &fields(&json!({"a": field(a), "b": field(b)})))])
    };
    let (_server, client) = start(&definition(&with(None, None))).await;
    expect(client.post(WIDGETS, &widget("one", &json!({}))).await, 201);
    let one = format!("{WIDGETS}/one");
    redefine(&client, &with(Some("A"), None), &one, |object| object["spec"]["a"] == "A").await;
    let two = expect(client.post(WIDGETS, &widget("two", &json!({}))).await, 201);
    assert_eq!(two["spec"], json!({"a": "A"}));
    let read = redefine(&client, &with(None, Some("B")), &format!("{WIDGETS}/two"), |it| it["spec"]["b"] == "B").await;
    assert_eq!(read["spec"], json!({"a": "A", "b": "B"}), "what was stored stays");
    assert_eq!(expect(client.get(&one).await, 200)["spec"], json!({"b": "B"}));
}

#[tokio::test]
async fn a_stricter_schema_lets_old_objects_be() {
    let with = |limit: u32| {
        json!([version(
            "v1",
            &fields(&json!({"size": {"type": "integer", "maximum": limit}, "on": {"type": "boolean"}}))
        )])
    };
    let (_server, client) = start(&definition(&with(10))).await;
    expect(client.post(WIDGETS, &widget("a", &json!({"size": 7}))).await, 201);
    let patch = json!({"spec": {"versions": with(5)}});
    expect(client.patch(super::WIDGETS_DEFINITION, MERGE, &patch).await, 200);
    let large = widget("b", &json!({"size": 7}));
    while client.post(WIDGETS, &large).await.0 != 422 {
        expect(client.delete(&format!("{WIDGETS}/b")).await, 200);
    }
    let a = format!("{WIDGETS}/a");
    expect(client.patch(&a, MERGE, &json!({"spec": {"on": true}})).await, 200);
    expect(client.patch(&a, MERGE, &json!({"spec": {"size": 8}})).await, 422);
}

#[tokio::test]
async fn embedded_objects_are_checked_as_objects() {
    let template =
        json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
    let (_server, client) = start(&definition(&json!([version("v1", &fields(&json!({"template": template})))]))).await;
    let embedded = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"any": 1}});
    let made = expect(client.post(WIDGETS, &widget("a", &json!({"template": embedded}))).await, 201);
    assert_eq!(made["spec"]["template"], embedded);
    let refused =
        expect(client.post(WIDGETS, &widget("b", &json!({"template": {"metadata": {"name": "x"}}}))).await, 422);
    let fields: Vec<&Value> =
        refused["details"]["causes"].as_array().unwrap().iter().map(|cause| &cause["field"]).collect();
    assert_eq!(fields, ["spec.template.apiVersion", "spec.template.kind"]);
}

#[tokio::test]
async fn protobuf_and_strategic_patches_are_not_for_custom_objects() {
    let (_server, client) = start(&widgets()).await;
    expect(client.post(WIDGETS, &widget("a", &json!({}))).await, 201);
    let protobuf = "application/vnd.kubernetes.protobuf";
    assert_eq!(client.get_as(&format!("{WIDGETS}/a"), protobuf).await.0, 406);
    assert_eq!(client.get_as(&format!("{WIDGETS}/a"), &format!("{protobuf}, application/json")).await.0, 200);
    let posted = client.send(http::Method::POST, WIDGETS, &[("content-type", protobuf)], b"k8s\0".to_vec()).await;
    assert_eq!(posted.0, 415);
    expect(client.patch(&format!("{WIDGETS}/a"), STRATEGIC, &json!({"spec": {}})).await, 415);
}

#[tokio::test]
async fn apply_shares_lists_as_the_schema_says() {
    let port = json!({"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}, "name": {"type": "string"}}});
    let ports = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"], "items": port});
    let (_server, client) = start(&definition(&json!([version("v1", &fields(&json!({"ports": ports})))]))).await;
    let path = format!("{WIDGETS}/a");
    for (manager, port) in [("one", 80), ("two", 443)] {
        let applied = widget("a", &json!({"ports": [{"port": port}]}));
        let answer = client.patch(&format!("{path}?fieldManager={manager}"), APPLY, &applied).await;
        assert!(answer.0.is_success(), "{}", answer.1);
    }
    assert_eq!(expect(client.get(&path).await, 200)["spec"]["ports"], json!([{"port": 80}, {"port": 443}]));
    let none = widget("a", &json!({"ports": []}));
    let left = expect(client.patch(&format!("{path}?fieldManager=one"), APPLY, &none).await, 200);
    assert_eq!(left["spec"]["ports"], json!([{"port": 443}]));
}

#[tokio::test]
async fn objects_go_with_their_namespace_and_count_in_quotas() {
    let (_server, client) = start(&widgets()).await;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
        "spec": {"hard": {"count/widgets.example.com": "1"}}});
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    expect(client.post(quotas, &quota).await, 201);
    let status =
        json!({"status": {"hard": {"count/widgets.example.com": "1"}, "used": {"count/widgets.example.com": "0"}}});
    expect(client.patch(&format!("{quotas}/q/status"), MERGE, &status).await, 200);
    super::until(&client, &format!("{quotas}/q"), |quota| quota["status"]["used"].is_object()).await;
    expect(client.post(WIDGETS, &widget("a", &json!({}))).await, 201);
    let refused = expect(client.post(WIDGETS, &widget("b", &json!({}))).await, 403);
    assert!(refused["message"].as_str().unwrap().contains("count/widgets.example.com=1"), "{refused}");
}

/// What a watcher tells of an object the next time that it is there.
async fn applied(
    events: &mut (impl Stream<Item = watcher::Result<watcher::Event<DynamicObject>>> + Unpin),
    name: &str,
) -> Value {
    loop {
        // The watcher itself goes on after an error.
        if let Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) = events.next().await.unwrap()
            && object.metadata.name.as_deref() == Some(name)
        {
            return object.data;
        }
    }
}

/// An informer of an unmodified client sees what happens to custom objects, also while their schema changes.
#[tokio::test]
async fn an_informer_follows_custom_objects() {
    let (server, client) = start(&widgets()).await;
    let resource = ApiResource {
        group: "example.com".into(),
        version: "v1".into(),
        api_version: "example.com/v1".into(),
        kind: "Widget".into(),
        plural: "widgets".into(),
    };
    let kube = kube::Client::new(server.service(), "default");
    let api: kube::Api<DynamicObject> = kube::Api::all_with(kube, &resource);
    let mut events = Box::pin(watcher(api, watcher::Config::default()).default_backoff());
    expect(client.post(WIDGETS, &widget("first", &json!({"size": 1}))).await, 201);
    let soon = std::time::Duration::from_secs(30);
    assert_eq!(tokio::time::timeout(soon, applied(&mut events, "first")).await.unwrap()["spec"]["size"], 1);
    let more = json!([version(
        "v1",
        &fields(&json!({"size": {"type": "integer"}, "more": {"type": "string", "default": "m"}}))
    )]);
    redefine(&client, &more, &format!("{WIDGETS}/first"), |object| object["spec"]["more"] == "m").await;
    expect(client.post(WIDGETS, &widget("second", &json!({}))).await, 201);
    assert_eq!(tokio::time::timeout(soon, applied(&mut events, "second")).await.unwrap()["spec"]["more"], "m");
}

#[tokio::test]
async fn rules_of_the_author_hold_for_new_objects_and_changes() {
    let rule = |rule: &str, message: &str| json!({"rule": rule, "message": message});
    let mut spec = fields(&json!({"min": {"type": "integer"}, "max": {"type": "integer"}, "once": {"type": "string",
        "x-kubernetes-validations": [rule("self == oldSelf", "once is forever")]}}));
    spec["x-kubernetes-validations"] = json!([rule("self.min <= self.max", "min is above max")]);
    let (_server, client) = start(&definition(&json!([version("v1", &spec)]))).await;
    expect(client.post(WIDGETS, &widget("a", &json!({"min": 1, "max": 2, "once": "x"}))).await, 201);
    let refused = expect(client.post(WIDGETS, &widget("b", &json!({"min": 3, "max": 2}))).await, 422);
    assert!(refused["message"].as_str().unwrap().ends_with("min is above max"), "{refused}");
    let changed = client.patch(&format!("{WIDGETS}/a"), MERGE, &json!({"spec": {"once": "y"}})).await;
    assert!(expect(changed, 422)["message"].as_str().unwrap().ends_with("once is forever"));
    let misshapen = expect(client.post(WIDGETS, &widget("c", &json!({"min": "1", "max": 2}))).await, 422);
    assert!(misshapen["message"].as_str().unwrap().contains("some validation rules were not checked"), "{misshapen}");
    let mut wrong = spec.clone();
    wrong["x-kubernetes-validations"] = json!([rule("self.none == 1", "")]);
    let patch = json!({"spec": {"versions": [version("v1", &wrong)]}});
    let refused = expect(client.patch(super::WIDGETS_DEFINITION, MERGE, &patch).await, 422);
    assert!(refused["message"].as_str().unwrap().contains("undefined field 'none'"), "{refused}");
}

#[tokio::test]
async fn a_custom_kind_with_the_name_of_a_built_in_one_is_custom() {
    let mut versions = json!([version("v1", &fields(&json!({"size": {"type": "integer"}})))]);
    versions[0]["subresources"] = json!({"status": {}});
    let mut deployments = definition(&versions);
    deployments["metadata"]["name"] = "deployments.example.com".into();
    deployments["spec"]["names"] = json!({"plural": "deployments", "kind": "Deployment"});
    let (_server, client) = start(&deployments).await;
    let all = "/apis/example.com/v1/namespaces/default/deployments";
    let one = json!({"apiVersion": "example.com/v1", "kind": "Deployment", "metadata": {"name": "one"}});
    let mut one = expect(client.post(all, &one).await, 201);
    one["metadata"]["annotations"] = json!({"a": "b"});
    one["status"] = json!({"done": true});
    let written = expect(client.put(&format!("{all}/one/status"), &one).await, 200);
    assert_eq!((&written["status"]["done"], &written["metadata"]["annotations"]), (&json!(true), &Value::Null));
}
