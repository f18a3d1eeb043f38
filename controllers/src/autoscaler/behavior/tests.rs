use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use k8s_openapi::serde_json::{Value, from_value, json};
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;

const FIVE_MINUTES: Duration = Duration::from_secs(300);

fn behavior(said: Value) -> Behavior {
    let said: HorizontalPodAutoscalerBehavior = from_value(said).unwrap();
    Behavior::of(&said, FIVE_MINUTES)
}

fn wish(current: i32, desired: i32, least: i32, most: i32) -> Wish {
    Wish { current, desired, least, most }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn without_a_behaviour_a_target_doubles_at_most_and_stays_between_bounds() {
    let check = |wish: Wish, replicas: i32, limit: Said| {
        let now = Instant::now();
        let mut history = History::default();
        let verdict = by_default(&mut history, FIVE_MINUTES, wish, now);
        assert_eq!((verdict.replicas, verdict.limit), (replicas, limit), "{wish:?}");
        assert_eq!(verdict.is_limited, limit != WITHIN, "{wish:?}");
    };
    check(wish(1, 10, 1, 20), 4, TOO_FAST_UP);
    check(wish(3, 10, 1, 20), 6, TOO_FAST_UP);
    check(wish(3, 10, 1, 6), 6, TOO_MANY);
    check(wish(3, 5, 1, 20), 5, WITHIN);
    check(wish(5, 1, 2, 20), 2, TOO_FEW);
    check(wish(5, 0, 1, 20), 1, TOO_FEW);
    check(wish(i32::MAX, i32::MAX, 1, i32::MAX), i32::MAX, WITHIN);
}

#[test]
fn a_target_shrinks_to_the_highest_wish_of_the_window_only() {
    let start = Instant::now();
    let mut history = History::starting_with(5, start);
    let mut go = |after: u64, desired: i32| {
        let verdict = by_default(&mut history, FIVE_MINUTES, wish(5, desired, 1, 10), start + seconds(after));
        (verdict.replicas, verdict.able.0)
    };
    assert_eq!(go(15, 3), (5, "ScaleDownStabilized"));
    assert_eq!(go(30, 2), (5, "ScaleDownStabilized"));
    assert_eq!(go(300, 2), (5, "ScaleDownStabilized"), "the end of the window counts");
    assert_eq!(go(301, 2), (3, "ScaleDownStabilized"));
    assert_eq!(go(316, 2), (2, "ReadyForNewScale"));
    assert_eq!(go(320, 7), (7, "ReadyForNewScale"), "more is more at once");
}

#[test]
fn windows_hold_back_both_directions() {
    let both = json!({
        "scaleUp": {"stabilizationWindowSeconds": 60, "policies": [{"type": "Pods", "value": 100, "periodSeconds": 1}]},
        "scaleDown": {"stabilizationWindowSeconds": 120, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}]},
    });
    let (behavior, start) = (behavior(both), Instant::now());
    let mut history = History::starting_with(5, start);
    let mut go = |after: u64, desired: i32| {
        let verdict = behavior.judge(&mut history, wish(5, desired, 1, 100), start + seconds(after));
        (verdict.replicas, verdict.able.0)
    };
    assert_eq!(go(15, 9), (5, "ScaleUpStabilized"));
    assert_eq!(go(30, 7), (5, "ScaleUpStabilized"));
    assert_eq!(go(60, 8), (7, "ScaleUpStabilized"), "the start is out of the window");
    assert_eq!(go(100, 2), (5, "ScaleDownStabilized"), "the wishes of two minutes are higher");
    assert_eq!(go(260, 2), (2, "ReadyForNewScale"));
}

