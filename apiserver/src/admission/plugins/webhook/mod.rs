//! MutatingAdmissionWebhook and ValidatingAdmissionWebhook: servers of other people that change requests or refuse them.
//!
//! Mutating webhooks are called one after the other, by name of their configuration and in its order; validating ones
//! at the same time. Without configurations that ask for the request nothing is done and nothing is copied.

mod audit_annotations;
mod hooks;
mod review;

use std::sync::Arc;

use api::{ApiError, Object, Resource};
use async_trait::async_trait;
use futures::future::join_all;
use serde_json::Value;

use self::audit_annotations::Place;
use self::hooks::{Hook, Hooks};
use crate::admission::{Attributes, MutatingAdmission, Namespaces, Reinvocation, ValidatingAdmission, Warnings};
use crate::authz;
use crate::conversion::Converters;
use crate::outbound::webhooks::Webhooks;
use crate::watch_cache::WatchCache;

const MUTATING: &str = "MutatingAdmissionWebhook";

/// Why a webhook let nothing through.
#[derive(Debug)]
enum Failure {
    /// It could not be asked, or its answer made no sense; its failure policy says what follows.
    Calling(String),
    /// It refused, or must not be asked.
    Refused(ApiError),
}

impl From<ApiError> for Failure {
    fn from(err: ApiError) -> Self {
        Self::Refused(err)
    }
}

/// What decides whether a failure is the end of the request.
fn judge(hook: &Hook, failure: Failure, plugin: &str, place: Place) -> Result<(), ApiError> {
    match failure {
        Failure::Refused(err) => Err(err),
        Failure::Calling(why) if hook.fails_open => {
            tracing::warn!(webhook = hook.name, why, "a webhook failed, and the request goes on without it");
            place.failed_open(plugin, hook);
            Ok(())
        }
        Failure::Calling(why) => Err(ApiError::internal(format!("failed calling webhook {:?}: {why}", hook.name))),
    }
}

/// What webhooks need of the server.
#[derive(Clone)]
pub struct Means {
    pub namespaces: Namespaces,
    pub authz: Arc<authz::Chain>,
    pub(crate) converters: Arc<Converters>,
}

/// Calls the webhooks that change objects.
pub struct MutatingWebhooks {
    hooks: Hooks,
    means: Means,
}

impl MutatingWebhooks {
    /// Reads configurations from the cache.
    pub fn new(cache: &WatchCache, means: &Means, webhooks: &Webhooks) -> Option<Self> {
        Some(Self { hooks: Hooks::new(cache, "mutatingwebhookconfigurations", webhooks)?, means: means.clone() })
    }

    /// Calls one webhook; tells whether it changed the object.
    async fn call(
        &self,
        hook: &Hook,
        attributes: &Attributes<'_>,
        row: &Resource,
        (object, place): (Option<&mut Object>, Place),
        warnings: &mut Warnings,
    ) -> Result<bool, Failure> {
        let converters = &self.means.converters;
        let shown = match object.as_deref() {
            Some(object) => Some(attributes.show(converters, row, object).await?),
            None => None,
        };
        let patch = hook.ask(attributes, row, (shown.as_ref(), converters), true, warnings).await?;
        if patch.is_empty() || patch == b"[]" {
            return Ok(false);
        }
        let (Some(object), Some(shown)) = (object, shown) else {
            let why = "attempted to modify the object, which is not supported for this operation";
            return Err(ApiError::internal(format!("admission webhook {:?} {why}", hook.name)).into());
        };
        let before = shown.into_value();
        let after = api::patch::json_patch(before.clone(), &patch).map_err(ApiError::internal)?;
        let changed = before != after;
        if changed {
            attributes.take(converters, row, object, after).await?;
        }
        place.patched(hook, &patch);
        Ok(changed)
    }
}

#[async_trait]
impl MutatingAdmission for MutatingWebhooks {
    fn name(&self) -> &'static str {
        MUTATING
    }

    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        mut object: Option<&mut Object>,
        warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        let Some(hooks) = self.hooks.current().await? else { return Ok(()) };
        let rounds = attributes.reinvocation;
        if let Some(rounds) = rounds {
            rounds.begin(MUTATING, object.as_deref());
        }
        let round = usize::from(rounds.is_some_and(Reinvocation::is_second));
        for (index, hook) in hooks.iter().enumerate() {
            let Some(row) = hook.wants(attributes, object.as_deref(), &self.means).await? else { continue };
            if rounds.is_some_and(|rounds| !rounds.is_due(MUTATING, &hook.id)) {
                continue;
            }
            let place = Place { round, index };
            let outcome = self.call(hook, attributes, row, (object.as_deref_mut(), place), warnings).await;
            place.called(hook, matches!(outcome, Ok(true)));
            match outcome {
                Ok(changed) => {
                    if let Some(rounds) = rounds {
                        rounds.called(MUTATING, &hook.id, changed, hook.reinvocable);
                    }
                }
                Err(failure) => judge(hook, failure, "mutation", place)?,
            }
        }
        if let Some(rounds) = rounds {
            rounds.end(MUTATING, object.as_deref());
        }
        Ok(())
    }
}

/// Calls the webhooks that refuse requests.
pub struct ValidatingWebhooks {
    hooks: Hooks,
    means: Means,
}

impl ValidatingWebhooks {
    /// Reads configurations from the cache.
    pub fn new(cache: &WatchCache, means: &Means, webhooks: &Webhooks) -> Option<Self> {
        Some(Self { hooks: Hooks::new(cache, "validatingwebhookconfigurations", webhooks)?, means: means.clone() })
    }

    async fn call(
        &self,
        (hook, place): (&Arc<Hook>, Place),
        attributes: &Attributes<'_>,
        row: &Resource,
        object: Option<&Object>,
    ) -> (Result<(), ApiError>, Warnings) {
        let mut warnings = Warnings::new();
        let asked = async {
            let converters = &self.means.converters;
            let shown = match object {
                Some(object) => Some(attributes.show(converters, row, object).await?),
                None => None,
            };
            hook.ask(attributes, row, (shown.as_ref(), converters), false, &mut warnings).await
        };
        let outcome = asked.await.map(|_no_patch| ()).or_else(|failure| judge(hook, failure, "validating", place));
        (outcome, warnings)
    }
}

#[async_trait]
impl ValidatingAdmission for ValidatingWebhooks {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Object>,
        warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        let Some(hooks) = self.hooks.current().await? else { return Ok(()) };
        let mut calls = Vec::new();
        for (index, hook) in hooks.iter().enumerate() {
            if let Some(row) = hook.wants(attributes, object, &self.means).await? {
                calls.push(self.call((hook, Place { round: 0, index }), attributes, row, object));
            }
        }
        let mut outcome = Ok(());
        for (one, texts) in join_all(calls).await {
            warnings.extend(texts);
            outcome = outcome.and(one);
        }
        outcome
    }
}

/// Text at a path of an answer.
fn text<'a>(tree: &'a Value, name: &str) -> &'a str {
    tree.get(name).and_then(Value::as_str).unwrap_or("")
}
