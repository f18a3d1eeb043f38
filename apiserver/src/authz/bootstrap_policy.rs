//! The default RBAC roles and bindings, from the table in `bootstrap_policy.txt` (upstream: `rbac/bootstrappolicy`).

use std::collections::BTreeMap;

use api::Object;
use serde_json::{Map, Value, json};

use super::Rule;
use crate::error::Error;

const TABLE: &str = include_str!("bootstrap_policy.txt");
const API: &str = "rbac.authorization.k8s.io";
const VERSION: &str = "rbac.authorization.k8s.io/v1";
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";
const MANAGER: &str = "system:kube-controller-manager";

/// What is wrong with a line of the table.
#[derive(Debug, thiserror::Error)]
#[error("bootstrap_policy.txt, line {line}: {why}")]
pub(crate) struct Malformed {
    line: usize,
    why: &'static str,
}

/// A role while its rules are read.
struct Role {
    namespace: String,
    name: String,
    /// Labelled `aggregate-to-...`.
    feeds: Option<String>,
    /// Made of the roles labelled so.
    gathers: Option<String>,
    rules: Vec<Rule>,
}

/// All default roles and bindings; roles come first.
pub(crate) fn objects() -> Result<Vec<Object>, Malformed> {
    parse(TABLE)
}

/// Who may see what pods and nodes use, where that is served: the role that comes with the metrics-server.
pub(crate) fn metrics_reader() -> Option<Object> {
    let fed = ["admin", "edit", "view"].iter().map(|role| (format!("{AGGREGATE}{role}"), "true".into()));
    let labels: Map<String, Value> =
        fed.chain([("kubernetes.io/bootstrapping".into(), "rbac-defaults".into())]).collect();
    Object::from_value(json!({
        "apiVersion": VERSION, "kind": "ClusterRole",
        "metadata": {
            "name": "system:aggregated-metrics-reader", "labels": labels,
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
        "rules": [{"apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}],
    }))
}

fn parse(table: &str) -> Result<Vec<Object>, Malformed> {
    let mut roles: Vec<Role> = Vec::new();
    let mut bindings = Vec::new();
    for (at, line) in table.lines().enumerate() {
        let malformed = |why| Malformed { line: at + 1, why };
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.first().is_none_or(|word| word.starts_with('#')) {
            continue;
        }
        if line.starts_with(' ') {
            let role = roles.last_mut().ok_or_else(|| malformed("a rule before the first role"))?;
            role.rules.push(rule(&words).ok_or_else(|| malformed("not a rule"))?);
            continue;
        }
        match words.as_slice() {
            ["clusterrole", name, marks @ ..] => roles.push(role("", name, marks)),
            ["role", namespace, name] => roles.push(role(namespace, name, &[])),
            ["controller", name] => {
                let full = format!("system:controller:{name}");
                let (account, manager) = (format!("account:{name}"), format!("user:{MANAGER}"));
                bindings.push(
                    binding("", &full, &full, &[account.as_str(), manager.as_str()])
                        .ok_or_else(|| malformed("bad subject"))?,
                );
                roles.push(role("", &full, &[]));
            }
            ["bind", name, subjects @ ..] => {
                bindings.push(binding("", name, name, subjects).ok_or_else(|| malformed("bad subject"))?);
            }
            ["bindrole", namespace, name, of, subjects @ ..] => {
                bindings.push(binding(namespace, name, of, subjects).ok_or_else(|| malformed("bad subject"))?);
            }
            _ => return Err(malformed("not a statement")),
        }
    }
    for gathered in ["view", "edit", "admin"] {
        gather(&mut roles, gathered);
    }
    Ok(roles.iter().map(Role::to_value).chain(bindings).filter_map(Object::from_value).collect())
}

fn role(namespace: &str, name: &str, marks: &[&str]) -> Role {
    let mark = |sign: char| marks.iter().find_map(|mark| mark.strip_prefix(sign)).map(str::to_owned);
    Role {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        feeds: mark('+'),
        gathers: mark('<'),
        rules: Vec::new(),
    }
}

/// Gives an aggregated role the rules of the roles that feed it, in the order of their names, as the aggregation
/// controller would.
fn gather(roles: &mut [Role], into: &str) {
    let feeding: BTreeMap<&str, &[Rule]> = roles
        .iter()
        .filter(|role| role.feeds.as_deref() == Some(into))
        .map(|role| (role.name.as_str(), role.rules.as_slice()))
        .collect();
    let mut rules: Vec<Rule> = Vec::new();
    for rule in feeding.into_values().flatten() {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    if let Some(role) = roles.iter_mut().find(|role| role.gathers.as_deref() == Some(into)) {
        role.rules = rules;
    }
}

/// `VERBS RESOURCES [@GROUPS] [=NAMES]`, `VERBS /PATHS` or `events`.
fn rule(words: &[&str]) -> Option<Rule> {
    let list = |text: &str| sorted(text.split(',').map(str::to_owned).collect());
    match words {
        ["events"] => rule(&["create,patch,update", "events", "@,events.k8s.io"]),
        [verbs, paths] if paths.starts_with('/') => {
            let paths = if *paths == "/*" { vec!["*".to_owned()] } else { list(paths) };
            Some(Rule { verbs: verb_list(verbs), paths, ..Rule::default() })
        }
        [verbs, resources, rest @ ..] => {
            let mut rule =
                Rule { verbs: verb_list(verbs), resources: list(resources), groups: list(""), ..Rule::default() };
            for word in rest {
                match (word.strip_prefix('@'), word.strip_prefix('=')) {
                    (Some(groups), _) => rule.groups = list(groups),
                    (_, Some(names)) => rule.names = list(names),
                    _ => return None,
                }
            }
            Some(rule)
        }
        _ => None,
    }
}

fn verb_list(text: &str) -> Vec<String> {
    let verbs = text.split(',').flat_map(|verb| match verb {
        "read" => &["get", "list", "watch"][..],
        "write" => &["create", "delete", "deletecollection", "patch", "update"][..],
        _ => &[],
    });
    let plain = text.split(',').filter(|verb| !matches!(*verb, "read" | "write"));
    sorted(verbs.copied().chain(plain).map(str::to_owned).collect())
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list
}

fn metadata(namespace: &str, name: &str) -> Map<String, Value> {
    let mut metadata = Map::new();
    metadata.insert("name".into(), name.into());
    if !namespace.is_empty() {
        metadata.insert("namespace".into(), namespace.into());
    }
    metadata.insert("labels".into(), json!({"kubernetes.io/bootstrapping": "rbac-defaults"}));
    metadata.insert("annotations".into(), json!({"rbac.authorization.kubernetes.io/autoupdate": "true"}));
    metadata
}

impl Role {
    fn to_value(&self) -> Value {
        let mut metadata = metadata(&self.namespace, &self.name);
        if let Some(into) = &self.feeds {
            metadata["labels"][format!("{AGGREGATE}{into}")] = "true".into();
        }
        let kind = if self.namespace.is_empty() { "ClusterRole" } else { "Role" };
        let rules: Vec<Value> = self.rules.iter().map(Rule::to_value).collect();
        let mut tree = json!({"apiVersion": VERSION, "kind": kind, "metadata": metadata, "rules": rules});
        if let Some(label) = &self.gathers {
            tree["aggregationRule"] =
                json!({"clusterRoleSelectors": [{"matchLabels": {format!("{AGGREGATE}{label}"): "true"}}]});
        }
        tree
    }
}

fn binding(namespace: &str, name: &str, role: &str, subjects: &[&str]) -> Option<Value> {
    let prefix = if namespace.is_empty() { "Cluster" } else { "" };
    let subjects: Vec<Value> = subjects.iter().map(|text| subject(text)).collect::<Option<_>>()?;
    let mut tree = json!({
        "apiVersion": VERSION, "kind": format!("{prefix}RoleBinding"), "metadata": metadata(namespace, name),
        "roleRef": {"apiGroup": API, "kind": format!("{prefix}Role"), "name": role},
    });
    if !subjects.is_empty() {
        tree["subjects"] = subjects.into();
    }
    Some(tree)
}

fn subject(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once(':')?;
    match kind {
        "user" => Some(json!({"apiGroup": API, "kind": "User", "name": name})),
        "group" => Some(json!({"apiGroup": API, "kind": "Group", "name": name})),
        "account" => Some(json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"})),
        _ => None,
    }
}

/// The rules of the role `system:node`, which are the node authoriser's as well.
pub(crate) fn node_rules() -> Result<Vec<Rule>, Error> {
    let policy = objects().map_err(|err| Error::Bootstrap(err.to_string()))?;
    let role = policy.iter().find(|object| object.kind() == "ClusterRole" && object.name() == "system:node");
    Ok(role.map(|role| Rule::read_all(role.get(&["rules"]))).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named<'a>(objects: &'a [Object], kind: &str, name: &str) -> &'a Object {
        objects
            .iter()
            .find(|object| object.kind() == kind && object.name() == name)
            .unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    #[test]
    fn every_binding_names_a_role_of_the_table() {
        let objects = objects().unwrap();
        for binding in objects.iter().filter(|object| object.kind().ends_with("Binding")) {
            named(&objects, binding.text(&["roleRef", "kind"]), binding.text(&["roleRef", "name"]));
        }
        let mut seen = std::collections::HashSet::new();
        for object in &objects {
            let key = (object.kind().to_owned(), object.namespace().to_owned(), object.name().to_owned());
            assert!(seen.insert(key.clone()), "{key:?} is there twice");
        }
    }

    #[test]
    fn aggregated_roles_hold_the_rules_of_those_that_feed_them() {
        let objects = objects().unwrap();
        let rules = |name: &str| Rule::read_all(named(&objects, "ClusterRole", name).get(&["rules"]));
        let admin = rules("admin");
        for part in
            ["view", "edit", "system:aggregate-to-admin", "system:aggregate-to-edit", "system:aggregate-to-view"]
        {
            assert!(rules(part).iter().all(|rule| admin.contains(rule)), "admin lacks rules of {part}");
        }
        assert!(!rules("view").iter().any(|rule| rule.resources.iter().any(|resource| resource == "secrets")));
    }

    #[test]
    fn a_malformed_line_is_named() {
        assert_eq!(
            parse("clusterrole a\n  get\n").unwrap_err().to_string(),
            "bootstrap_policy.txt, line 2: not a rule"
        );
        assert_eq!(parse("\nbind a nobody\n").unwrap_err().to_string(), "bootstrap_policy.txt, line 2: bad subject");
    }
}
