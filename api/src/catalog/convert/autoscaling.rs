//! HorizontalPodAutoscalers: `v1` knows one CPU target; the rest of `v2` travels in annotations, as JSON.

use serde_json::{Map, Value, json};

use crate::object::Object;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// `v2` to `v1`.
pub(super) fn v2_to_v1(hpa: &mut Object) {
    if let Some(metrics) = hpa.remove(&["spec", "metrics"]) {
        let mut metrics = list(metrics);
        if let Some(at) = metrics.iter().position(is_cpu_utilization) {
            let cpu = metrics.remove(at);
            if let Some(percent) = cpu.pointer("/resource/target/averageUtilization") {
                hpa.set(&["spec", "targetCPUUtilizationPercentage"], percent.clone());
            }
        }
        let old: Vec<Value> = metrics.iter().map(metric_to_v1).collect();
        annotate(hpa, METRICS, old);
    }
    if let Some(behavior) = hpa.remove(&["spec", "behavior"]) {
        hpa.set(&["metadata", "annotations", BEHAVIOR], in_go_order(&behavior));
    }
    if let Some(metrics) = hpa.remove(&["status", "currentMetrics"]) {
        let metrics = list(metrics);
        let cpu = metrics.iter().find(|metric| is_current_cpu(metric));
        if let Some(percent) = cpu.and_then(|cpu| cpu.pointer("/resource/current/averageUtilization")) {
            hpa.set(&["status", "currentCPUUtilizationPercentage"], percent.clone());
        }
        // Other than the targets, the annotation holds what the field says, too.
        annotate(hpa, CURRENT_METRICS, metrics.iter().map(current_to_v1).collect());
    }
    if let Some(conditions) = hpa.remove(&["status", "conditions"]) {
        annotate(hpa, CONDITIONS, list(conditions));
    }
    for count in ["currentReplicas", "desiredReplicas"] {
        if hpa.get(&["status"]).is_some_and(|status| status.get(count).is_none()) {
            hpa.set(&["status", count], 0);
        }
    }
}

