//! What comes of one metric: a number of replicas and what the status shows, or the words for the user (upstream:
//! `computeReplicasForMetric`). Pure.

use facts::quantity::{Format, Quantity};
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, CrossVersionObjectReference, ExternalMetricStatus, MetricIdentifier, MetricSpec,
    MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource;

use super::calculate::{Samples, Scene};
use super::metrics::Reading;
use super::words;

/// Where a metric wants the target.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// What the metric is called.
    pub(super) name: String,
    pub(super) status: MetricStatus,
}

/// A metric that says nothing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trouble {
    pub(super) reason: &'static str,
    /// What went wrong, and the same with the metric that it went wrong with.
    pub(super) why: String,
    pub(super) at_large: String,
}

/// The reason where the metric itself is wrong, which the API server lets nobody write.
pub(super) const UNKNOWN: &str = "InvalidMetricSourceType";

/// Judges one metric of an autoscaler by what it says now.
pub(super) fn evaluate(
    scene: &Scene<'_>,
    metric: &MetricSpec,
    reading: Result<Reading, String>,
) -> Result<Proposal, Trouble> {
    match metric.type_.as_str() {
        "Resource" => of_resource(scene, metric, reading),
        "ContainerResource" => of_container(scene, metric, reading),
        "Pods" => of_pods(scene, metric, reading),
        "Object" => of_object(scene, metric, reading),
        "External" => external(scene, metric, reading),
        other => Err(unknown(other)),
    }
}

fn of_resource(scene: &Scene<'_>, metric: &MetricSpec, reading: Result<Reading, String>) -> Result<Proposal, Trouble> {
    let Some(source) = &metric.resource else { return Err(unknown(&metric.type_)) };
    let failed = |why: String| Trouble {
        reason: "FailedGetResourceMetric",
        at_large: format!("failed to get {} resource metric value: {why}", source.name),
        why,
    };
    let (replicas, current, kind) = usage(scene, &source.name, None, &source.target, reading).map_err(failed)?;
    let resource = Some(ResourceMetricStatus { name: source.name.clone(), current });
    let status = MetricStatus { type_: metric.type_.clone(), resource, ..MetricStatus::default() };
    Ok(Proposal { replicas, name: format!("{} {kind}", source.name), status })
}

fn of_container(scene: &Scene<'_>, metric: &MetricSpec, reading: Result<Reading, String>) -> Result<Proposal, Trouble> {
    let Some(source) = &metric.container_resource else { return Err(unknown(&metric.type_)) };
    let failed = |why: String| Trouble {
        reason: "FailedGetContainerResourceMetric",
        at_large: format!("failed to get {} container metric value: {why}", source.container),
        why,
    };
    let container = Some(source.container.as_str());
    let (replicas, current, kind) = usage(scene, &source.name, container, &source.target, reading).map_err(failed)?;
    let container_resource =
        ContainerResourceMetricStatus { name: source.name.clone(), container: source.container.clone(), current };
    let status = MetricStatus {
        type_: metric.type_.clone(),
        container_resource: Some(container_resource),
        ..MetricStatus::default()
    };
    Ok(Proposal { replicas, name: format!("{} {kind}", source.name), status })
}

/// The replicas that a use of resources asks for, what the status shows of it, and what it is called.
fn usage(
    scene: &Scene<'_>,
    resource: &str,
    container: Option<&str>,
    target: &MetricTarget,
    reading: Result<Reading, String>,
) -> Result<(i32, MetricValueStatus, &'static str), String> {
    // As servers of metrics write it.
    let format = if resource == "memory" { Format::BinarySi } else { Format::DecimalSi };
    if let Some(target) = milli(target.average_value.as_ref()) {
        let found = samples(reading).and_then(|samples| scene.by_average(&samples, resource, target));
        let (replicas, average) = found.map_err(|why| format!("failed to get {resource} usage: {why}"))?;
        return Ok((replicas, average_of(average, format), "resource"));
    }
    let Some(target) = target.average_utilization else {
        let what = "neither an average utilization target nor an average value (usage) target was set";
        return Err(format!("invalid resource metric source: {what}"));
    };
    let found = samples(reading).and_then(|samples| scene.by_utilization(&samples, resource, container, target));
    let used = found.map_err(|why| format!("failed to get {resource} utilization: {why}"))?;
    let current = MetricValueStatus { average_utilization: Some(used.percent), ..average_of(used.average, format) };
    let kind = match container {
        None => "resource utilization (percentage of request)",
        Some(_) => "container resource utilization (percentage of request)",
    };
    Ok((used.replicas, current, kind))
}

fn of_pods(scene: &Scene<'_>, metric: &MetricSpec, reading: Result<Reading, String>) -> Result<Proposal, Trouble> {
    let Some(source) = &metric.pods else { return Err(unknown(&metric.type_)) };
    let failed = |why: String| Trouble {
        reason: "FailedGetPodsMetric",
        at_large: format!("failed to get pods metric value: {why}"),
        why,
    };
    let target = milli(source.target.average_value.as_ref());
    let target =
        target.ok_or_else(|| failed("invalid pods metric source: no average value target was set".to_owned()))?;
    let found = samples(reading).and_then(|samples| scene.by_average(&samples, "", target));
    let (replicas, average) = found.map_err(failed)?;
    let pods = PodsMetricStatus { metric: source.metric.clone(), current: average_of(average, Format::DecimalSi) };
    let status = MetricStatus { type_: metric.type_.clone(), pods: Some(pods), ..MetricStatus::default() };
    Ok(Proposal { replicas, name: format!("pods metric {}", source.metric.name), status })
}

