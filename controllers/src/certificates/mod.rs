//! Approves kubelets' certificate requests, signs what is approved, and removes old requests (upstream:
//! `pkg/controller/certificates`).

mod authority;
mod policy;
mod serving;

use std::time::Duration;

use client::{Event, Informer, ObjectKey, WorkQueue, clock, write};
use facts::pods;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{DeleteParams, PostParams};

use self::authority::Authority;
use self::policy::Wanted;
pub(crate) use self::serving::DESCRIPTOR as SERVING_APPROVER;
use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::{Error, meta};

/// Approves requests of nodes for themselves.
pub(crate) const APPROVER: Descriptor = Descriptor {
    name: "certificatesigningrequest-approving-controller",
    aliases: &["csrapproving"],
    start: |start| {
        let (requests, queue) = watch(start.context);
        let approver = Approver { client: start.context.client.clone(), requests };
        start.drive("csrapproving", (approver, queue), start.config.tuning.concurrent_syncs)
    },
};

/// Signs what was approved, when there is a CA; fails to start when the CA cannot be used.
pub(crate) const SIGNER: Descriptor = Descriptor {
    name: "certificatesigningrequest-signing-controller",
    aliases: &["csrsigning"],
    start: |start| {
        let Some(signing) = &start.config.signing else { return Ok(()) };
        let authority = Authority::new(signing).map_err(|err| Error::Signing(Box::new(err)))?;
        let (requests, queue) = watch(start.context);
        let (client, duration) = (start.context.client.clone(), start.config.tuning.cluster_signing_duration);
        let signer = Signer { client, requests, authority, duration };
        start.drive("csrsigning", (signer, queue), start.config.tuning.concurrent_syncs)
    },
};

/// Removes requests that nobody waits for any more.
pub(crate) const CLEANER: Descriptor = Descriptor {
    name: "certificatesigningrequest-cleaner-controller",
    aliases: &["csrcleaner"],
    start: |start| {
        let (requests, queue) = watch(start.context);
        let cleaner = Cleaner { client: start.context.client.clone(), requests };
        start.drive("csrcleaner", (cleaner, queue), start.config.tuning.concurrent_syncs)
    },
};

/// Upstream's `csrcleaner`: done requests are kept for an hour, undecided ones for a day.
const KEEP_DONE: SignedDuration = SignedDuration::from_hours(1);
const KEEP_PENDING: SignedDuration = SignedDuration::from_hours(24);
const SIGNERS: [&str; 4] = [policy::CLIENT, policy::KUBELET_CLIENT, policy::KUBELET_SERVING, policy::LEGACY];

fn watch(context: &Context) -> (Informer<CertificateSigningRequest>, WorkQueue<ObjectKey>) {
    let queue = WorkQueue::new();
    let requests = context.informers.of::<CertificateSigningRequest>();
    let changed = queue.clone();
    requests.on_event(move |event| {
        if let Event::Applied { .. } = event {
            changed.add(event.key());
        }
    });
    (requests, queue)
}

fn condition<'a>(request: &'a CertificateSigningRequest, kind: &str) -> Option<&'a CertificateSigningRequestCondition> {
    request.status.as_ref()?.conditions.iter().flatten().find(|known| known.type_ == kind)
}

fn add_condition(request: &mut CertificateSigningRequest, kind: &str, reason: &str, message: String) {
    request.status.get_or_insert_default().conditions.get_or_insert_default().push(
        CertificateSigningRequestCondition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_update_time: Some(clock::time()),
            last_transition_time: Some(Time(clock::now())),
        },
    );
}

/// Approves what kubelets may have.
pub(crate) struct Approver {
    client: kube::Client,
    requests: Informer<CertificateSigningRequest>,
}

