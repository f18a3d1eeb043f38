use std::time::SystemTime;

use k8s_openapi::api::core::v1::Node;
use runtime::{ContainerState, SandboxConfig, SandboxStatus};
use serde_json::{Value, json};

use super::decide::{decide, order};
use super::plan::{Plan, plan};
use super::*;
use crate::containers::labels::RESOURCES;
use crate::pods::observed::Seen;
use crate::resources::pod_resources;

const MIB: i64 = 1 << 20;

fn sizes(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}})
}

fn pod(containers: &[(&str, Value)]) -> Pod {
    let list: Vec<Value> = containers.iter().map(|(name, sizes)| json!({"name": name, "resources": sizes})).collect();
    serde_json::from_value(json!({
        "metadata": {"name": "p", "uid": containers[0].0, "generation": 2}, "spec": {"containers": list}
    }))
    .unwrap()
}

/// What runs, made for `pod`.
fn running(pod: &Pod) -> Seen {
    let sandbox = SandboxStatus {
        id: "s".into(),
        config: SandboxConfig { resources: pod_resources(pod, 0), ..SandboxConfig::default() },
        ready: true,
        created_at: SystemTime::UNIX_EPOCH,
        ips: vec![],
    };
    let record = |container: &Container| runtime::ContainerStatus {
        id: format!("{}-0", container.name),
        sandbox: "s".into(),
        name: container.name.clone(),
        attempt: 0,
        state: ContainerState::Running { pid: 1, started_at: SystemTime::UNIX_EPOCH },
        created_at: SystemTime::UNIX_EPOCH,
        image: String::new(),
        image_ref: String::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::from([(RESOURCES.into(), serde_json::to_string(&container.resources).unwrap())]),
        log_path: "".into(),
    };
    Seen::new(vec![sandbox], pod::spec(pod).containers.iter().map(record).collect())
}

fn from_to(old: &[(&str, Value)], new: &[(&str, Value)]) -> Plan {
    plan(&pod(new), &running(&pod(old)), 1 << 30, 0)
}

#[test]
fn a_pod_that_has_its_sizes_needs_nothing() {
    let same = [("a", sizes("1", "64Mi")), ("b", json!({}))];
    assert!(from_to(&same, &same).is_done());
}

#[test]
fn the_pod_grows_before_its_containers_and_shrinks_after_them() {
    let (small, large) = ([("a", sizes("1", "64Mi"))], [("a", sizes("2", "128Mi"))]);
    let grows = from_to(&small, &large);
    assert_eq!(grows.before.unwrap().memory_limit, 128 * MIB);
    assert_eq!((grows.after, grows.containers[0].resources.cpu_quota), (None, 200_000));
    let shrinks = from_to(&large, &small);
    assert_eq!(shrinks.before.map(|before| before.memory_limit), Some(128 * MIB));
    let after = shrinks.after.unwrap();
    assert_eq!((after.memory_limit, after.cpu_quota), (64 * MIB, 100_000));
    assert_eq!(shrinks.shrinks, BTreeMap::from([(String::new(), 64 * MIB), ("a".to_owned(), 64 * MIB)]));
}

#[test]
fn containers_that_shrink_go_first() {
    let old = [("a", sizes("1", "64Mi")), ("b", sizes("1", "256Mi"))];
    let new = [("a", sizes("1", "128Mi")), ("b", sizes("1", "128Mi"))];
    let names: Vec<_> = from_to(&old, &new).containers.into_iter().map(|change| change.name).collect();
    assert_eq!(names, ["b", "a"]);
}

#[test]
fn a_pod_that_had_no_limit_gets_one_when_its_containers_have_theirs() {
    let plan = from_to(&[("a", json!({"requests": {"cpu": "1"}}))], &[("a", sizes("1", "64Mi"))]);
    assert!(plan.before.is_none(), "{:?}", plan.before);
    assert_eq!(plan.after.unwrap().memory_limit, 64 * MIB);
}

#[test]
fn a_container_that_must_start_again_keeps_the_pod_from_shrinking() {
    let (old, mut new) = (pod(&[("a", sizes("2", "128Mi"))]), pod(&[("a", sizes("1", "64Mi"))]));
    new.spec.as_mut().unwrap().containers[0].resize_policy =
        serde_json::from_value(json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}])).unwrap();
    let plan = plan(&new, &running(&old), 1 << 30, 0);
    assert_eq!((plan.restarts, plan.containers, plan.after), (vec!["a".to_owned()], vec![], None));
}

