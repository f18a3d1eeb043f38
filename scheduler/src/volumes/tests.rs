use std::collections::BTreeMap;

use api::volumes::{BIND_COMPLETED, SELECTED_NODE, claim_reference};
use serde_json::{Value, from_value, json};

use super::needs::{BIND_CONFLICT, NO_ROOM, NO_VOLUME, NODE_CONFLICT};
use super::*;

/// A cluster with the nodes `a` and `b`, in zones of their names, and classes: `late` and `later` wait for pods and are
/// provisioned, `later` in zone `b` only; `disks` waits and is not provisioned; `now` does not wait.
fn cluster() -> State {
    let mut state = State::default();
    for name in ["a", "b"] {
        let labels = json!({ "topology.kubernetes.io/zone": name, "host": name });
        state.set_node(&came(json!({ "metadata": { "name": name, "labels": labels } })));
    }
    let class = |name: &str, by: &str, mode: &str, topologies: Value| -> Event<StorageClass> {
        came(json!({
            "metadata": { "name": name }, "provisioner": by, "volumeBindingMode": mode, "allowedTopologies": topologies,
        }))
    };
    let zone = json!([{ "matchLabelExpressions": [{ "key": "topology.kubernetes.io/zone", "values": ["b"] }] }]);
    state.set_class(&class("late", "p.example.com", "WaitForFirstConsumer", Value::Null));
    state.set_class(&class("later", "p.example.com", "WaitForFirstConsumer", zone));
    state.set_class(&class("disks", "kubernetes.io/no-provisioner", "WaitForFirstConsumer", Value::Null));
    state.set_class(&class("now", "p.example.com", "Immediate", Value::Null));
    state
}

impl Volumes {
    /// One that knows these claims and volumes.
    pub(crate) fn knowing(claims: Vec<Value>, volumes: Vec<Value>) -> Arc<Self> {
        let known = Self::default();
        claims.into_iter().for_each(|claim| known.change(|state| state.set_claim(&came(claim))));
        volumes.into_iter().for_each(|volume| known.change(|state| state.set_volume(&came(volume))));
        Arc::new(known)
    }

    /// And this class, driver, node of drivers, or attachment.
    pub(crate) fn know_class(&self, class: Value) {
        self.change(|state| state.set_class(&came(class)));
    }

    pub(crate) fn know_driver(&self, driver: Value) {
        self.change(|state| state.set_driver(&came(driver)));
    }

    pub(crate) fn know_csi_node(&self, node: Value) {
        self.change(|state| state.drivers.set_node(&came(node)));
    }

    pub(crate) fn know_attachment(&self, attachment: Value) {
        self.change(|state| state.drivers.set_attachment(&came(attachment)));
    }
}

fn came<K: serde::de::DeserializeOwned>(object: Value) -> Event<K> {
    Event::Applied { old: None, new: Arc::new(from_value(object).unwrap()) }
}

fn claim(name: &str, class: &str, size: &str, changes: Value) -> Event<PersistentVolumeClaim> {
    let spec = json!({
        "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } }, "storageClassName": class,
    });
    let metadata = json!({ "name": name, "namespace": "n", "uid": format!("{name}-uid"), "resourceVersion": "1" });
    let mut object = json!({ "metadata": metadata, "spec": spec, "status": { "phase": "Pending" } });
    merge(&mut object, changes);
    came(object)
}

/// A volume of the class `disks` that the node can use, or all nodes.
fn volume(name: &str, size: &str, node: Option<&str>, changes: Value) -> Event<PersistentVolume> {
    let affinity = node.map(|node| {
        let rule = json!({ "key": "host", "operator": "In", "values": [node] });
        json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [rule] }] } })
    });
    let spec = json!({
        "accessModes": ["ReadWriteOnce"], "capacity": { "storage": size }, "storageClassName": "disks",
        "nodeAffinity": affinity,
    });
    let mut object = json!({
        "metadata": { "name": name, "resourceVersion": "1" }, "spec": spec, "status": { "phase": "Available" },
    });
    merge(&mut object, changes);
    came(object)
}