#[test]
fn a_policy_counts_what_was_done_in_its_period() {
    let pods = |value: i32, period: i32| json!({"type": "Pods", "value": value, "periodSeconds": period});
    let percent = |value: i32, period: i32| json!({"type": "Percent", "value": value, "periodSeconds": period});
    // Wants a hundred (or nothing), and goes as far as it may each time.
    let check = |up: Value, down: Value, start: i32, wanted: i32, want: &[(u64, i32)]| {
        let rules = |said: &Value| {
            let mut said = said.clone();
            said["stabilizationWindowSeconds"] = json!(0);
            said
        };
        let behavior = behavior(json!({"scaleUp": rules(&up), "scaleDown": rules(&down)}));
        let (mut history, mut current, begin) = (History::default(), start, Instant::now());
        for (after, expected) in want {
            let now = begin + seconds(*after);
            let verdict = behavior.judge(&mut history, wish(current, wanted, 1, 100), now);
            if verdict.replicas != current {
                behavior.note(&mut history, current, verdict.replicas, now);
            }
            current = verdict.replicas;
            assert_eq!(current, *expected, "{up} {down} from {start} after {after}");
        }
    };
    let any = || json!({"policies": [percent(100, 15)]});
    check(json!({"policies": [pods(4, 60)]}), any(), 5, 100, &[(0, 9), (15, 9), (59, 9), (60, 13), (75, 13)]);
    check(json!({"policies": [percent(10, 60)]}), any(), 5, 100, &[(0, 6), (60, 7), (120, 8)]);
    check(json!({"policies": [pods(4, 15), percent(100, 15)]}), any(), 3, 100, &[(0, 7), (15, 14), (30, 28)]);
    let least = json!({"selectPolicy": "Min", "policies": [pods(4, 15), percent(100, 15)]});
    check(least, any(), 3, 100, &[(0, 6), (15, 10), (30, 14)]);
    check(json!({"selectPolicy": "Disabled", "policies": [pods(4, 15)]}), any(), 3, 100, &[(0, 3), (60, 3)]);
    check(any(), json!({"policies": [pods(5, 60)]}), 30, 0, &[(0, 25), (59, 25), (60, 20)]);
    check(any(), json!({"policies": [percent(10, 60)]}), 100, 0, &[(0, 90), (30, 90), (60, 81)]);
    let least = json!({"selectPolicy": "Min", "policies": [pods(5, 60), percent(10, 60)]});
    check(any(), least, 30, 0, &[(0, 27), (60, 24)]);
    check(any(), json!({"policies": [pods(5, 60), percent(10, 60)]}), 30, 0, &[(0, 25)]);
    check(any(), json!({"selectPolicy": "Disabled", "policies": [pods(5, 60)]}), 30, 0, &[(0, 30)]);
}

#[test]
fn a_limit_is_told_with_its_reason() {
    let said = |wish: Wish| {
        let policy = |value: i32| json!({"type": "Pods", "value": value, "periodSeconds": 15});
        let rules = |value: i32| json!({"stabilizationWindowSeconds": 0, "policies": [policy(value)]});
        let behavior = behavior(json!({"scaleUp": rules(2), "scaleDown": rules(3)}));
        let verdict = behavior.judge(&mut History::default(), wish, Instant::now());
        (verdict.replicas, verdict.is_limited, verdict.limit)
    };
    assert_eq!(said(wish(5, 9, 1, 20)), (7, true, TOO_FAST_UP));
    assert_eq!(said(wish(5, 9, 1, 6)), (6, true, TOO_MANY));
    assert_eq!(said(wish(5, 1, 1, 20)), (2, true, TOO_FAST_DOWN));
    assert_eq!(said(wish(5, 1, 4, 20)), (4, true, TOO_FEW));
    assert_eq!(said(wish(5, 6, 1, 20)), (6, false, WITHIN));
}