impl Approver {
    async fn may(&self, request: &CertificateSigningRequest, subresource: &str) -> Result<bool, Failure> {
        let spec = &request.spec;
        let attributes = ResourceAttributes {
            group: Some("certificates.k8s.io".to_owned()),
            resource: Some("certificatesigningrequests".to_owned()),
            verb: Some("create".to_owned()),
            subresource: Some(subresource.to_owned()),
            version: Some("*".to_owned()),
            ..ResourceAttributes::default()
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

impl Controller for Approver {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(request) = self.requests.get(&key) else { return Ok(None) };
        let is_decided = condition(&request, "Approved").is_some() || condition(&request, "Denied").is_some();
        let Some(wanted) = Wanted::parse(&request.spec).ok().filter(|_| !is_decided) else { return Ok(None) };
        let Some(permission) = policy::self_approval(&request.spec, &wanted) else { return Ok(None) };
        if !self.may(&request, permission).await? {
            return Ok(None);
        }
        let mut approved = (*request).clone();
        let message = format!("Auto approving kubelet client certificate after SubjectAccessReview ({permission}).");
        add_condition(&mut approved, "Approved", "AutoApproved", message);
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        write::ignore_not_found(
            api.replace_subresource("approval", &key.name, &PostParams::default(), &approved).await,
        )?;
        Ok(None)
    }
}

/// Signs what is approved.
pub(crate) struct Signer {
    client: kube::Client,
    requests: Informer<CertificateSigningRequest>,
    authority: Authority,
    duration: Duration,
}

impl Signer {
    fn duration_of(&self, request: &CertificateSigningRequest) -> Duration {
        let asked = request.spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        // Ten minutes are the least that upstream's API allows.
        asked.map_or(self.duration, |seconds| Duration::from_secs(seconds.max(600)).min(self.duration))
    }
}

impl Controller for Signer {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(request) = self.requests.get(&key) else { return Ok(None) };
        let is_open = condition(&request, "Approved").is_some()
            && condition(&request, "Denied").is_none()
            && condition(&request, "Failed").is_none()
            && request.status.as_ref().is_none_or(|status| status.certificate.is_none());
        if !is_open || !SIGNERS.contains(&request.spec.signer_name.as_str()) {
            return Ok(None);
        }
        let mut done = (*request).clone();
        let wanted = Wanted::parse(&request.spec);
        let refusal =
            wanted.as_ref().map_or_else(|why| Some(why.clone()), |wanted| policy::refusal(&request.spec, wanted));
        match (wanted, refusal) {
            (Ok(wanted), None) => {
                let usages = request.spec.usages.clone().unwrap_or_default();
                let signed = self.authority.sign(&wanted.request, &usages, self.duration_of(&request), clock::now());
                let pem = signed.map_err(|err| Failure::Sign(err.into()))?;
                done.status.get_or_insert_default().certificate = Some(ByteString(pem.into_bytes()));
            }
            (_, why) => add_condition(&mut done, "Failed", "SignerValidationFailure", why.unwrap_or_default()),
        }
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        write::ignore_not_found(api.replace_status(&key.name, &PostParams::default(), &done).await)?;
        Ok(None)
    }
}

/// Removes requests that nobody needs any more.
pub(crate) struct Cleaner {
    client: kube::Client,
    requests: Informer<CertificateSigningRequest>,
}

impl Controller for Cleaner {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(request) = self.requests.get(&key) else { return Ok(None) };
        let Some(due) = expiry(&request) else { return Ok(None) };
        let left = pods::until(due, clock::now());
        if !left.is_zero() {
            return Ok(Some(left));
        }
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        write::ignore_not_found(api.delete(meta::name(&request.metadata), &DeleteParams::default()).await)?;
        Ok(None)
    }
}

fn expiry(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let decided = ["Approved", "Denied", "Failed"].into_iter().find_map(|kind| condition(request, kind));
    let (since, keep) = match decided {
        Some(decided) => (decided.last_update_time.as_ref().or(decided.last_transition_time.as_ref()), KEEP_DONE),
        None => (request.metadata.creation_timestamp.as_ref(), KEEP_PENDING),
    };
    since?.0.checked_add(keep).ok()
}

#[cfg(test)]
mod tests;
