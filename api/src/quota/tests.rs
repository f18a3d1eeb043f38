use serde_json::json;

use super::*;

fn object(tree: Value) -> Object {
    Object::from_value(tree).unwrap()
}

fn usage(group: &str, plural: &str, tree: Value) -> Vec<(String, String)> {
    let measure = Evaluator::of(group, plural).unwrap().measure(&object(tree));
    let usage = measure.usage(Timestamp::UNIX_EPOCH);
    usage.into_iter().map(|(name, amount)| (name, amount.to_string())).collect()
}

fn check(group: &str, plural: &str, tree: Value, expected: &[(&str, &str)]) {
    let owned = |pair: &(&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
    assert_eq!(usage(group, plural, tree), expected.iter().map(owned).collect::<Vec<_>>());
}

#[test]
fn plain_objects_are_counted_and_a_few_by_their_plural_too() {
    check("", "secrets", json!({}), &[("count/secrets", "1"), ("secrets", "1")]);
    check("apps", "deployments", json!({}), &[("count/deployments.apps", "1")]);
    check("", "limitranges", json!({}), &[("count/limitranges", "1")]);
    assert_eq!(Evaluator::of("events.k8s.io", "events"), None);
}

#[test]
fn names_of_plain_counts_say_what_is_counted() {
    let plain = |group, plural| Some(Evaluator::Objects { group, plural });
    assert_eq!(Evaluator::of_plain_name("count/widgets.example.com"), plain("example.com", "widgets"));
    assert_eq!(Evaluator::of_plain_name("configmaps"), plain("", "configmaps"));
    for other in ["count/pods", "pods", "services", "count/events", "requests.cpu", "limitranges"] {
        assert_eq!(Evaluator::of_plain_name(other), None, "{other}");
    }
}

#[test]
fn services_cost_the_node_ports_that_they_will_get() {
    let service = |kind: &str, allocates: bool| {
        let ports = json!([{"port": 80}, {"port": 81, "nodePort": 30081}]);
        json!({"spec": {"type": kind, "ports": ports, "allocateLoadBalancerNodePorts": allocates}})
    };
    for (kind, allocates, balancers, ports) in [
        ("ClusterIP", true, "0", "0"),
        ("NodePort", true, "0", "2"),
        ("LoadBalancer", true, "1", "2"),
        ("LoadBalancer", false, "1", "1"),
    ] {
        let counts = [
            ("count/services", "1"),
            ("services", "1"),
            ("services.loadbalancers", balancers),
            ("services.nodeports", ports),
        ];
        check("", "services", service(kind, allocates), &counts);
    }
}

#[test]
fn claims_cost_whole_bytes_and_what_was_allocated() {
    let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1500m"}}}});
    let counts = [
        ("count/persistentvolumeclaims", "1"),
        ("gold.storageclass.storage.k8s.io/persistentvolumeclaims", "1"),
        ("gold.storageclass.storage.k8s.io/requests.storage", "2"),
        ("persistentvolumeclaims", "1"),
        ("requests.storage", "2"),
    ];
    check("", "persistentvolumeclaims", claim, &counts);
    let claim = json!({
        "spec": {"resources": {"requests": {"storage": "1Gi"}}}, "status": {"allocatedResources": {"storage": "2Gi"}},
    });
    assert!(usage("", "persistentvolumeclaims", claim).contains(&("requests.storage".into(), "2Gi".into())));
}

#[test]
fn device_claims_cost_the_most_of_each_class() {
    let claim = json!({"spec": {"devices": {"requests": [
        {"name": "a", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}},
        {"name": "b", "firstAvailable": [
            {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1},
            {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 3},
            {"deviceClassName": "nic", "allocationMode": "All"},
        ]},
    ]}}});
    let counts = [
        ("count/resourceclaims.resource.k8s.io", "1"),
        ("gpu.deviceclass.resource.k8s.io/devices", "5"),
        ("nic.deviceclass.resource.k8s.io/devices", "32"),
    ];
    check("resource.k8s.io", "resourceclaims", claim, &counts);
}

