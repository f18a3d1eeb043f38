//! Counts what a namespace uses of what its ResourceQuotas limit (upstream: `pkg/controller/resourcequota`).
//!
//! Admission books what requests add. This controller counts from what there is: when a quota comes or changes, when
//! something is given back (deleted, ended, made smaller), and now and then, since a booked request may still have failed.

mod plain;
mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Object;
use api::quota::{Amounts, Evaluator, Measure, amounts, growth};
use client::{Event, Informer, ObjectKey, Watchable, WorkQueue, clock, write};
use facts::pods;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaStatus, Service};
use k8s_openapi::api::resource::v1::ResourceClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Api;
use kube::api::PostParams;
use serde::Serialize;

use self::plain::PlainObjects;
use self::usage::Usage;
use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::meta;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "resourcequota-controller",
    aliases: &["resourcequota"],
    start: |start| {
        let (controller, queue) = Quotas::new(start.context, start.config.tuning.resource_quota_sync_period);
        let plain = Arc::clone(&controller.plain);
        start.tasks.add("resourcequota objects", move |shutdown| plain.run(shutdown));
        start.drive("resourcequota", (controller, queue), start.config.tuning.concurrent_resource_quota_syncs)
    },
};

/// What is not seen yet is counted after this.
const AGAIN: Duration = Duration::from_millis(500);

struct Quotas {
    client: kube::Client,
    quotas: Informer<ResourceQuota>,
    pods: Informer<Pod>,
    services: Informer<Service>,
    volume_claims: Informer<PersistentVolumeClaim>,
    device_claims: Informer<ResourceClaim>,
    plain: Arc<PlainObjects>,
    /// How long a count is good for.
    period: Duration,
}

impl Quotas {
    fn new(context: &Context, period: Duration) -> (Self, WorkQueue<ObjectKey>) {
        let (queue, quotas) = (WorkQueue::new(), context.informers.of::<ResourceQuota>());
        let changed = queue.clone();
        quotas.on_event(move |event| {
            if is_new_limit(event) {
                changed.add(event.key());
            }
        });
        let controller = Self {
            client: context.client.clone(),
            pods: watch(context, &quotas, &queue, Evaluator::Pods),
            services: watch(context, &quotas, &queue, Evaluator::Services),
            volume_claims: watch(context, &quotas, &queue, Evaluator::VolumeClaims),
            device_claims: watch(context, &quotas, &queue, Evaluator::DeviceClaims),
            plain: PlainObjects::new(context, &quotas, &queue),
            quotas,
            period,
        };
        (controller, queue)
    }

    fn count<'a>(&self, quota: &'a Object, hard: &'a Amounts, now: Timestamp) -> Usage<'a> {
        let mut usage = Usage::new(quota, hard, now);
        let namespace = quota.namespace();
        usage.count(Evaluator::Pods, || measures(&self.pods, namespace, Evaluator::Pods));
        usage.count(Evaluator::Services, || measures(&self.services, namespace, Evaluator::Services));
        usage.count(Evaluator::VolumeClaims, || measures(&self.volume_claims, namespace, Evaluator::VolumeClaims));
        usage.count(Evaluator::DeviceClaims, || measures(&self.device_claims, namespace, Evaluator::DeviceClaims));
        usage.count_plain(|evaluator| self.plain.count(evaluator, namespace));
        usage
    }

    /// Whether a quota has become another.
    async fn is_outdated(&self, key: &ObjectKey, quota: &ResourceQuota) -> Result<bool, Failure> {
        let api: Api<ResourceQuota> = Api::namespaced(self.client.clone(), &key.namespace);
        let now = api.get_metadata_opt(&key.name).await?;
        Ok(now.is_some_and(|now| now.metadata.resource_version != quota.metadata.resource_version))
    }

    async fn write(&self, key: &ObjectKey, quota: &ResourceQuota, used: Amounts) -> Result<(), Failure> {
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone()).unwrap_or_default();
        let used = used.into_iter().map(|(name, amount)| (name, Quantity(amount.to_string()))).collect();
        let status = ResourceQuotaStatus { hard: Some(hard), used: Some(used) };
        let updated = ResourceQuota { status: Some(status), ..quota.clone() };
        let api: Api<ResourceQuota> = Api::namespaced(self.client.clone(), &key.namespace);
        write::ignore_not_found(api.replace_status(&key.name, &PostParams::default(), &updated).await)?;
        Ok(())
    }
}

impl Controller for Quotas {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(quota) = self.quotas.get(&key) else { return Ok(None) };
        let (tree, now) = (object(&*quota), clock::now());
        let hard = amounts(tree.get(&["spec", "hard"]));
        let counted = self.count(&tree, &hard, now);
        let mut used = amounts(tree.get(&["status", "used"]));
        let is_counted = ["hard", "used"].iter().all(|field| tree.get(&["status", field]).is_some())
            && amounts(tree.get(&["status", "hard"])) == hard;
        let before = used.clone();
        // What nobody here can count keeps what others say.
        used.extend(counted.used);
        used.retain(|name, _| hard.contains_key(name));
        if !is_counted || used != before {
            self.write(&key, &quota, used).await?;
        } else if self.is_outdated(&key, &quota).await? {
            // What has just been given back was booked after this was read.
            return Ok(Some(AGAIN));
        }
        let change = counted.changes.map(|at| pods::until(at, now) + Duration::from_millis(1));
        Ok(Some(change.map_or(self.period, |change| change.min(self.period))))
    }
}

