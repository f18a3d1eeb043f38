//! ValidatingAdmissionPolicy.

use api::expression::admission::{Scope, Wanted};
use api::{ApiError, Object, Resource};
use async_trait::async_trait;
use cel::Value as Cel;
use serde_json::Value;

use super::store::Policies;
use super::{Attributes, Binding, Body, Expression, Policy, Scene, Surroundings, Turn, denied, list, shown, text};
use crate::admission::expression::Evaluation;
use crate::admission::{ValidatingAdmission, Warnings};
use crate::watch_cache::WatchCache;

/// The longest message that an expression may make.
const MAX_MESSAGE: usize = 5 * 1024;

/// What a policy checks.
struct Validations(Vec<Validation>);

struct Validation {
    expression: Expression,
    message: String,
    message_expression: Option<Expression>,
    reason: String,
}

impl Body for Validations {
    const PLURALS: (&'static str, &'static str) = ("validatingadmissionpolicies", "validatingadmissionpolicybindings");
    const PATCHES: bool = false;

    fn read(spec: &Value, scope: &Scope) -> Self {
        let read = |tree: &Value| Validation {
            expression: Expression::new(scope, text(tree, "expression"), Wanted::Bool),
            message: text(tree, "message").trim().to_owned(),
            message_expression: Some(text(tree, "messageExpression"))
                .filter(|text| !text.trim().is_empty())
                .map(|text| Expression::new(scope, text, Wanted::Text)),
            reason: text(tree, "reason").to_owned(),
        };
        Self(list(spec, "validations").map(read).collect())
    }
}

/// Why a policy does not let a request through.
struct Objection {
    message: String,
    reason: String,
}

impl Objection {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), reason: String::new() }
    }
}

/// Refuses what policies forbid.
pub struct ValidatingPolicies {
    policies: Policies<Validations>,
    surroundings: Surroundings,
}

impl ValidatingPolicies {
    /// Reads policies from the cache.
    pub fn new(cache: &WatchCache, surroundings: &Surroundings) -> Option<Self> {
        Some(Self { policies: Policies::new(cache)?, surroundings: surroundings.clone() })
    }

    /// What a policy has against a request through a binding.
    async fn bound(
        &self,
        policy: &Policy<Validations>,
        binding: &Binding,
        row: &Resource,
        attributes: &Attributes<'_>,
        object: Option<&Object>,
    ) -> Result<Vec<Objection>, ApiError> {
        let all = match self.surroundings.params_of(policy, binding, attributes, object).await? {
            Ok(all) => all,
            Err(why) => return Ok(vec![Objection::new(why)]),
        };
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let scene = Scene::new(attributes, row, &self.surroundings.namespaces).await?;
        let object = shown(attributes, row, object)?;
        let mut found = Vec::new();
        for params in &all {
            let turn = Turn { policy, params: params.as_ref(), row };
            let work = || objections(&turn, &scene, object.as_ref());
            found.extend(scene.answers.settle(&self.surroundings.authz, attributes.user, work).await);
        }
        Ok(found)
    }
}

fn objections(turn: &Turn<'_, Validations>, scene: &Scene, object: Option<&Object>) -> Vec<Objection> {
    let policy = turn.policy;
    let mut evaluation = Evaluation::new(&scene.subject(object, turn.params), &policy.variables);
    match policy.conditions.hold(&mut evaluation) {
        Ok(true) => {}
        Ok(false) => return Vec::new(),
        Err(_) if policy.fails_open => return Vec::new(),
        Err(why) => return vec![Objection::new(why)],
    }
    let mut all = Vec::new();
    for validation in &policy.body.0 {
        let text = validation.expression.text.trim();
        match evaluation.value(&validation.expression) {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => {
                all.push(Objection { message: message(validation, &mut evaluation), reason: validation.reason.clone() })
            }
            Err(_) if policy.fails_open => {}
            Err(err) => all.push(Objection::new(format!("expression '{text}' resulted in error: {err}"))),
        }
    }
    all
}

/// What is said when a validation fails.
fn message(validation: &Validation, evaluation: &mut Evaluation<'_>) -> String {
    let made = validation.message_expression.as_ref().and_then(|expression| evaluation.value(expression).ok());
    let made = made.as_ref().and_then(Cel::as_str).map(str::trim);
    match made.filter(|text| !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n')) {
        Some(made) => made.to_owned(),
        None if validation.message.is_empty() => format!("failed expression: {}", validation.expression.text.trim()),
        None => validation.message.clone(),
    }
}

#[async_trait]
impl ValidatingAdmission for ValidatingPolicies {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Object>,
        warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        let Some(bound) = self.policies.current() else { return Ok(()) };
        let mut refused = None;
        for (policy, bindings) in bound.iter() {
            let Some(row) = policy.wants(attributes, object, &self.surroundings.namespaces).await? else { continue };
            for binding in bindings {
                let head = format!("ValidatingAdmissionPolicy '{}' with binding '{}'", policy.name, binding.name);
                for objection in self.bound(policy, binding, row, attributes, object).await? {
                    if binding.deny {
                        refused.get_or_insert_with(|| refuse(attributes, &head, &objection));
                    }
                    if binding.warn {
                        warnings.push(format!("Validation failed for {head}: {}", objection.message));
                    }
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }
}

fn refuse(attributes: &Attributes<'_>, head: &str, objection: &Objection) -> ApiError {
    denied(attributes, &format!("{head} denied request: {}", objection.message), &objection.reason)
}
