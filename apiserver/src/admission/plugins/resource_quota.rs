//! ResourceQuota: what a namespace has used may not grow beyond what it is given.
//!
//! What a request adds is booked in `status.used` with a compare-and-swap before the object is stored, so that two
//! requests never share the last bit of a quota. The quota controller counts anew from what exists.

use std::sync::Arc;

use api::quota::{self, Amounts, Evaluator, Measure};
use api::{ApiError, Object};
use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Map, Value};
use store::Store;

use super::{Phases, Plugin, in_namespace};
use crate::admission::environment::Swap;
use crate::admission::{Attributes, Operation, Outcome, ValidatingAdmission, Warnings};
use crate::field_managers;
use crate::watch_cache::ResourceCache;

/// Attempts to book a cost while others book theirs.
const ATTEMPTS: usize = 16;

pub(super) const PLUGIN: Plugin = Plugin::on("ResourceQuota", |server| {
    let quotas = server.cache.resource("resourcequotas")?;
    Phases::validating(ResourceQuota { quotas, store: server.store.clone(), swap: server.swap.clone() })
});

struct ResourceQuota {
    quotas: Arc<ResourceCache>,
    store: Arc<dyn Store>,
    swap: Swap,
}

impl ResourceQuota {
    /// Checks one quota and books the cost; repeated when somebody else was faster.
    async fn book(&self, charge: &Charge<'_>, quota: &Object) -> Result<(), ApiError> {
        let key = self.quotas.key(charge.attributes.namespace, quota.name());
        let mut current = quota.clone();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                let entry = self.store.get(&key).await.map_err(|err| crate::store_error::unavailable(&err))?;
                let Some(entry) = entry else { return Ok(()) };
                current = crate::watch_cache::read(&self.quotas, &entry).map_err(ApiError::internal)?.object();
            }
            let Some(used) = charge.check(&current)? else { return Ok(()) };
            if charge.attributes.dry_run {
                return Ok(());
            }
            let revision: u64 = current.resource_version().parse().map_err(ApiError::internal)?;
            let before = current.clone();
            current.set(&["status", "used"], used);
            field_managers::track_own(self.quotas.row(), "status", &before, &mut current);
            if (self.swap)(key.clone(), &current, revision).await? {
                return Ok(());
            }
        }
        let why = format!("quota {} is changed too often at this moment", quota.name());
        Err(ApiError::too_many_requests(why, 1))
    }
}

/// What a request adds.
struct Charge<'a> {
    attributes: &'a Attributes<'a>,
    object: &'a Object,
    evaluator: Evaluator<'a>,
    new: Measure,
    /// What the object was before, if there was one.
    old: Option<Measure>,
    now: Timestamp,
}

impl<'a> Charge<'a> {
    /// `None` when the request adds nothing that quotas limit.
    fn of(attributes: &'a Attributes<'a>, object: &'a Object) -> Option<Self> {
        let resource = attributes.resource;
        let evaluator = Evaluator::of(&resource.group, &resource.plural).filter(|_| resource.namespaced)?;
        let is_charged = match attributes.operation {
            Operation::Create => evaluator.charges_create(attributes.subresource),
            Operation::Update => evaluator.charges_update(attributes.subresource),
            Operation::Delete | Operation::Connect => false,
        };
        let old = attributes.old.filter(|_| attributes.operation == Operation::Update);
        is_charged.then(|| Self {
            attributes,
            object,
            evaluator,
            new: evaluator.measure(object),
            old: old.map(|old| evaluator.measure(old)),
            now: Timestamp::now(),
        })
    }

    fn forbidden(&self, why: &str) -> ApiError {
        ApiError::forbidden(self.attributes.resource.qualified(), self.object.name(), why)
    }

