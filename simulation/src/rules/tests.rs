//! Each rule finds what it is there for, and lets pass what is right.

use serde_json::{Value, json};
use tokio::time::{Instant, advance};

use super::*;
use crate::objects::Objects;

/// Shows changes to all rules; answers the first that one does not let pass.
struct Court {
    objects: Objects,
    rules: Vec<Box<dyn Rule>>,
}

impl Court {
    fn new() -> Self {
        Self {
            objects: Objects::new(),
            rules: all(&Plan { faults: Default::default(), disasters: Default::default(), ..Plan::of(1) }),
        }
    }

    fn put(&mut self, key: &str, object: Value) -> Result<(), String> {
        let old = self.objects.insert(key.to_owned(), object.clone());
        let (old, new, at) = (old.as_ref(), Some(&object), Instant::now());
        let change = Change { key, old, new, objects: &self.objects, at };
        self.rules.iter_mut().try_for_each(|rule| rule.see(&change).map_err(|why| format!("{}: {why}", rule.name())))
    }

    fn refuses(&mut self, key: &str, object: Value, rule: &str) {
        let refused = self.put(key, object).expect_err("a rule is broken");
        assert!(refused.starts_with(rule), "{refused}");
    }
}

fn pod(name: &str, owner: &str, node: &str, ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({
        "metadata": { "name": name, "namespace": "a", "uid": name, "ownerReferences": [{ "uid": owner, "controller": true }] },
        "spec": { "nodeName": node, "containers": [{ "resources": { "requests": { "cpu": "1" } } }] },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] },
    })
}

fn node(room: &str) -> Value {
    json!({ "metadata": { "name": "n", "uid": "n" }, "status": { "allocatable": { "cpu": room, "memory": "1Gi" } } })
}

fn set(name: &str, owner: &str, replicas: i64) -> Value {
    let owners = json!([{ "uid": owner, "controller": true }]);
    json!({
        "metadata": { "name": name, "namespace": "a", "uid": name, "ownerReferences": owners }, "spec": { "replicas": replicas },
    })
}

