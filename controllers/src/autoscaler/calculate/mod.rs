//! How many replicas bring a metric to its target (upstream: `ReplicaCalculator`).
//!
//! Values are thousandths, as metrics are read. Sums and products saturate: what others say of their usage is a number of
//! any size, and becomes a number of replicas here.

mod groups;
mod requests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use facts::pods;

/// What a metric says of one pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) value: i64,
    /// When it was taken, and over what time.
    pub(super) at: Timestamp,
    pub(super) window: SignedDuration,
}

/// Samples by the names of pods.
pub(super) type Samples = BTreeMap<String, Sample>;

/// How far a metric may be from its target without consequences: parts of the target (KEP-4951).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tolerances {
    pub(super) down: f64,
    pub(super) up: f64,
}

impl Tolerances {
    fn cover(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// How long the usage of processors says little about a pod that starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) cpu_initialization: Duration,
    pub(super) initial_readiness: Duration,
}

/// The state of what is scaled.
pub(super) struct Scene<'a> {
    /// The pods that the target's selector chooses.
    pub(super) pods: &'a [Arc<Pod>],
    /// `spec.replicas` and `status.replicas` of the scale.
    pub(super) wanted: i32,
    pub(super) there: i32,
    pub(super) tolerances: Tolerances,
    pub(super) patience: Patience,
    pub(super) now: Timestamp,
}

/// What comes of a usage in percent of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Utilized {
    pub(super) replicas: i32,
    pub(super) percent: i32,
    pub(super) average: i64,
}

impl Scene<'_> {
    /// For pods that shall use `target` percent of what they request (upstream: `GetResourceReplicas`).
    pub(super) fn by_utilization(
        &self,
        samples: &Samples,
        resource: &str,
        container: Option<&str>,
        target: i32,
    ) -> Result<Utilized, String> {
        let groups = self.grouped(samples, resource)?;
        let requests = requests::of(self.pods, resource, container)?;
        let (percent, average) = utilization(&groups.values, &requests)?;
        let missing = |pod: &str| percent_of(requests.get(pod).copied().unwrap_or(0), target.max(100));
        let measure = |values: &Values<'_>| Ok(f64::from(utilization(values, &requests)?.0) / f64::from(target));
        let replicas = self.settle(groups, measure, missing)?;
        Ok(Utilized { replicas, percent, average })
    }

    /// For pods that shall use `target` on average, and what they use (upstream: `calcPlainMetricReplicas`). For a metric that is
    /// not a resource's, `resource` is empty.
    pub(super) fn by_average(&self, samples: &Samples, resource: &str, target: i64) -> Result<(i32, i64), String> {
        let groups = self.grouped(samples, resource)?;
        let usage = average(&groups.values);
        let measure = |values: &Values<'_>| Ok(average(values) as f64 / target as f64);
        let replicas = self.settle(groups, measure, |_| target)?;
        Ok((replicas, usage))
    }

    /// For a value that is not of pods, and shall be `target` (upstream: `getUsageRatioReplicaCount`). From nothing, the
    /// value alone decides.
    pub(super) fn by_value(&self, usage: i64, target: i64) -> Result<i32, String> {
        let ratio = usage as f64 / target as f64;
        if self.wanted == 0 {
            return Ok(up(ratio));
        }
        if self.tolerances.cover(ratio) {
            return Ok(self.wanted);
        }
        if self.pods.is_empty() {
            return Err(format!("unable to calculate ready pods: {NO_PODS}"));
        }
        let is_ready = |pod: &&Arc<Pod>| pods::phase(pod) == "Running" && pods::is_ready(pod);
        Ok(up(ratio * self.pods.iter().filter(is_ready).count() as f64))
    }

    /// For a value that all pods share, of which each shall have `target`; and what each has (upstream:
    /// `GetExternalPerPodMetricReplicas`).
    pub(super) fn by_share(&self, usage: i64, target: i64) -> (i32, i64) {
        let ratio = usage as f64 / (target as f64 * f64::from(self.there));
        let replicas = if self.tolerances.cover(ratio) { self.there } else { up(usage as f64 / target as f64) };
        let share = match self.there {
            0 => 0,
            _ if usage == i64::MAX => usage,
            there => (usage as f64 / f64::from(there)).ceil() as i64,
        };
        (replicas, share)
    }

    fn grouped<'s>(&'s self, samples: &'s Samples, resource: &str) -> Result<groups::Groups<'s>, String> {
        if self.pods.is_empty() {
            return Err(NO_PODS.to_owned());
        }
        let groups = groups::of(self, samples, resource);
        if groups.values.is_empty() {
            return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
        }
        Ok(groups)
    }

    /// What is not known is assumed to speak against the change: pods without samples use nothing when there should be more,
    /// and their full share when there should be fewer; pods that are not ready yet use nothing. A change that this turns
    /// round is none.
    fn settle<'s>(
        &self,
        mut groups: groups::Groups<'s>,
        measure: impl Fn(&Values<'s>) -> Result<f64, String>,
        missing: impl Fn(&str) -> i64,
    ) -> Result<i32, String> {
        let ratio = measure(&groups.values)?;
        let grows_before_ready = !groups.unready.is_empty() && ratio > 1.0;
        if !grows_before_ready && groups.missing.is_empty() {
            let replicas = up(ratio * groups.ready as f64);
            return Ok(if self.tolerances.cover(ratio) { self.wanted } else { replicas });
        }
        for pod in groups.missing.iter().copied() {
            if ratio < 1.0 {
                groups.values.insert(pod, missing(pod));
            } else if ratio > 1.0 {
                groups.values.insert(pod, 0);
            }
        }
        if grows_before_ready {
            groups.values.extend(groups.unready.into_iter().map(|pod| (pod, 0)));
        }
        let again = measure(&groups.values)?;
        let has_turned = (ratio < 1.0 && again > 1.0) || (ratio > 1.0 && again < 1.0);
        let replicas = up(again * groups.values.len() as f64);
        let goes_astray = (again < 1.0 && replicas > self.wanted) || (again > 1.0 && replicas < self.wanted);
        let stays = self.tolerances.cover(again) || has_turned || goes_astray;
        Ok(if stays { self.wanted } else { replicas })
    }
}