    /// Whether the object may be counted by a quota at all: it says what it must, and the quota has been counted.
    fn admits(&self, quota: &Object) -> Result<bool, ApiError> {
        let hard = quota::amounts(quota.get(&["status", "hard"]));
        if !self.evaluator.concerns(quota, &hard, &self.new) {
            return Ok(false);
        }
        if self.evaluator == Evaluator::Pods
            && let Some(unsaid) = quota::unsaid(self.object, &hard)
        {
            return Err(self.forbidden(&format!("failed quota: {}: must specify {unsaid}", quota.name())));
        }
        let used = quota::amounts(quota.get(&["status", "used"]));
        let limited: Vec<&str> = hard.keys().map(String::as_str).filter(|name| self.evaluator.counts(name)).collect();
        if limited.iter().all(|name| used.contains_key(*name)) {
            return Ok(true);
        }
        let names = limited.join(",");
        Err(self.forbidden(&format!("status unknown for quota: {}, resources: {names}", quota.name())))
    }

    fn check_positive(&self) -> Result<(), ApiError> {
        let usage = self.new.usage(self.now);
        let negative: Vec<&str> =
            usage.iter().filter(|(_, amount)| amount.signum() < 0).map(|(name, _)| name.as_str()).collect();
        if negative.is_empty() {
            return Ok(());
        }
        Err(self.forbidden(&format!("quota usage is negative for resource(s): {}", negative.join(","))))
    }

    /// What the request adds to a quota: all of the object, if that was not in the quota's scope before.
    fn delta(&self, quota: &Object, hard: &Amounts) -> Amounts {
        let usage = self.new.usage(self.now);
        let mut delta = match self.old.as_ref().filter(|old| self.evaluator.concerns(quota, hard, old)) {
            Some(old) => quota::growth(&usage, &old.usage(self.now)),
            None => usage,
        };
        delta.retain(|name, amount| !amount.is_zero() && hard.contains_key(name));
        delta
    }

    /// What a quota would have used with this request; `None` if that changes nothing.
    fn check(&self, quota: &Object) -> Result<Option<Map<String, Value>>, ApiError> {
        if !self.admits(quota)? {
            return Ok(None);
        }
        let hard = quota::amounts(quota.get(&["status", "hard"]));
        let known = quota::amounts(quota.get(&["status", "used"]));
        let delta = self.delta(quota, &hard);
        let mut used = quota.get(&["status", "used"]).and_then(Value::as_object).cloned().unwrap_or_default();
        let mut over: [Vec<String>; 3] = Default::default();
        for (name, amount) in &delta {
            let (before, limit) = (known.get(name).copied().unwrap_or_default(), hard[name]);
            if before + *amount > limit {
                for (list, amount) in over.iter_mut().zip([*amount, before, limit]) {
                    list.push(format!("{name}={amount}"));
                }
            }
            used.insert(name.clone(), (before + *amount).to_string().into());
        }
        // A status says what is already so.
        if over[0].is_empty() || self.attributes.subresource == "status" {
            return Ok((!delta.is_empty()).then_some(used));
        }
        let [requested, used, limited] = over.map(|list| list.join(","));
        let name = quota.name();
        Err(self
            .forbidden(&format!("exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limited}")))
    }
}

#[async_trait]
impl ValidatingAdmission for ResourceQuota {
    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>, _: &mut Warnings) -> Outcome {
        self.quotas.settle().await?;
        let snapshot = self.quotas.snapshot();
        let found = in_namespace(&self.quotas, &snapshot, attributes.namespace);
        let quotas: Vec<Object> = found.map(|quota| quota.object()).collect();
        if quotas.is_empty() {
            return Ok(());
        }
        let Some(charge) = object.and_then(|object| Charge::of(attributes, object)) else { return Ok(()) };
        let mut concerned = Vec::new();
        for quota in quotas {
            if charge.admits(&quota)? {
                concerned.push(quota);
            }
        }
        charge.check_positive()?;
        // All are checked before any is booked.
        for quota in &concerned {
            charge.check(quota)?;
        }
        for quota in &concerned {
            self.book(&charge, quota).await?;
        }
        Ok(())
    }
}