/// The status is written by admission and by us: only another limit asks for a count.
fn is_new_limit(event: &Event<ResourceQuota>) -> bool {
    let hard = |quota: &ResourceQuota| quota.spec.as_ref().and_then(|spec| spec.hard.clone());
    match event {
        Event::Applied { old: Some(old), new } => hard(old) != hard(new),
        Event::Applied { old: None, .. } | Event::Deleted(_) => true,
    }
}

/// The object as the evaluators read it.
fn object<K: Serialize>(typed: &K) -> Object {
    let tree = serde_json::to_value(typed).ok().and_then(Object::from_value);
    tree.expect("an object that was read from JSON can be written as JSON")
}

fn measures<K: Watchable + Serialize>(
    objects: &Informer<K>,
    namespace: &str,
    evaluator: Evaluator<'static>,
) -> Vec<Measure> {
    objects.list_in(namespace).iter().map(|known| evaluator.measure(&object(&**known))).collect()
}

/// Follows objects that may give back what quotas limit.
fn watch<K: Watchable + Serialize>(
    context: &Context,
    quotas: &Informer<ResourceQuota>,
    queue: &WorkQueue<ObjectKey>,
    evaluator: Evaluator<'static>,
) -> Informer<K> {
    let objects = context.informers.of::<K>();
    let (quotas, queue) = (quotas.clone(), queue.clone());
    objects.on_event(move |event| {
        let (old, new) = match event {
            // Admission has booked it.
            Event::Applied { old: None, .. } => return,
            Event::Applied { old: Some(old), new } => (old, Some(new)),
            Event::Deleted(old) => (old, None),
        };
        let concerned = quotas.list_in(meta::namespace(old.meta()));
        if concerned.is_empty() {
            return;
        }
        let measure = |known: &Arc<K>| evaluator.measure(&object(&**known));
        let (old, new, now) = (measure(old), new.map(measure), clock::now());
        for quota in concerned {
            if let Some(delay) = recount(evaluator, &object(&*quota), &old, new.as_ref(), now) {
                queue.add_after(ObjectKey::of(&*quota), delay);
            }
        }
    });
    objects
}

/// When a quota must be counted anew since an object has become another, or is gone.
fn recount(
    evaluator: Evaluator<'_>,
    quota: &Object,
    old: &Measure,
    new: Option<&Measure>,
    now: Timestamp,
) -> Option<Duration> {
    let hard = amounts(quota.get(&["status", "hard"]));
    let was = evaluator.concerns(quota, &hard, old);
    let Some(new) = new.filter(|new| evaluator.concerns(quota, &hard, new)) else {
        return was.then_some(Duration::ZERO);
    };
    let given_back = growth(&old.usage(now), &new.usage(now));
    let is_less = given_back.iter().any(|(name, amount)| hard.contains_key(name) && !amount.is_zero());
    // Nobody is charged for coming into a scope by an update.
    if !was || is_less {
        return Some(Duration::ZERO);
    }
    new.ends(now).filter(|end| old.ends(now) != Some(*end)).map(|end| pods::until(end, now) + Duration::from_millis(1))
}

/// The kind of plain objects, as discovery calls it, that a quota counts by this name.
fn plain_kind(name: &str) -> Option<String> {
    match Evaluator::of_plain_name(name)? {
        Evaluator::Objects { group: "", plural } => Some(plural.to_owned()),
        Evaluator::Objects { group, plural } => Some(format!("{plural}.{group}")),
        _ => None,
    }
}

/// The kinds of plain objects that a quota counts, by the names that it uses.
fn plain_kinds(quota: &ResourceQuota) -> BTreeMap<String, String> {
    let names = quota.spec.iter().flat_map(|spec| spec.hard.iter().flat_map(BTreeMap::keys));
    names.filter_map(|name| Some((name.clone(), plain_kind(name)?))).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, json};

    use super::*;

    fn check(old: Value, new: Option<Value>, scopes: Value, expected: Option<u64>) {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let measure = |tree: Value| Evaluator::Pods.measure(&Object::from_value(tree).unwrap());
        let quota = json!({ "spec": { "scopes": scopes }, "status": { "hard": { "pods": "5" } } });
        let quota = Object::from_value(quota).unwrap();
        let got = recount(Evaluator::Pods, &quota, &measure(old), new.map(measure).as_ref(), now);
        assert_eq!(got.map(|delay| delay.as_secs()), expected);
    }

    fn pod(metadata: Value, phase: &str) -> Value {
        json!({ "metadata": metadata, "spec": { "containers": [] }, "status": { "phase": phase } })
    }

    #[test]
    fn only_what_is_given_back_makes_a_recount() {
        let running = || pod(json!({}), "Running");
        check(running(), Some(running()), json!([]), None);
        check(running(), None, json!([]), Some(0));
        check(running(), None, json!(["NotBestEffort"]), None);
        check(running(), Some(pod(json!({}), "Failed")), json!([]), Some(0));
    }

    #[test]
    fn a_pod_that_changes_its_scope_is_counted_where_it_came_and_where_it_left() {
        let limited = || {
            let mut pod = pod(json!({}), "Running");
            pod["spec"]["activeDeadlineSeconds"] = json!(5);
            Some(pod)
        };
        check(pod(json!({}), "Running"), limited(), json!(["Terminating"]), Some(0));
        check(pod(json!({}), "Running"), limited(), json!(["NotTerminating"]), Some(0));
        check(pod(json!({}), "Running"), limited(), json!(["BestEffort"]), None);
    }

    #[test]
    fn a_deleted_pod_that_stays_is_looked_at_after_its_time() {
        let deleted = json!({ "deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30 });
        check(pod(json!({}), "Running"), Some(pod(deleted, "Running")), json!([]), Some(60));
    }
}
