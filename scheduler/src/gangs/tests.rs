//! When a gang is tried, and when its pods have enough places.

use k8s_openapi::serde_json::{from_value, json};

use super::*;

fn pod(uid: &str, least: usize) -> Pod {
    let labels = json!({"scheduling.x-k8s.io/pod-group": "g", "scheduling.x-k8s.io/min-available": least.to_string()});
    from_value(json!({"metadata": {"name": uid, "uid": uid, "labels": labels}, "spec": {"containers": []}})).unwrap()
}

fn bound(uid: &str, least: usize) -> Pod {
    let mut pod = pod(uid, least);
    pod.spec.as_mut().unwrap().node_name = Some("n".to_owned());
    pod
}

fn grouped(uid: &str) -> Pod {
    let spec = json!({"containers": [], "schedulingGroup": {"podGroupName": "g"}});
    from_value(json!({"metadata": {"name": uid, "uid": uid}, "spec": spec})).unwrap()
}

fn group(policy: k8s_openapi::serde_json::Value) -> Arc<PodGroup> {
    let group = json!({"metadata": {"name": "g"}, "spec": {"schedulingPolicy": policy}});
    Arc::new(from_value(group).unwrap())
}

#[test]
fn pods_are_tried_when_enough_of_them_are_there() {
    let gangs = Gangs::default();
    assert!(gangs.set_pod(&pod("1", 3)).is_empty());
    assert!(gangs.set_pod(&pod("2", 3)).is_empty());
    assert!(gangs.waits_for(&pod("1", 3)).unwrap().starts_with("waiting for minCount pods"));
    assert_eq!(gangs.set_pod(&pod("3", 3)), ["1", "2", "3"]);
    assert_eq!(gangs.waits_for(&pod("1", 3)), None);
    assert!(gangs.set_pod(&pod("3", 3)).is_empty(), "it is told once");
    assert_eq!(gangs.mates("2").unwrap(), ["1", "3"]);
    gangs.remove_pod("3");
    assert!(gangs.waits_for(&pod("1", 3)).is_some());
}

#[test]
fn the_last_place_that_is_needed_completes_the_gang() {
    let gangs = Gangs::default();
    for pod in [bound("1", 3), pod("2", 3), pod("3", 3), pod("4", 3)] {
        gangs.set_pod(&pod);
    }
    assert!(gangs.reserve("2").is_err());
    assert_eq!((gangs.missing("2", 0).is_some(), gangs.missing("2", 1).is_some()), (true, false));
    assert_eq!(gangs.reserve("3").unwrap(), ["2", "3"]);
    assert_eq!(gangs.mates("2").unwrap(), ["4"]);
    gangs.release("3");
    gangs.release("1");
    assert_eq!(gangs.reserve("4").unwrap(), ["2", "4"], "a bound pod keeps its place");
}

#[test]
fn a_group_says_how_many_its_pods_must_be() {
    let gangs = Gangs::default();
    let key = ObjectKey::new("", "g");
    gangs.set_pod(&grouped("1"));
    gangs.set_pod(&grouped("2"));
    let missing = "waiting for pods's pod group \"g\" to appear in scheduling queue";
    assert_eq!(gangs.waits_for(&grouped("1")).as_deref(), Some(missing));
    assert!(gangs.set_group(key.clone(), Some(group(json!({"gang": {"minCount": 3}})))).is_empty());
    let lower = group(json!({"gang": {"minCount": 2}}));
    assert_eq!(gangs.set_group(key.clone(), Some(lower)), ["1", "2"]);
    assert!(gangs.mates("1").is_some() && gangs.group("1").is_some());
    assert!(gangs.set_group(key.clone(), None).is_empty());
    assert_eq!(gangs.set_group(key, Some(group(json!({"basic": {}})))), ["1", "2"]);
    assert_eq!(gangs.mates("1"), None, "pods of a basic group are on their own");
}

#[test]
fn pods_that_disagree_wait_for_the_most_that_one_asks_for() {
    let gangs = Gangs::default();
    gangs.set_pod(&pod("1", 1));
    assert!(gangs.set_pod(&pod("2", 3)).is_empty());
    assert!(gangs.waits_for(&pod("1", 1)).is_some());
    assert_eq!(gangs.set_pod(&pod("3", 1)), ["1", "2", "3"]);
}
