//! A policy rule: what it allows, and whether rules cover others. Upstream: `component-helpers/auth/rbac/validation`.

use std::fmt;

use serde_json::Value;

use super::Attributes;

/// One rule of a Role or ClusterRole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    /// `pods`, `pods/log`, `*`, `*/scale`.
    pub resources: Vec<String>,
    /// Empty for all names.
    pub names: Vec<String>,
    /// Paths that are not resources; a last `*` matches all that follows.
    pub paths: Vec<String>,
}

impl Rule {
    /// Reads a rule of an object; absent and ill-typed lists are empty.
    pub fn read(tree: &Value) -> Self {
        let list = |field: &str| {
            let items = tree.get(field).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            paths: list("nonResourceURLs"),
        }
    }

    /// Reads the `rules` of a role.
    pub fn read_all(rules: Option<&Value>) -> Vec<Self> {
        rules.and_then(Value::as_array).into_iter().flatten().map(Self::read).collect()
    }

    /// The rule as it stands in an object.
    pub fn to_value(&self) -> Value {
        let mut tree = serde_json::Map::new();
        tree.insert("verbs".into(), self.verbs.clone().into());
        let lists = [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ];
        for (field, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            tree.insert(field.into(), list.clone().into());
        }
        tree.into()
    }

    /// Whether it allows what somebody wants to do.
    pub fn allows(&self, wanted: &Attributes) -> bool {
        if !has(&self.verbs, &wanted.verb) {
            return false;
        }
        if !wanted.is_resource {
            return self.paths.iter().any(|path| path_matches(path, &wanted.path));
        }
        has(&self.groups, &wanted.group)
            && self.resources.iter().any(|rule| resource_matches(rule, &wanted.resource, &wanted.subresource))
            && (self.names.is_empty() || self.names.contains(&wanted.name))
    }

    /// The same rule in its smallest parts: one verb, group, resource and name (or path) each.
    fn parts(&self) -> Vec<Self> {
        let one = |text: &String| vec![text.clone()];
        let mut parts = Vec::new();
        for verb in &self.verbs {
            parts.extend(self.paths.iter().map(|path| Self { verbs: one(verb), paths: one(path), ..Self::default() }));
            for (group, resource) in
                self.groups.iter().flat_map(|group| self.resources.iter().map(move |resource| (group, resource)))
            {
                let part = Self { verbs: one(verb), groups: one(group), resources: one(resource), ..Self::default() };
                if self.names.is_empty() {
                    parts.push(part);
                } else {
                    parts.extend(self.names.iter().map(|name| Self { names: one(name), ..part.clone() }));
                }
            }
        }
        parts
    }

    /// Whether it allows all that a smallest part allows.
    fn covers_part(&self, part: &Self) -> bool {
        let all = |list: &[String], wanted: &[String]| {
            list.iter().any(|x| x == "*") || wanted.iter().all(|x| list.contains(x))
        };
        let paths =
            || part.paths.iter().all(|path| self.paths.iter().any(|owned| owned == path || path_matches(owned, path)));
        let names = || {
            if part.names.is_empty() {
                self.names.is_empty()
            } else {
                self.names.is_empty() || all(&self.names, &part.names)
            }
        };
        let resources =
            || part.resources.iter().all(|wanted| self.resources.iter().any(|owned| covers_resource(owned, wanted)));
        all(&self.verbs, &part.verbs) && all(&self.groups, &part.groups) && resources() && names() && paths()
    }
}

/// The parts of `wanted` that `owned` does not allow.
pub fn uncovered(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let parts = wanted.iter().flat_map(Rule::parts);
    parts.filter(|part| !owned.iter().any(|rule| rule.covers_part(part))).collect()
}

/// Whether `owned` allows all that `wanted` allows.
pub fn covers(owned: &[Rule], wanted: &Rule) -> bool {
    wanted.parts().iter().all(|part| owned.iter().any(|rule| rule.covers_part(part)))
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|known| known == "*" || known == wanted)
}

fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    match rule.split_once('/') {
        None => rule == "*" || (subresource.is_empty() && rule == resource),
        Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == "*" || of == resource),
    }
}

fn covers_resource(owned: &str, wanted: &str) -> bool {
    owned == "*"
        || owned == wanted
        || wanted.split_once('/').is_some_and(|(_, sub)| owned.strip_prefix("*/") == Some(sub))
}

fn path_matches(rule: &str, path: &str) -> bool {
    rule == "*"
        || rule == path
        || rule.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix.trim_end_matches('*')))
}

/// As upstream's errors show rules: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("ResourceNames", &self.names),
            ("NonResourceURLs", &self.paths),
            ("Verbs", &self.verbs),
        ];
        let shown = lists.iter().filter(|(_, list)| !list.is_empty());
        let texts: Vec<String> = shown.map(|(name, list)| format!("{name}:[{}]", quoted(list))).collect();
        write!(f, "{{{}}}", texts.join(", "))
    }
}

fn quoted(list: &[String]) -> String {
    list.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(tree: Value) -> Rule {
        Rule::read(&tree)
    }

    fn wants(verb: &str, group: &str, resource: &str, name: &str) -> Attributes {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            is_resource: true,
            ..Attributes::default()
        }
    }

    #[test]
    fn a_star_matches_everything_and_a_star_before_a_slash_every_resource_with_that_subresource() {
        let scale = rule(json!({"verbs": ["get"], "apiGroups": ["*"], "resources": ["*/scale"]}));
        assert!(scale.allows(&wants("get", "apps", "deployments/scale", "x")));
        assert!(!scale.allows(&wants("get", "apps", "deployments", "x")));
        let all = rule(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        assert!(all.allows(&wants("escalate", "a", "b/c", "")));
        let pods = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}));
        assert!(!pods.allows(&wants("get", "", "pods/log", "x")), "a resource does not include its subresources");
    }

    #[test]
    fn names_limit_a_rule_to_requests_that_name_them() {
        let one = rule(
            json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"]}),
        );
        assert!(one.allows(&wants("get", "", "configmaps", "a")));
        assert!(!one.allows(&wants("get", "", "configmaps", "b")));
        assert!(!one.allows(&wants("list", "", "configmaps", "")));
    }

    #[test]
    fn a_path_with_a_star_matches_what_follows() {
        let rule = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/apis/*", "/version"]}));
        let path = |path: &str| Attributes { verb: "get".into(), path: path.into(), ..Attributes::default() };
        assert!(rule.allows(&path("/apis/apps")) && rule.allows(&path("/version")));
        assert!(!rule.allows(&path("/apis")) && !rule.allows(&path("/version/")));
    }

    #[test]
    fn what_is_not_covered_is_named_in_smallest_parts() {
        let owned = [rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "*/log"]}))];
        let wanted = [rule(json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]}))];
        let missing: Vec<String> = uncovered(&owned, &wanted).iter().map(ToString::to_string).collect();
        assert_eq!(
            missing,
            [
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["list"]}"#,
                r#"{APIGroups:[""], Resources:["pods/log"], Verbs:["list"]}"#
            ]
        );
        let named = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}));
        assert!(covers(&owned, &named));
        assert!(!covers(&[named], &owned[0]));
    }
}