fn merge(object: &mut Value, changes: Value) {
    match (object, changes) {
        (Value::Object(object), Value::Object(changes)) => {
            for (key, value) in changes {
                merge(object.entry(key).or_insert(Value::Null), value);
            }
        }
        (object, changes) => *object = changes,
    }
}

fn pod(name: &str, claims: &[&str]) -> Pod {
    let volume = |claim: &&str| json!({ "name": claim, "persistentVolumeClaim": { "claimName": claim } });
    let volumes: Vec<Value> = claims.iter().map(volume).collect();
    let metadata = json!({ "name": name, "namespace": "n", "uid": format!("{name}-uid") });
    from_value(json!({ "metadata": metadata, "spec": { "containers": [], "volumes": volumes } })).unwrap()
}

/// What the nodes say to a pod with these claims: on `Ok`, the claims with their volumes, or `+` for one that is made.
fn choices(state: &State, claims: &[&str]) -> [Result<Vec<String>, Vec<&'static str>>; 2] {
    let needs = state.needs(&pod("p", claims)).unwrap().unwrap();
    ["a", "b"].map(|node| {
        let labels: BTreeMap<String, String> = state.nodes[node].metadata.labels.clone().unwrap();
        needs.choose(node, &labels).map(|choice| {
            let name = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| meta.name.clone().unwrap();
            let bound = choice.bind.iter().map(|(c, v)| format!("{}={}", name(&c.metadata), name(&v.metadata)));
            bound.chain(choice.provision.iter().map(|c| format!("{}+", name(&c.metadata)))).collect()
        })
    })
}

fn check(state: &State, claims: &[&str], expected: [Result<&[&str], &'static str>; 2]) {
    let expected = expected.map(|one| {
        one.map(|list| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).map_err(|no| vec![no])
    });
    assert_eq!(choices(state, claims), expected, "{claims:?}");
}

fn check_refused(state: &State, pod: &Pod, expected: &str) {
    assert_eq!(state.needs(pod).unwrap_err(), expected);
}

#[test]
fn a_pod_whose_claims_cannot_be_used_is_refused_in_words() {
    let mut state = cluster();
    let one = |state: &State, text: &str| check_refused(state, &pod("p", &["c"]), text);
    one(&state, "persistentvolumeclaim \"c\" not found");
    state.set_claim(&claim("c", "now", "1Gi", json!({})));
    one(&state, "pod has unbound immediate PersistentVolumeClaims");
    state.set_claim(&claim("c", "no-such", "1Gi", json!({})));
    one(&state, "pod has unbound immediate PersistentVolumeClaims");
    state.set_claim(&claim("c", "late", "1Gi", json!({ "spec": { "volumeName": "v" } })));
    one(&state, "pod has unbound immediate PersistentVolumeClaims");
    state.set_claim(&claim("c", "late", "1Gi", json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } })));
    one(&state, "persistentvolumeclaim \"c\" is being deleted");
    let lost = json!({ "spec": { "volumeName": "v" }, "status": { "phase": "Lost" } });
    state.set_claim(&claim("c", "late", "1Gi", lost));
    one(&state, "persistentvolumeclaim \"c\" bound to non-existent persistentvolume \"v\"");
    let mut made = pod("p", &[]);
    made.spec.as_mut().unwrap().volumes = from_value(json!([{ "name": "v", "ephemeral": {} }])).unwrap();
    check_refused(&state, &made, "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-v\"");
    state.set_claim(&claim("p-v", "late", "1Gi", json!({})));
    check_refused(&state, &made, "PVC n/p-v was not created for pod n/p (pod is not owner)");
    assert!(state.needs(&pod("p", &[])).unwrap().is_none());
}

