//! ValidatingAdmissionWebhook.

use std::sync::Arc;

use api::{ApiError, Object, Resource};
use async_trait::async_trait;
use futures::future::join_all;

use super::audit_annotations::Place;
use super::hooks::{Hook, Hooks};
use super::{Means, judge};
use crate::admission::{Attributes, ValidatingAdmission, Warnings};
use crate::watch_cache::WatchCache;
use crate::outbound::webhooks::Webhooks;

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
