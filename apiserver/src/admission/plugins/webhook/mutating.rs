//! MutatingAdmissionWebhook.

use api::{ApiError, Object, Resource};
use async_trait::async_trait;

use super::audit_annotations::Place;
use super::hooks::{Hook, Hooks};
use super::{Failure, Means, judge};
use crate::admission::{Attributes, MutatingAdmission, Reinvocation, Warnings};
use crate::watch_cache::WatchCache;
use crate::outbound::webhooks::Webhooks;

const MUTATING: &str = "MutatingAdmissionWebhook";

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
