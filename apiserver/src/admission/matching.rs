//! Which requests a webhook or an admission policy is about: rules over resources, and selectors over labels (upstream's
//! `plugin/webhook/predicates` and `plugin/policy/matching`).

use api::selector::LabelSelector;
use api::status::Qualified;
use api::{ApiError, Object, Resource};
use serde_json::Value;

use super::{Attributes, Namespaces, Operation, list};

/// What is exempt from webhooks and policies, so that nobody locks themselves out of repairing them.
const EXEMPT: [&str; 6] = [
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
];

/// What is kept from policies besides: reviews, without which a cluster stands still.
const REVIEWS: [&str; 2] = ["authentication.k8s.io", "authorization.k8s.io"];

/// The requests that a webhook or policy asked for.
#[derive(Clone, Debug)]
pub struct Criteria {
    /// `None` for everything.
    rules: Option<Vec<Rule>>,
    excluded: Vec<Rule>,
    namespaces: LabelSelector,
    objects: LabelSelector,
    /// Whether a rule for one version of a resource is meant for its other versions too.
    equivalent: bool,
    is_policy: bool,
}

/// Operations on resources.
#[derive(Clone, Debug)]
struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// With subresources: `pods`, `pods/log`, `*/scale`.
    resources: Vec<String>,
    /// Empty for all.
    names: Vec<String>,
    /// Whether only namespaced resources, or only others, are meant.
    namespaced: Option<bool>,
}

impl Criteria {
    /// Those of one entry of `webhooks`: no rules mean nothing.
    pub fn of_webhook(webhook: &Value) -> Result<Self, ApiError> {
        let rules = rules(webhook, "rules");
        Ok(Self { is_policy: false, ..Self::read(webhook, Some(rules), Vec::new())? })
    }

    /// Those of a policy's `matchConstraints` or a binding's `matchResources`: no rules mean everything.
    pub fn of_policy(constraints: &Value) -> Result<Self, ApiError> {
        let included = Some(rules(constraints, "resourceRules")).filter(|rules| !rules.is_empty());
        Self::read(constraints, included, rules(constraints, "excludeResourceRules"))
    }

    fn read(tree: &Value, rules: Option<Vec<Rule>>, excluded: Vec<Rule>) -> Result<Self, ApiError> {
        let selector = |field: &str| match tree.get(field).filter(|selector| !selector.is_null()) {
            None => Ok(LabelSelector::everything()),
            selector => LabelSelector::of_value(selector),
        };
        Ok(Self {
            rules,
            excluded,
            namespaces: selector("namespaceSelector")?,
            objects: selector("objectSelector")?,
            is_policy: true,
            equivalent: tree.get("matchPolicy").and_then(Value::as_str) != Some("Exact"),
        })
    }

    /// Whether a request is meant, and if so, the resource in the version that the rules name: the one in which the
    /// request's objects shall be shown.
    pub async fn matches<'a>(
        &self,
        attributes: &Attributes<'a>,
        object: Option<&Object>,
        namespaces: &Namespaces,
    ) -> Result<Option<&'a Resource>, ApiError> {
        let Some(row) = self.resource(attributes) else { return Ok(None) };
        let meant =
            self.selects_object(attributes, object) && self.selects_namespace(attributes, object, namespaces).await?;
        Ok(meant.then_some(row))
    }

    /// The part of [`Self::matches`] that looks at neither objects nor namespaces.
    fn resource<'a>(&self, attributes: &Attributes<'a>) -> Option<&'a Resource> {
        let is_review = self.is_policy && REVIEWS.contains(&attributes.resource.group.as_ref());
        if is_exempt(attributes.resource) || is_review || self.find(&self.excluded, attributes).is_some() {
            return None;
        }
        match &self.rules {
            None => Some(attributes.requested),
            Some(rules) => self.find(rules, attributes),
        }
    }

    fn find<'a>(&self, rules: &[Rule], attributes: &Attributes<'a>) -> Option<&'a Resource> {
        if rules.iter().any(|rule| rule.matches(attributes, attributes.requested)) {
            return Some(attributes.requested);
        }
        if !self.equivalent {
            return None;
        }
        // Earlier rules go first, whatever the order of versions.
        rules.iter().find_map(|rule| equivalents(attributes).find(|row| rule.matches(attributes, row)))
    }

    fn selects_object(&self, attributes: &Attributes<'_>, object: Option<&Object>) -> bool {
        let selected = |object: &Object| object.root().contains_key("metadata") && self.objects.matches(object);
        self.objects.is_everything() || object.is_some_and(selected) || attributes.old.is_some_and(selected)
    }

    async fn selects_namespace(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Object>,
        namespaces: &Namespaces,
    ) -> Result<bool, ApiError> {
        let name = attributes.namespace_name();
        // What lies in no namespace is exempt from nothing.
        if self.namespaces.is_everything() || (name.is_empty() && !attributes.is_namespace()) {
            return Ok(true);
        }
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        if let Some(namespace) = object.filter(|_| writes && attributes.is("", "namespaces")) {
            return Ok(self.namespaces.matches(namespace));
        }
        let missing = || ApiError::not_found(Qualified { group: "", resource: "namespaces" }, name);
        let namespace = namespaces.get(name).await?.ok_or_else(missing)?;
        Ok(self.namespaces.matches(namespace.tree()))
    }
}

