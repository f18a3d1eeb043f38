//! Roles by name and bindings by subject, so that one request looks at its user's own bindings only.

use std::collections::HashMap;
use std::sync::Arc;

use api::Object;
use serde_json::Value;

use crate::authz::rule::Rule;

/// A subject of bindings. ServiceAccounts are users with their full name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    User(Box<str>),
    Group(Box<str>),
}

/// Namespace (`""` for cluster-wide) and name.
pub(super) type Key = (Box<str>, Box<str>);

/// One binding, as one of its subjects sees it.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    /// The binding: `""` and name for a ClusterRoleBinding.
    pub(super) binding: Key,
    /// The role: `""` and name for a ClusterRole.
    pub(super) role: Key,
    /// The subject in upstream's words: `User "a"`, `ServiceAccount "b/ns"`.
    pub(super) subject: Box<str>,
}

/// Roles and bindings.
#[derive(Default)]
pub(super) struct Index {
    roles: HashMap<Key, Arc<[Rule]>>,
    /// Grants by subject, then by the namespace that they hold in.
    grants: HashMap<Subject, HashMap<Box<str>, Vec<Grant>>>,
    /// The subjects of each binding, to find its grants again.
    bindings: HashMap<Key, Vec<Subject>>,
}

impl Index {
    /// The rules of a role.
    pub(super) fn role(&self, key: &Key) -> Option<&Arc<[Rule]>> {
        self.roles.get(key)
    }

    /// What a subject was granted in a namespace (`""`: everywhere).
    pub(super) fn grants(&self, subject: &Subject, namespace: &str) -> &[Grant] {
        self.grants.get(subject).and_then(|places| places.get(namespace)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn put_role(&mut self, key: Key, role: &Object) {
        self.roles.insert(key, Rule::read_all(role.get(&["rules"])).into());
    }

    pub(super) fn remove_role(&mut self, key: &Key) {
        self.roles.remove(key);
    }

    /// Forgets the roles of all namespaces, or of none.
    pub(super) fn clear_roles(&mut self, namespaced: bool) {
        self.roles.retain(|(namespace, _), _| namespace.is_empty() == namespaced);
    }

    pub(super) fn clear_bindings(&mut self, namespaced: bool) {
        let keys: Vec<Key> =
            self.bindings.keys().filter(|(namespace, _)| namespace.is_empty() != namespaced).cloned().collect();
        keys.iter().for_each(|key| self.remove_binding(key));
    }

    pub(super) fn put_binding(&mut self, key: Key, binding: &Object) {
        self.remove_binding(&key);
        let of_role = |field: &str| binding.text(&["roleRef", field]);
        let namespace = if of_role("kind") == "ClusterRole" { "" } else { &*key.0 };
        let role: Key = (namespace.into(), of_role("name").into());
        let mut subjects = Vec::new();
        for tree in binding.get(&["subjects"]).and_then(Value::as_array).into_iter().flatten() {
            let Some((subject, shown)) = read_subject(tree, &key.0) else { continue };
            let grant = Grant { binding: key.clone(), role: role.clone(), subject: shown };
            self.grants.entry(subject.clone()).or_default().entry(key.0.clone()).or_default().push(grant);
            subjects.push(subject);
        }
        self.bindings.insert(key, subjects);
    }

    pub(super) fn remove_binding(&mut self, key: &Key) {
        for subject in self.bindings.remove(key).unwrap_or_default() {
            let Some(places) = self.grants.get_mut(&subject) else { continue };
            if let Some(grants) = places.get_mut(&key.0) {
                grants.retain(|grant| grant.binding != *key);
                if grants.is_empty() {
                    places.remove(&key.0);
                }
            }
            if places.is_empty() {
                self.grants.remove(&subject);
            }
        }
    }
}

/// A subject and how upstream's reasons show it; `None` for kinds that mean nobody.
fn read_subject(tree: &Value, namespace: &str) -> Option<(Subject, Box<str>)> {
    let text = |field: &str| tree.get(field).and_then(Value::as_str).unwrap_or("");
    let name = text("name");
    match text("kind") {
        "User" => Some((Subject::User(name.into()), format!("User {name:?}").into())),
        "Group" => Some((Subject::Group(name.into()), format!("Group {name:?}").into())),
        "ServiceAccount" => {
            let of = if text("namespace").is_empty() { namespace } else { text("namespace") };
            let shown = format!("ServiceAccount {:?}", format!("{name}/{of}"));
            (!of.is_empty()).then(|| (Subject::User(format!("system:serviceaccount:{of}:{name}").into()), shown.into()))
        }
        _ => None,
    }
}
