//! Server-side apply beside other writes: one manifest is one object, however it comes.

use api::Resource;
use api::catalog::Catalog;
use api::resource::Verb;
use api::schema::{Presence, Scalar, SchemaRef, Type};
use apiserver::testing::TestServer;
use apiserver::{Config, Limits};
use axum::body::Body;
use http::Request;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use store::embedded::EmbeddedStore;

use crate::client::{APPLY, Client, expect};
use crate::samples::sample;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// Kinds that the server itself writes between any two steps.
const KEPT_BY_THE_SERVER: [&str; 2] = ["customresourcedefinitions", "apiservices"];

fn collection(row: &Resource) -> String {
    let prefix = if row.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", row.group) };
    let namespace = if row.namespaced { "/namespaces/contract" } else { "" };
    format!("{prefix}/{}{namespace}/{}", row.version, row.plural)
}

/// Says of a struct also what it does not have (nulls, and zeros of optional fields, which Go cannot tell from nothing)
/// where it does not get something: it `became` this.
fn say_nothing_more(fields: &mut Map<String, Value>, became: &Value, schema: SchemaRef<'_>, at_root: bool) {
    for (name, field) in schema.fields() {
        let node = field.node();
        if at_root && matches!(name, "apiVersion" | "kind" | "metadata" | "status") || became.get(name).is_some() {
            continue;
        }
        let nothing = match (node.presence, node.scalar, node.type_) {
            (Presence::KeepEmpty, ..) => Value::Null,
            (Presence::OmitEmpty, Scalar::Plain, Type::String) => "".into(),
            (Presence::OmitEmpty, Scalar::Plain, Type::Boolean) => false.into(),
            (Presence::OmitEmpty, Scalar::Plain | Scalar::Int32, Type::Integer) => 0.into(),
            (Presence::OmitEmpty, _, Type::Array) => json!([]),
            (Presence::OmitEmpty, _, Type::Object) if node.additional.is_some() => json!({}),
            _ => continue,
        };
        fields.entry(name).or_insert(nothing);
    }
    for (name, value) in fields.iter_mut() {
        let field = schema.field(name).filter(|_| !at_root || !matches!(name.as_str(), "metadata" | "status"));
        match (field, value) {
            (Some(field), Value::Object(inner)) if field.is_struct() && field.node().definition.is_some() => {
                say_nothing_more(inner, &became[name.as_str()], field, false);
            }
            (Some(field), Value::Array(list)) => {
                let Some(items) = field.items().filter(|items| items.is_struct()) else { continue };
                for (at, one) in list.iter_mut().enumerate() {
                    let Some(one) = one.as_object_mut() else { continue };
                    say_nothing_more(one, &became[name.as_str()][at], items, false);
                }
            }
            _ => {}
        }
    }
}

/// An object without what differs between any two that are made.
fn content(object: &Value) -> Value {
    const TOKENS: &str = "kube-api-access-";
    let mut text = object.to_string().replace(object["metadata"]["uid"].as_str().unwrap(), "UID");
    while let Some(at) = text.find(TOKENS) {
        text.replace_range(at..at + TOKENS.len() + 5, "access");
    }
    let mut object: Value = serde_json::from_str(&text).unwrap();
    let metadata = object["metadata"].as_object_mut().unwrap();
    for made in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        metadata.remove(made);
    }
    if object["kind"] == "Service" {
        let spec = object["spec"].as_object_mut().unwrap();
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    object
}

async fn check(client: &Client, row: &Resource, manifest: &Value) {
    let path = collection(row);
    let item = format!("{path}/{}", manifest["metadata"]["name"].as_str().unwrap());
    let by = |manager: &str| format!("{item}?fieldManager={manager}");
    let posted = expect(client.post(&format!("{path}?dryRun=All"), manifest).await, 201);
    let tried = expect(client.patch(&format!("{}&dryRun=All", by("one")), APPLY, manifest).await, 201);
    assert_eq!(content(&tried), content(&posted), "{row:?}: {manifest}");
    let applied = expect(client.patch(&by("one"), APPLY, manifest).await, 201);
    assert_eq!(content(&applied), content(&posted), "{row:?}: {manifest}");
    let again = expect(client.patch(&by("one"), APPLY, manifest).await, 200);
    assert_eq!(again, applied, "{row:?}: applying again changes nothing");
    let mut shared = client.patch(&by("two"), APPLY, manifest).await;
    if shared.0 == 409 {
        // Defaults within what is owned as a whole make it another than the manifest's, upstream too.
        let mut whole = content(&applied);
        whole.as_object_mut().unwrap().remove("status");
        whole["metadata"].as_object_mut().unwrap().remove("generation");
        shared = client.patch(&by("two"), APPLY, &whole).await;
    }
    let shared = expect(shared, 200);
    assert_eq!(content(&shared), content(&applied), "{row:?}: another manager of the same is in nobody's way");
    // What is given to new objects, such as the taint of a node, is taken away by a replacement that lacks it.
    if row.allows(Verb::Update) && row.plural != "nodes" {
        let mut replacing = manifest.clone();
        for kept in ["resourceVersion", "finalizers"] {
            replacing["metadata"][kept] = shared["metadata"][kept].clone();
        }
        let (status, replaced) = client.put(&item, &replacing).await;
        if status == 200 {
            assert_eq!(content(&replaced), content(&shared), "{row:?}: put");
        }
    }
    let (status, body) = client.delete(&format!("{item}?gracePeriodSeconds=0")).await;
    assert!(status.is_success(), "{body}");
}

