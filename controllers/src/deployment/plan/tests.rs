use k8s_openapi::serde_json::{Value, from_value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn deployment(replicas: i32, image: &str, strategy: &Value) -> Deployment {
    from_value(json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "d", "generation": 1, "annotations": { "team": "a" } },
        "spec": {
            "replicas": replicas, "revisionHistoryLimit": 1, "progressDeadlineSeconds": 600, "strategy": strategy,
            "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "c", "image": image }] } },
        },
    }))
    .unwrap()
}

fn rolling(surge: i32, unavailable: i32) -> Value {
    json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } })
}

/// A small world: applies plans to sets, and makes pods available as told.
struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    pods_run: bool,
    now: Timestamp,
    made: usize,
}

impl World {
    fn new(deployment: Deployment) -> Self {
        Self { deployment, sets: Vec::new(), pods_run: false, now: now(), made: 0 }
    }

    fn step(&mut self) -> Plan {
        let with_pods = self.sets.iter().filter(|_| self.pods_run).filter_map(|set| set.metadata.uid.clone()).collect();
        let sets = self.sets.iter().cloned().map(Arc::new).collect();
        let seen = Observed { deployment: &self.deployment, sets, with_pods, now: self.now };
        let plan = plan(&seen).unwrap();
        for write in &plan.writes {
            self.apply(write.clone());
        }
        if let Some(revision) = plan.revision {
            let annotations = self.deployment.metadata.annotations.get_or_insert_default();
            annotations.insert(sets::REVISION.into(), revision.to_string());
        }
        self.deployment.status = Some(plan.status.clone());
        plan
    }

    fn apply(&mut self, write: Write) {
        match write {
            Write::Create(mut set) => {
                self.made += 1;
                set.metadata.uid = Some(format!("rs-{}", self.made));
                let created = self.now.saturating_add(jiff::SignedDuration::from_secs(self.made as i64)).unwrap();
                set.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created));
                self.sets.push(set);
            }
            Write::Update { set, .. } => {
                let known = self.sets.iter_mut().find(|known| known.metadata.uid == set.metadata.uid).unwrap();
                *known = set;
            }
            Write::Delete(set) => self.sets.retain(|known| known.metadata.uid != set.metadata.uid),
        }
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets.iter().map(sets::replicas).collect()
    }

    /// All pods that are wanted run, the first `ready` of each set are available.
    fn pods(&mut self, ready: &[i32]) {
        for (set, ready) in self.sets.iter_mut().zip(ready) {
            let size = sets::replicas(set);
            let status = set.status.get_or_insert_default();
            (status.replicas, status.ready_replicas, status.available_replicas) = (size, Some(*ready), Some(*ready));
        }
    }

    fn all_ready(&mut self) {
        let sizes = self.sizes();
        self.pods(&sizes);
    }

    fn settle(&mut self) {
        for _ in 0..50 {
            self.step();
            self.all_ready();
        }
    }

    fn progressing(&self) -> (String, String, String) {
        let condition = status::condition(self.deployment.status.as_ref(), status::PROGRESSING).unwrap().clone();
        (condition.status, condition.reason.unwrap(), condition.message.unwrap())
    }

    fn set_image(&mut self, image: &str) {
        let spec = self.deployment.spec.as_mut().unwrap();
        spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.into());
    }
}

#[test]
fn the_first_rollout_creates_a_set_of_full_size() {
    let mut world = World::new(deployment(3, "a", &rolling(1, 1)));
    let plan = world.step();
    let [Write::Create(set)] = plan.writes.as_slice() else { panic!("{plan:?}") };
    assert_eq!((sets::replicas(set), plan.revision), (3, Some(1)));
    let hash = &set.metadata.labels.as_ref().unwrap()[sets::HASH];
    assert_eq!(set.metadata.name.as_deref(), Some(format!("web-{hash}").as_str()));
    assert_eq!(set.spec.as_ref().unwrap().selector.match_labels.as_ref().unwrap()[sets::HASH], *hash);
    let annotations = set.metadata.annotations.as_ref().unwrap();
    assert_eq!((annotations["team"].as_str(), annotations[sets::REVISION].as_str()), ("a", "1"));
    assert_eq!(sets::desired(set), Some(3));
    assert_eq!(sets::maximum(set), Some(4));
    assert_eq!(world.progressing().1, "NewReplicaSetCreated");
    world.all_ready();
    world.step();
    let (status, reason, message) = world.progressing();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "NewReplicaSetAvailable"));
    assert!(message.starts_with("ReplicaSet \"web-") && message.ends_with("has successfully progressed."), "{message}");
    assert!(world.step().writes.is_empty(), "a settled deployment needs nothing");
}