#[test]
fn a_bound_volume_decides_where_a_pod_can_go() {
    let mut state = cluster();
    let bound = json!({ "metadata": { "annotations": { BIND_COMPLETED: "yes" } }, "spec": { "volumeName": "v" } });
    state.set_claim(&claim("c", "now", "1Gi", bound));
    check(&state, &["c"], [Err(NO_VOLUME), Err(NO_VOLUME)]);
    state.set_volume(&volume("v", "1Gi", Some("b"), json!({})));
    check(&state, &["c"], [Err(NODE_CONFLICT), Ok(&[])]);
}

#[test]
fn open_claims_take_the_smallest_volumes_of_the_node_and_no_volume_twice() {
    let mut state = cluster();
    state.set_claim(&claim("c", "disks", "2Gi", json!({})));
    state.set_claim(&claim("d", "disks", "1Gi", json!({})));
    check(&state, &["c"], [Err(BIND_CONFLICT), Err(BIND_CONFLICT)]);
    state.set_volume(&volume("large-a", "9Gi", Some("a"), json!({})));
    state.set_volume(&volume("small-a", "3Gi", Some("a"), json!({})));
    state.set_volume(&volume("only-b", "3Gi", Some("b"), json!({})));
    check(&state, &["c"], [Ok(&["c=small-a"]), Ok(&["c=only-b"])]);
    check(&state, &["c", "d"], [Ok(&["d=small-a", "c=large-a"]), Err(BIND_CONFLICT)]);
}

#[test]
fn a_volume_that_is_kept_for_a_claim_is_the_only_one_for_it() {
    let mut state = cluster();
    state.set_claim(&claim("c", "disks", "1Gi", json!({})));
    state.set_volume(&volume("free-a", "1Gi", Some("a"), json!({})));
    let kept = json!({ "spec": { "claimRef": { "name": "c", "namespace": "n" } } });
    state.set_volume(&volume("kept-b", "5Gi", Some("b"), kept));
    check(&state, &["c"], [Err(BIND_CONFLICT), Ok(&["c=kept-b"])]);
}

#[test]
fn volumes_are_made_where_class_and_room_allow_it() {
    let mut state = cluster();
    state.set_claim(&claim("c", "late", "2Gi", json!({})));
    state.set_claim(&claim("d", "later", "2Gi", json!({})));
    check(&state, &["c"], [Ok(&["c+"]), Ok(&["c+"])]);
    check(&state, &["d"], [Err(BIND_CONFLICT), Ok(&["d+"])]);
    let selected = json!({ "metadata": { "annotations": { SELECTED_NODE: "a" } } });
    state.set_claim(&claim("e", "late", "2Gi", selected));
    check(&state, &["e"], [Ok(&["e+"]), Err(BIND_CONFLICT)]);
    state.set_driver(&came(json!({ "metadata": { "name": "p.example.com" }, "spec": { "storageCapacity": true } })));
    check(&state, &["c"], [Err(NO_ROOM), Err(NO_ROOM)]);
    let room = |name: &str, size: &str| -> Event<CSIStorageCapacity> {
        let nodes = json!({ "matchLabels": { "host": name } });
        let metadata = json!({ "name": name, "namespace": "n" });
        came(json!({ "metadata": metadata, "storageClassName": "late", "capacity": size, "nodeTopology": nodes }))
    };
    state.set_capacity(&room("a", "1Gi"));
    state.set_capacity(&room("b", "2Gi"));
    check(&state, &["c"], [Err(NO_ROOM), Ok(&["c+"])]);
}