fn of_object(scene: &Scene<'_>, metric: &MetricSpec, reading: Result<Reading, String>) -> Result<Proposal, Trouble> {
    let Some(source) = &metric.object else { return Err(unknown(&metric.type_)) };
    let (name, target) = (&source.metric.name, &source.target);
    let trouble = |why: String, before: &str| Trouble {
        reason: "FailedGetObjectMetric",
        at_large: format!("failed to get object metric value: {before}{why}"),
        why,
    };
    let proposal = |replicas, current, name| {
        let status = object_status(metric, &source.described_object, &source.metric, current);
        Ok(Proposal { replicas, name, status })
    };
    let (whole, share) = (milli(target.value.as_ref()), milli(target.average_value.as_ref()));
    match (target.type_.as_str(), whole, share) {
        ("Value", Some(target), _) => {
            let found = value(reading).and_then(|usage| Ok((scene.by_value(usage, target)?, usage)));
            let (replicas, usage) = found.map_err(|why| trouble(why, ""))?;
            proposal(replicas, value_of(usage), format!("{} metric {name}", source.described_object.kind))
        }
        ("AverageValue", _, Some(target)) => {
            let before = format!("failed to get {name} object metric: ");
            let usage = value(reading).map_err(|why| trouble(why, &before))?;
            let (replicas, share) = scene.by_share(usage, target);
            proposal(replicas, average_of(share, Format::DecimalSi), outside(&source.metric))
        }
        _ => {
            let what = "neither a value target nor an average value target was set";
            Err(trouble(format!("invalid object metric source: {what}"), ""))
        }
    }
}

fn object_status(
    metric: &MetricSpec,
    object: &CrossVersionObjectReference,
    identifier: &MetricIdentifier,
    current: MetricValueStatus,
) -> MetricStatus {
    let object = ObjectMetricStatus { described_object: object.clone(), metric: identifier.clone(), current };
    MetricStatus { type_: metric.type_.clone(), object: Some(object), ..MetricStatus::default() }
}

fn external(scene: &Scene<'_>, metric: &MetricSpec, reading: Result<Reading, String>) -> Result<Proposal, Trouble> {
    let Some(source) = &metric.external else { return Err(unknown(&metric.type_)) };
    let (name, target) = (&source.metric.name, &source.target);
    let trouble = |why: String, before: &str| Trouble {
        reason: "FailedGetExternalMetric",
        at_large: format!("failed to get {name} external metric value: {before}{why}"),
        why,
    };
    let (replicas, current) = if let Some(target) = milli(target.average_value.as_ref()) {
        let before = format!("failed to get {name} external metric: ");
        let usage = value(reading).map_err(|why| trouble(why, &before))?;
        let (replicas, share) = scene.by_share(usage, target);
        (replicas, average_of(share, Format::DecimalSi))
    } else if let Some(target) = milli(target.value.as_ref()) {
        let before = format!("failed to get external metric {name}: ");
        let found = value(reading).and_then(|usage| Ok((scene.by_value(usage, target)?, usage)));
        let (replicas, usage) = found.map_err(|why| trouble(why, &before))?;
        (replicas, value_of(usage))
    } else {
        let what = "neither a value target nor an average value target was set";
        return Err(trouble(format!("invalid external metric source: {what}"), ""));
    };
    let external = Some(ExternalMetricStatus { metric: source.metric.clone(), current });
    let status = MetricStatus { type_: metric.type_.clone(), external, ..MetricStatus::default() };
    Ok(Proposal { replicas, name: outside(&source.metric), status })
}

/// What upstream calls metrics of which all pods have a share, those of objects included.
fn outside(metric: &MetricIdentifier) -> String {
    format!("external metric {}({})", metric.name, words::selector(metric.selector.as_ref()))
}

fn unknown(kind: &str) -> Trouble {
    let why = format!("unknown metric source type {kind:?}");
    Trouble { reason: UNKNOWN, at_large: why.clone(), why }
}

fn samples(reading: Result<Reading, String>) -> Result<Samples, String> {
    match reading? {
        Reading::Pods(samples) => Ok(samples),
        Reading::Value(_) => Err("a value is not of pods".to_owned()),
    }
}

fn value(reading: Result<Reading, String>) -> Result<i64, String> {
    match reading? {
        Reading::Value(value) => Ok(value),
        Reading::Pods(_) => Err("values of pods are not one value".to_owned()),
    }
}

fn milli(quantity: Option<&resource::Quantity>) -> Option<i64> {
    quantity?.0.parse::<Quantity>().ok().map(Quantity::milli_value)
}

fn average_of(milli: i64, format: Format) -> MetricValueStatus {
    MetricValueStatus { average_value: Some(written(milli, format)), ..MetricValueStatus::default() }
}

fn value_of(milli: i64) -> MetricValueStatus {
    MetricValueStatus { value: Some(written(milli, Format::DecimalSi)), ..MetricValueStatus::default() }
}

fn written(milli: i64, format: Format) -> resource::Quantity {
    resource::Quantity(Quantity::from_milli(milli, format).to_string())
}
