//! The paths of a document with their operations.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::{definition_of, reference};
use crate::resource::{Resource, Subresource, Verb};
use crate::schema::builtin::builtin;

const PARAMETERS: &str = include_str!("../../data/parameters.txt");
pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const LIST: [&str; 10] = [
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const DELETE_COLLECTION: [&str; 13] = [
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];
const DELETE: [&str; 5] = [
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
];
const WRITE: [&str; 3] = ["dryRun", "fieldManager", "fieldValidation"];
const PATCH: [&str; 4] = ["dryRun", "patch.fieldManager", "fieldValidation", "force"];

/// The paths of these resources below `root` (`apis/apps/v1`).
pub(super) fn of(rows: &[&Resource], root: &str) -> Value {
    let mut paths = Map::new();
    let Some(first) = rows.first() else { return Value::Object(paths) };
    paths.insert(format!("/{root}/"), resources_path(first));
    for row in rows {
        Paths { row, root, paths: &mut paths }.add();
    }
    Value::Object(paths)
}

fn resources_path(row: &Resource) -> Value {
    let names = Names::of(row);
    let answer = answers(&format!("{META}.APIResourceList"), &[200], false);
    json!({"get": {
        "tags": [names.tag], "description": "get available resources",
        "operationId": format!("get{}APIResources", names.prefix), "responses": answer,
    }})
}

/// What operations are named after.
struct Names {
    /// `AppsV1`.
    prefix: String,
    /// `apps_v1`.
    tag: String,
}

impl Names {
    fn of(row: &Resource) -> Self {
        let group = match row.group.as_ref() {
            "" => "core".to_owned(),
            group => camel(group.strip_suffix(".k8s.io").unwrap_or(group)),
        };
        Self {
            prefix: format!("{}{}", upper_first(&group), upper_first(&row.version)),
            tag: format!("{group}_{}", row.version),
        }
    }
}

/// `rbac.authorization` as `rbacAuthorization`.
pub(super) fn camel(group: &str) -> String {
    group.split('.').enumerate().map(|(at, part)| if at == 0 { part.to_owned() } else { upper_first(part) }).collect()
}

pub(super) fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

struct Paths<'a> {
    row: &'a Resource,
    root: &'a str,
    paths: &'a mut Map<String, Value>,
}

/// One operation, before it is written out.
struct Operation<'o> {
    method: &'o str,
    /// `list`, `post`, `patch`, ...
    action: &'o str,
    /// `read`, `create`, `replace`, ...: what its id begins with.
    verb: &'o str,
    /// What its id ends with.
    suffix: &'o str,
    description: String,
    parameters: &'o [&'o str],
    responses: Value,
    body: Option<Value>,
}