/// `v1` to `v2`.
pub(crate) fn v1_to_v2(hpa: &mut Object) {
    let mut metrics = Vec::new();
    if let Some(percent) = hpa.remove(&["spec", "targetCPUUtilizationPercentage"]).filter(|percent| !percent.is_null())
    {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    let others = take_annotation(hpa, METRICS);
    metrics.splice(0..0, others.iter().map(metric_to_v2));
    if !metrics.is_empty() {
        hpa.set(&["spec", "metrics"], metrics);
    }
    if let Some(Value::String(text)) = hpa.remove(&["metadata", "annotations", BEHAVIOR])
        && let Ok(behavior) = serde_json::from_str::<Value>(&text)
    {
        hpa.set(&["spec", "behavior"], behavior);
    }
    let mut current: Vec<Value> = take_annotation(hpa, CURRENT_METRICS).iter().map(current_to_v2).collect();
    let percent = hpa.remove(&["status", "currentCPUUtilizationPercentage"]).filter(|percent| !percent.is_null());
    if let (true, Some(percent)) = (current.is_empty(), percent) {
        let shown = json!({"averageUtilization": percent});
        current.push(json!({"type": "Resource", "resource": {"name": "cpu", "current": shown}}));
    }
    if !current.is_empty() {
        hpa.set(&["status", "currentMetrics"], current);
    }
    let conditions = take_annotation(hpa, CONDITIONS);
    if !conditions.is_empty() {
        hpa.set(&["status", "conditions"], conditions);
    }
    drop_empty_annotations(hpa);
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

fn is_cpu_utilization(metric: &Value) -> bool {
    metric.pointer("/resource/name").is_some_and(|name| name == "cpu")
        && metric.pointer("/resource/target/averageUtilization").is_some_and(|percent| !percent.is_null())
}

fn is_current_cpu(metric: &Value) -> bool {
    metric.pointer("/resource/name").is_some_and(|name| name == "cpu")
        && metric.pointer("/resource/current/averageUtilization").is_some_and(|percent| !percent.is_null())
}

fn annotate(hpa: &mut Object, key: &str, values: Vec<Value>) {
    if !values.is_empty() {
        hpa.set(&["metadata", "annotations", key], in_go_order(&Value::Array(values)));
    }
}

/// The fields in the annotations, ordered such that every Go struct among them has its own order.
const GO_ORDER: [&str; 36] = [
    "type",
    "status",
    "lastTransitionTime",
    "reason",
    "message",
    "object",
    "pods",
    "resource",
    "containerResource",
    "external",
    "scaleUp",
    "scaleDown",
    "stabilizationWindowSeconds",
    "selectPolicy",
    "policies",
    "tolerance",
    "value",
    "periodSeconds",
    "target",
    "kind",
    "name",
    "apiVersion",
    "metricName",
    "metricSelector",
    "targetValue",
    "currentValue",
    "targetAverageUtilization",
    "currentAverageUtilization",
    "targetAverageValue",
    "currentAverageValue",
    "container",
    "selector",
    "averageValue",
    "key",
    "operator",
    "values",
];

/// JSON as Go writes it, whose fields have the order of their structs. Clients compare annotations as texts.
fn in_go_order(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("[{}]", list.iter().map(in_go_order).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let mut fields: Vec<(&String, &Value)> = map.iter().collect();
            let rank = |name: &str| GO_ORDER.iter().position(|known| *known == name).unwrap_or(GO_ORDER.len());
            fields.sort_by_key(|(name, _)| rank(name));
            let fields = fields.into_iter().map(|(name, value)| {
                // Labels have no order but that of their names.
                let value = if name == "matchLabels" { value.to_string() } else { in_go_order(value) };
                format!("{}:{value}", Value::from(name.as_str()))
            });
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        leaf => leaf.to_string(),
    }
}

/// The list in an annotation, which is removed; an unreadable one counts as empty, as upstream treats it.
fn take_annotation(hpa: &mut Object, key: &str) -> Vec<Value> {
    let text = hpa.remove(&["metadata", "annotations", key]);
    text.as_ref().and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn drop_empty_annotations(hpa: &mut Object) {
    if hpa.get(&["metadata", "annotations"]).and_then(Value::as_object).is_some_and(Map::is_empty) {
        hpa.remove(&["metadata", "annotations"]);
    }
}

/// Names of the kinds of metrics: the field that holds each.
const SOURCES: [&str; 5] = ["resource", "containerResource", "pods", "object", "external"];

/// One metric of `v2` in the old shape: `target` and `metric` flattened into the source.
fn metric_to_v1(metric: &Value) -> Value {
    reshape(metric, |kind, source| {
        let target = source.remove("target").unwrap_or_default();
        let names: [(&str, &str); 3] = match kind {
            "resource" | "containerResource" => [
                ("averageUtilization", "targetAverageUtilization"),
                ("averageValue", "targetAverageValue"),
                ("value", "targetValue"),
            ],
            "pods" | "external" => [
                ("averageValue", "targetAverageValue"),
                ("value", "targetValue"),
                ("averageUtilization", "targetAverageUtilization"),
            ],
            _ => [
                ("value", "targetValue"),
                ("averageValue", "averageValue"),
                ("averageUtilization", "averageUtilization"),
            ],
        };
        for (new, old) in names {
            if let Some(value) = target.get(new).filter(|value| !value.is_null()) {
                source.insert(old.to_owned(), value.clone());
            }
        }
        match kind {
            "pods" => zero(source, "targetAverageValue"),
            "object" => zero(source, "targetValue"),
            _ => {}
        }
        flatten_metric(kind, source);
    })
}

/// Quantities that the old shape cannot leave out.
fn zero(source: &mut Map<String, Value>, name: &str) {
    source.entry(name).or_insert_with(|| "0".into());
}

/// The reverse of [`metric_to_v1`].
fn metric_to_v2(metric: &Value) -> Value {
    reshape(metric, |kind, source| {
        free_target(kind, source);
        let mut target = Map::new();
        for (old, new, type_) in [
            ("targetAverageUtilization", "averageUtilization", "Utilization"),
            ("targetAverageValue", "averageValue", "AverageValue"),
            ("averageValue", "averageValue", "AverageValue"),
            ("targetValue", "value", "Value"),
        ] {
            if let Some(value) = source.remove(old).filter(|value| !value.is_null()) {
                target.insert("type".into(), type_.into());
                target.insert(new.into(), value);
            }
        }
        source.insert("target".into(), Value::Object(target));
        unflatten_metric(kind, source);
    })
}

fn current_to_v1(metric: &Value) -> Value {
    reshape(metric, |kind, source| {
        let current = source.remove("current").unwrap_or_default();
        let names: [(&str, &str); 3] = match kind {
            "object" => [("value", "currentValue"), ("averageValue", "averageValue"), ("averageUtilization", "")],
            _ => [
                ("averageUtilization", "currentAverageUtilization"),
                ("averageValue", "currentAverageValue"),
                ("value", "currentValue"),
            ],
        };
        for (new, old) in names {
            if let Some(value) = current.get(new).filter(|value| !value.is_null() && !old.is_empty()) {
                source.insert(old.to_owned(), value.clone());
            }
        }
        zero(source, if matches!(kind, "object" | "external") { "currentValue" } else { "currentAverageValue" });
        flatten_metric(kind, source);
    })
}

fn current_to_v2(metric: &Value) -> Value {
    reshape(metric, |kind, source| {
        free_target(kind, source);
        let mut current = Map::new();
        for (old, new) in [
            ("currentAverageUtilization", "averageUtilization"),
            ("currentAverageValue", "averageValue"),
            ("averageValue", "averageValue"),
            ("currentValue", "value"),
        ] {
            if let Some(value) = source.remove(old).filter(|value| !value.is_null()) {
                current.insert(new.into(), value);
            }
        }
        source.insert("current".into(), Value::Object(current));
        unflatten_metric(kind, source);
    })
}

fn reshape(metric: &Value, change: impl Fn(&str, &mut Map<String, Value>)) -> Value {
    let mut metric = metric.clone();
    for kind in SOURCES {
        if let Some(Value::Object(source)) = metric.get_mut(kind) {
            change(kind, source);
        }
    }
    metric
}

/// `metric: {name, selector}` becomes `metricName` and `selector` (`metricSelector` for external ones), and
/// `describedObject` becomes `target`.
fn flatten_metric(kind: &str, source: &mut Map<String, Value>) {
    if let Some(Value::Object(mut metric)) = source.remove("metric") {
        if let Some(name) = metric.remove("name") {
            source.insert("metricName".into(), name);
        }
        if let Some(selector) = metric.remove("selector") {
            source.insert(selector_name(kind).into(), selector);
        }
    }
    super::rename(source, "describedObject", "target");
}

/// In the old shape `target` of an object metric is the object, not the value to reach.
fn free_target(kind: &str, source: &mut Map<String, Value>) {
    if kind == "object" {
        super::rename(source, "target", "describedObject");
    }
}

fn unflatten_metric(kind: &str, source: &mut Map<String, Value>) {
    if let Some(name) = source.remove("metricName") {
        let mut metric = Map::from_iter([("name".to_owned(), name)]);
        if let Some(selector) = source.remove(selector_name(kind)) {
            metric.insert("selector".into(), selector);
        }
        source.insert("metric".into(), Value::Object(metric));
    }
}

fn selector_name(kind: &str) -> &'static str {
    if kind == "external" { "metricSelector" } else { "selector" }
}