/// Whether webhooks and policies are kept out of a resource.
fn is_exempt(resource: &Resource) -> bool {
    resource.group == "admissionregistration.k8s.io" && EXEMPT.contains(&resource.plural.as_ref())
}

/// The other versions of the resource that a request is about, and its twin in another group.
fn equivalents<'a>(attributes: &Attributes<'a>) -> impl Iterator<Item = &'a Resource> {
    let (requested, subresource) = (attributes.requested, attributes.subresource.to_owned());
    let rows = attributes.catalog.iter().map(AsRef::as_ref);
    rows.filter(move |row: &&Resource| {
        row.storage_prefix == requested.storage_prefix
            && (row.group != requested.group || row.version != requested.version)
            && (subresource.is_empty() || row.has_subresource(&subresource))
    })
}

fn rules(tree: &Value, field: &str) -> Vec<Rule> {
    list(tree, field).map(Rule::read).collect()
}

impl Rule {
    fn read(tree: &Value) -> Self {
        let texts =
            |field: &str| -> Vec<String> { list(tree, field).filter_map(Value::as_str).map(str::to_owned).collect() };
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            namespaced: match tree.get("scope").and_then(Value::as_str) {
                Some("Namespaced") => Some(true),
                Some("Cluster") => Some(false),
                _ => None,
            },
        }
    }

    /// Whether a request is meant when it is seen as one for `row`.
    fn matches(&self, attributes: &Attributes<'_>, row: &Resource) -> bool {
        let any = |list: &[String], value: &str| list.iter().any(|known| known == "*" || known == value);
        any(&self.operations, attributes.operation.as_str())
            && any(&self.groups, &row.group)
            && any(&self.versions, &row.version)
            && self.resources.iter().any(|pattern| is_resource(pattern, row, attributes.subresource))
            && (self.names.is_empty() || self.names.iter().any(|name| name == attributes.name))
            && self.namespaced.is_none_or(|namespaced| namespaced == row.namespaced)
    }
}

fn is_resource(pattern: &str, row: &Resource, subresource: &str) -> bool {
    let (plural, sub) = pattern.split_once('/').unwrap_or((pattern, ""));
    (plural == "*" || plural == row.plural) && (sub == "*" || sub == subresource)
}

#[cfg(test)]
mod tests {
    use api::catalog::Catalog;
    use api::strategy::User;
    use serde_json::json;

    use super::*;

    /// The version of the rule that a request matches.
    fn matched(criteria: &Criteria, (group, version, plural): (&str, &str, &str), subresource: &str) -> Option<String> {
        matched_as(criteria, (group, version, plural), subresource, Operation::Create)
    }

    fn matched_as(
        criteria: &Criteria,
        (group, version, plural): (&str, &str, &str),
        subresource: &str,
        operation: Operation,
    ) -> Option<String> {
        let (catalog, user) = (Catalog::builtin(), User::default());
        let requested = catalog.resource(group, version, plural).unwrap();
        let attributes = Attributes {
            operation,
            resource: catalog.storage_row(requested),
            requested,
            catalog: &catalog,
            subresource,
            namespace: if requested.namespaced { "default" } else { "" },
            name: "web",
            user: &user,
            dry_run: false,
            old: None,
            options: None,
            reinvocation: None,
        };
        criteria.resource(&attributes).map(Resource::api_version)
    }

    fn rule(groups: &[&str], versions: &[&str], resources: &[&str]) -> Value {
        json!({"operations": ["CREATE"], "apiGroups": groups, "apiVersions": versions, "resources": resources})
    }

    fn webhook(rules: Value) -> Criteria {
        Criteria::of_webhook(&json!({"rules": rules})).unwrap()
    }

