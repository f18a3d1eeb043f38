//! The search for a node, and that what is remembered of nodes changes no decision.

use k8s_openapi::api::core::v1::Node;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::framework::Kept;

#[test]
fn large_clusters_are_searched_in_part() {
    assert_eq!([50, 100, 1000, 5000, 10_000].map(|nodes| enough(nodes, 0)), [100, 100, 420, 500, 500]);
    assert_eq!(enough(5000, 100), 5000);
}

/// Two schedulers that see the same; one forgets everything after each decision.
struct Twins {
    caches: [Arc<Mutex<Cache>>; 2],
    schedulers: [Scheduler; 2],
    profile: Profile,
    random: SmallRng,
    pods: Vec<String>,
}

const NODES: u32 = 160;

impl Twins {
    fn new(seed: u64) -> Self {
        let client = kube::Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let profiles = Config::default().profiles(&client, &Arc::default()).unwrap();
        let caches: [Arc<Mutex<Cache>>; 2] = Default::default();
        let schedulers = caches.each_ref().map(|cache| Scheduler::new(Arc::clone(cache), seed));
        let profile = profiles.into_values().next().unwrap();
        let mut twins = Self { caches, schedulers, profile, random: SmallRng::seed_from_u64(seed), pods: Vec::new() };
        (0..NODES).for_each(|number| twins.set_node(number));
        twins
    }

    fn one_of(&mut self, count: usize) -> usize {
        self.random.random_range(0..count)
    }

    fn pick(&mut self, of: &[&'static str]) -> &'static str {
        of[self.one_of(of.len())]
    }

    fn change(&self, change: impl Fn(&mut Cache)) {
        self.caches.iter().for_each(|cache| change(&mut cache.lock().unwrap()));
    }

    fn set_node(&mut self, number: u32) {
        let taints = [
            json!([]),
            json!([]),
            json!([{"key": "a", "effect": "NoSchedule"}]),
            json!([{"key": "a", "effect": "PreferNoSchedule"}]),
        ];
        let images = [json!([]), json!([]), json!([{"names": ["web:1"], "sizeBytes": 900_000_000}])];
        let zone = format!("zone-{}", number % 3);
        let allocatable = json!({"cpu": self.pick(&["1", "2", "4"]), "memory": "4Gi", "pods": "5"});
        let node = json!({
            "metadata": {"name": format!("n{number}"), "labels": {"topology.kubernetes.io/zone": zone, "disk": self.pick(&["ssd", "hdd"])}},
            "spec": {"taints": taints[self.one_of(4)], "unschedulable": self.one_of(9) == 0},
            "status": {"allocatable": allocatable, "images": images[self.one_of(3)]},
        });
        let node: Arc<Node> = Arc::new(serde_json::from_value(node).unwrap());
        self.change(|cache| cache.set_node(&node));
    }

    fn pod(&mut self, name: &str) -> Arc<PodInfo> {
        let label = json!({"matchLabels": {"app": self.pick(&["a", "b"])}});
        let term = json!({"labelSelector": label, "topologyKey": "topology.kubernetes.io/zone"});
        let prefers = json!([{"weight": 3, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}]);
        let spread = json!([{"maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "labelSelector": label,
            "whenUnsatisfiable": self.pick(&["DoNotSchedule", "ScheduleAnyway"])}]);
        let extras: [Value; 8] = [
            json!({}),
            json!({}),
            json!({"tolerations": [{"key": "a", "operator": "Exists"}]}),
            json!({"nodeSelector": {"disk": "ssd"}}),
            json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": prefers}}}),
            json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}),
            json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 5, "podAffinityTerm": term}]}}}),
            json!({"topologySpreadConstraints": spread}),
        ];
        let mut spec = extras[self.one_of(8)].clone();
        let ports = [
            json!([]),
            json!([]),
            json!([{"containerPort": 80, "hostPort": 80, "hostIP": "0.0.0.0", "protocol": "TCP"}]),
        ];
        let requests = json!({"cpu": self.pick(&["100m", "700m"]), "memory": "256Mi"});
        spec["priority"] = json!(self.one_of(2));
        spec["containers"] = json!([{"name": "c", "image": "web:1", "ports": ports[self.one_of(3)], "resources": {"requests": requests}}]);
        let metadata = json!({"name": name, "namespace": "d", "uid": name, "labels": {"app": self.pick(&["a", "b"])}});
        Arc::new(PodInfo::new(Arc::new(serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap())))
    }

    /// Both must say the same.
    fn decide(&mut self, pod: &Arc<PodInfo>) -> Result<String, String> {
        let profile = &self.profile;
        let [one, two] = self.schedulers.each_mut().map(|scheduler| match scheduler.decide(profile, pod) {
            Decision::Chosen(node) => Ok(node),
            Decision::Rejected(why) => Err(format!("{why} {:?} {:?}", why.resolvable, why.plugins)),
        });
        self.schedulers[1].memory = Memory::default();
        self.schedulers[1].snapshot.kept = Kept::default();
        assert_eq!(one, two, "{:?}", pod.pod);
        one
    }

    fn step(&mut self, number: usize) {
        match self.one_of(8) {
            0 => {
                let node = self.random.random_range(0..NODES + 5);
                self.set_node(node);
            }
            1 if self.one_of(4) == 0 => {
                let name = format!("n{}", self.random.random_range(0..NODES));
                self.change(|cache| cache.remove_node(&name));
            }
            2 if !self.pods.is_empty() => {
                let at = self.one_of(self.pods.len());
                let gone = self.pods.swap_remove(at);
                self.change(|cache| drop(cache.remove_pod(&gone)));
            }
            3 if self.one_of(2) == 0 => {
                let (pod, node) = (self.pod(&format!("w{number}")), format!("n{}", self.random.random_range(0..NODES)));
                self.change(|cache| cache.nominate(Arc::clone(&pod), &node));
            }
            _ => {
                let pod = self.pod(&format!("p{number}"));
                if let Ok(node) = self.decide(&pod) {
                    self.change(|cache| cache.assume(Arc::clone(&pod), &node));
                    self.pods.push(pod.uid.clone());
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_remembered_of_nodes_changes_no_decision() {
    for seed in 0..3 {
        let mut twins = Twins::new(seed);
        (0..300).for_each(|number| twins.step(number));
        assert!(twins.pods.len() > 50, "{}", twins.pods.len());
    }
}