#[tokio::test]
async fn one_manifest_is_one_object_however_it_comes() {
    let config = Config { limits: Limits { fair: false, ..Limits::default() }, ..Config::default() };
    let server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
    let client = Client::admin(&server);
    expect(client.post("/api/v1/namespaces", &json!({"metadata": {"name": "contract"}})).await, 201);
    let account = json!({"metadata": {"name": "default"}});
    expect(client.post("/api/v1/namespaces/contract/serviceaccounts", &account).await, 201);
    for row in Catalog::builtin().iter().filter(|row| row.allows(Verb::Watch) && row.allows(Verb::Patch)) {
        if KEPT_BY_THE_SERVER.contains(&row.plural.as_ref()) {
            continue;
        }
        let mut plain = sample(row, "plain");
        plain.as_object_mut().unwrap().remove("status");
        check(&client, row, &plain).await;
        let mut wordy = sample(row, "wordy");
        wordy.as_object_mut().unwrap().remove("status");
        let became = expect(client.post(&format!("{}?dryRun=All", collection(row)), &wordy).await, 201);
        say_nothing_more(wordy.as_object_mut().unwrap(), &became, row.schema(), true);
        // Where nothing is something (a port of 0, say) the manifest is refused, and that however it comes.
        let tried = client.post(&format!("{}?dryRun=All", collection(row)), &wordy).await;
        if tried.0 == 201 {
            check(&client, row, &wordy).await;
        } else {
            let item = format!("{}/{}?dryRun=All", collection(row), wordy["metadata"]["name"].as_str().unwrap());
            let refused = client.patch(&format!("{item}&fieldManager=one"), APPLY, &wordy).await;
            assert_eq!(refused.0, tried.0, "{row:?}: {} or {}", refused.1, tried.1);
        }
    }
}

#[tokio::test]
async fn amounts_are_the_same_in_any_form() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let pod = |cpu: Value, memory: &str| {
        let amounts = json!({"cpu": cpu, "memory": memory});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "image": "i", "command": [], "resources": {"requests": amounts, "limits": amounts}}]}})
    };
    let by = |manager: &str| format!("{PODS}/p?fieldManager={manager}");
    let made = expect(client.patch(&by("one"), APPLY, &pod(json!(2), "1024Mi")).await, 201);
    assert_eq!(made["status"]["qosClass"], "Guaranteed");
    assert_eq!(made["spec"]["containers"][0]["resources"]["limits"], json!({"cpu": "2", "memory": "1Gi"}));
    assert_eq!(made["spec"]["containers"][0].get("command"), None);
    let again = expect(client.patch(&by("one"), APPLY, &pod(json!("2000m"), "1Gi")).await, 200);
    assert_eq!(again, made);
    expect(client.patch(&by("two"), APPLY, &pod(json!(2), "1Gi")).await, 200);
    let wrong = expect(
        client
            .patch(&format!("{PODS}/q?fieldManager=x"), APPLY, &{
                let mut pod = pod(json!("many"), "1Gi");
                pod["metadata"]["name"] = "q".into();
                pod
            })
            .await,
        500,
    );
    assert!(wrong["message"].as_str().unwrap().contains("quantities must match"), "{wrong}");
}

#[tokio::test]
async fn what_differs_is_in_conflict_also_where_it_is_nothing() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let pod = |on_host: bool| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"hostNetwork": on_host, "containers": [{"name": "c", "image": "i"}]}})
    };
    expect(client.patch(&format!("{PODS}/p?fieldManager=one"), APPLY, &pod(true)).await, 201);
    let refused = expect(client.patch(&format!("{PODS}/p?fieldManager=two"), APPLY, &pod(false)).await, 409);
    assert_eq!(refused["details"]["causes"][0]["field"], ".spec.hostNetwork");
}

