//! Custom resources, from their definition to their end.

mod definitions;
mod objects;
mod stored;
pub(crate) mod versions;

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, expect};

pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// Where the objects of [`widgets`] are.
pub(crate) const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";
/// The definition of [`widgets`].
pub(crate) const WIDGETS_DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com";

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A definition of namespaced widgets with these versions.
pub(crate) fn definition(versions: &Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "versions": versions,
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList",
                "shortNames": ["wd"], "categories": ["all"]},
        },
    })
}

/// A version with a schema, served, and stored if it is `v1`.
pub(crate) fn version(name: &str, spec: &Value) -> Value {
    let schema = json!({"type": "object", "properties": {"spec": spec, "status": {"type": "object",
        "x-kubernetes-preserve-unknown-fields": true}}});
    json!({"name": name, "served": true, "storage": name == "v1", "schema": {"openAPIV3Schema": schema}})
}

/// A schema of these fields.
pub(crate) fn fields(properties: &Value) -> Value {
    json!({"type": "object", "properties": properties})
}

/// A definition of widgets with one version of a few fields.
pub(crate) fn widgets() -> Value {
    definition(&json!([version("v1", &fields(&json!({"size": {"type": "integer"}, "name": {"type": "string"}})))]))
}

/// A widget.
pub(crate) fn widget(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

/// Creates a definition and waits until it is established.
pub(crate) async fn define(client: &Client, definition: &Value) -> Value {
    expect(client.post(DEFINITIONS, definition).await, 201);
    let path = format!("{DEFINITIONS}/{}", definition["metadata"]["name"].as_str().unwrap());
    until(client, &path, |definition| condition(definition, "Established")["status"] == "True").await
}

/// A condition of a definition.
pub(crate) fn condition(definition: &Value, kind: &str) -> Value {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    conditions.clone().find(|condition| condition["type"] == kind).cloned().unwrap_or_default()
}

/// Reads until what is read fulfils a condition: what the server learns a moment later.
pub(crate) async fn until(client: &Client, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let read = async {
        loop {
            let (_, body) = client.get(path).await;
            if is_so(&body) {
                return body;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("{path} does not become what it should"))
}

/// Changes the definition of widgets and waits until objects show it.
pub(crate) async fn redefine(client: &Client, versions: &Value, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let patch = json!({"spec": {"versions": versions}});
    expect(client.patch(WIDGETS_DEFINITION, crate::client::MERGE, &patch).await, 200);
    until(client, path, is_so).await
}
