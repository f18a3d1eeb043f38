//! The scheduler's decision loop: how many pods a second get a node, in memory, as the cluster fills up.
//!
//! `cargo bench -p coracle-bench --bench scheduler`; the budgets are in the design's section 2. What a decision costs must
//! not grow with the cluster, beyond the part of the nodes that is scored: the last line has fifty times the pods of the
//! first, and should be about as fast.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use k8s_openapi::api::core::v1::{Node, Pod};
use scheduler::Config;
use scheduler::bench::{Cache, Decision, Scheduler};
use scheduler::framework::{PodInfo, Profile, Snapshot};
use serde_json::{Value, json};

daemon::allocator!();

/// Pods for which a node is found in one measured round.
const PODS: usize = 1000;

fn node(number: usize) -> Arc<Node> {
    let resources = json!({"cpu": "32", "memory": "256Gi", "ephemeral-storage": "100Gi", "pods": "110"});
    let node = json!({
        "metadata": {"name": format!("node-{number:05}"), "labels": {"topology.kubernetes.io/zone": format!("zone-{}", number % 3), "kubernetes.io/hostname": format!("node-{number:05}")}},
        "status": {"capacity": resources, "allocatable": resources},
    });
    Arc::new(serde_json::from_value(node).expect("a node"))
}

/// What pods ask for besides room.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    /// To be where few of their kind are: on other nodes.
    Affinity,
    /// To be spread over zones, and if possible over nodes.
    Spread,
}

impl Kind {
    fn spec(self) -> Value {
        let selector = json!({"matchLabels": {"app": "bench"}});
        match self {
            Self::Plain => json!({}),
            Self::Affinity => {
                let term = json!({"labelSelector": selector, "topologyKey": "kubernetes.io/hostname"});
                let preferred = json!([{"weight": 100, "podAffinityTerm": term}]);
                json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}})
            }
            Self::Spread => {
                let constraint = |key: &str, action: &str| json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": action, "labelSelector": selector});
                let zone = constraint("topology.kubernetes.io/zone", "DoNotSchedule");
                json!({"topologySpreadConstraints": [zone, constraint("kubernetes.io/hostname", "ScheduleAnyway")]})
            }
        }
    }
}

fn pod(name: &str, kind: Kind) -> Arc<PodInfo> {
    let mut spec = kind.spec();
    spec["containers"] =
        json!([{"name": "main", "image": "bench", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]);
    let metadata = json!({"name": format!("pod-{name}"), "namespace": "default", "uid": format!("uid-{name}"), "labels": {"app": "bench"}});
    let pod: Pod = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a pod");
    Arc::new(PodInfo::new(Arc::new(pod)))
}

/// The default profile. Its binder has a client, which decisions do not use: nothing listens at its address.
fn profile(runtime: &tokio::runtime::Runtime) -> Profile {
    let address = "http://127.0.0.1:1".parse().expect("a URL");
    let _context = runtime.enter();
    let client = kube::Client::try_from(kube::Config::new(address)).expect("a client that never connects");
    let profiles = Config::default().profiles(&client, &scheduler::Handles::default()).expect("the default profiles");
    profiles.into_values().next().expect("one default profile")
}

/// Nodes, each with so many pods.
fn cluster(nodes: &[Arc<Node>], pods_on_each: usize) -> Arc<Mutex<Cache>> {
    let mut cache = Cache::default();
    for node in nodes {
        cache.set_node(node);
        let name = node.metadata.name.as_deref().unwrap_or_default();
        (0..pods_on_each).for_each(|number| drop(cache.set_pod(pod(&format!("{name}-{number}"), Kind::Plain), name)));
    }
    Arc::new(Mutex::new(cache))
}

/// A scheduler that has seen its cluster.
struct Ready {
    cache: Arc<Mutex<Cache>>,
    scheduler: Scheduler,
}

impl Ready {
    fn new(cache: Arc<Mutex<Cache>>, profile: &Profile) -> Self {
        let mut scheduler = Scheduler::new(cache.clone(), 7);
        scheduler.decide(profile, &pod("first", Kind::Plain));
        Self { cache, scheduler }
    }

    /// Finds a node for each pod and assumes it there, as the scheduler does. What is left is dropped later.
    fn schedule(mut self, profile: &Profile, pods: &[Arc<PodInfo>]) -> Self {
        for pod in pods {
            match self.scheduler.decide(profile, pod) {
                Decision::Chosen(node) => {
                    self.cache.lock().unwrap_or_else(PoisonError::into_inner).assume(pod.clone(), &node);
                }
                Decision::Rejected(why) => panic!("every pod fits: {why}"),
            }
        }
        self
    }
}

fn decisions(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let profile = profile(&runtime);
    let mut group = criterion.benchmark_group("decide and assume");
    group.sample_size(10).throughput(Throughput::Elements(PODS as u64));
    for kind in [Kind::Plain, Kind::Affinity, Kind::Spread] {
        let pods: Vec<_> = (0..PODS).map(|number| pod(&number.to_string(), kind)).collect();
        for (nodes, pods_on_each) in [(1000, 0), (5000, 0), (5000, 10)] {
            let objects: Vec<_> = (0..nodes).map(node).collect();
            let ready = || Ready::new(cluster(&objects, pods_on_each), &profile);
            let name = BenchmarkId::new(format!("{kind:?}, nodes with {pods_on_each} pods each"), nodes);
            group.bench_function(name, |bencher| {
                bencher.iter_batched(ready, |ready| ready.schedule(&profile, &pods), BatchSize::PerIteration);
            });
        }
    }
}

/// A node for each ten gangs, and two pods of each gang that may claim three more.
fn gangs(count: usize) -> Snapshot {
    let mut cache = Cache::default();
    (0..count.div_ceil(10)).for_each(|number| cache.set_node(&node(number)));
    for number in 0..2 * count {
        let pod = claiming(&format!("gang-{}", number / 2), &number.to_string());
        cache.set_pod(pod, &format!("node-{:05}", number / 2 / 10));
    }
    let mut snapshot = Snapshot::default();
    cache.update(&mut snapshot);
    snapshot
}

fn claiming(gang: &str, name: &str) -> Arc<PodInfo> {
    let labels = json!({"scheduling.x-k8s.io/pod-group": gang, "scheduling.x-k8s.io/min-available": "1"});
    let annotations = json!({
        "coracle.dev/claim": json!({"cpu": "200m"}).to_string(),
        "coracle.dev/group-claim": json!({"cpu": "500m", "memory": "1Gi"}).to_string(),
    });
    let metadata = json!({
        "name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": labels, "annotations": annotations,
    });
    let requests = json!({"cpu": "100m", "memory": "128Mi"});
    let containers = json!([{"name": "main", "image": "bench", "resources": {"requests": requests}}]);
    let pod: Pod =
        serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": containers}})).expect("a pod");
    Arc::new(PodInfo::new(Arc::new(pod)))
}

/// What it costs to ask whether everybody can still finish; the budget is a millisecond for a thousand gangs.
fn bankers_check(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("banker's check");
    for count in [100, 1000] {
        let (snapshot, pod) = (gangs(count), claiming("one-more", "one-more"));
        group.bench_function(BenchmarkId::new("gangs", count), |bencher| {
            bencher.iter(|| assert_eq!(scheduler::bench::refusal(&snapshot, &pod, "node-00000"), None));
        });
    }
}

criterion_group! {
    name = scheduler_loop;
    config = Criterion::default().measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_secs(1));
    targets = decisions, bankers_check
}
criterion_main!(scheduler_loop);