    #[test]
    fn rules_name_resources_and_subresources_apart() {
        let pods = webhook(json!([rule(&[""], &["v1"], &["pods", "nodes/status"])]));
        assert_eq!(matched(&pods, ("", "v1", "pods"), "").as_deref(), Some("v1"));
        assert_eq!(matched(&pods, ("", "v1", "pods"), "exec"), None);
        assert_eq!(matched(&pods, ("", "v1", "nodes"), ""), None);
        assert_eq!(matched(&pods, ("", "v1", "nodes"), "status").as_deref(), Some("v1"));
        let all = webhook(json!([rule(&["*"], &["*"], &["*/*"])]));
        assert!(matched(&all, ("", "v1", "pods"), "exec").is_some());
        assert_eq!(matched_as(&all, ("", "v1", "pods"), "exec", Operation::Connect), None);
        let scales = webhook(json!([rule(&["apps"], &["*"], &["*/scale"])]));
        assert!(matched(&scales, ("apps", "v1", "deployments"), "scale").is_some());
        assert_eq!(matched(&scales, ("apps", "v1", "deployments"), ""), None);
    }

    #[test]
    fn a_rule_for_one_version_means_its_equivalents_unless_it_is_exact() {
        let hook = |policy: &str| json!({"matchPolicy": policy, "rules": [rule(&["autoscaling"], &["v2"], &["*"])]});
        let request = ("autoscaling", "v1", "horizontalpodautoscalers");
        let equivalent = Criteria::of_webhook(&hook("Equivalent")).unwrap();
        assert_eq!(matched(&equivalent, request, "").as_deref(), Some("autoscaling/v2"));
        assert_eq!(matched(&Criteria::of_webhook(&hook("Exact")).unwrap(), request, ""), None);
        let core = webhook(json!([rule(&[""], &["v1"], &["events"])]));
        assert_eq!(matched(&core, ("events.k8s.io", "v1", "events"), "").as_deref(), Some("v1"));
    }

    #[test]
    fn a_scope_keeps_namespaced_and_other_resources_apart() {
        let scoped = |scope: &str| {
            let mut rule = rule(&["*"], &["*"], &["*"]);
            rule["scope"] = scope.into();
            webhook(json!([rule]))
        };
        for (scope, pods, namespaces) in [("Namespaced", true, false), ("Cluster", false, true), ("*", true, true)] {
            assert_eq!(matched(&scoped(scope), ("", "v1", "pods"), "").is_some(), pods, "{scope}");
            assert_eq!(matched(&scoped(scope), ("", "v1", "namespaces"), "").is_some(), namespaces, "{scope}");
        }
    }

    #[test]
    fn policies_without_rules_mean_everything_but_what_they_exclude() {
        let all = Criteria::of_policy(&json!({})).unwrap();
        assert!(matched(&all, ("", "v1", "pods"), "").is_some());
        let excluded = json!({"excludeResourceRules": [rule(&[""], &["v1"], &["pods"])]});
        let but_pods = Criteria::of_policy(&excluded).unwrap();
        assert_eq!(matched(&but_pods, ("", "v1", "pods"), ""), None);
        assert!(matched(&but_pods, ("", "v1", "secrets"), "").is_some());
        assert_eq!(matched(&webhook(json!([])), ("", "v1", "pods"), ""), None);
        let named = |name: &str| {
            let mut rule = rule(&[""], &["v1"], &["pods"]);
            rule["resourceNames"] = json!([name]);
            Criteria::of_policy(&json!({"resourceRules": [rule]})).unwrap()
        };
        assert!(matched(&named("web"), ("", "v1", "pods"), "").is_some());
        assert_eq!(matched(&named("db"), ("", "v1", "pods"), ""), None);
    }

    #[test]
    fn reviews_are_shown_to_webhooks_but_not_to_policies() {
        let request = ("authorization.k8s.io", "v1", "subjectaccessreviews");
        assert!(matched(&webhook(json!([rule(&["*"], &["*"], &["*"])])), request, "").is_some());
        assert_eq!(matched(&Criteria::of_policy(&json!({})).unwrap(), request, ""), None);
    }

    #[test]
    fn webhooks_and_policies_do_not_rule_over_themselves() {
        let all = webhook(json!([rule(&["*"], &["*"], &["*"])]));
        for plural in EXEMPT {
            assert_eq!(matched(&all, ("admissionregistration.k8s.io", "v1", plural), ""), None, "{plural}");
        }
    }
}