#[test]
fn a_rollout_never_leaves_surge_and_unavailability() {
    for (replicas, surge, unavailable) in [(3, 1, 0), (3, 0, 1), (10, 3, 2), (1, 1, 0), (5, 5, 5), (4, 0, 4)] {
        let mut world = World::new(deployment(replicas, "a", &rolling(surge, unavailable)));
        world.settle();
        world.set_image("b");
        for _ in 0..60 {
            world.step();
            let total: i32 = world.sizes().iter().sum();
            assert!(total <= replicas + surge, "{total} of {replicas}+{surge}");
            let available: i32 = world.sets.iter().map(|set| sets::available(set).min(sets::replicas(set))).sum();
            assert!(available >= replicas - unavailable, "{available} of {replicas}-{unavailable}");
            world.all_ready();
        }
        assert_eq!(world.sizes(), [0, replicas], "surge {surge}, unavailable {unavailable}");
        assert_eq!(world.progressing().1, "NewReplicaSetAvailable");
    }
}

#[test]
fn a_broken_rollout_stops_and_times_out_and_unhealthy_old_pods_go_first() {
    let mut world = World::new(deployment(4, "a", &rolling(1, 1)));
    world.settle();
    world.set_image("broken");
    for _ in 0..10 {
        world.step();
        let old = world.sizes()[0];
        world.pods(&[old, 0]);
    }
    assert_eq!(world.sizes(), [3, 2]);
    assert_eq!(world.progressing().1, "ReplicaSetUpdated");
    let again = world.step().again.unwrap();
    assert!(again <= Duration::from_secs(601), "{again:?}");
    world.now = world.now.saturating_add(jiff::SignedDuration::from_secs(700)).unwrap();
    world.step();
    let (status, reason, message) = world.progressing();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "ProgressDeadlineExceeded"));
    assert!(message.ends_with("has timed out progressing."), "{message}");
    world.set_image("c");
    world.step();
    world.pods(&[3, 0, 0]);
    world.step();
    assert_eq!(world.sizes()[1], 0, "the broken set goes before healthy pods do");
}

#[test]
fn undo_brings_the_old_set_back_with_a_new_revision() {
    let mut world = World::new(deployment(2, "a", &rolling(1, 0)));
    world.settle();
    world.set_image("b");
    world.settle();
    world.set_image("a");
    world.settle();
    assert_eq!(world.sizes(), [2, 0]);
    assert_eq!(sets::revision(&world.sets[0].metadata), 3);
    assert_eq!(world.sets[0].metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision-history"], "1");
    assert_eq!(sets::revision(&world.deployment.metadata), 3);
}

#[test]
fn history_is_kept_as_long_as_wanted() {
    let mut world = World::new(deployment(1, "a", &rolling(1, 0)));
    for image in ["a", "b", "c", "d"] {
        world.set_image(image);
        world.settle();
    }
    assert_eq!(world.sets.len(), 2, "the new one and one old one");
    assert_eq!(sets::revision(&world.sets[0].metadata), 3);
}

#[test]
fn scaling_amid_a_rollout_is_shared_in_proportion() {
    let mut world = World::new(deployment(10, "a", &rolling(3, 2)));
    world.settle();
    world.set_image("b");
    for _ in 0..3 {
        world.step();
        let old = world.sizes()[0];
        world.pods(&[old, 0]);
    }
    assert_eq!(world.sizes(), [8, 5]);
    world.deployment.spec.as_mut().unwrap().replicas = Some(15);
    world.step();
    // Upstream's documented example: of five more, three go to the old set and two to the new one.
    assert_eq!(world.sizes(), [11, 7]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new(deployment(3, "a", &rolling(1, 0)));
    world.settle();
    world.deployment.spec.as_mut().unwrap().paused = Some(true);
    world.set_image("b");
    world.step();
    assert_eq!((world.sizes(), world.progressing().1.as_str()), (vec![3], "DeploymentPaused"));
    world.deployment.spec.as_mut().unwrap().replicas = Some(5);
    world.step();
    assert_eq!(world.sizes(), [5]);
    world.deployment.spec.as_mut().unwrap().paused = Some(false);
    world.settle();
    assert_eq!(world.sizes(), [0, 5]);
}

#[test]
fn recreate_waits_until_old_pods_are_gone() {
    let mut world = World::new(deployment(3, "a", &json!({ "type": "Recreate" })));
    world.settle();
    assert_eq!(world.sizes(), [3]);
    world.set_image("b");
    world.pods_run = true;
    world.step();
    assert_eq!(world.sizes(), [0]);
    world.step();
    assert_eq!(world.sizes(), [0], "old pods still run");
    world.pods_run = false;
    world.step();
    assert_eq!(world.sizes(), [0, 3]);
}

#[test]
fn status_says_what_is_available() {
    let mut world = World::new(deployment(2, "a", &rolling(1, 0)));
    world.step();
    world.pods(&[1]);
    let status = world.step().status;
    assert_eq!((status.replicas, status.ready_replicas, status.unavailable_replicas), (Some(2), Some(1), Some(1)));
    let available = status::condition(Some(&status), "Available").unwrap();
    assert_eq!((available.status.as_str(), available.reason.as_deref()), ("False", Some("MinimumReplicasUnavailable")));
    world.all_ready();
    let available = world.step().status;
    assert_eq!(status::condition(Some(&available), "Available").unwrap().status, "True");
}
