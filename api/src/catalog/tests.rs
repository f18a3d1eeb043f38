use serde_json::json;

use super::*;
use crate::resource::Verb;

#[test]
fn rows_are_found_by_plural_and_by_kind() {
    let catalog = Catalog::builtin();
    let row = catalog.resource("apps", "v1", "deployments").expect("served");
    assert_eq!(row.kind, "Deployment");
    assert!(row.has_subresource("scale") && row.has_generation);
    assert_eq!(catalog.kind("", "v1", "Node").expect("served").storage_key("", "n1"), "minions/n1");
    assert!(catalog.resource("apps", "v1", "pods").is_none());
}

#[test]
fn every_row_leads_to_its_storage_row() {
    let catalog = Catalog::everything();
    for row in catalog.iter() {
        let storage = catalog.storage_row(row);
        assert!(storage.is_storage_version(), "{row:?} is stored as {storage:?}");
        assert_eq!(storage.storage_prefix, row.storage_prefix);
    }
}

#[test]
fn prefixes_are_unique_to_a_resource() {
    let catalog = Catalog::everything();
    let mut seen = HashMap::new();
    for row in catalog.iter().filter(|row| row.is_stored() && row.is_storage_version()) {
        assert_eq!(
            seen.insert(row.storage_prefix.clone(), row.clone()).map(|other| format!("{other:?}")),
            None,
            "{row:?}"
        );
    }
}

#[test]
fn rows_can_be_added_and_taken_away() {
    let catalog = Catalog::builtin();
    let mut row = Resource::clone(catalog.resource("", "v1", "configmaps").expect("served"));
    row.group = "example.com".into();
    let more = catalog.with([Arc::new(row)]);
    assert!(more.resource("example.com", "v1", "configmaps").is_some());
    assert!(catalog.resource("example.com", "v1", "configmaps").is_none());
    assert!(more.without("example.com", "configmaps").resource("example.com", "v1", "configmaps").is_none());
    assert_eq!(more.groups().last().map(|group| group.name), Some("example.com"));
}

#[test]
fn resource_metrics_are_there_only_where_they_are_asked_for() {
    let has = |catalog: &Catalog| catalog.groups().iter().any(|group| group.name == "metrics.k8s.io");
    assert!(!has(&Catalog::everything()));
    let catalog = Catalog::builtin().with_resource_metrics();
    assert!(has(&catalog));
    let pods = catalog.resource("metrics.k8s.io", "v1beta1", "pods").expect("served");
    assert_eq!((pods.kind.as_ref(), pods.singular.as_ref(), pods.namespaced), ("PodMetrics", "pod", true));
    assert!(!pods.is_stored() && pods.verbs == [Verb::Get, Verb::List]);
    assert_eq!(
        crate::table::columns(pods).len(),
        crate::table::cells(pods, &Object::default(), jiff::Timestamp::UNIX_EPOCH).len()
    );
}

#[test]
fn reviews_are_not_stored() {
    let review = Catalog::builtin().resource("authentication.k8s.io", "v1", "tokenreviews").cloned().expect("served");
    assert!(!review.is_stored());
    assert_eq!(review.verbs, [Verb::Create]);
}

/// Converts there and back, and checks the form in between.
fn check(
    kind: &str,
    group: &str,
    from: &str,
    to_group: &str,
    to: &str,
    object: serde_json::Value,
    between: &serde_json::Value,
) {
    let catalog = Catalog::everything();
    let from = catalog.kind(group, from, kind).expect("served").clone();
    let to = catalog.kind(to_group, to, kind).expect("served").clone();
    let mut object = Object::from_value(object).expect("an object");
    object.set(&["apiVersion"], from.api_version());
    object.set(&["kind"], kind);
    let converted = catalog.convert(&from, &to, object.clone()).expect("convertible");
    let mut inner = converted.to_value();
    inner.as_object_mut().expect("an object").retain(|name, _| between.get(name).is_some());
    assert_eq!(&inner, between);
    assert_eq!(converted.api_version(), to.api_version());
    assert_eq!(catalog.convert(&to, &from, converted).expect("convertible"), object);
}

#[test]
fn a_cpu_target_is_a_metric_in_v2() {
    check(
        "HorizontalPodAutoscaler",
        "autoscaling",
        "v1",
        "autoscaling",
        "v2",
        json!({"spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}}),
        &json!({"spec": {"maxReplicas": 3, "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}}),
    );
}

#[test]
fn other_metrics_travel_in_annotations() {
    let metrics = json!([
        {"type": "Object", "object": {"metric": {"name": "m", "selector": {"matchLabels": {"a": "b"}}},
            "describedObject": {"kind": "Service", "name": "s"}, "target": {"type": "Value", "value": "3"}}},
        {"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "1"}}}
    ]);
    check(
        "HorizontalPodAutoscaler",
        "autoscaling",
        "v2",
        "autoscaling",
        "v1",
        json!({"metadata": {}, "spec": {"maxReplicas": 3, "metrics": metrics, "behavior": {"scaleDown": {"policies": []}}}}),
        &json!({"spec": {"maxReplicas": 3}}),
    );
}

#[test]
fn events_have_two_faces() {
    check(
        "Event",
        "",
        "v1",
        "events.k8s.io",
        "v1",
        json!({"message": "m", "involvedObject": {"kind": "Pod"}, "source": {"component": "c"}, "count": 2}),
        &json!({"note": "m", "regarding": {"kind": "Pod"}, "deprecatedSource": {"component": "c"}, "deprecatedCount": 2}),
    );
}

#[test]
fn device_requests_are_nested_after_v1beta1() {
    check(
        "ResourceClaim",
        "resource.k8s.io",
        "v1beta1",
        "resource.k8s.io",
        "v1",
        json!({"spec": {"devices": {"requests": [{"name": "a", "deviceClassName": "c", "count": 2}]}}}),
        &json!({"spec": {"devices": {"requests": [{"name": "a", "exactly": {"deviceClassName": "c", "count": 2}}]}}}),
    );
    check(
        "ResourceSlice",
        "resource.k8s.io",
        "v1beta1",
        "resource.k8s.io",
        "v1",
        json!({"spec": {"devices": [{"name": "d", "basic": {"capacity": {"m": {"value": "1Gi"}}}}]}}),
        &json!({"spec": {"devices": [{"name": "d", "capacity": {"m": {"value": "1Gi"}}}]}}),
    );
}

#[test]
fn what_travels_in_annotations_is_written_as_go_writes_it() {
    let catalog = Catalog::everything();
    let of = |version| catalog.kind("autoscaling", version, "HorizontalPodAutoscaler").expect("served").clone();
    let current = json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 10}}}]);
    let object = Object::from_value(json!({"status": {"currentMetrics": current}})).expect("an object");
    let old = catalog.convert(&of("v2"), &of("v1"), object).expect("convertible");
    assert_eq!(
        old.annotation("autoscaling.alpha.kubernetes.io/current-metrics"),
        Some(
            r#"[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":10,"currentAverageValue":"0"}}]"#
        )
    );
    assert_eq!(old.get(&["status", "currentCPUUtilizationPercentage"]), Some(&json!(10)));
}
