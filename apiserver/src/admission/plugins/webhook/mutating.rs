//! MutatingAdmissionWebhook.

use std::time::Instant;

use api::{ApiError, Object, Resource};
use async_trait::async_trait;

use super::audit_annotations::Place;
use super::hooks::{Hook, Hooks};
use super::{Failure, is_rejected, judge};
use crate::admission::metrics::Phase;
use crate::admission::plugins::{Phases, Plugin};
use crate::admission::{Attributes, Environment, MutatingAdmission, Outcome, Reinvocation, Warnings};

const NAME: &str = "MutatingAdmissionWebhook";

pub(in crate::admission::plugins) const PLUGIN: Plugin = Plugin::on(NAME, |server| {
    let hooks = Hooks::new(server, "mutatingwebhookconfigurations")?;
    Phases::mutating(MutatingWebhooks { hooks, environment: server.clone() })
});

struct MutatingWebhooks {
    hooks: Hooks,
    environment: Environment,
}

impl MutatingWebhooks {
    /// Calls one webhook; tells whether it changed the object.
    async fn call(
        &self,
        hook: &Hook,
        attributes: &Attributes<'_>,
        row: &Resource,
        (object, place): (Option<&mut Object>, Place),
        warnings: &mut Warnings,
    ) -> Result<bool, Failure> {
        let converters = &self.environment.converters;
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
    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        mut object: Option<&mut Object>,
        warnings: &mut Warnings,
    ) -> Outcome {
        let Some(hooks) = self.hooks.current().await? else { return Ok(()) };
        let rounds = attributes.reinvocation;
        if let Some(rounds) = rounds {
            rounds.begin(NAME, object.as_deref());
        }
        let round = usize::from(rounds.is_some_and(Reinvocation::is_second));
        for (index, hook) in hooks.iter().enumerate() {
            let Some(row) = hook.wants(attributes, object.as_deref(), &self.environment).await? else { continue };
            if rounds.is_some_and(|rounds| !rounds.is_due(NAME, &hook.id)) {
                continue;
            }
            let (place, start) = (Place { round, index }, Instant::now());
            let outcome = self.call(hook, attributes, row, (object.as_deref_mut(), place), warnings).await;
            let (metrics, rejected) = (&self.environment.metrics, is_rejected(hook, &outcome));
            metrics.called(&hook.name, Phase::Admit, attributes.operation, rejected, start.elapsed());
            place.called(hook, matches!(outcome, Ok(true)));
            match outcome {
                Ok(changed) => {
                    if let Some(rounds) = rounds {
                        rounds.called(NAME, &hook.id, changed, hook.reinvocable);
                    }
                }
                Err(failure) => judge(hook, failure, "mutation", place)?,
            }
        }
        if let Some(rounds) = rounds {
            rounds.end(NAME, object.as_deref());
        }
        Ok(())
    }
}