fn node() -> Node {
    serde_json::from_value(json!({"status": {"allocatable": {"cpu": "4", "memory": "1Gi"}}})).unwrap()
}

#[test]
fn what_never_fits_is_infeasible_and_what_does_not_fit_now_is_deferred() {
    let check = |cpu: &str, memory: &str, expected: Option<(Reason, &str)>| {
        let others = [pod(&[("other", sizes("3", "512Mi"))])];
        let verdict = decide(&pod(&[("a", sizes(cpu, memory))]), &others, &node()).err();
        let expected = expected.map(|(reason, message)| Pending { reason, message: message.to_owned() });
        assert_eq!(verdict, expected, "{cpu} {memory}");
    };
    check("1", "512Mi", None);
    let cpu = "Node didn't have enough capacity: cpu, requested: 4001, capacity: 4000";
    check("4001m", "1Mi", Some((Reason::Infeasible, cpu)));
    let memory = "Node didn't have enough capacity: memory, requested: 2147483648, capacity: 1073741824";
    check("1", "2Gi", Some((Reason::Infeasible, memory)));
    let room = "Node didn't have enough resource: cpu, requested: 1001, used: 3000, capacity: 4000";
    check("1001m", "1Mi", Some((Reason::Deferred, room)));
}

#[test]
fn pods_that_ask_are_served_by_need_priority_class_and_time() {
    let asking = |change: &str, priority: i32, cpu: &str, since: &str| {
        let mut pod = pod(&[("a", sizes(cpu, "64Mi"))]);
        pod.spec.as_mut().unwrap().priority = Some(priority);
        if change == "burstable" {
            pod.spec.as_mut().unwrap().containers[0].resources.as_mut().unwrap().limits = None;
        }
        let waits = json!([{"type": "PodResizePending", "status": "True", "lastTransitionTime": since}]);
        pod.status = serde_json::from_value(json!({"conditions": waits})).unwrap();
        pod.metadata.name = Some(format!("{change} {priority} {cpu} {since}"));
        pod
    };
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let sorted = [
        asking("less", 0, "500m", late),
        asking("guaranteed", 9, "2", late),
        asking("guaranteed", 0, "2", early),
        asking("guaranteed", 0, "2", late),
        asking("burstable", 0, "2", early),
    ];
    let allocated = Sizes::of(&pod(&[("a", sizes("1", "64Mi"))]));
    for (index, left) in sorted.iter().enumerate() {
        for right in &sorted[index + 1..] {
            let (l, r) = (&left.metadata.name, &right.metadata.name);
            assert!(order((left, &allocated), (right, &allocated)).is_lt(), "{l:?} before {r:?}");
            assert!(order((right, &allocated), (left, &allocated)).is_gt(), "{r:?} after {l:?}");
        }
    }
}

#[test]
fn what_is_kept_is_read_again_and_damage_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("pods/u");
    assert_eq!(Sizes::read(&place).unwrap(), None);
    let sizes = Sizes::of(&pod(&[("a", sizes("1", "64Mi"))]));
    sizes.write(&place).unwrap();
    assert_eq!(Sizes::read(&place).unwrap(), Some(sizes));
    std::fs::write(place.join(FILE), "{\"pod\":").unwrap();
    assert!(Sizes::read(&place).is_err());
}

#[test]
fn messages_are_upstreams() {
    let pod = pod(&[("a", json!({"limits": {"cpu": "1"}}))]);
    let json = r#"{"containers":[{"name":"a","resources":{"limits":{"cpu":"1"}}}],"generation":2"#;
    assert_eq!(message::started(&pod), format!("Pod resize started: {json}}}"));
    assert_eq!(
        message::pending(&pod, Reason::Deferred, "no room"),
        format!("Pod resize Deferred: {json},\"error\":\"no room\"}}")
    );
}

#[test]
fn sizes_are_put_into_a_pod_and_taken_from_its_status() {
    let mut pod = pod(&[("a", sizes("2", "64Mi"))]);
    let promised = Sizes::of(&self::pod(&[("a", sizes("1", "64Mi"))]));
    let applied = promised.apply(&Arc::new(pod.clone()));
    assert_eq!(Sizes::of(&applied), promised);
    let given = json!([{"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
        "resources": sizes("1", "64Mi")}]);
    pod.status = serde_json::from_value(json!({"containerStatuses": given})).unwrap();
    assert_eq!(Sizes::reported(&pod), promised);
}
