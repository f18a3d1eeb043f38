//! ValidatingAdmissionPolicy.

use std::collections::BTreeMap;

use api::expression::admission::{Scope, Wanted};
use api::{ApiError, Object, Resource};
use async_trait::async_trait;
use cel::Value as Cel;
use serde::Serialize;
use serde_json::Value;

use super::store::Policies;
use super::{Attributes, Binding, Body, Expression, Policy, Scene, Turn, denied, list, params_of, shown, text};
use crate::admission::expression::Evaluation;
use crate::admission::plugins::{Phases, Plugin};
use crate::admission::{Environment, Outcome, ValidatingAdmission, Warnings};
use crate::audit;

pub(in crate::admission::plugins) const PLUGIN: Plugin = Plugin::on("ValidatingAdmissionPolicy", |server| {
    Phases::validating(ValidatingPolicies { policies: Policies::new(&server.cache)?, environment: server.clone() })
});

/// The longest message that an expression may make.
const MAX_MESSAGE: usize = 5 * 1024;
/// Longer annotations are cut.
const MAX_ANNOTATION: usize = 10 * 1024;
/// The annotation that tells of a validation that failed.
const FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";

/// What a policy checks, and what it adds to the audit log.
struct Validations {
    checks: Vec<Validation>,
    annotations: Vec<(String, Expression)>,
}

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
        let check = |tree: &Value| Validation {
            expression: Expression::new(scope, text(tree, "expression"), Wanted::Bool),
            message: text(tree, "message").trim().to_owned(),
            message_expression: Some(text(tree, "messageExpression"))
                .filter(|text| !text.trim().is_empty())
                .map(|text| Expression::new(scope, text, Wanted::Text)),
            reason: text(tree, "reason").to_owned(),
        };
        let annotation = |tree: &Value| {
            let expression = Expression::new(scope, text(tree, "valueExpression"), Wanted::TextOrNull);
            (text(tree, "key").to_owned(), expression)
        };
        Self {
            checks: list(spec, "validations").map(check).collect(),
            annotations: list(spec, "auditAnnotations").map(annotation).collect(),
        }
    }
}

/// Why a policy does not let a request through.
struct Objection {
    /// The place of the validation in the policy.
    index: usize,
    message: String,
    reason: String,
}

impl Objection {
    fn new(index: usize, message: impl Into<String>) -> Self {
        Self { index, message: message.into(), reason: String::new() }
    }
}

/// What a policy says of a request.
#[derive(Default)]
struct Findings {
    /// What becomes of them is the binding's business.
    objections: Vec<Objection>,
    /// For the audit log.
    annotations: Vec<(String, String)>,
    /// Annotations that could not be made, which refuse the request.
    failures: Vec<Objection>,
}

/// How the audit log tells of a validation that failed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure<'a> {
    message: &'a str,
    policy: &'a str,
    binding: &'a str,
    expression_index: usize,
    validation_actions: &'a [String],
}

struct ValidatingPolicies {
    policies: Policies<Validations>,
    environment: Environment,
}

impl ValidatingPolicies {
    /// What a policy says of a request through a binding.
    async fn bound(
        &self,
        policy: &Policy<Validations>,
        binding: &Binding,
        row: &Resource,
        attributes: &Attributes<'_>,
        object: Option<&Object>,
    ) -> Result<Findings, ApiError> {
        let mut findings = Findings::default();
        let all = match params_of(&self.environment, (policy, binding), attributes, object).await? {
            Ok(all) => all,
            Err(why) => {
                findings.failures.push(Objection::new(0, why));
                return Ok(findings);
            }
        };
        if all.is_empty() {
            return Ok(findings);
        }
        let scene = Scene::new(attributes, row, &self.environment).await?;
        let object = shown(&self.environment, attributes, row, object).await?;
        for params in &all {
            let turn = Turn { policy, params: params.as_ref(), row };
            let work = || find(&turn, &scene, object.as_ref());
            let found = scene.answers.settle(&self.environment.authz, attributes.user, work).await;
            findings.objections.extend(found.objections);
            findings.annotations.extend(found.annotations);
            findings.failures.extend(found.failures);
        }
        Ok(findings)
    }
}