#[test]
fn what_is_reserved_is_seen_by_the_next_decision_until_it_is_forgotten() {
    let mut state = cluster();
    for name in ["c", "d"] {
        state.set_claim(&claim(name, "disks", "1Gi", json!({})));
    }
    state.set_claim(&claim("e", "late", "1Gi", json!({})));
    state.set_volume(&volume("v", "1Gi", None, json!({})));
    state.reserve(&pod("one", &["c", "e"]), "a").unwrap();
    check(&state, &["d"], [Err(BIND_CONFLICT), Err(BIND_CONFLICT)]);
    check(&state, &["c"], [Ok(&["c=v"]), Ok(&["c=v"])]);
    check(&state, &["e"], [Ok(&["e+"]), Err(BIND_CONFLICT)]);
    let plan = state.plan("one-uid").unwrap();
    assert_eq!(claim_reference(&plan.bindings[0].volume).unwrap().uid.as_deref(), Some("c-uid"));
    assert!(plan.bindings[0].is_due && plan.provisions[0].is_due);
    // Another pod with the same claims waits for the same, and writes nothing.
    state.reserve(&pod("two", &["c", "e"]), "a").unwrap();
    let same = state.plan("two-uid").unwrap();
    assert!(!same.bindings[0].is_due && !same.provisions[0].is_due);
    state.forget("two-uid");
    check(&state, &["d"], [Err(BIND_CONFLICT), Err(BIND_CONFLICT)]);
    state.forget("one-uid");
    check(&state, &["d"], [Ok(&["d=v"]), Ok(&["d=v"])]);
    check(&state, &["e"], [Ok(&["e+"]), Ok(&["e+"])]);
    assert_eq!(state.plans(), 0);
}

#[test]
fn what_the_api_says_replaces_what_was_assumed() {
    let mut state = cluster();
    state.set_claim(&claim("c", "disks", "1Gi", json!({})));
    state.set_claim(&claim("d", "disks", "1Gi", json!({})));
    state.set_volume(&volume("v", "1Gi", None, json!({})));
    state.reserve(&pod("one", &["c"]), "a").unwrap();
    let taken = json!({ "spec": { "claimRef": { "name": "d", "namespace": "n", "uid": "d-uid" } } });
    state.set_volume(&volume("v", "1Gi", None, taken));
    check(&state, &["d"], [Ok(&["d=v"]), Ok(&["d=v"])]);
    check(&state, &["c"], [Err(BIND_CONFLICT), Err(BIND_CONFLICT)]);
}

#[test]
fn a_binding_is_complete_when_the_claim_says_so_and_fails_when_it_is_taken_back() {
    let mut state = cluster();
    state.set_claim(&claim("c", "disks", "1Gi", json!({})));
    state.set_volume(&volume("v", "1Gi", Some("a"), json!({})));
    state.reserve(&pod("one", &["c"]), "a").unwrap();
    let mut plan = state.plan("one-uid").unwrap();
    let mut written = (*plan.bindings[0].volume).clone();
    written.metadata.resource_version = Some("7".to_owned());
    plan.bindings[0].volume = Arc::new(written.clone());
    assert_eq!(state.progress(&plan), Ok(false), "the cache has not seen it");
    state.set_volume(&Event::Applied { old: None, new: Arc::new(written) });
    assert_eq!(state.progress(&plan), Ok(false), "the claim is not bound");
    let bound = json!({ "metadata": { "annotations": { BIND_COMPLETED: "yes" } }, "spec": { "volumeName": "v" } });
    state.set_claim(&claim("c", "disks", "1Gi", bound));
    assert_eq!(state.progress(&plan), Ok(true));
    state.set_volume(&volume("v", "1Gi", Some("a"), json!({ "metadata": { "resourceVersion": "8" } })));
    assert_eq!(state.progress(&plan), Err("ClaimRef got reset for pv \"v\"".to_owned()));
    state.set_claim(&claim("c", "disks", "1Gi", json!({ "metadata": { "uid": "another" } })));
    let gone = "failed to check binding: persistentvolumeclaim \"c\" not found";
    assert_eq!(state.progress(&plan), Err(gone.to_owned()));
    state.give_up("one-uid");
    assert_eq!(state.progress(&plan), Err("pod does not exist any more".to_owned()));
    state.forget("one-uid");
    assert!(!state.is_given_up("one-uid"));
}