#[test]
fn every_name_that_an_object_costs_is_known_to_its_evaluator() {
    let pod = json!({"spec": {"containers": [{"resources": {
        "requests": {"cpu": "1", "memory": "1", "hugepages-2Mi": "2Mi", "example.com/gpu": "1"}, "limits": {"cpu": "1"},
    }}]}});
    let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1"}}}});
    let objects = [("", "pods", pod), ("", "persistentvolumeclaims", claim), ("", "services", json!({}))];
    for (group, plural, tree) in objects {
        let evaluator = Evaluator::of(group, plural).unwrap();
        for (name, _) in usage(group, plural, tree) {
            assert!(evaluator.counts(&name), "{name}");
        }
    }
    for (name, is_counted) in [
        ("requests.example.com/gpu", true),
        ("requests.kubernetes.io/x", false),
        ("limits.example.com/gpu", false),
        ("requests.storage", false),
        ("services", false),
    ] {
        assert_eq!(Evaluator::Pods.counts(name), is_counted, "{name}");
    }
}

fn check_scope(evaluator: Evaluator<'_>, tree: &Value, spec: Value, expected: bool) {
    let quota = object(json!({"spec": spec}));
    assert_eq!(evaluator.measure(&object(tree.clone())).is_in_scope(&quota), expected, "{tree} {spec}");
}

#[test]
fn scopes_choose_pods() {
    let asking = json!({"requests": {"cpu": "1"}});
    let pod = json!({"spec": {"activeDeadlineSeconds": 5, "priorityClassName": "high", "containers": [{"resources": asking}]}});
    for (scopes, expected) in [
        (vec!["Terminating", "NotBestEffort"], true),
        (vec!["NotTerminating"], false),
        (vec!["Terminating", "BestEffort"], false),
        (vec!["PriorityClass"], true),
        (vec!["CrossNamespacePodAffinity"], false),
    ] {
        check_scope(Evaluator::Pods, &pod, json!({"scopes": scopes}), expected);
    }
    for (operator, values, expected) in
        [("In", vec!["high"], true), ("NotIn", vec!["high"], false), ("DoesNotExist", vec![], false)]
    {
        let expression = json!({"scopeName": "PriorityClass", "operator": operator, "values": values});
        let spec = json!({"scopeSelector": {"matchExpressions": [expression]}});
        check_scope(Evaluator::Pods, &pod, spec.clone(), expected);
        // A pod without a class is in none of the values.
        check_scope(Evaluator::Pods, &json!({"spec": {"containers": []}}), spec, operator != "In");
    }
    check_scope(Evaluator::Services, &json!({}), json!({"scopes": ["NotTerminating"]}), false);
    check_scope(Evaluator::Services, &json!({}), json!({}), true);
}

#[test]
fn affinity_to_other_namespaces_is_a_scope() {
    let term = json!({"namespaceSelector": {}, "topologyKey": "zone"});
    let preferred = json!([{"weight": 1, "podAffinityTerm": term}]);
    let affinity = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}});
    let pod = json!({"spec": {"affinity": affinity, "containers": []}});
    check_scope(Evaluator::Pods, &pod, json!({"scopes": ["CrossNamespacePodAffinity"]}), true);
}

#[test]
fn volume_attribute_classes_choose_claims() {
    let claim =
        json!({"spec": {"volumeAttributesClassName": "fast"}, "status": {"currentVolumeAttributesClassName": "slow"}});
    for (operator, values, expected) in
        [("In", vec!["slow"], true), ("NotIn", vec!["slow"], true), ("Exists", vec![], true)]
    {
        let expression = json!({"scopeName": "VolumeAttributesClass", "operator": operator, "values": values});
        let spec = json!({"scopeSelector": {"matchExpressions": [expression]}});
        check_scope(Evaluator::VolumeClaims, &claim, spec, expected);
    }
    check_scope(Evaluator::VolumeClaims, &claim, json!({"scopes": ["BestEffort"]}), false);
}

#[test]
fn growth_is_never_negative() {
    let read = |tree: Value| amounts(Some(&tree));
    let growth = growth(&read(json!({"a": "3", "b": "1", "c": "1"})), &read(json!({"a": "1", "b": "5"})));
    assert_eq!(growth, read(json!({"a": "2", "b": "0", "c": "1"})));
}
