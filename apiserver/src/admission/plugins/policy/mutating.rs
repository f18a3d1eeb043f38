//! MutatingAdmissionPolicy.

use api::codec::Target;
use api::expression::admission::{Scope, Wanted};
use api::patch::PatchError;
use api::status::{Cause, Details};
use api::{ApiError, Object, Resource};
use async_trait::async_trait;
use cel::{Map, Value as Cel};
use serde_json::Value;

use super::store::{Bound, Policies};
use super::{Attributes, Binding, Body, Expression, Policy, Scene, Turn, list, params_of, shown, text};
use crate::admission::expression::Evaluation;
use crate::admission::plugins::{Phases, Plugin};
use crate::admission::{Environment, MutatingAdmission, Outcome, Warnings};

const NAME: &str = "MutatingAdmissionPolicy";

pub(in crate::admission::plugins) const PLUGIN: Plugin = Plugin::on(NAME, |server| {
    Phases::mutating(MutatingPolicies { policies: Policies::new(&server.cache)?, environment: server.clone() })
});

/// What a policy changes.
struct Mutations {
    steps: Vec<Mutation>,
    /// Whether it acts again when others change what it has seen.
    again: bool,
}

enum Mutation {
    Apply(Expression),
    Patch(Expression),
}

impl Body for Mutations {
    const PLURALS: (&'static str, &'static str) = ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings");
    const PATCHES: bool = true;

    fn read(spec: &Value, scope: &Scope) -> Self {
        let none = Value::Null;
        let expression = |tree: &Value, field: &str, wanted| {
            Expression::new(scope, text(tree.get(field).unwrap_or(&none), "expression"), wanted)
        };
        let read = |tree: &Value| match text(tree, "patchType") {
            "JSONPatch" => Mutation::Patch(expression(tree, "jsonPatch", Wanted::Patch)),
            _ => Mutation::Apply(expression(tree, "applyConfiguration", Wanted::Configuration)),
        };
        Self {
            steps: list(spec, "mutations").map(read).collect(),
            again: text(spec, "reinvocationPolicy") == "IfNeeded",
        }
    }
}

/// A policy's turn through a binding, with one parameter object or without.
struct Call<'a> {
    policy: &'a Policy<Mutations>,
    binding: &'a Binding,
    params: Option<Object>,
    row: &'a Resource,
}

impl Call<'_> {
    /// What tells it from all other calls of a request.
    fn id(&self) -> String {
        let of = self.params.as_ref().map_or_else(String::new, |it| format!("{}/{}", it.namespace(), it.name()));
        format!("{}/{}/{of}", self.policy.name, self.binding.name)
    }
}

/// What a policy has made of an object.
struct Made {
    /// Nothing if the policy is not about it.
    object: Option<Object>,
    /// Why conditions or mutations failed; the other mutations are made all the same.
    failures: Vec<String>,
}

/// Why policies that must not fail did.
#[derive(Default)]
struct Failures(Vec<(String, &'static str)>);

/// The reason of policies that cannot act at all.
const CONFIGURATION: &str = "Forbidden";
/// The reason of policies that fail at an object.
const EVALUATION: &str = "Invalid";

impl Failures {
    fn add(&mut self, policy: &Policy<Mutations>, binding: Option<&Binding>, why: &str, reason: &'static str) {
        if policy.fails_open {
            tracing::warn!(policy = policy.name, why, "a policy failed, and the request goes on without it");
            return;
        }
        let head = match binding {
            Some(binding) => format!("policy '{}' with binding '{}'", policy.name, binding.name),
            None => format!("policy {:?}", policy.name),
        };
        self.0.push((format!("{head} denied request: {why}"), reason));
    }

    /// Refuses the request in the words of the first one.
    fn verdict(self, attributes: &Attributes<'_>) -> Result<(), ApiError> {
        let Some((message, reason)) = self.0.first() else { return Ok(()) };
        let mut error = ApiError::forbidden(attributes.requested.qualified(), attributes.name, message);
        let status = error.status_mut();
        status.message.clone_from(message);
        status.reason = (*reason).to_owned();
        let causes = self.0.into_iter().map(|(message, _)| Cause { message, ..Cause::default() });
        status.details.get_or_insert_with(Details::default).causes.extend(causes);
        Err(error)
    }
}

struct MutatingPolicies {
    policies: Policies<Mutations>,
    environment: Environment,
}

impl MutatingPolicies {
    /// The calls that a request is due, as it is before any of them.
    async fn calls<'a>(
        &self,
        bound: &'a [Bound<Mutations>],
        attributes: &Attributes<'a>,
        object: &Object,
        failures: &mut Failures,
    ) -> Result<Vec<Call<'a>>, ApiError> {
        let mut calls = Vec::new();
        for (policy, bindings) in bound {
            let namespaces = &self.environment.namespaces;
            let Some(row) = policy.wants(attributes, Some(object), namespaces).await? else { continue };
            if let Some(why) = policy.misfit(attributes) {
                failures.add(policy, None, &why, CONFIGURATION);
                continue;
            }
            for binding in bindings {
                match params_of(&self.environment, (policy, binding), attributes, Some(object)).await? {
                    Ok(all) => calls.extend(all.into_iter().map(|params| Call { policy, binding, params, row })),
                    Err(why) => failures.add(policy, Some(binding), &why, CONFIGURATION),
                }
            }
        }
        Ok(calls)
    }

    /// Lets a policy act.
    async fn act(
        &self,
        call: &Call<'_>,
        attributes: &Attributes<'_>,
        object: &mut Object,
        failures: &mut Failures,
    ) -> Result<(), ApiError> {
        let (id, rounds) = (call.id(), attributes.reinvocation);
        if rounds.is_some_and(|rounds| !rounds.is_due(NAME, &id)) {
            return Ok(());
        }
        let scene = Scene::new(attributes, call.row, &self.environment).await?;
        let Some(before) = shown(&self.environment, attributes, call.row, Some(object)).await? else { return Ok(()) };
        let turn = Turn { policy: call.policy, params: call.params.as_ref(), row: call.row };
        let work = || change(&turn, &scene, &before);
        let made = scene.answers.settle(&self.environment.authz, attributes.user, work).await;
        for why in &made.failures {
            failures.add(call.policy, Some(call.binding), why, EVALUATION);
        }
        let Some(after) = made.object else { return Ok(()) };
        let changed = after != before;
        if changed {
            attributes.take(&self.environment.converters, call.row, object, after.into_value()).await?;
        }
        if let Some(rounds) = rounds {
            rounds.called(NAME, &id, changed, call.policy.body.again);
        }
        Ok(())
    }
}

