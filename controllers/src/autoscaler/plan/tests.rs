use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::serde_json::{Value, from_value, json};

use super::*;

fn draft() -> Draft {
    let autoscaler: HorizontalPodAutoscaler = from_value(json!({"metadata": {}})).unwrap();
    Draft::of(&autoscaler, "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap())
}

/// Type, status and reason of each condition.
fn conditions(draft: &Draft) -> Vec<String> {
    let conditions = draft.status.conditions.iter().flatten();
    conditions.map(|it| format!("{} {} {}", it.type_, it.status, it.reason.as_deref().unwrap_or(""))).collect()
}

fn says(replicas: i32, name: &str) -> Result<Proposal, Trouble> {
    let status = MetricStatus { type_: name.to_owned(), ..MetricStatus::default() };
    Ok(Proposal { replicas, name: name.to_owned(), status })
}

fn broken(why: &str) -> Result<Proposal, Trouble> {
    Err(Trouble { reason: "FailedGetPodsMetric", why: why.to_owned(), at_large: format!("at large: {why}") })
}

#[test]
fn a_target_outside_its_bounds_is_brought_inside_and_one_at_zero_is_left_alone() {
    let course = |current| Course::of(current, Bounds { least: 2, most: 5 });
    assert_eq!(course(0), Course::Off);
    assert!(matches!(
        course(1),
        Course::Into { replicas: 2, reason: "Current number of replicas below Spec.MinReplicas" }
    ));
    assert!(matches!(
        course(6),
        Course::Into { replicas: 5, reason: "Current number of replicas above Spec.MaxReplicas" }
    ));
    assert_eq!((course(2), course(5)), (Course::Measure, Course::Measure));
}

#[test]
fn the_metric_that_wants_most_wins_and_one_that_is_broken_stops_a_target_from_shrinking() {
    let check = |metrics: Vec<Result<Proposal, Trouble>>, want: Result<(i32, &str), &str>, condition: &str| {
        let (mut draft, all) = (draft(), metrics.len());
        let tally = tally(&mut draft, metrics, 3);
        let wanted = tally.wanted.as_ref().map(|(replicas, name)| (*replicas, name.as_str()));
        assert_eq!(wanted.map_err(String::as_str), want);
        assert_eq!((tally.statuses.len(), conditions(&draft)), (all, vec![condition.to_owned()]));
        assert_eq!(draft.notices.len(), tally.broken, "one event for each");
    };
    let valid = "ScalingActive True ValidMetricFound";
    let failed = "ScalingActive False FailedGetPodsMetric";
    check(vec![says(2, "a"), says(5, "b"), says(4, "c")], Ok((5, "b")), valid);
    check(vec![says(0, "a"), says(0, "b")], Ok((0, "b")), valid);
    check(vec![says(2, "a"), says(1, "b")], Ok((2, "a")), valid);
    check(vec![says(4, "a"), broken("x")], Ok((4, "a")), valid);
    check(vec![says(3, "a"), broken("x")], Ok((3, "a")), valid);
    let why = "invalid metrics (1 invalid out of 2), first error is: at large: x";
    check(vec![says(2, "a"), broken("x")], Err(why), failed);
    let why = "invalid metrics (2 invalid out of 2), first error is: at large: x";
    check(vec![broken("x"), broken("y")], Err(why), failed);
}

#[test]
fn why_a_target_goes_somewhere_is_said() {
    let go = |spec: Value, current: i32, wanted: i32| {
        let spec = json!({"maxReplicas": 10, "minReplicas": 2, "scaleTargetRef": {"kind": "k", "name": "n"}, "behavior": spec});
        let spec: HorizontalPodAutoscalerSpec = from_value(spec).unwrap();
        let (mut draft, now) = (draft(), Instant::now());
        let mut history = History::default();
        let (replicas, reason) = go(&mut draft, &spec, &mut history, (current, wanted, "cpu"), Duration::ZERO, now);
        (replicas, reason, conditions(&draft).join(", "))
    };
    let said = |able: &str, limited: &str| format!("AbleToScale True {able}, ScalingLimited {limited}");
    let ready = |limited: &str| said("ReadyForNewScale", limited);
    for behavior in [
        Value::Null,
        json!({"scaleUp": {"policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}]},
        "scaleDown": {"policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}]}}),
    ] {
        let go = |current, wanted| go(behavior.clone(), current, wanted);
        assert_eq!(go(4, 6), (6, "cpu above target".to_owned(), ready("False DesiredWithinRange")));
        assert_eq!(go(4, 9), (8, "cpu above target".to_owned(), ready("True ScaleUpLimit")));
        assert_eq!(go(6, 20), (10, "cpu above target".to_owned(), ready("True TooManyReplicas")));
        assert_eq!(go(4, -7), (2, "All metrics below target".to_owned(), ready("True TooFewReplicas")));
        assert_eq!(go(4, 4), (4, String::new(), ready("False DesiredWithinRange")));
    }
}

#[test]
fn each_direction_has_its_tolerance() {
    let check = |behavior: Value, want: (f64, f64)| {
        let behavior: Option<HorizontalPodAutoscalerBehavior> = from_value(behavior).unwrap();
        let tolerances = tolerances(behavior.as_ref(), 0.1);
        assert_eq!((tolerances.down, tolerances.up), want);
    };
    check(Value::Null, (0.1, 0.1));
    check(json!({"scaleUp": {"tolerance": "0"}}), (0.1, 0.0));
    check(json!({"scaleDown": {"tolerance": "250m"}, "scaleUp": {}}), (0.25, 0.1));
}
