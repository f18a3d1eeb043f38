//! Nobody grants what they do not hold: writes of roles and bindings need the granted permissions themselves, or the
//! verb `escalate` (roles) or `bind` (bindings). Part of RBAC, so it cannot be disabled.

use std::sync::Arc;

use api::status::Qualified;
use api::{ApiError, Object};
use async_trait::async_trait;

use super::{Phases, Plugin};
use crate::admission::{Attributes, Operation, Outcome, ValidatingAdmission, Warnings};
use crate::authz::{self, Chain, Rbac, Rule, uncovered};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) const PLUGIN: Plugin = Plugin::always("RBACEscalation", |server| {
    Phases::validating(Escalation { rbac: server.rbac.clone(), authz: server.authz.clone() })
});

struct Escalation {
    /// Knows the rules that users hold.
    rbac: Arc<Rbac>,
    /// Is asked for the verbs.
    authz: Arc<Chain>,
}

impl Escalation {
    async fn may(&self, attributes: &Attributes<'_>, verb: &str, resource: &str, name: &str) -> bool {
        let asked = authz::Attributes {
            user: attributes.user.clone(),
            verb: verb.into(),
            namespace: attributes.namespace.into(),
            group: GROUP.into(),
            version: "v1".into(),
            resource: resource.into(),
            name: name.into(),
            is_resource: true,
            ..authz::Attributes::default()
        };
        self.authz.authorize(&asked).await.is_ok()
    }

    fn check(&self, attributes: &Attributes<'_>, name: &str, granted: &[Rule]) -> Result<(), ApiError> {
        let held = self.rbac.rules_of(attributes.user, attributes.namespace);
        let missing = uncovered(&held.rules, granted);
        if missing.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<String> = compact(missing).iter().map(ToString::to_string).collect();
        lines.sort();
        let groups: Vec<String> = attributes.user.groups.iter().map(|group| format!("{group:?}")).collect();
        let mut why = format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            attributes.user.name,
            groups.join(" "),
            lines.join("\n")
        );
        if !held.errors.is_empty() {
            why.push_str(&format!("; resolution errors: [{}]", held.errors.join(", ")));
        }
        Err(ApiError::forbidden(attributes.resource.qualified(), name, &why))
    }

    async fn role(&self, attributes: &Attributes<'_>, role: &Object) -> Result<(), ApiError> {
        if is_for_the_collector(attributes.old, role)
            || self.may(attributes, "escalate", &attributes.resource.plural, role.name()).await
        {
            return Ok(());
        }
        // Also when the rules stay as they are: a label can make them a part of another role.
        self.check(attributes, role.name(), &Rule::read_all(role.get(&["rules"])))?;
        // Who decides what is gathered decides all rules.
        let gathers = |role: &Object| role.get(&["aggregationRule"]).is_some_and(|rule| !rule.is_null());
        if gathers(role) || attributes.old.is_some_and(gathers) {
            let all = |list: &str| vec![list.to_owned()];
            let everything = [
                Rule { verbs: all("*"), groups: all("*"), resources: all("*"), ..Rule::default() },
                Rule { verbs: all("*"), paths: all("*"), ..Rule::default() },
            ];
            let held = self.rbac.rules_of(attributes.user, "");
            if !uncovered(&held.rules, &everything).is_empty() {
                let why = "must have cluster-admin privileges to use the aggregationRule";
                return Err(ApiError::forbidden(attributes.resource.qualified(), role.name(), why));
            }
        }
        Ok(())
    }

    async fn binding(&self, attributes: &Attributes<'_>, binding: &Object) -> Result<(), ApiError> {
        if is_for_the_collector(attributes.old, binding) {
            return Ok(());
        }
        let of_role = |field: &str| binding.text(&["roleRef", field]);
        let cluster = of_role("kind") == "ClusterRole";
        let (plural, namespace) = if cluster { ("clusterroles", "") } else { ("roles", attributes.namespace) };
        if self.may(attributes, "bind", plural, of_role("name")).await {
            return Ok(());
        }
        let missing =
            || ApiError::not_found(Qualified { group: GROUP, resource: &attributes.resource.plural }, of_role("name"));
        let granted = self.rbac.role(namespace, of_role("name")).ok_or_else(missing)?;
        self.check(attributes, binding.name(), &granted)
    }
}

/// Whether an update changes only what the garbage collector has to (upstream's IsOnlyMutatingGCFields). Nothing else is
/// harmless beforehand.
fn is_for_the_collector(old: Option<&Object>, new: &Object) -> bool {
    const SYSTEM: [&str; 5] = ["ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation"];
    let rest = |object: &Object| {
        let mut rest = object.clone();
        SYSTEM.iter().for_each(|field| drop(rest.metadata_mut().remove(*field)));
        rest
    };
    old.is_some_and(|old| rest(old) == rest(new))
}

/// Joins the verbs of parts that are otherwise the same.
fn compact(parts: Vec<Rule>) -> Vec<Rule> {
    let mut joined: Vec<Rule> = Vec::new();
    for part in parts {
        let same = |known: &&mut Rule| {
            known.paths.is_empty()
                && part.paths.is_empty()
                && known.groups == part.groups
                && known.resources == part.resources
                && known.names == part.names
        };
        match joined.iter_mut().find(same) {
            Some(known) => known.verbs.extend(part.verbs),
            None => joined.push(part),
        }
    }
    joined
}

#[async_trait]
impl ValidatingAdmission for Escalation {
    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>, _: &mut Warnings) -> Outcome {
        let is_write = matches!(attributes.operation, Operation::Create | Operation::Update);
        let Some(object) = object.filter(|_| is_write && attributes.resource.group == GROUP) else { return Ok(()) };
        if attributes.user.groups.iter().any(|group| group == authz::MASTERS) {
            return Ok(());
        }
        self.rbac.settle().await?;
        match attributes.resource.plural.as_ref() {
            "roles" | "clusterroles" => self.role(attributes, object).await,
            "rolebindings" | "clusterrolebindings" => self.binding(attributes, object).await,
            _ => Ok(()),
        }
    }
}
