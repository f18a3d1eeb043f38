//! Rules for HorizontalPodAutoscalers and PodDisruptionBudgets.

use super::dump::Shown;
use super::tree::{Errors, Node};
use super::{meta, rules};

/// A `HorizontalPodAutoscaler`.
pub(crate) fn autoscaler(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    let (least, most, metrics) = (spec.field("minReplicas"), spec.field("maxReplicas"), spec.field("metrics"));
    let scales_to_zero = metrics.list().iter().any(|m| matches!(m["type"].as_str(), Some("Object" | "External")));
    if least.integer().is_some_and(|n| n < 1) {
        errors.invalid(&least, "must be greater than or equal to 1");
    }
    if most.number() < 1 {
        errors.required(&most, "must be set and greater than 0");
    }
    if least.integer().is_some_and(|n| most.number() < n) {
        errors.invalid_value(&most, most.number(), "must be greater than or equal to `minReplicas`");
    }
    scale_target(&spec.field("scaleTargetRef"), errors);
    for metric in metrics.items() {
        metric_source(&metric, errors);
    }
    if least.integer() == Some(0) && !scales_to_zero {
        errors.forbidden(
            &metrics,
            "must specify at least one Object or External metric to support scaling to zero replicas",
        );
    }
    let behavior = spec.field("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        scaling_rules(&behavior.field(direction), errors);
    }
}

fn scale_target(at: &Node<'_, '_>, errors: &mut Errors) {
    let (kind, name, version) = (at.field("kind"), at.field("name"), at.field("apiVersion"));
    for field in [&kind, &name] {
        if errors.require_text(field) {
            errors.invalid_all(field, rules::path_segment_name(field.text(), false));
        }
    }
    let grouped = version.text().split_once('/').is_some_and(|(group, _)| !group.is_empty());
    let core = matches!((kind.text(), version.text()), ("ReplicationController", "v1" | ""));
    if !grouped && !core {
        errors.invalid_value(&version, version.text(), "apiVersion must specify API group");
    }
}

fn metric_source(metric: &Node<'_, '_>, errors: &mut Errors) {
    let kind = metric.field("type");
    if !errors.require_text(&kind) {
        return;
    }
    let field = match kind.text() {
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        "External" => "external",
        "ContainerResource" => "containerResource",
        _ => {
            errors.one_of(&kind, &["ContainerResource", "External", "Object", "Pods", "Resource"]);
            return;
        }
    };
    let source = metric.field(field);
    if source.is_unset() {
        errors.required(&source, "must populate information for the given metric source");
        return;
    }
    for other in ["object", "pods", "resource", "external", "containerResource"] {
        if other != field && metric.field(other).is_set() {
            errors.forbidden(&metric.field(other), "must populate the given metric source only");
        }
    }
    if matches!(field, "resource" | "containerResource") {
        errors.require_text(&source.field("name"));
    } else {
        let identifier = source.field("metric");
        errors.require_text(&identifier.field("name"));
    }
    metric_target(&source.field("target"), errors);
}

fn metric_target(at: &Node<'_, '_>, errors: &mut Errors) {
    let kind = at.field("type");
    if errors.require_text(&kind) {
        errors.one_of(&kind, &["AverageValue", "Utilization", "Value"]);
    }
    let percent = at.field("averageUtilization");
    if percent.integer().is_some_and(|n| n < 1) {
        errors.invalid(&percent, "must be greater than 0");
    }
    for key in ["value", "averageValue"] {
        let quantity = at.field(key);
        if super::resources::parse(&quantity).is_some_and(|q| q.signum() != 1) {
            errors.invalid(&quantity, "must be positive");
        }
    }
}

fn scaling_rules(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.is_unset() {
        return;
    }
    let window = at.field("stabilizationWindowSeconds");
    errors.non_negative(&window);
    if window.number() > 3600 {
        errors.invalid(&window, "must be less than or equal to 3600");
    }
    errors.none_or_one_of(&at.field("selectPolicy"), &["Disabled", "Max", "Min"]);
    let policies = at.field("policies");
    if policies.is_empty() {
        errors.required(&policies, "must specify at least one Policy");
    }
    for policy in policies.items() {
        errors.one_of(&policy.field("type"), &["Percent", "Pods"]);
        for key in ["value", "periodSeconds"] {
            let number = policy.field(key);
            if number.number() <= 0 {
                errors.invalid_value(&number, number.number(), "must be greater than zero");
            }
        }
        if policy.field("periodSeconds").number() > 1800 {
            errors.invalid(&policy.field("periodSeconds"), "must be less than or equal to 1800");
        }
    }
}

/// A `PodDisruptionBudget`.
pub(crate) fn disruption_budget(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    let (least, most) = (spec.field("minAvailable"), spec.field("maxUnavailable"));
    if least.is_set() && most.is_set() {
        let shown = Shown::fields([
            ("MinAvailable", least.shown()),
            ("Selector", spec.field("selector").shown()),
            ("MaxUnavailable", most.shown()),
            ("UnhealthyPodEvictionPolicy", spec.field("unhealthyPodEvictionPolicy").shown()),
        ]);
        errors.invalid_shown(&spec, &shown, "minAvailable and maxUnavailable cannot be both set");
    }
    for amount in [&least, &most] {
        meta::count_or_percent(amount, errors);
        meta::not_more_than_all(amount, errors);
    }
    meta::selector(&spec.field("selector"), errors);
    errors.none_or_one_of(&spec.field("unhealthyPodEvictionPolicy"), &["AlwaysAllow", "IfHealthyBudget"]);
}