#[test]
fn a_change_of_the_target_by_others_within_the_period_stops_it_but_does_not_turn_it_round() {
    let rules =
        json!({"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]});
    let behavior = behavior(json!({"scaleUp": rules, "scaleDown": rules}));
    let (mut history, now) = (History::default(), Instant::now());
    behavior.note(&mut history, 2, 10, now);
    let verdict = behavior.judge(&mut history, wish(10, 20, 1, 100), now + seconds(1));
    assert_eq!((verdict.replicas, verdict.limit), (10, TOO_FAST_UP));
}

#[test]
fn nothing_is_kept_longer_than_anybody_asks_for_it() {
    let rules =
        json!({"stabilizationWindowSeconds": 30, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]});
    let behavior = behavior(json!({"scaleUp": rules, "scaleDown": rules}));
    let (mut history, start) = (History::default(), Instant::now());
    for step in 0..1000 {
        let now = start + seconds(step * 15);
        let desired = if step % 2 == 0 { 10 } else { 3 };
        let verdict = behavior.judge(&mut history, wish(5, desired, 1, 100), now);
        behavior.note(&mut history, 5, verdict.replicas, now);
        let size = format!("{history:?}").matches("Instant").count();
        assert!(size <= 3 + 5, "{size} after {step}");
    }
}

/// One step: how long after the one before, and what is wanted then.
type Step = (u64, i32);

fn direction() -> impl Strategy<Value = Value> {
    let policy = (any::<bool>(), 1..200_i32, 1..120_i32).prop_map(|(is_percent, value, period)| {
        json!({"type": if is_percent { "Percent" } else { "Pods" }, "value": value, "periodSeconds": period})
    });
    let select = prop_oneof![Just("Max"), Just("Min"), Just("Disabled")];
    (proptest::collection::vec(policy, 1..4), select, 0..300_i32).prop_map(|(policies, select, window)| {
        json!({"policies": policies, "selectPolicy": select, "stabilizationWindowSeconds": window})
    })
}

/// How many replicas there were, as seen by somebody who wrote all down.
fn at(path: &[(Instant, i32)], start: i32, time: Instant) -> i32 {
    path.iter().rev().find(|(when, _)| *when <= time).map_or(start, |(_, replicas)| *replicas)
}

/// Whether the policies of a direction allow to go from what was before to this, said anew in plain words.
fn allows(rules: &Value, path: &[(Instant, i32)], start: i32, now: Instant, to: i32, is_up: bool) -> bool {
    let mut policies = rules["policies"].as_array().unwrap().iter().map(|policy| {
        let period = Duration::from_secs(policy["periodSeconds"].as_u64().unwrap());
        let before = f64::from(now.checked_sub(period).map_or(start, |time| at(path, start, time)));
        let value = policy["value"].as_f64().unwrap();
        let change = if policy["type"] == "Percent" { before * value / 100.0 } else { value };
        if is_up { f64::from(to) < before + change + 1.000_001 } else { f64::from(to) > before - change - 1.000_001 }
    });
    match rules["selectPolicy"].as_str().unwrap() {
        "Disabled" => false,
        "Min" => policies.all(|allowed| allowed),
        _ => policies.any(|allowed| allowed),
    }
}

proptest! {
    #[test]
    fn no_wish_leads_out_of_bounds_or_past_the_policies(
        up in direction(),
        down in direction(),
        start in 1..50_i32,
        most in 50..1000_i32,
        steps in proptest::collection::vec((1..90_u64, prop_oneof![0..2000_i32, Just(i32::MAX)]), 1..40),
    ) {
        let steps: Vec<Step> = steps;
        let behavior = behavior(json!({"scaleUp": up, "scaleDown": down}));
        let begin = Instant::now() + Duration::from_secs(1000);
        let (mut history, mut now, mut current) = (History::starting_with(start, begin), begin, start);
        let mut path = vec![(begin, start)];
        for (wait, desired) in steps {
            now += Duration::from_secs(wait);
            let verdict = behavior.judge(&mut history, wish(current, desired, 1, most), now);
            prop_assert!((1..=most).contains(&verdict.replicas));
            if verdict.replicas != current {
                let is_up = verdict.replicas > current;
                let rules = if is_up { &up } else { &down };
                prop_assert!(allows(rules, &path, start, now, verdict.replicas, is_up), "{verdict:?} {path:?}");
                behavior.note(&mut history, current, verdict.replicas, now);
                current = verdict.replicas;
                path.push((now, current));
            }
        }
    }

    #[test]
    fn without_a_behaviour_no_wish_leads_out_of_bounds(
        start in 1..50_i32,
        most in 50..1000_i32,
        steps in proptest::collection::vec((1..90_u64, any::<i32>()), 1..40),
    ) {
        let (mut history, mut now, mut current) = (History::default(), Instant::now(), start);
        for (wait, desired) in steps {
            now += Duration::from_secs(wait);
            let verdict = by_default(&mut history, FIVE_MINUTES, wish(current, desired, 1, most), now);
            prop_assert!((1..=most).contains(&verdict.replicas));
            prop_assert!(verdict.replicas <= (2 * current).max(4));
            current = verdict.replicas;
        }
    }
}