#[tokio::test(start_paused = true)]
async fn an_object_stays_who_it_is() {
    let mut court = Court::new();
    court.put("pods/a/p", pod("p", "o", "", false)).unwrap();
    court.refuses("pods/a/p", pod("other", "o", "", false), "identity");
    let mut court = Court::new();
    court.put("pods/a/p", pod("p", "o", "", false)).unwrap();
    court.refuses("pods/a/p", pod("p", "another", "", false), "identity");
    let two = json!({ "metadata": { "ownerReferences": [{ "controller": true }, { "controller": true }] } });
    court.refuses("pods/a/two", two, "identity");
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_bound_once_and_where_there_is_room() {
    let mut court = Court::new();
    court.put("minions/n", node("1500m")).unwrap();
    court.put("pods/a/p", pod("p", "o", "n", false)).unwrap();
    court.refuses("pods/a/q", pod("q", "o", "n", false), "binding");
    court.refuses("pods/a/p", pod("p", "o", "m", false), "binding");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_takes_no_pods_gets_none_once_all_could_know() {
    let mut court = Court::new();
    let mut cordoned = node("8");
    court.put("minions/n", cordoned.clone()).unwrap();
    cordoned["spec"] = json!({ "unschedulable": true });
    court.put("minions/n", cordoned).unwrap();
    court.put("pods/a/p", pod("p", "o", "n", false)).unwrap();
    advance(lately::WINDOW * 2).await;
    court.refuses("pods/a/q", pod("q", "o", "n", false), "binding");
}

fn deployment(replicas: i64) -> Value {
    let strategy = json!({ "rollingUpdate": { "maxSurge": 1, "maxUnavailable": "25%" } });
    json!({ "metadata": { "name": "d", "namespace": "a", "uid": "d" }, "spec": { "replicas": replicas, "strategy": strategy } })
}

#[tokio::test(start_paused = true)]
async fn a_rollout_neither_surges_nor_starves() {
    let mut court = Court::new();
    court.put("deployments/a/d", deployment(4)).unwrap();
    court.put("replicasets/a/old", set("old", "d", 4)).unwrap();
    (0..4).for_each(|at| court.put(&format!("pods/a/{at}"), pod(&format!("{at}"), "old", "", true)).unwrap());
    court.put("replicasets/a/new", set("new", "d", 1)).unwrap();
    court.put("replicasets/a/old", set("old", "d", 3)).unwrap();
    court.refuses("replicasets/a/old", set("old", "d", 2), "rollout");
    court.put("replicasets/a/old", set("old", "d", 4)).unwrap();
    court.refuses("replicasets/a/new", set("new", "d", 2), "rollout");
}

#[tokio::test(start_paused = true)]
async fn ordinals_come_in_order_and_none_too_many() {
    let mut court = Court::new();
    let stateful = json!({ "metadata": { "name": "s", "namespace": "a", "uid": "s" }, "spec": { "replicas": 2 } });
    court.put("statefulsets/a/s", stateful).unwrap();
    court.refuses("pods/a/s-1", pod("s-1", "s", "", false), "ordinals");
    court.put("pods/a/s-0", pod("s-0", "s", "", true)).unwrap();
    court.put("pods/a/s-1", pod("s-1", "s", "", true)).unwrap();
    court.refuses("pods/a/s-2", pod("s-2", "s", "", false), "ordinals");
}

#[tokio::test(start_paused = true)]
async fn nobody_makes_more_than_is_wanted() {
    let mut court = Court::new();
    court.put("replicasets/a/r", set("r", "", 1)).unwrap();
    court.put("pods/a/p", pod("p", "r", "", true)).unwrap();
    court.refuses("pods/a/q", pod("q", "r", "", true), "replicas");
    let mut job = json!({ "metadata": { "name": "j", "namespace": "a", "uid": "j" }, "spec": { "completions": 2 } });
    job["status"] = json!({ "succeeded": 3 });
    court.refuses("jobs/a/j", job, "replicas");
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_kept() {
    let mut court = Court::new();
    let quota = json!({ "metadata": { "uid": "q" }, "status": { "hard": { "pods": "1" } } });
    court.put("resourcequotas/a/q", quota).unwrap();
    court.put("pods/a/p", pod("p", "r", "", true)).unwrap();
    court.refuses("pods/a/q", pod("q", "r", "", true), "quotas");
}

#[tokio::test(start_paused = true)]
async fn a_gang_is_not_left_in_pieces() {
    let mut court = Court::new();
    let member = |name: &str| {
        let mut pod = pod(name, "j", "n", false);
        pod["metadata"]["labels"] = json!({ gangs::GROUP: "g", gangs::LEAST: "2" });
        pod
    };
    court.put("pods/a/1", member("1")).unwrap();
    court.put("pods/a/2", member("2")).unwrap();
    advance(std::time::Duration::from_secs(600)).await;
    court.put("leases/a/x", json!({})).unwrap();
    let mut court = Court::new();
    court.put("pods/a/1", member("1")).unwrap();
    advance(std::time::Duration::from_secs(600)).await;
    court.refuses("leases/a/x", json!({}), "gangs");
}

#[tokio::test(start_paused = true)]
async fn a_bank_that_cannot_pay_everybody_is_found() {
    assert!(banker::is_safe(1, vec![(3, 4), (2, 6)]));
    assert!(!banker::is_safe(0, vec![(3, 4), (2, 6)]));
    let mut court = Court::new();
    let claiming = |name: &str| {
        let mut pod = pod(name, "o", "n", false);
        pod["metadata"]["annotations"] = json!({ banker::CLAIM: "{\"cpu\":\"2\"}" });
        pod
    };
    court.put("minions/n", node("2")).unwrap();
    court.put("pods/a/1", claiming("1")).unwrap();
    court.refuses("pods/a/2", claiming("2"), "banker");
}