#[test]
fn provisioning_is_complete_when_the_volume_is_there_and_fails_when_the_node_is_taken_back() {
    let mut state = cluster();
    state.set_claim(&claim("c", "late", "1Gi", json!({})));
    state.reserve(&pod("one", &["c"]), "a").unwrap();
    let plan = state.plan("one-uid").unwrap();
    let asked = |node: &str, volume: &str| {
        let annotations = json!({ SELECTED_NODE: node, BIND_COMPLETED: "yes" });
        claim(
            "c",
            "late",
            "1Gi",
            json!({ "metadata": { "annotations": annotations }, "spec": { "volumeName": volume } }),
        )
    };
    state.set_claim(&asked("a", ""));
    assert_eq!(state.progress(&plan), Ok(false));
    state.set_claim(&asked("a", "made"));
    assert_eq!(state.progress(&plan), Ok(false), "the volume is not known yet");
    state.set_volume(&volume("made", "1Gi", Some("a"), json!({})));
    assert_eq!(state.progress(&plan), Ok(true));
    state.set_volume(&volume("made", "1Gi", Some("b"), json!({})));
    assert!(state.progress(&plan).unwrap_err().contains("node affinity doesn't match node \"a\""));
    state.set_claim(&asked("b", ""));
    assert_eq!(state.progress(&plan), Err("provisioning failed for PVC \"c\"".to_owned()));
    state.set_claim(&claim("c", "late", "1Gi", json!({})));
    assert_eq!(state.progress(&plan), Err("selectedNode annotation reset for PVC \"c\"".to_owned()));
}

#[test]
fn zones_of_volumes_are_found_under_their_older_names_too() {
    let of = |labels: Value| -> Vec<Topology> {
        Topology::of(&from_value(json!({ "metadata": { "name": "v", "labels": labels } })).unwrap())
    };
    let node = BTreeMap::from([("topology.kubernetes.io/zone".to_owned(), "b".to_owned())]);
    let holds = |labels: Value| of(labels).iter().all(|topology| topology.holds(&node));
    assert!(holds(json!({})) && holds(json!({ "topology.kubernetes.io/zone": "b" })));
    assert!(holds(json!({ "failure-domain.beta.kubernetes.io/zone": "a__b" })));
    assert!(!holds(json!({ "topology.kubernetes.io/zone": "a" })));
    assert!(!holds(json!({ "topology.kubernetes.io/region": "b" })));
    assert!(Topology::is_known(&node) && !Topology::is_known(&BTreeMap::new()));
}

#[tokio::test]
async fn who_waits_for_volumes_is_told_when_the_pod_is_gone() {
    let volumes = Volumes::default();
    volumes.change(|state| *state = cluster());
    volumes.change(|state| state.set_claim(&claim("c", "late", "1Gi", json!({}))));
    volumes.reserve(&pod("one", &["c"]), "a").unwrap();
    let plan = volumes.plan("one-uid").unwrap();
    let waits = volumes.bound(&plan);
    let selected = json!({ "metadata": { "annotations": { SELECTED_NODE: "a" } } });
    volumes.change(|state| state.set_claim(&claim("c", "late", "1Gi", selected)));
    let gone = async {
        tokio::task::yield_now().await;
        volumes.change(|state| state.give_up("one-uid"));
    };
    let (ended, ()) = tokio::join!(waits, gone);
    assert_eq!(ended, Err("pod does not exist any more".to_owned()));
}

#[test]
fn only_so_many_pods_wait_for_volumes_at_once() {
    let volumes = Volumes::default();
    volumes.change(|state| *state = cluster());
    for number in 0..=MAX_WAITING {
        let name = format!("c{number}");
        volumes.change(|state| state.set_claim(&claim(&name, "late", "1Gi", json!({}))));
        let taken = volumes.reserve(&pod(&format!("p{number}"), &[&name]), "a");
        assert_eq!(taken.is_ok(), number < MAX_WAITING);
    }
}
