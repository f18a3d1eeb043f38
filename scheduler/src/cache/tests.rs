//! What the cache keeps, and what its snapshots see.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::*;

fn node(name: &str, zone: &str) -> Arc<Node> {
    let labels = json!({"topology.kubernetes.io/zone": zone});
    let allocatable = json!({"cpu": "4", "memory": "4Gi", "pods": "10"});
    Arc::new(
        serde_json::from_value(
            json!({"metadata": {"name": name, "labels": labels}, "status": {"allocatable": allocatable}}),
        )
        .unwrap(),
    )
}

fn pod(uid: &str) -> Arc<PodInfo> {
    let resources = json!({"requests": {"cpu": "1"}});
    let pod = json!({"metadata": {"name": uid, "namespace": "d", "uid": uid}, "spec": {"containers": [{"name": "c", "resources": resources}]}});
    Arc::new(PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap())))
}

fn used(cache: &mut Cache, snapshot: &mut Snapshot, name: &str) -> i64 {
    cache.update(snapshot);
    snapshot.node(name).map_or(-1, |info| info.requested.milli_cpu)
}

#[test]
fn an_assumed_pod_counts_until_it_is_forgotten() {
    let (mut cache, mut snapshot) = (Cache::default(), Snapshot::default());
    cache.set_node(&node("a", "z"));
    cache.assume(pod("1"), "a");
    assert_eq!(used(&mut cache, &mut snapshot, "a"), 1000);
    cache.forget("1");
    assert_eq!(used(&mut cache, &mut snapshot, "a"), 0);
}

#[test]
fn a_confirmed_pod_is_not_forgotten_and_counts_once() {
    let (mut cache, mut snapshot) = (Cache::default(), Snapshot::default());
    cache.set_node(&node("a", "z"));
    cache.assume(pod("1"), "a");
    assert!(cache.set_pod(pod("1"), "a").is_some_and(|before| before.uid == "1"));
    cache.forget("1");
    assert_eq!(used(&mut cache, &mut snapshot, "a"), 1000);
}

#[test]
fn pods_wait_for_their_node_and_survive_its_return() {
    let (mut cache, mut snapshot) = (Cache::default(), Snapshot::default());
    cache.set_pod(pod("1"), "a");
    cache.set_node(&node("a", "z"));
    assert_eq!(used(&mut cache, &mut snapshot, "a"), 1000);
    cache.remove_node("a");
    assert_eq!(used(&mut cache, &mut snapshot, "a"), -1);
    cache.set_node(&node("a", "z"));
    assert_eq!(used(&mut cache, &mut snapshot, "a"), 1000);
    cache.remove_pod("1");
    assert_eq!(used(&mut cache, &mut snapshot, "a"), 0);
}

#[test]
fn a_snapshot_is_frozen() {
    let (mut cache, mut snapshot) = (Cache::default(), Snapshot::default());
    cache.set_node(&node("a", "z"));
    cache.update(&mut snapshot);
    cache.assume(pod("1"), "a");
    assert_eq!(snapshot.node("a").unwrap().requested.milli_cpu, 0);
}

#[test]
fn zones_alternate() {
    let (mut cache, mut snapshot) = (Cache::default(), Snapshot::default());
    for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("b2", "b")] {
        cache.set_node(&node(name, zone));
    }
    cache.update(&mut snapshot);
    let order: Vec<&str> = snapshot.nodes().iter().map(|info| &*info.name).collect();
    assert_eq!(order, ["a1", "b1", "a2", "b2", "a3"]);
}

#[test]
fn a_nomination_is_seen_until_it_ends() {
    let (mut cache, mut snapshot) = (Cache::default(), Snapshot::default());
    cache.nominate(pod("1"), "a");
    cache.nominate(pod("2"), "a");
    cache.nominate(pod("2"), "b");
    cache.update(&mut snapshot);
    let names = |snapshot: &Snapshot, node: &str| snapshot.nominated(node).iter().map(|pod| pod.uid.clone()).collect();
    let on: [Vec<String>; 2] = ["a", "b"].map(|node| names(&snapshot, node));
    assert_eq!(on, [["1"], ["2"]]);
    assert_eq!(cache.end_nomination("2").as_deref(), Some("b"));
    cache.update(&mut snapshot);
    assert!(snapshot.nominated("b").is_empty() && cache.nominated_node("1") == Some("a"));
}

#[test]
fn a_pod_that_has_its_place_is_not_nominated_again() {
    let mut cache = Cache::default();
    cache.assume(pod("1"), "a");
    cache.nominate(pod("1"), "a");
    assert_eq!(cache.nominated_node("1"), None);
    cache.forget("1");
    cache.nominate(pod("1"), "a");
    assert_eq!(cache.nominated_node("1"), Some("a"));
}

