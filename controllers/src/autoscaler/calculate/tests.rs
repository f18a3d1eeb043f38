use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::serde_json::{Value, from_value, json};

use super::*;

const NOW: &str = "2026-01-01T01:00:00Z";
/// Long ago, and just now.
const OLD: &str = "2026-01-01T00:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A pod that requests a whole processor.
fn pod(number: usize, phase: &str, ready: &str, since: &str, started: &str) -> Value {
    json!({
        "metadata": {"name": format!("p{number}")},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Ki"}}}]},
        "status": {"phase": phase, "startTime": started,
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}]},
    })
}

fn running(number: usize) -> Value {
    pod(number, "Running", "True", OLD, OLD)
}

fn deleted(mut pod: Value) -> Value {
    pod["metadata"]["deletionTimestamp"] = json!(NOW);
    pod
}

/// Samples of the first pods.
fn samples(values: &[i64]) -> Samples {
    let sample = |value| Sample { value, at: now(), window: SignedDuration::from_secs(60) };
    values.iter().enumerate().map(|(number, value)| (format!("p{number}"), sample(*value))).collect()
}

fn with<T>(pods: Vec<Value>, wanted: i32, work: impl FnOnce(&Scene<'_>) -> T) -> T {
    let pods: Vec<Arc<Pod>> = pods.into_iter().map(|pod| Arc::new(from_value(pod).unwrap())).collect();
    let patience =
        Patience { cpu_initialization: Duration::from_secs(120), initial_readiness: Duration::from_secs(10) };
    let tolerances = Tolerances { down: 0.1, up: 0.1 };
    work(&Scene { pods: &pods, wanted, there: wanted, tolerances, patience, now: now() })
}

#[track_caller]
fn by_cpu(pods: Vec<Value>, wanted: i32, values: &[i64], target: i32, want: (i32, i32)) {
    let used = with(pods, wanted, |scene| scene.by_utilization(&samples(values), "cpu", None, target)).unwrap();
    assert_eq!((used.replicas, used.percent), want);
}

fn all(count: usize) -> Vec<Value> {
    (0..count).map(running).collect()
}

#[test]
fn replicas_follow_the_use_of_requests() {
    by_cpu(all(3), 3, &[300, 500, 700], 30, (5, 50));
    by_cpu(all(5), 5, &[100, 300, 500, 250, 250], 50, (3, 28));
    by_cpu(all(3), 3, &[1010, 1030, 1020], 100, (3, 102));
    by_cpu(all(3), 3, &[0, 0, 0], 50, (0, 0));
    by_cpu(all(4), 4, &[4000, 9500, 3000, 7000], 300, (8, 587));
}

#[test]
fn a_tolerance_is_for_its_direction_and_includes_its_end() {
    let check = |down: f64, up: f64, value: i64, want: i32| {
        let replicas = with(all(10), 10, |scene| {
            let scene = Scene { tolerances: Tolerances { down, up }, ..*scene };
            scene.by_average(&samples(&[value; 10]), "", 1000).unwrap().0
        });
        assert_eq!(replicas, want, "{down} {up} {value}");
    };
    check(0.1, 0.1, 1100, 10);
    check(0.1, 0.1, 1101, 12);
    check(0.1, 0.1, 900, 10);
    check(0.1, 0.1, 899, 9);
    check(0.1, 0.0, 1001, 11);
    check(0.5, 0.0, 501, 10);
    check(0.0, 0.5, 1500, 10);
}

#[test]
fn a_pod_without_a_sample_speaks_against_the_change() {
    by_cpu(all(4), 4, &[1000, 1000, 1000], 100, (4, 100));
    // Three of four use twice as much: the fourth is taken for idle.
    by_cpu(all(4), 4, &[2000, 2000, 2000], 100, (6, 200));
    // They use a fifth: the fourth is taken for busy.
    by_cpu(all(4), 4, &[200, 200, 200], 100, (2, 20));
    by_cpu(all(2), 2, &[1200], 100, (2, 120));
    // For a target above the requests, busy is as busy as that.
    by_cpu(all(2), 2, &[1000], 300, (2, 100));
    // Samples of fewer pods than there are replicas never shrink a target that should grow.
    by_cpu(all(4), 10, &[1500, 1500, 1500], 100, (10, 150));
}

#[test]
fn a_pod_that_starts_counts_only_against_growth() {
    let starting = |number| pod(number, "Running", "False", NOW, NOW);
    let pending = |number| pod(number, "Pending", "False", NOW, NOW);
    for unready in [starting, pending] {
        by_cpu(vec![running(0), running(1), unready(2)], 3, &[2000, 2000, 5000], 100, (4, 200));
        by_cpu(vec![running(0), running(1), unready(2)], 3, &[500, 500, 5000], 100, (1, 50));
    }
    // Two of three are new: what one uses is not enough for more.
    by_cpu(vec![running(0), starting(1), starting(2)], 3, &[2000, 10, 10], 100, (3, 200));
}

#[test]
fn whether_a_pod_starts_depends_on_its_age_its_readiness_and_its_sample() {
    let check = |pod: Value, resource: &str, taken: &str, counts: bool| {
        let sample = Sample { value: 1000, at: taken.parse().unwrap(), window: SignedDuration::from_secs(60) };
        let samples = Samples::from([("p0".to_owned(), sample)]);
        let got = with(vec![pod.clone()], 1, |scene| scene.by_average(&samples, resource, 1000));
        assert_eq!(got.is_ok(), counts, "{pod} {resource} {taken}: {got:?}");
    };
    let recent = "2026-01-01T00:59:00Z";
    // Just started: ready, with a sample of a whole window since then.
    check(pod(0, "Running", "True", recent, recent), "cpu", NOW, true);
    check(pod(0, "Running", "True", recent, recent), "cpu", "2026-01-01T00:59:59Z", false);
    check(pod(0, "Running", "False", OLD, recent), "cpu", NOW, false);
    // Long there: not ready, but it has been.
    check(pod(0, "Running", "False", recent, OLD), "cpu", NOW, true);
    check(pod(0, "Running", "False", "2026-01-01T00:00:10Z", OLD), "cpu", NOW, true);
    check(pod(0, "Running", "False", "2026-01-01T00:00:09Z", OLD), "cpu", NOW, false);
    // Nothing is known of its start.
    check(json!({"metadata": {"name": "p0"}, "status": {"phase": "Running"}}), "cpu", NOW, false);
    // Memory and other metrics say the same from the start.
    check(pod(0, "Running", "False", NOW, NOW), "memory", NOW, true);
    check(pod(0, "Running", "False", NOW, NOW), "", NOW, true);
}

#[test]
fn pods_that_ended_or_are_deleted_do_not_count() {
    let failed = || pod(2, "Failed", "False", OLD, OLD);
    by_cpu(vec![running(0), running(1), failed()], 2, &[2000, 2000, 9000], 100, (4, 200));
    by_cpu(vec![running(0), running(1), deleted(running(2))], 2, &[2000, 2000, 9000], 100, (4, 200));
    let none = with(vec![deleted(running(0))], 1, |scene| scene.by_average(&samples(&[1]), "", 1));
    assert_eq!(none.unwrap_err(), "did not receive metrics for targeted pods (pods might be unready)");
    let none = with(Vec::new(), 1, |scene| scene.by_average(&samples(&[1]), "", 1));
    assert_eq!(none.unwrap_err(), "no pods returned by selector while calculating replica count");
}

#[test]
fn a_pod_that_does_not_say_what_it_requests_stops_the_calculation() {
    let check = |spec: Value, resource: &str, container: Option<&str>, want: Result<i32, &str>| {
        let mut pod = running(0);
        pod["spec"] = spec.clone();
        let used = with(vec![pod], 1, |scene| scene.by_utilization(&samples(&[500]), resource, container, 100));
        let percent = used.map(|used| used.percent);
        assert_eq!(percent.as_ref().map_err(String::as_str), want.as_ref().map_err(|why| *why), "{spec}");
    };
    let asks = |name: &str, cpu: &str| json!({"name": name, "resources": {"requests": {"cpu": cpu}}});
    let two = json!({"containers": [asks("a", "1"), asks("b", "3")]});
    check(two.clone(), "cpu", None, Ok(12));
    check(two.clone(), "cpu", Some("a"), Ok(50));
    check(two.clone(), "cpu", Some("c"), Err("container c not found in Pod p0"));
    check(two, "memory", None, Err("missing request for memory in container a of Pod p0"));
    let sidecar = json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}});
    let with_inits = json!({"initContainers": [asks("i", "100"), sidecar], "containers": [asks("a", "1")]});
    check(with_inits, "cpu", None, Ok(25));
    let own = json!({"resources": {"requests": {"cpu": "2"}}, "containers": [{"name": "a"}]});
    check(own.clone(), "cpu", None, Ok(25));
    check(own.clone(), "cpu", Some("a"), Err("missing request for cpu in container a of Pod p0"));
    check(own, "memory", None, Err("missing pod-level request for memory in Pod p0"));
    check(json!({"containers": [asks("a", "0")]}), "cpu", None, Err("no metrics returned matched known pods"));
}