/// The object as the policy makes it.
fn change(turn: &Turn<'_, Mutations>, scene: &Scene, before: &Object) -> Made {
    let policy = turn.policy;
    let held = {
        let mut evaluation = Evaluation::new(&scene.subject(Some(before), turn.params), &policy.variables);
        policy.conditions.hold(&mut evaluation)
    };
    match held {
        Ok(true) => {}
        Ok(false) => return Made { object: None, failures: Vec::new() },
        Err(why) => return Made { object: None, failures: vec![why] },
    }
    let (mut object, mut failures) = (before.clone(), Vec::new());
    for step in &policy.body.steps {
        let next = {
            let mut evaluation = Evaluation::new(&scene.subject(Some(&object), turn.params), &policy.variables);
            step.make(&object, &mut evaluation, turn.row)
        };
        match next {
            Ok(next) => object = next,
            Err(why) => failures.push(why),
        }
    }
    Made { object: Some(object), failures }
}

impl Mutation {
    fn make(&self, object: &Object, evaluation: &mut Evaluation<'_>, row: &Resource) -> Result<Object, String> {
        let (Self::Apply(expression) | Self::Patch(expression)) = self;
        let value = evaluation.value(expression);
        let value = value.map_err(|err| format!("expression '{}' resulted in error: {err}", expression.text.trim()))?;
        match self {
            Self::Apply(_) => apply(object, &value, row).map_err(|why| format!("error applying patch: {why}")),
            Self::Patch(_) => patch(object, &value),
        }
    }
}

/// Merges a configuration as server-side apply does.
fn apply(object: &Object, configuration: &Cel<'_>, row: &Resource) -> Result<Object, String> {
    let configuration = configuration.to_json().map_err(|err| format!("invalid ApplyConfiguration: {err}"))?;
    let (group, version) = object.api_version().split_once('/').unwrap_or(("", object.api_version()));
    let target = match object.kind() {
        kind if kind == row.kind => Some(Target::of(row)),
        // The body of a subresource.
        kind => Target::builtin(group, version, kind),
    };
    let target = target.ok_or_else(|| format!("no schema found for {}", object.kind()))?;
    api::apply::merge_configuration(object, configuration, target.schema)
}

fn patch(object: &Object, steps: &Cel<'_>) -> Result<Object, String> {
    let Cel::List(steps) = steps else { return Err("JSON patch must be a list".to_owned()) };
    let mut operations = Vec::new();
    for step in steps.iter() {
        let step = step.and_then(|step| operation(&step)).map_err(|err| format!("invalid JSON patch: {err}"))?;
        operations.push(step);
    }
    let bytes = Value::Array(operations).to_string();
    let patched = api::patch::json_patch(object.to_value(), bytes.as_bytes());
    let patched = match patched {
        // What is tested says whether the patch applies.
        Err(PatchError::TestFailed { .. }) => return Ok(object.clone()),
        Err(PatchError::Rejected { why, .. }) => return Err(format!("JSON Patch: {why}")),
        patched => patched.map_err(|err| format!("JSON Patch: {err}"))?,
    };
    Object::from_value(patched).ok_or_else(|| "JSON patch left no object".to_owned())
}

fn operation(step: &Cel<'_>) -> Result<Value, cel::Error> {
    let Cel::Map(Map::Struct(_, fields)) = step else { return Err(cel::Error::new("expected JSONPatch")) };
    let fields = fields.iter().map(|(name, value)| Ok((name.clone(), value.to_json()?)));
    fields.collect::<Result<serde_json::Map<_, _>, cel::Error>>().map(Value::Object)
}

#[async_trait]
impl MutatingAdmission for MutatingPolicies {
    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Object>, _: &mut Warnings) -> Outcome {
        let Some(bound) = self.policies.current().await? else { return Ok(()) };
        let Some(object) = object else { return Ok(()) };
        let rounds = attributes.reinvocation;
        if let Some(rounds) = rounds {
            rounds.begin(NAME, Some(object));
        }
        let mut failures = Failures::default();
        for call in self.calls(&bound, attributes, object, &mut failures).await? {
            self.act(&call, attributes, object, &mut failures).await?;
        }
        if let Some(rounds) = rounds {
            rounds.end(NAME, Some(object));
        }
        failures.verdict(attributes)
    }
}
