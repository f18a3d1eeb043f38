//! Which requests a FlowSchema is about: subjects, and what they ask for. Upstream:
//! `util/flowcontrol.matchesFlowSchema`.

use api::strategy::User;
use serde_json::Value;

use crate::request::info::RequestInfo;

/// One of the rules of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<Resources>,
    paths: Vec<Paths>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Anybody,
    User(String),
    Group(String),
    /// What the names of all accounts of a namespace begin with.
    Accounts(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Resources {
    verbs: Names,
    groups: Names,
    resources: Names,
    namespaces: Names,
    cluster: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Paths {
    verbs: Names,
    paths: Vec<String>,
}

/// Names, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    All,
    Some(Vec<String>),
}

impl Names {
    fn read(tree: &Value, field: &str) -> Self {
        let names = texts(tree, field);
        if names.iter().any(|name| name == "*") { Self::All } else { Self::Some(names) }
    }

    fn have(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(names) => names.iter().any(|known| known == name),
        }
    }

    /// Whether they have `resource/subresource`.
    fn have_resource(&self, resource: &str, subresource: &str) -> bool {
        let Self::Some(names) = self else { return true };
        names.iter().any(|known| match known.split_once('/') {
            None => subresource.is_empty() && known == resource,
            Some((of, sub)) => of == resource && sub == subresource && !subresource.is_empty(),
        })
    }
}

impl Rule {
    /// Reads a rule of an object; absent and ill-typed lists are empty.
    pub(super) fn read(tree: &Value) -> Self {
        let list = |field: &str| tree.get(field).and_then(Value::as_array).into_iter().flatten();
        let resources = list("resourceRules").map(|rule| Resources {
            verbs: Names::read(rule, "verbs"),
            groups: Names::read(rule, "apiGroups"),
            resources: Names::read(rule, "resources"),
            namespaces: Names::read(rule, "namespaces"),
            cluster: rule.get("clusterScope").and_then(Value::as_bool).unwrap_or(false),
        });
        let paths = list("nonResourceRules")
            .map(|rule| Paths { verbs: Names::read(rule, "verbs"), paths: texts(rule, "nonResourceURLs") });
        Self {
            subjects: list("subjects").filter_map(Subject::read).collect(),
            resources: resources.collect(),
            paths: paths.collect(),
        }
    }

    /// Whether the request is one of those.
    pub(super) fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        let asks = if info.is_resource {
            self.resources.iter().any(|rule| rule.matches(info))
        } else {
            self.paths.iter().any(|rule| rule.matches(info))
        };
        asks && self.subjects.iter().any(|subject| subject.is(user))
    }
}

impl Subject {
    fn read(tree: &Value) -> Option<Self> {
        let text = |kind: &str, field: &str| tree.get(kind)?.get(field)?.as_str().map(str::to_owned);
        Some(match tree.get("kind")?.as_str()? {
            "User" => text("user", "name").map(|name| if name == "*" { Self::Anybody } else { Self::User(name) })?,
            "Group" => text("group", "name").map(|name| if name == "*" { Self::Anybody } else { Self::Group(name) })?,
            "ServiceAccount" => {
                let (namespace, name) = (text("serviceAccount", "namespace")?, text("serviceAccount", "name")?);
                let all = format!("system:serviceaccount:{namespace}:");
                if name == "*" { Self::Accounts(all) } else { Self::User(all + &name) }
            }
            _ => return None,
        })
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Self::Anybody => true,
            Self::User(name) => user.name == *name,
            Self::Group(name) => user.groups.contains(name),
            Self::Accounts(prefix) => user.name.starts_with(prefix),
        }
    }
}

impl Resources {
    fn matches(&self, info: &RequestInfo) -> bool {
        let place = || match info.namespace.as_str() {
            "" => self.cluster,
            namespace => self.namespaces.have(namespace),
        };
        self.verbs.have(info.verb())
            && self.groups.have(&info.group)
            && self.resources.have_resource(&info.resource, &info.subresource)
            && place()
    }
}

impl Paths {
    fn matches(&self, info: &RequestInfo) -> bool {
        let is_below = |rule: &str| {
            let folder = rule.strip_suffix('*').unwrap_or(rule);
            let folder = folder.strip_suffix('/').unwrap_or(folder);
            info.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
        };
        self.verbs.have(info.verb())
            && self.paths.iter().any(|rule| rule == "*" || *rule == info.path || is_below(rule))
    }
}

fn texts(tree: &Value, field: &str) -> Vec<String> {
    let list = tree.get(field).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::request::query::Query;

    fn user(name: &str, groups: &[&str]) -> User {
        User { name: name.into(), groups: groups.iter().map(|group| (*group).to_owned()).collect(), ..User::default() }
    }

    #[test]
    fn subjects_are_users_groups_and_accounts() {
        let is = |tree: Value, user: &User| Subject::read(&tree).unwrap().is(user);
        let account = user("system:serviceaccount:kube-system:a", &["system:serviceaccounts"]);
        assert!(is(json!({"kind": "User", "user": {"name": "*"}}), &account));
        assert!(is(json!({"kind": "Group", "group": {"name": "system:serviceaccounts"}}), &account));
        let of = |namespace: &str, name: &str| json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}});
        assert!(is(of("kube-system", "a"), &account) && is(of("kube-system", "*"), &account));
        assert!(!is(of("kube-system", "b"), &account) && !is(of("kube", "*"), &account));
        assert!(!is(json!({"kind": "User", "user": {"name": "a"}}), &account));
    }

    #[test]
    fn resources_are_matched_with_their_subresource_and_place() {
        let rule = Rule::read(&json!({
            "subjects": [{"kind": "Group", "group": {"name": "*"}}],
            "resourceRules": [
                {"verbs": ["get", "update"], "apiGroups": [""], "resources": ["pods", "nodes/status"],
                 "namespaces": ["a"], "clusterScope": true},
            ],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/logs/*"]}],
        }));
        let matches = |method: Method, path: &str| {
            rule.matches(&user("u", &[]), &RequestInfo::parse(&method, path, &Query::parse("")))
        };
        assert!(matches(Method::GET, "/api/v1/namespaces/a/pods/p"));
        assert!(matches(Method::PUT, "/api/v1/nodes/n/status"));
        assert!(matches(Method::GET, "/healthz") && matches(Method::GET, "/healthz/ping"));
        assert!(matches(Method::GET, "/logs/a"));
        for (method, path) in [
            (Method::GET, "/api/v1/namespaces/b/pods/p"),
            (Method::GET, "/api/v1/namespaces/a/pods/p/status"),
            (Method::GET, "/api/v1/nodes/n"),
            (Method::DELETE, "/api/v1/namespaces/a/pods/p"),
            (Method::GET, "/apis/apps/v1/namespaces/a/pods/p"),
            (Method::GET, "/healthzz"),
            (Method::POST, "/healthz"),
        ] {
            assert!(!matches(method, path), "{path}");
        }
    }
}