impl Paths<'_> {
    fn add(&mut self) {
        let row = self.row;
        let collection = match row.namespaced {
            true => format!("/{}/namespaces/{{namespace}}/{}", self.root, row.plural),
            false => format!("/{}/{}", self.root, row.plural),
        };
        let path_level = |names: &[&str]| -> Vec<Value> {
            let shared = names.iter().filter_map(|name| parameter(name));
            shared.chain(row.namespaced.then(|| parameter("namespace")).flatten()).chain(parameter("pretty")).collect()
        };
        let operations = self.collection_operations();
        self.put(&collection, path_level(&[]), &operations);
        if row.namespaced && row.allows(Verb::List) {
            let list = self.list("ForAllNamespaces");
            let all: Vec<Value> = parameter("pretty").into_iter().collect();
            self.put(&format!("/{}/{}", self.root, row.plural), all, &[list]);
        }
        let object = format!("{collection}/{{name}}");
        let mut parameters = vec![name_parameter(&row.kind)];
        parameters.extend(path_level(&[]));
        let operations = self.object_operations();
        self.put(&object, parameters, &operations);
        for sub in &row.subresources {
            self.add_subresource(&object, sub, path_level(&[]));
        }
    }

    /// Writes the operations of a path, if there are any.
    fn put(&mut self, path: &str, parameters: Vec<Value>, operations: &[Operation<'_>]) {
        self.put_of(path, parameters, operations, (&self.row.group, &self.row.version, &self.row.kind));
    }

    fn put_of(&mut self, path: &str, parameters: Vec<Value>, operations: &[Operation<'_>], kind: (&str, &str, &str)) {
        if operations.is_empty() {
            return;
        }
        let names = Names::of(self.row);
        let scope = if self.row.namespaced && !operations.iter().any(|one| one.suffix == "ForAllNamespaces") {
            "Namespaced"
        } else {
            ""
        };
        let mut item = Map::new();
        for one in operations {
            let collection = if one.action == "deletecollection" { "Collection" } else { "" };
            let verb = verb_with(one.verb, &names.prefix);
            let id = format!("{verb}{collection}{scope}{}{}", self.row.kind, one.suffix);
            let mut value = json!({
                "tags": [names.tag], "description": one.description, "operationId": id, "responses": one.responses,
                "x-kubernetes-action": one.action,
                "x-kubernetes-group-version-kind": {"group": kind.0, "version": kind.1, "kind": kind.2},
            });
            let given: Vec<Value> = one.parameters.iter().filter_map(|name| parameter(name)).collect();
            if !given.is_empty() {
                value["parameters"] = given.into();
            }
            if let Some(body) = &one.body {
                value["requestBody"] = body.clone();
            }
            item.insert(one.method.to_owned(), value);
        }
        item.insert("parameters".to_owned(), parameters.into());
        self.paths.insert(path.to_owned(), Value::Object(item));
    }

    fn list(&self, suffix: &'static str) -> Operation<'static> {
        Operation {
            method: "get",
            action: "list",
            verb: "list",
            suffix,
            description: format!(
                "{} objects of kind {}",
                if self.row.allows(Verb::Watch) { "list or watch" } else { "list" },
                self.row.kind
            ),
            parameters: &LIST,
            responses: answers(&format!("{}List", definition_of(self.row)), &[200], true),
            body: None,
        }
    }

    fn collection_operations(&self) -> Vec<Operation<'static>> {
        let (row, own) = (self.row, definition_of(self.row));
        let mut operations = Vec::new();
        if row.allows(Verb::List) {
            operations.push(self.list(""));
        }
        if row.allows(Verb::Create) {
            operations.push(Operation {
                method: "post",
                action: "post",
                verb: "create",
                suffix: "",
                description: format!("create {}", one(row)),
                parameters: &WRITE,
                responses: answers(&own, &[200, 201, 202], false),
                body: Some(body(&own, true)),
            });
        }
        if row.allows(Verb::DeleteCollection) {
            operations.push(Operation {
                method: "delete",
                action: "deletecollection",
                verb: "delete",
                suffix: "",
                description: format!("delete collection of {}", row.kind),
                parameters: &DELETE_COLLECTION,
                responses: answers(&format!("{META}.Status"), &[200], false),
                body: Some(body(&format!("{META}.DeleteOptions"), false)),
            });
        }
        operations
    }

    fn object_operations(&self) -> Vec<Operation<'static>> {
        let (row, own) = (self.row, definition_of(self.row));
        let specified = format!("the specified {}", row.kind);
        let mut operations = Vec::new();
        if row.allows(Verb::Get) {
            operations.push(read(&specified, &own, ""));
        }
        if row.allows(Verb::Update) {
            operations.push(replace(&specified, &own, ""));
        }
        if row.allows(Verb::Patch) {
            operations.push(patch(&specified, &own, "", row));
        }
        if row.allows(Verb::Delete) {
            let answer = if row.strategy.delete_returns_object() { own } else { format!("{META}.Status") };
            operations.push(Operation {
                method: "delete",
                action: "delete",
                verb: "delete",
                suffix: "",
                description: format!("delete {}", one(row)),
                parameters: &DELETE,
                responses: answers(&answer, &[200, 202], false),
                body: Some(body(&format!("{META}.DeleteOptions"), false)),
            });
        }
        operations
    }

    fn add_subresource(&mut self, object: &str, sub: &Subresource, shared: Vec<Value>) {
        let row = self.row;
        let suffix = upper_first(&sub.name);
        let path = format!("{object}/{}", sub.name);
        let (group, version, kind) = match &sub.kind {
            Some(of) => (of.group.as_ref(), of.version.as_ref(), of.kind.as_ref()),
            None => (row.group.as_ref(), row.version.as_ref(), row.kind.as_ref()),
        };
        let mut parameters = vec![name_parameter(kind)];
        parameters.extend(shared);
        let key = format!("{}/{}.", row.plural, sub.name);
        parameters.extend(parameters_with(&key));
        if kind.ends_with("Options") {
            parameters.retain(|parameter| parameter["name"] != "pretty");
            self.connect(&path, parameters.clone(), sub, (group, version, kind), "");
            if sub.name == "proxy" {
                parameters.extend(parameter("path"));
                self.connect(&format!("{path}/{{path}}"), parameters, sub, (group, version, kind), "WithPath");
            }
            return;
        }
        let known = sub.kind.as_ref().and_then(|_| builtin().name_of_kind(group, version, kind));
        let own = known.map_or_else(|| definition_of(row), str::to_owned);
        let specified = format!("{} of the specified {}", sub.name, row.kind);
        let operations: Vec<Operation<'_>> = sub
            .verbs
            .iter()
            .filter_map(|verb| match verb.as_ref() {
                "get" if sub.name == "log" => {
                    Some(Operation { responses: text_answer(), ..read(&specified, &own, &suffix) })
                }
                "get" => Some(read(&specified, &own, &suffix)),
                "update" => Some(replace(&specified, &own, &suffix)),
                "patch" => Some(patch(&specified, &own, &suffix, row)),
                "create" => Some(Operation {
                    method: "post",
                    action: "post",
                    verb: "create",
                    suffix: &suffix,
                    description: format!("create {} of {}", sub.name, one(row)),
                    parameters: &WRITE,
                    responses: answers(&own, &[200, 201, 202], false),
                    body: Some(body(&own, true)),
                }),
                _ => None,
            })
            .collect();
        self.put_of(&path, parameters, &operations, (group, version, kind));
    }

    /// A subresource that is a connection rather than an object.
    fn connect(
        &mut self,
        path: &str,
        parameters: Vec<Value>,
        sub: &Subresource,
        kind: (&str, &str, &str),
        suffix: &str,
    ) {
        const METHODS: [(&str, &str); 7] = [
            ("get", "get"),
            ("post", "create"),
            ("put", "update"),
            ("delete", "delete"),
            ("patch", "patch"),
            ("head", "get"),
            ("options", "get"),
        ];
        let proxied = sub.name == "proxy";
        let suffix = format!("{}{suffix}", upper_first(&sub.name));
        let verbs: Vec<(&str, String)> = METHODS
            .iter()
            .filter(|(method, verb)| {
                sub.verbs.iter().any(|given| given == verb) && (proxied || !matches!(*method, "head" | "options"))
            })
            .map(|(method, _)| (*method, format!("connect{}", upper_first(method))))
            .collect();
        let operations: Vec<Operation<'_>> = verbs
            .iter()
            .map(|(method, verb)| Operation {
                method,
                action: "connect",
                verb,
                suffix: &suffix,
                description: format!("connect {} requests to {} of {}", method.to_uppercase(), sub.name, self.row.kind),
                parameters: &[],
                responses: text_answer(),
                body: None,
            })
            .collect();
        self.put_of(path, parameters, &operations, kind);
    }
}

