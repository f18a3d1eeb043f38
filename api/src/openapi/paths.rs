//! The paths of a document with their operations.

use serde_json::{Map, Value, json};

use super::definition_of;
use super::operations::{META, Operation, Operations, answers, text_answer};
use super::parameters::{hoist, name_of, named, with_prefix};
use crate::resource::{Resource, Subresource, Verb};
use crate::schema::builtin::builtin;

/// The paths of these resources below `root` (`apis/apps/v1`).
pub(super) fn of(rows: &[&Resource], root: &str) -> Value {
    let mut paths = Map::new();
    // Custom resources are discovered in the same way, but no document says so.
    if let Some(first) = rows.iter().find(|row| !row.is_custom()) {
        paths.insert(format!("/{root}/"), resources_path(first));
    }
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

impl Paths<'_> {
    fn add(&mut self) {
        let (row, of) = (self.row, Operations::of(self.row));
        let collection = self.collection("");
        self.put(&collection, self.shared(), &self.collection_operations());
        if row.namespaced && row.allows(Verb::List) {
            let all = format!("/{}/{}", self.root, row.plural);
            self.put(&all, pretty(), &[of.list("ForAllNamespaces")]);
        }
        let object = format!("{collection}/{{name}}");
        self.put(&object, self.shared_with_name(&row.kind), &self.object_operations());
        for sub in &row.subresources {
            self.add_subresource(&object, sub);
        }
        if row.allows(Verb::Watch) && !row.is_custom() {
            self.add_watches();
        }
    }

    /// The deprecated paths.
    fn add_watches(&mut self) {
        let (row, of) = (self.row, Operations::of(self.row));
        let collection = self.collection("/watch");
        self.put(&collection, self.shared(), &[of.watch("watchlist", "List")]);
        if row.namespaced {
            let all = format!("/{}/watch/{}", self.root, row.plural);
            self.put(&all, pretty(), &[of.watch("watchlist", "ListForAllNamespaces")]);
        }
        if row.allows(Verb::Get) {
            let object = format!("{collection}/{{name}}");
            self.put(&object, self.shared_with_name(&row.kind), &[of.watch("watch", "")]);
        }
    }

    /// The path of the objects of a namespace, or of all where there are none.
    fn collection(&self, below: &str) -> String {
        match self.row.namespaced {
            true => format!("/{}{below}/namespaces/{{namespace}}/{}", self.root, self.row.plural),
            false => format!("/{}{below}/{}", self.root, self.row.plural),
        }
    }

    fn shared(&self) -> Vec<Value> {
        let namespace = self.row.namespaced.then(|| named("namespace")).flatten();
        namespace.into_iter().chain(pretty()).collect()
    }

    fn shared_with_name(&self, kind: &str) -> Vec<Value> {
        std::iter::once(name_of(kind)).chain(self.shared()).collect()
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
        let scope = if self.row.namespaced && !operations.iter().any(|one| one.suffix.ends_with("ForAllNamespaces")) {
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
            let given: Vec<Value> = one.parameters.iter().filter_map(|name| named(name)).collect();
            if !given.is_empty() {
                value["parameters"] = given.into();
            }
            if let Some(body) = &one.body {
                value["requestBody"] = body.clone();
            }
            item.insert(one.method.to_owned(), value);
        }
        hoist(&mut item, parameters);
        self.paths.insert(path.to_owned(), Value::Object(item));
    }

    fn collection_operations(&self) -> Vec<Operation<'static>> {
        let (row, of) = (self.row, Operations::of(self.row));
        let mut operations = Vec::new();
        if row.allows(Verb::List) {
            operations.push(of.list(""));
        }
        if row.allows(Verb::Create) {
            operations.push(of.create(&of.one(), &definition_of(row), ""));
        }
        if row.allows(Verb::DeleteCollection) {
            operations.push(of.delete_collection());
        }
        operations
    }

    fn object_operations(&self) -> Vec<Operation<'static>> {
        let (row, of, own) = (self.row, Operations::of(self.row), definition_of(self.row));
        let specified = format!("the specified {}", row.kind);
        let mut operations = Vec::new();
        if row.allows(Verb::Get) {
            operations.push(of.read(&specified, &own, ""));
        }
        if row.allows(Verb::Update) {
            operations.push(of.replace(&specified, &own, ""));
        }
        if row.allows(Verb::Patch) {
            operations.push(of.patch(&specified, &own, ""));
        }
        if row.allows(Verb::Delete) {
            operations.push(of.delete());
        }
        operations
    }

    fn add_subresource(&mut self, object: &str, sub: &Subresource) {
        let (row, of) = (self.row, Operations::of(self.row));
        let suffix = upper_first(&sub.name);
        let path = format!("{object}/{}", sub.name);
        let (group, version, kind) = match &sub.kind {
            // Operations on parts of custom resources are filed under the whole.
            Some(of) if !row.is_custom() => (of.group.as_ref(), of.version.as_ref(), of.kind.as_ref()),
            _ => (row.group.as_ref(), row.version.as_ref(), row.kind.as_ref()),
        };
        let mut parameters = self.shared_with_name(kind);
        parameters.extend(with_prefix(&format!("{}/{}.", row.plural, sub.name)));
        if kind.ends_with("Options") && !row.is_custom() {
            parameters.retain(|parameter| parameter["name"] != "pretty");
            self.connect(&path, parameters.clone(), sub, (group, version, kind), "");
            if sub.name == "proxy" {
                parameters.extend(named("path"));
                self.connect(&format!("{path}/{{path}}"), parameters, sub, (group, version, kind), "WithPath");
            }
            return;
        }
        let known = sub.kind.as_ref().and_then(|of| builtin().name_of_kind(&of.group, &of.version, &of.kind));
        let own = known.map_or_else(|| definition_of(row), str::to_owned);
        let specified = format!("{} of the specified {}", sub.name, row.kind);
        let operations: Vec<Operation<'_>> = sub
            .verbs
            .iter()
            .filter_map(|verb| match verb.as_ref() {
                "get" if sub.name == "log" => {
                    Some(Operation { responses: text_answer(), ..of.read(&specified, &own, &suffix) })
                }
                "get" => Some(of.read(&specified, &own, &suffix)),
                "update" => Some(of.replace(&specified, &own, &suffix)),
                "patch" => Some(of.patch(&specified, &own, &suffix)),
                "create" => Some(of.create(&format!("{} of {}", sub.name, of.one()), &own, &suffix)),
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

fn pretty() -> Vec<Value> {
    named("pretty").into_iter().collect()
}

/// `listAppsV1`, and `connectCoreV1Get` for connections.
fn verb_with(verb: &str, prefix: &str) -> String {
    match verb.strip_prefix("connect") {
        Some(method) => format!("connect{prefix}{method}"),
        None => format!("{verb}{prefix}"),
    }
}
