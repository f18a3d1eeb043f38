//! Fills ClusterRoles that are made of others: their rules are those of all roles that their selectors choose
//! (upstream: `pkg/controller/clusterroleaggregation`).

use client::{Informer, ObjectKey, WorkQueue, write};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::core::Selector;
use serde_json::json;

use crate::context::{Context, Controller, Outcome};
use crate::descriptor::Descriptor;
use crate::selectors;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "clusterrole-aggregation-controller",
    aliases: &["clusterrole-aggregation"],
    start: |start| {
        start.drive("clusterrole-aggregation", Aggregation::new(start.context), start.config.tuning.concurrent_syncs)
    },
};

const MANAGER: &str = "clusterrole-aggregation-controller";

struct Aggregation {
    client: kube::Client,
    roles: Informer<ClusterRole>,
}

impl Aggregation {
    fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let roles = context.informers.of::<ClusterRole>();
        let (changed, known) = (queue.clone(), roles.clone());
        // Any role may be part of any that is made of others; there are few of the latter.
        roles.on_event(move |event| {
            if is_aggregated(event.object()) {
                changed.add(event.key());
            }
            for role in known.list().iter().filter(|role| is_aggregated(role)) {
                changed.add(ObjectKey::of(&**role));
            }
        });
        (Self { client: context.client.clone(), roles }, queue)
    }
}

impl Controller for Aggregation {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(role) = self.roles.get(&key).filter(|role| is_aggregated(role)) else { return Ok(None) };
        let mut all = self.roles.list();
        all.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
        let rules = gathered(&role, all.iter().map(|role| &**role));
        if role.rules.as_deref().unwrap_or_default() == rules {
            return Ok(None);
        }
        let api: Api<ClusterRole> = Api::all(self.client.clone());
        let change = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": { "name": key.name, "uid": role.metadata.uid }, "rules": rules,
        });
        let params = PatchParams::apply(MANAGER).force();
        write::ignore_not_found(api.patch(&key.name, &params, &Patch::Apply(change)).await)?;
        Ok(None)
    }
}

fn is_aggregated(role: &ClusterRole) -> bool {
    role.aggregation_rule.is_some()
}

/// The rules of all roles but itself that one of its selectors chooses, each once, in the order of selectors and names.
fn gathered<'a>(role: &ClusterRole, all: impl Iterator<Item = &'a ClusterRole> + Clone) -> Vec<PolicyRule> {
    let selectors = role.aggregation_rule.iter().flat_map(|rule| rule.cluster_role_selectors.iter().flatten());
    let mut rules: Vec<PolicyRule> = Vec::new();
    // What is no selector chooses nothing.
    for selector in selectors.filter_map(|selector| Selector::try_from(selector.clone()).ok()) {
        let others = all.clone().filter(|other| other.metadata.name != role.metadata.name);
        for rule in others.filter(|other| selectors::matches(&selector, &other.metadata)).flat_map(|other| &other.rules)
        {
            for rule in rule {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value};

    use super::*;

    fn role(name: &str, label: &str, verbs: &[&str]) -> ClusterRole {
        let rules: Vec<Value> = verbs.iter().map(|verb| json!({ "verbs": [verb] })).collect();
        from_value(json!({ "metadata": { "name": name, "labels": { "to": label } }, "rules": rules })).unwrap()
    }

    #[test]
    fn a_role_gathers_the_rules_of_others_once_each() {
        let selector = |label: &str| json!({ "matchLabels": { "to": label } });
        let mut edit = role("edit", "admin", &["own"]);
        edit.aggregation_rule =
            Some(from_value(json!({ "clusterRoleSelectors": [selector("edit"), selector("view")] })).unwrap());
        let all = [
            role("a", "view", &["get", "list"]),
            role("b", "edit", &["update", "get"]),
            role("c", "admin", &["delete"]),
            edit.clone(),
        ];
        let verbs: Vec<String> = gathered(&edit, all.iter()).into_iter().flat_map(|rule| rule.verbs).collect();
        assert_eq!(verbs, ["update", "get", "list"]);
    }

    #[test]
    fn a_role_does_not_gather_itself() {
        let mut all = role("all", "all", &["own"]);
        all.aggregation_rule = Some(from_value(json!({ "clusterRoleSelectors": [{}] })).unwrap());
        assert!(gathered(&all, std::iter::once(&all)).is_empty());
    }
}