/// `listAppsV1`, and `connectCoreV1Get` for connections.
fn verb_with(verb: &str, prefix: &str) -> String {
    match verb.strip_prefix("connect") {
        Some(method) => format!("connect{prefix}{method}"),
        None => format!("{verb}{prefix}"),
    }
}

fn read<'o>(what: &str, own: &str, suffix: &'o str) -> Operation<'o> {
    Operation {
        method: "get",
        action: "get",
        verb: "read",
        suffix,
        description: format!("read {what}"),
        parameters: &[],
        responses: answers(own, &[200], false),
        body: None,
    }
}

fn replace<'o>(what: &str, own: &str, suffix: &'o str) -> Operation<'o> {
    Operation {
        method: "put",
        action: "put",
        verb: "replace",
        suffix,
        description: format!("replace {what}"),
        parameters: &WRITE,
        responses: answers(own, &[200, 201], false),
        body: Some(body(own, true)),
    }
}

fn patch<'o>(what: &str, own: &str, suffix: &'o str, row: &Resource) -> Operation<'o> {
    let mut forms = vec!["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"];
    if row.schema().node().definition.is_some() {
        forms.push("application/strategic-merge-patch+json");
    }
    let schema = json!({"schema": reference(&format!("{META}.Patch"))});
    let content: Map<String, Value> = forms.into_iter().map(|form| (form.to_owned(), schema.clone())).collect();
    Operation {
        method: "patch",
        action: "patch",
        verb: "patch",
        suffix,
        description: format!("partially update {what}"),
        parameters: &PATCH,
        responses: answers(own, &[200, 201], false),
        body: Some(json!({"content": content, "required": true})),
    }
}