#[test]
fn nodes_are_counted_by_their_images() {
    let (mut cache, mut snapshot) = (Cache::default(), Snapshot::default());
    let with = |name: &str, image: &str| {
        let mut node = (*node(name, "z")).clone();
        let images = json!([{"names": [image], "sizeBytes": 7}]);
        node.status.as_mut().unwrap().images = serde_json::from_value(images).unwrap();
        Arc::new(node)
    };
    cache.set_node(&with("a", "web"));
    cache.set_node(&with("b", "web"));
    cache.update(&mut snapshot);
    assert_eq!(snapshot.nodes_with_image("web"), 2);
    cache.set_node(&with("a", "db"));
    cache.remove_node("b");
    cache.update(&mut snapshot);
    assert_eq!(["web", "db"].map(|image| snapshot.nodes_with_image(image)), [0, 1]);
}

#[test]
fn nodes_with_affine_pods_are_found_without_a_search() {
    let (mut cache, mut snapshot) = (Cache::default(), Snapshot::default());
    let term = json!([{"topologyKey": "zone", "labelSelector": {}}]);
    let anti = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}});
    let lonely = json!({"metadata": {"name": "l", "uid": "l"}, "spec": {"containers": [], "affinity": anti}});
    let lonely = Arc::new(PodInfo::new(Arc::new(serde_json::from_value(lonely).unwrap())));
    cache.set_node(&node("a", "z"));
    cache.set_node(&node("b", "z"));
    cache.set_pod(pod("1"), "a");
    cache.update(&mut snapshot);
    assert_eq!(snapshot.nodes_with_anti_affinity().count(), 0);
    cache.set_pod(lonely, "b");
    cache.update(&mut snapshot);
    let found = |snapshot: &Snapshot| -> Vec<String> {
        snapshot.nodes_with_anti_affinity().map(|node| node.name.to_string()).collect()
    };
    assert_eq!(found(&snapshot), ["b"]);
    cache.remove_node("a");
    cache.update(&mut snapshot);
    assert_eq!((found(&snapshot), snapshot.nodes_with_affinity().count()), (vec!["b".to_owned()], 1));
    cache.remove_pod("l");
    cache.update(&mut snapshot);
    assert!(found(&snapshot).is_empty());
}

fn affine(uid: &str) -> Arc<PodInfo> {
    let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}});
    let affinity = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    let pod = json!({"metadata": {"name": uid, "namespace": "d", "uid": uid}, "spec": {"containers": [], "affinity": affinity}});
    Arc::new(PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap())))
}

fn change(cache: &mut Cache, random: &mut SmallRng) {
    let (name, uid) = (format!("n{}", random.random_range(0..8)), random.random_range(0..30).to_string());
    let pod = if random.random_range(0..3) == 0 { affine(&uid) } else { pod(&uid) };
    match random.random_range(0..9) {
        0 => cache.set_node(&node(&name, ["x", "y"][random.random_range(0..2)])),
        1 => cache.remove_node(&name),
        2 => drop(cache.remove_pod(&uid)),
        3 => cache.forget(&uid),
        4 | 5 => cache.assume(pod, &name),
        _ => drop(cache.set_pod(pod, &name)),
    }
}

/// Everything about the nodes of a snapshot, in their order.
fn seen(snapshot: &Snapshot) -> Vec<String> {
    let uids = |pods: &[Arc<PodInfo>]| pods.iter().map(|pod| pod.uid.clone()).collect::<BTreeSet<_>>();
    let of_one = |(at, node): (usize, &Arc<NodeInfo>)| {
        let indexes = (
            snapshot.position(&node.name),
            snapshot.with_affinity.contains(&at),
            snapshot.with_anti_affinity.contains(&at),
        );
        let pods = (uids(&node.pods), uids(&node.with_affinity), uids(&node.with_anti_affinity));
        format!("{} {indexes:?} {pods:?} {:?} {:?}", node.name, node.requested, node.node.metadata.labels)
    };
    snapshot.nodes.iter().enumerate().map(of_one).collect()
}

#[test]
fn a_snapshot_that_follows_the_cache_is_like_one_made_anew() {
    let mut random = SmallRng::seed_from_u64(1);
    let (mut cache, mut snapshot) = (Cache::default(), Snapshot::default());
    for _ in 0..3000 {
        (0..random.random_range(1..4)).for_each(|_| change(&mut cache, &mut random));
        let before = snapshot.history.now();
        let old = snapshot.nodes.clone();
        cache.update(&mut snapshot);
        let mut anew = Snapshot::default();
        anew.set_nodes(cache.alternate_zones());
        assert_eq!(seen(&snapshot), seen(&anew));
        let changed: Option<BTreeSet<usize>> = snapshot.history.since(&before).map(Iterator::collect);
        let Some(changed) = changed else { continue };
        let is_untold = |at: &usize| !changed.contains(at) && !Arc::ptr_eq(&old[*at], &snapshot.nodes[*at]);
        assert_eq!((0..old.len()).find(is_untold), None, "every change is told of");
    }
}
