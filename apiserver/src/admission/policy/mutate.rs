//! MutatingAdmissionPolicy.

use api::expression::admission::{Scope, Wanted};
use api::{ApiError, Object, Resource};
use async_trait::async_trait;
use cel::{Map, Value as Cel};
use serde_json::Value;

use super::store::Policies;
use super::{Attributes, Binding, Body, Expression, Policy, Scene, Surroundings, Turn, denied, list, text};
use crate::admission::expression::Evaluation;
use crate::admission::{MutatingAdmission, Warnings};
use crate::watch_cache::WatchCache;

const PLUGIN: &str = "MutatingAdmissionPolicy";

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

/// Changes objects as policies say.
pub struct MutatingPolicies {
    policies: Policies<Mutations>,
    surroundings: Surroundings,
}

impl MutatingPolicies {
    /// Reads policies from the cache.
    pub fn new(cache: &WatchCache, surroundings: &Surroundings) -> Option<Self> {
        Some(Self { policies: Policies::new(cache)?, surroundings: surroundings.clone() })
    }

    /// Lets a policy act through a binding.
    async fn bound(
        &self,
        policy: &Policy<Mutations>,
        binding: &Binding,
        row: &Resource,
        attributes: &Attributes<'_>,
        object: &mut Object,
    ) -> Result<(), ApiError> {
        let refuse = |why: &str| {
            let head = format!("policy '{}' with binding '{}'", policy.name, binding.name);
            denied(attributes, &format!("{head} denied request: {why}"), "")
        };
        let all = self.surroundings.params_of(policy, binding, attributes, Some(object)).await?;
        for params in all.map_err(|why| refuse(&why))? {
            let of = params.as_ref().map_or_else(String::new, |it| format!("{}/{}", it.namespace(), it.name()));
            let id = format!("{}/{}/{of}", policy.name, binding.name);
            let rounds = attributes.reinvocation;
            if rounds.is_some_and(|rounds| !rounds.is_due(PLUGIN, &id)) {
                continue;
            }
            let turn = Turn { policy, params: params.as_ref(), row };
            match self.turn(&turn, attributes, object).await? {
                Ok(changed) => {
                    if let Some(rounds) = rounds {
                        rounds.called(PLUGIN, &id, changed, policy.body.again);
                    }
                }
                Err(why) if policy.fails_open => {
                    tracing::warn!(policy = policy.name, why, "a policy failed, and the request goes on without it");
                }
                Err(why) => return Err(refuse(&why)),
            }
        }
        Ok(())
    }

    /// Lets a policy act once; the inner error is why it could not.
    async fn turn(
        &self,
        turn: &Turn<'_, Mutations>,
        attributes: &Attributes<'_>,
        object: &mut Object,
    ) -> Result<Result<bool, String>, ApiError> {
        let scene = Scene::new(attributes, turn.row, &self.surroundings).await?;
        let Some(before) = self.surroundings.shown(attributes, turn.row, Some(object)).await? else {
            return Ok(Ok(false));
        };
        let work = || change(turn, &scene, &before);
        let after = match scene.answers.settle(&self.surroundings.authz, attributes.user, work).await {
            Ok(after) => after,
            Err(why) => return Ok(Err(why)),
        };
        let changed = after != before;
        if changed {
            attributes.take(&self.surroundings.converters, turn.row, object, after.into_value()).await?;
        }
        Ok(Ok(changed))
    }
}

/// The object as the policy makes it.
fn change(turn: &Turn<'_, Mutations>, scene: &Scene, before: &Object) -> Result<Object, String> {
    let policy = turn.policy;
    let conditions = |object: &Object| {
        policy.conditions.hold(&mut Evaluation::new(&scene.subject(Some(object), turn.params), &policy.variables))
    };
    if !conditions(before)? {
        return Ok(before.clone());
    }
    let mut object = before.clone();
    for step in &policy.body.steps {
        let next = {
            let mut evaluation = Evaluation::new(&scene.subject(Some(&object), turn.params), &policy.variables);
            let mut value = |expression: &Expression| {
                let failed = |err| format!("expression '{}' resulted in error: {err}", expression.text.trim());
                evaluation.value(expression).map_err(failed)
            };
            match step {
                Mutation::Apply(expression) => apply(&object, &value(expression)?, turn.row)?,
                Mutation::Patch(expression) => patch(&object, &value(expression)?)?,
            }
        };
        object = next;
    }
    Ok(object)
}

/// Merges a configuration as server-side apply does.
fn apply(object: &Object, configuration: &Cel<'_>, row: &Resource) -> Result<Object, String> {
    let configuration = configuration.to_json().map_err(|err| format!("invalid ApplyConfiguration: {err}"))?;
    let merged = api::apply::merge_configuration(object, configuration, row.schema());
    merged.map_err(|why| format!("invalid ApplyConfiguration: {why}"))
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
    let patched = patched.map_err(|err| format!("JSON Patch: {err}"))?;
    Object::from_value(patched).ok_or_else(|| "JSON patch left no object".to_owned())
}

fn operation(step: &Cel<'_>) -> Result<Value, cel::Error> {
    let Cel::Map(Map::Struct(_, fields)) = step else { return Err(cel::Error::new("expected JSONPatch")) };
    let fields = fields.iter().map(|(name, value)| Ok((name.clone(), value.to_json()?)));
    fields.collect::<Result<serde_json::Map<_, _>, cel::Error>>().map(Value::Object)
}

#[async_trait]
impl MutatingAdmission for MutatingPolicies {
    fn name(&self) -> &'static str {
        PLUGIN
    }

    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut Object>,
        _warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        let Some(bound) = self.policies.current() else { return Ok(()) };
        let Some(object) = object else { return Ok(()) };
        let rounds = attributes.reinvocation;
        if let Some(rounds) = rounds {
            rounds.begin(PLUGIN, Some(object));
        }
        for (policy, bindings) in bound.iter() {
            let namespaces = &self.surroundings.namespaces;
            let Some(row) = policy.wants(attributes, Some(object), namespaces).await? else { continue };
            for binding in bindings {
                self.bound(policy, binding, row, attributes, object).await?;
            }
        }
        if let Some(rounds) = rounds {
            rounds.end(PLUGIN, Some(object));
        }
        Ok(())
    }
}