const NO_PODS: &str = "no pods returned by selector while calculating replica count";

/// What counts of each pod.
type Values<'s> = BTreeMap<&'s str, i64>;

/// The smallest whole number that is not less, as far as there are such; no number is zero.
fn up(replicas: f64) -> i32 {
    replicas.ceil() as i32
}

fn percent_of(value: i64, percent: i32) -> i64 {
    narrow(i128::from(value) * i128::from(percent) / 100)
}

fn narrow(wide: i128) -> i64 {
    i64::try_from(wide).unwrap_or(if wide < 0 { i64::MIN } else { i64::MAX })
}

fn average(values: &Values<'_>) -> i64 {
    let total: i128 = values.values().copied().map(i128::from).sum();
    total.checked_div(values.len() as i128).map_or(0, narrow)
}

/// The usage in percent of the requests, and per pod (upstream: `GetResourceUtilizationRatio`).
fn utilization(values: &Values<'_>, requests: &BTreeMap<&str, i64>) -> Result<(i32, i64), String> {
    let known = values.iter().filter_map(|(pod, value)| Some((*value, *requests.get(pod)?)));
    let (mut used, mut requested, mut pods) = (0_i128, 0_i128, 0_i128);
    for (value, request) in known {
        used += i128::from(value);
        requested += i128::from(request);
        pods += 1;
    }
    let Some(percent) = (used * 100).checked_div(requested) else {
        return Err("no metrics returned matched known pods".to_owned());
    };
    let percent = i32::try_from(percent).unwrap_or(if percent < 0 { i32::MIN } else { i32::MAX });
    Ok((percent, narrow(used / pods.max(1))))
}

#[cfg(test)]
mod tests;