#[test]
fn values_of_no_pod_scale_the_pods_that_are_ready() {
    let unready = pod(2, "Running", "False", OLD, OLD);
    let check = |pods: Vec<Value>, wanted: i32, usage: i64, target: i64, want: Result<i32, ()>| {
        let got = with(pods, wanted, |scene| scene.by_value(usage, target));
        assert_eq!(got.map_err(drop), want, "{wanted} {usage} {target}");
    };
    check(all(3), 3, 20_000, 15_000, Ok(4));
    check(vec![running(0), running(1), unready], 3, 20_000, 10_000, Ok(4));
    check(all(3), 3, 15_100, 15_000, Ok(3));
    check(Vec::new(), 3, 20_000, 15_000, Err(()));
    check(Vec::new(), 0, 0, 15_000, Ok(0));
    check(Vec::new(), 0, 100_000, 15_000, Ok(7));
    check(all(3), 3, -1000, 1000, Ok(-3));
    check(all(3), 3, i64::MAX, 1, Ok(i32::MAX));
}

#[test]
fn a_share_is_of_the_pods_that_are_there() {
    let check = |there: i32, usage: i64, target: i64, want: (i32, i64)| {
        assert_eq!(with(all(1), there, |scene| scene.by_share(usage, target)), want, "{there} {usage} {target}");
    };
    check(5, 9000, 2500, (4, 1800));
    check(4, 10_000, 2500, (4, 2500));
    check(3, 8600, 2150, (4, 2867));
    check(0, 8600, 2150, (4, 0));
    check(0, 0, 1000, (0, 0));
    check(2, i64::MAX, 1, (i32::MAX, i64::MAX));
    check(2, i64::MIN, 1, (i32::MIN, i64::MIN / 2));
}

#[test]
fn numbers_without_measure_become_replicas_without_overflow() {
    for value in [i64::MAX, i64::MIN, 0, -1] {
        for target in [1, i64::MAX] {
            with(all(3), 3, |scene| scene.by_average(&samples(&[value; 3]), "", target)).unwrap();
            with(all(4), 3, |scene| scene.by_average(&samples(&[value; 3]), "", target)).unwrap();
        }
        for target in [1, i32::MAX] {
            with(all(3), 3, |scene| scene.by_utilization(&samples(&[value; 3]), "cpu", None, target)).unwrap();
            with(all(4), 3, |scene| scene.by_utilization(&samples(&[value; 3]), "memory", None, target)).unwrap();
        }
    }
    by_cpu(all(2), 2, &[i64::MAX, i64::MAX], 1, (i32::MAX, i32::MAX));
}
