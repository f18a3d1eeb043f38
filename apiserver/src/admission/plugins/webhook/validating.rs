//! ValidatingAdmissionWebhook.

use std::sync::Arc;
use std::time::Instant;

use api::{ApiError, Object, Resource};
use async_trait::async_trait;
use futures::future::join_all;

use super::audit_annotations::Place;
use super::hooks::{Hook, Hooks};
use super::{is_rejected, judge};
use crate::admission::metrics::Phase;
use crate::admission::plugins::{Phases, Plugin};
use crate::admission::{Attributes, Environment, Outcome, ValidatingAdmission, Warnings};

pub(in crate::admission::plugins) const PLUGIN: Plugin = Plugin::on("ValidatingAdmissionWebhook", |server| {
    let hooks = Hooks::new(server, "validatingwebhookconfigurations")?;
    Phases::validating(ValidatingWebhooks { hooks, environment: server.clone() })
});

struct ValidatingWebhooks {
    hooks: Hooks,
    environment: Environment,
}

impl ValidatingWebhooks {
    async fn call(
        &self,
        (hook, place): (&Arc<Hook>, Place),
        attributes: &Attributes<'_>,
        row: &Resource,
        object: Option<&Object>,
    ) -> (Result<(), ApiError>, Warnings) {
        let (mut warnings, start) = (Warnings::new(), Instant::now());
        let asked = async {
            let converters = &self.environment.converters;
            let shown = match object {
                Some(object) => Some(attributes.show(converters, row, object).await?),
                None => None,
            };
            hook.ask(attributes, row, (shown.as_ref(), converters), false, &mut warnings).await
        };
        let asked = asked.await;
        let (metrics, rejected) = (&self.environment.metrics, is_rejected(hook, &asked));
        metrics.called(&hook.name, Phase::Validate, attributes.operation, rejected, start.elapsed());
        let outcome = asked.map(|_no_patch| ()).or_else(|failure| judge(hook, failure, "validating", place));
        (outcome, warnings)
    }
}

#[async_trait]
impl ValidatingAdmission for ValidatingWebhooks {
    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>, warnings: &mut Warnings) -> Outcome {
        let Some(hooks) = self.hooks.current().await? else { return Ok(()) };
        let mut calls = Vec::new();
        for (index, hook) in hooks.iter().enumerate() {
            if let Some(row) = hook.wants(attributes, object, &self.environment).await? {
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