fn find(turn: &Turn<'_, Validations>, scene: &Scene, object: Option<&Object>) -> Findings {
    let policy = turn.policy;
    let mut findings = Findings::default();
    let mut evaluation = Evaluation::new(&scene.subject(object, turn.params), &policy.variables);
    match policy.conditions.hold(&mut evaluation) {
        Ok(true) => {}
        Err(why) if !policy.fails_open => {
            findings.objections.push(Objection::new(0, why));
            return findings;
        }
        Ok(false) | Err(_) => return findings,
    }
    for (index, check) in policy.body.checks.iter().enumerate() {
        match evaluation.value(&check.expression) {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => {
                let (message, reason) = (message(check, &mut evaluation), check.reason.clone());
                findings.objections.push(Objection { index, message, reason });
            }
            Err(_) if policy.fails_open => {}
            Err(err) => findings.objections.push(Objection::new(index, in_words(&check.expression, &err))),
        }
    }
    if policy.body.annotations.is_empty() {
        return findings;
    }
    // They have a budget of their own.
    let mut evaluation = Evaluation::new(&scene.subject(object, turn.params), &policy.variables);
    for (key, expression) in &policy.body.annotations {
        match evaluation.value(expression) {
            Ok(value) => {
                let text = value.as_str().map(str::trim).filter(|text| !text.is_empty());
                findings.annotations.extend(text.map(|text| (key.clone(), cut(text))));
            }
            Err(_) if policy.fails_open => {}
            Err(err) => findings.failures.push(Objection::new(0, in_words(expression, &err))),
        }
    }
    findings
}

fn in_words(expression: &Expression, err: &cel::Error) -> String {
    format!("expression '{}' resulted in error: {err}", expression.text.trim())
}

/// A text that is not too long for an annotation.
fn cut(text: &str) -> String {
    let end = (0..=text.len().min(MAX_ANNOTATION)).rev().find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or(0)].to_owned()
}

/// Tells the audit log of a validation that failed; of the first one, if there are several.
fn tell(policy: &str, binding: &Binding, objection: &Objection) {
    let failure = Failure {
        message: &objection.message,
        policy,
        binding: &binding.name,
        expression_index: objection.index,
        validation_actions: &binding.actions,
    };
    if let Ok(text) = serde_json::to_string(&[failure]) {
        audit::annotate(FAILURE, || text);
    }
}

/// Adds the annotations that a policy has made through all its bindings.
fn publish(policy: &str, annotations: Vec<(String, String)>) {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in annotations {
        let values = all.entry(key).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    }
    for (key, values) in all {
        audit::annotate(&format!("{policy}/{key}"), || values.join(", "));
    }
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
    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>, warnings: &mut Warnings) -> Outcome {
        let Some(bound) = self.policies.current().await? else { return Ok(()) };
        let mut refused = None;
        for (policy, bindings) in bound.iter() {
            let Some(row) = policy.wants(attributes, object, &self.environment.namespaces).await? else { continue };
            if let Some(why) = policy.misfit(attributes) {
                if !policy.fails_open {
                    let head = format!("ValidatingAdmissionPolicy '{}'", policy.name);
                    refused.get_or_insert_with(|| refuse(attributes, &head, &Objection::new(0, why)));
                }
                continue;
            }
            let mut annotations = Vec::new();
            for binding in bindings {
                let head = format!("ValidatingAdmissionPolicy '{}' with binding '{}'", policy.name, binding.name);
                let findings = self.bound(policy, binding, row, attributes, object).await?;
                for objection in &findings.objections {
                    if binding.acts("Deny") {
                        refused.get_or_insert_with(|| refuse(attributes, &head, objection));
                    }
                    if binding.acts("Warn") {
                        warnings.push(format!("Validation failed for {head}: {}", objection.message));
                    }
                    if binding.acts("Audit") {
                        tell(&policy.name, binding, objection);
                    }
                }
                for failure in &findings.failures {
                    refused.get_or_insert_with(|| refuse(attributes, &head, failure));
                }
                annotations.extend(findings.annotations);
            }
            publish(&policy.name, annotations);
        }
        refused.map_or(Ok(()), Err)
    }
}

fn refuse(attributes: &Attributes<'_>, head: &str, objection: &Objection) -> ApiError {
    denied(attributes, &format!("{head} denied request: {}", objection.message), &objection.reason)
}