/// `a Pod`, `an Event`, `Endpoints`.
fn one(row: &Resource) -> String {
    match row.kind.as_ref() {
        kind if row.plural == row.singular => kind.to_owned(),
        kind if kind.starts_with(['A', 'E', 'I', 'O', 'U']) => format!("an {kind}"),
        kind => format!("a {kind}"),
    }
}

fn body(definition: &str, required: bool) -> Value {
    let mut body = json!({"content": {"*/*": {"schema": reference(definition)}}});
    if required {
        body["required"] = true.into();
    }
    body
}

pub(super) fn answers(definition: &str, codes: &[u16], watchable: bool) -> Value {
    let schema = json!({"schema": reference(definition)});
    let mut forms = vec!["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"];
    if watchable {
        forms.extend(["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"]);
    }
    let content: Map<String, Value> = forms.into_iter().map(|form| (form.to_owned(), schema.clone())).collect();
    let mut answers = Map::new();
    for code in codes {
        let text = match code {
            200 => "OK",
            201 => "Created",
            _ => "Accepted",
        };
        answers.insert(code.to_string(), json!({"description": text, "content": content}));
    }
    answers.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    Value::Object(answers)
}

fn text_answer() -> Value {
    let text = json!({"*/*": {"schema": {"type": "string"}}});
    json!({"200": {"description": "OK", "content": text}, "401": {"description": "Unauthorized"}})
}

fn name_parameter(kind: &str) -> Value {
    json!({
        "name": "name", "in": "path", "description": format!("name of the {kind}"), "required": true,
        "schema": {"type": "string", "uniqueItems": true},
    })
}

fn parameters() -> &'static HashMap<&'static str, &'static str> {
    static LINES: OnceLock<HashMap<&str, &str>> = OnceLock::new();
    LINES.get_or_init(|| PARAMETERS.lines().filter_map(|line| line.split_once(' ')).collect())
}

fn parameter(key: &str) -> Option<Value> {
    serde_json::from_str(parameters().get(key)?).ok()
}

fn parameters_with(prefix: &str) -> Vec<Value> {
    let mut keys: Vec<&str> = parameters().keys().filter(|key| key.starts_with(prefix)).copied().collect();
    keys.sort_unstable();
    keys.into_iter().filter_map(parameter).collect()
}
