//! What the audit log is told of calls.

use serde::Serialize;
use serde_json::Value;

use super::hooks::Hook;
use crate::audit;

/// The place of a call among those of a request.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) round: usize,
    /// Among all webhooks, not only those that are called.
    pub(super) index: usize,
}

#[derive(Serialize)]
struct Mutation<'a> {
    configuration: &'a str,
    webhook: &'a str,
    mutated: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Patch<'a> {
    configuration: &'a str,
    webhook: &'a str,
    patch: Value,
    patch_type: &'static str,
}

impl Place {
    /// A mutating webhook was called.
    pub(super) fn called(self, hook: &Hook, mutated: bool) {
        if audit::is_recorded() {
            let note = Mutation { configuration: &hook.configuration, webhook: &hook.name, mutated };
            audit::annotate(&self.key("mutation"), || json(&note));
        }
    }

    /// A mutating webhook's patch was applied.
    pub(super) fn patched(self, hook: &Hook, patch: &[u8]) {
        if audit::is_recorded() {
            let patch = serde_json::from_slice(patch).unwrap_or_default();
            let (configuration, webhook) = (hook.configuration.as_str(), hook.name.as_str());
            let note = Patch { configuration, webhook, patch, patch_type: "JSONPatch" };
            audit::annotate_content(&self.key("patch"), || json(&note));
        }
    }

    /// A webhook of a plugin could not be asked, and the request went on.
    pub(super) fn failed_open(self, plugin: &str, hook: &Hook) {
        if audit::is_recorded() {
            audit::annotate(&self.key(&format!("failed-open.{plugin}")), || hook.name.clone());
        }
    }

    fn key(self, what: &str) -> String {
        format!("{what}.webhook.admission.k8s.io/round_{}_index_{}", self.round, self.index)
    }
}

fn json(note: &impl Serialize) -> String {
    serde_json::to_string(note).unwrap_or_default()
}
