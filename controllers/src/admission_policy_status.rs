//! Checks the expressions of ValidatingAdmissionPolicies against the schemas of what they are about, and writes what
//! does not fit into their status (upstream: `pkg/controller/validatingadmissionpolicystatus`).

use api::expression::type_check::{self, Named, Subject};
use client::{Event, Informer, ObjectKey, WorkQueue, write};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json, to_value};

use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "validatingadmissionpolicy-status-controller",
    aliases: &[],
    start: |start| {
        start.drive(
            "validatingadmissionpolicy-status",
            PolicyStatus::new(start.context),
            start.config.tuning.concurrent_syncs,
        )
    },
};

const MANAGER: &str = "validatingadmissionpolicy-status-controller";
/// A rule about more kinds than this ends the search for more.
const MOST_KINDS: usize = 10;

struct PolicyStatus {
    client: kube::Client,
    policies: Informer<ValidatingAdmissionPolicy>,
}

/// Group, version and kind.
type Kind = (String, String, String);

impl PolicyStatus {
    fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let policies = context.informers.of::<ValidatingAdmissionPolicy>();
        let changed = queue.clone();
        policies.on_event(move |event| {
            if let Event::Applied { new, .. } = event
                && is_unchecked(new)
            {
                changed.add(event.key());
            }
        });
        (Self { client: context.client.clone(), policies }, queue)
    }

    /// The kinds that a policy's rules name, in order.
    async fn kinds(&self, spec: &Value) -> Result<Vec<Kind>, Failure> {
        let mut kinds = Vec::new();
        for named in type_check::named(spec) {
            let mut count = 0;
            for name in named {
                kinds.extend(self.kind(name).await?.inspect(|_| count += 1));
                if count == MOST_KINDS {
                    return Ok(sorted(kinds));
                }
            }
        }
        Ok(sorted(kinds))
    }

    /// The kind of a resource; `None` for one that is not served.
    async fn kind(&self, (group, version, resource): Named<'_>) -> Result<Option<Kind>, Failure> {
        let Some(list) = self.document(&root("", group, version)).await? else { return Ok(None) };
        let mut all = list["resources"].as_array().into_iter().flatten();
        let kind = all.find(|one| one["name"] == resource).and_then(|one| one["kind"].as_str());
        Ok(kind.map(|kind| (group.to_owned(), version.to_owned(), kind.to_owned())))
    }

    /// What is known of a kind; `None` when nothing declares it.
    async fn subject(&self, (group, version, kind): &Kind) -> Result<Option<Subject>, Failure> {
        let document = self.document(&root("/openapi/v3", group, version)).await?;
        Ok(document.and_then(|document| Subject::read(&document, (group, version, kind))))
    }

    /// A document that the API server has, or `None`.
    async fn document(&self, path: &str) -> Result<Option<Value>, Failure> {
        let request = http::Request::get(path).body(Vec::new()).map_err(|err| Failure::NotYet(err.to_string()))?;
        match self.client.request::<Value>(request).await {
            Ok(document) => Ok(Some(document)),
            Err(err) if write::is_not_found(&err) => Ok(None),
            Err(err) => Err(err.into()),
        }
    }

    async fn check(&self, policy: &ValidatingAdmissionPolicy) -> Result<Vec<type_check::Warning>, Failure> {
        let spec = to_value(&policy.spec)?;
        let mut subjects = Vec::new();
        for kind in self.kinds(&spec).await? {
            subjects.extend(self.subject(&kind).await?);
        }
        let params = match param_kind(&spec) {
            Some(kind) => Some(self.subject(&kind).await?),
            None => None,
        };
        Ok(type_check::warnings(&spec, &subjects, params.as_ref().map(Option::as_ref)))
    }
}

impl Controller for PolicyStatus {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(policy) = self.policies.get(&key).filter(|policy| is_unchecked(policy)) else { return Ok(None) };
        let warnings = self.check(&policy).await?;
        let shown = |warning: type_check::Warning| json!({ "fieldRef": warning.field, "warning": warning.text });
        let warnings: Vec<Value> = warnings.into_iter().map(shown).collect();
        let checking = if warnings.is_empty() { json!({}) } else { json!({ "expressionWarnings": warnings }) };
        let change = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": key.name },
            "status": { "observedGeneration": policy.metadata.generation, "typeChecking": checking },
        });
        let api: Api<ValidatingAdmissionPolicy> = Api::all(self.client.clone());
        let params = PatchParams::apply(MANAGER).force();
        write::ignore_not_found(api.patch_status(&key.name, &params, &Patch::Apply(change)).await)?;
        Ok(None)
    }
}

/// Whether the policy has changed since its status was written.
fn is_unchecked(policy: &ValidatingAdmissionPolicy) -> bool {
    let observed = policy.status.as_ref().and_then(|status| status.observed_generation);
    policy.metadata.generation.unwrap_or(0) > observed.unwrap_or(0)
}

fn param_kind(spec: &Value) -> Option<Kind> {
    let kind = spec.get("paramKind").filter(|kind| !kind.is_null())?;
    let (version, kind) = (kind["apiVersion"].as_str()?, kind["kind"].as_str()?);
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    Some((group.to_owned(), version.to_owned(), kind.to_owned()))
}

/// Where the API server has things of a group and version.
fn root(prefix: &str, group: &str, version: &str) -> String {
    if group.is_empty() { format!("{prefix}/api/{version}") } else { format!("{prefix}/apis/{group}/{version}") }
}

fn sorted(mut kinds: Vec<Kind>) -> Vec<Kind> {
    kinds.sort();
    kinds.dedup();
    kinds
}