#[tokio::test]
async fn the_last_label_of_a_manager_goes_and_the_name_stays() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let map = |metadata: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
    let path = format!("{MAPS}/x?fieldManager=m");
    expect(client.patch(&path, APPLY, &map(json!({"name": "x", "labels": {"a": "b"}}))).await, 201);
    let bare = expect(client.patch(&path, APPLY, &map(json!({"name": "x"}))).await, 200);
    assert_eq!((&bare["metadata"]["name"], bare["metadata"].get("labels")), (&json!("x"), None));
}

#[tokio::test]
async fn keys_of_lists_have_the_defaults_that_they_have_in_go() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let pod = |metadata: Value, spec: Value| {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        pod["metadata"]["name"] = "p".into();
        pod
    };
    let containers = json!([{"name": "c", "image": "i"}]);
    let path = format!("{PODS}/p?fieldManager=m");
    let owned = pod(
        json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n"}]}),
        json!({"containers": containers}),
    );
    let refused = expect(client.patch(&path, APPLY, &owned).await, 422);
    assert!(refused["message"].as_str().unwrap().contains("metadata.ownerReferences.uid"), "{refused}");
    let nameless = pod(json!({}), json!({"containers": [{"image": "i"}]}));
    let refused = expect(client.patch(&path, APPLY, &nameless).await, 422);
    assert!(refused["message"].as_str().unwrap().contains("spec.containers[0].name: Required value"), "{refused}");
    let secrets = pod(json!({}), json!({"containers": containers, "imagePullSecrets": [{}]}));
    expect(client.patch(&path, APPLY, &secrets).await, 201);
}

#[tokio::test]
async fn a_node_registers_itself_by_applying_too() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let node =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"capacity": {"cpu": 4}}});
    let made = expect(client.patch("/api/v1/nodes/n?fieldManager=m", APPLY, &node).await, 201);
    assert_eq!(made["status"]["capacity"], json!({"cpu": "4"}));
    let owned = &made["metadata"]["managedFields"];
    assert!(!owned.to_string().contains("f:status"), "nobody owns what this path does not write: {owned}");
}

#[tokio::test]
async fn an_object_that_is_gone_is_not_made_anew() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "uid": "u"}});
    let refused = expect(client.patch(&format!("{MAPS}/x?fieldManager=m"), APPLY, &map).await, 409);
    let why = "uid mismatch: the provided object specified uid u, and no existing object was found";
    assert!(refused["message"].as_str().unwrap().ends_with(why), "{refused}");
}

#[tokio::test]
async fn what_is_given_twice_is_told_after_what_applying_has_to_say() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let send = async |manager: &str, query: &str, value: &str| {
        let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: x}}\ndata:\n  a: b\n  a: {value}\n");
        let request = Request::patch(format!("{MAPS}/x?fieldManager={manager}{query}")).header("content-type", APPLY);
        let answer = client.raw(request.body(Body::from(text)).unwrap()).await;
        let warnings: Vec<String> =
            answer.headers().get_all("warning").iter().map(|text| text.to_str().unwrap().to_owned()).collect();
        (answer.status().as_u16(), warnings)
    };
    let told = "299 - \"line 6: key \\\"a\\\" already set in map\"".to_owned();
    assert_eq!(send("m", "", "c").await, (201, vec![told]));
    assert_eq!(send("n", "", "d").await, (409, Vec::new()));
    assert_eq!(send("n", "&fieldValidation=Strict", "d").await, (409, Vec::new()));
    assert_eq!(send("m", "&fieldValidation=Strict", "c").await, (400, Vec::new()));
}

#[tokio::test]
async fn a_pod_that_is_refused_is_told_of_its_annotation_all_the_same() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let annotation = "container.apparmor.security.beta.kubernetes.io/c";
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "annotations": {annotation: "runtime/default"}}, "spec": {"containers": [{"name": "c"}]}});
    for (path, method) in [(PODS.to_owned(), "POST"), (format!("{PODS}/p?fieldManager=m"), "PATCH")] {
        let media = if method == "POST" { "application/json" } else { APPLY };
        let request = Request::builder().method(method).uri(path).header("content-type", media);
        let answer = client.raw(request.body(Body::from(pod.to_string())).unwrap()).await;
        assert_eq!(answer.status().as_u16(), 422);
        let told = answer.headers().get_all("warning").iter().map(|text| text.to_str().unwrap().to_owned());
        let told: Vec<String> = told.filter(|text| text.contains("deprecated since v1.30")).collect();
        assert_eq!(told.len(), 1, "{told:?}");
    }
}
