use serde_json::{Value, json};

use super::*;
use crate::pods::QosClass;

/// Reads a pod as a type and as a tree, and asks both.
fn ask<T: PartialEq + std::fmt::Debug>(pod: &Value, question: impl Fn(&Demand<'_>) -> T) -> T {
    let typed: Pod = serde_json::from_value(pod.clone()).unwrap();
    let answer = question(&Demand::of(&typed));
    let tree = Demand::of_tree(pod["spec"].as_object().unwrap(), pod.get("status"));
    assert_eq!(question(&tree), answer, "tree and type of {pod}");
    answer
}

fn texts(amounts: Amounts<'_>) -> Vec<String> {
    amounts.into_iter().map(|(name, amount)| format!("{name}={amount}")).collect()
}

fn check(spec: Value, expected: &[&str]) {
    let pod = json!({"spec": spec});
    assert_eq!(ask(&pod, |demand| texts(demand.requests())), expected, "{pod}");
    assert_eq!(ask(&pod, |demand| texts(demand.reserved())), expected, "{pod} is new");
}

fn asks(list: Value) -> Value {
    json!({"name": "c", "resources": {"requests": list}})
}

fn sidecar(list: Value) -> Value {
    let mut container = asks(list);
    container["restartPolicy"] = json!("Always");
    container
}

#[test]
fn containers_add_up_and_init_containers_raise() {
    let (first, second) = (asks(json!({"cpu": "100m", "memory": "1Ki"})), asks(json!({"cpu": "200m"})));
    check(json!({"containers": [first, second]}), &["cpu=300m", "memory=1Ki"]);
    check(json!({"containers": [first], "initContainers": [asks(json!({"cpu": "1"}))]}), &["cpu=1", "memory=1Ki"]);
    check(json!({"containers": []}), &[]);
}

#[test]
fn sidecars_count_beside_everything_after_them() {
    let cpu = |cpu: &str| json!({"cpu": cpu});
    let start_up = |containers: Value, init: Value| json!({"containers": containers, "initContainers": init});
    check(start_up(json!([asks(cpu("1"))]), json!([sidecar(cpu("100m")), asks(cpu("2"))])), &["cpu=2100m"]);
    check(start_up(json!([asks(cpu("3"))]), json!([sidecar(cpu("100m")), asks(cpu("2"))])), &["cpu=3100m"]);
    check(start_up(json!([asks(cpu("1"))]), json!([asks(cpu("2")), sidecar(cpu("1500m"))])), &["cpu=2500m"]);
}

#[test]
fn what_a_pod_says_for_itself_holds_instead_of_the_sum() {
    let own = |list: Value| json!({"requests": list});
    let container = asks(json!({"cpu": "100m", "memory": "1Mi"}));
    check(json!({"resources": own(json!({"cpu": "1"})), "containers": [container]}), &["cpu=1", "memory=1Mi"]);
    let storage = own(json!({"ephemeral-storage": "1Gi"}));
    check(json!({"resources": storage, "containers": [container]}), &["cpu=100m", "memory=1Mi"]);
    let overhead = json!({"cpu": "50m"});
    let spec = json!({"resources": own(json!({"cpu": "1"})), "containers": [], "overhead": overhead});
    check(spec.clone(), &["cpu=1050m"]);
    assert_eq!(ask(&json!({"spec": spec}), |demand| texts(demand.clone().without_overhead().requests())), ["cpu=1"]);
}

#[test]
fn limits_rise_by_the_overhead_where_there_are_some() {
    let spec = json!({
        "containers": [{"name": "c", "resources": {"limits": {"memory": "1Mi"}}}], "overhead": {"memory": "1Mi", "cpu": "1"},
    });
    assert_eq!(ask(&json!({"spec": spec}), |demand| texts(demand.limits())), ["memory=2Mi"]);
}

#[test]
fn a_resize_holds_the_most_until_it_is_done_and_nothing_when_it_is_refused() {
    let pod = |reason: &str| {
        let status = json!({"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "3"}}});
        json!({
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "3"}, "limits": {"cpu": "4"}}}]},
            "status": {
                "conditions": [{"type": "PodResizePending", "status": "True", "reason": reason}],
                "containerStatuses": [status],
            },
        })
    };
    let held = |demand: &Demand<'_>| (texts(demand.reserved()), texts(demand.reserved_limits()));
    let both = |requests: &str, limits: &str| (vec![requests.to_owned()], vec![limits.to_owned()]);
    assert_eq!(ask(&pod("Deferred"), held), both("cpu=3", "cpu=4"));
    assert_eq!(ask(&pod("Infeasible"), held), both("cpu=2", "cpu=3"));
    assert_eq!(ask(&pod("Infeasible"), |demand| texts(demand.requests())), ["cpu=3"]);
}

#[test]
fn a_resize_of_the_pod_as_a_whole_holds_the_most_too() {
    let pod = json!({
        "spec": {"containers": [{"name": "c"}], "resources": {"requests": {"cpu": "1"}}},
        "status": {"allocatedResources": {"cpu": "3"}, "resources": {"requests": {"cpu": "2"}}},
    });
    assert_eq!(ask(&pod, |demand| texts(demand.reserved())), ["cpu=3"]);
}

#[test]
fn a_pod_is_limited_where_all_of_it_is() {
    let limited = json!({"name": "c", "resources": {"limits": {"cpu": "1"}}});
    let is_limited = |spec: Value| ask(&json!({"spec": spec}), |demand| demand.is_limited("cpu"));
    assert!(is_limited(json!({"containers": [limited]})));
    assert!(!is_limited(json!({"containers": [limited, {"name": "d"}]})));
    assert!(!is_limited(json!({"containers": [limited], "initContainers": [{"name": "i"}]})));
    assert!(is_limited(json!({"containers": [{"name": "d"}], "resources": {"limits": {"cpu": "1"}}})));
}

#[test]
fn classes_follow_requests_and_limits() {
    let check = |spec: Value, class: QosClass| {
        assert_eq!(ask(&json!({"spec": spec}), |demand| demand.qos_class()), class, "{spec}");
    };
    let of = |resources: Value| json!({"containers": [{"name": "c", "resources": resources}]});
    let all = json!({"cpu": "1", "memory": "1Gi"});
    check(of(json!({})), QosClass::BestEffort);
    check(of(json!({"requests": {"cpu": "0", "ephemeral-storage": "1"}})), QosClass::BestEffort);
    check(of(json!({"requests": {"cpu": "1"}})), QosClass::Burstable);
    check(of(json!({"requests": all, "limits": all})), QosClass::Guaranteed);
    check(of(json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": all})), QosClass::Burstable);
    check(of(json!({"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": all})), QosClass::Guaranteed);
    check(of(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}})), QosClass::Burstable);
    let beside = json!({"containers": [{"name": "c"}], "resources": {"requests": all, "limits": all}});
    check(beside, QosClass::Guaranteed);
    let nothing = json!({"containers": [{"name": "c", "resources": {"requests": all}}], "resources": {"requests": {}}});
    check(nothing, QosClass::Burstable);
}
