use serde_json::{Value, from_value, json};

use super::*;

fn claim(spec: Value) -> PersistentVolumeClaim {
    let mut all = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "2Gi" } } });
    all.as_object_mut().unwrap().append(&mut spec.as_object().unwrap().clone());
    from_value(json!({ "metadata": { "name": "c", "namespace": "n", "uid": "c-uid" }, "spec": all })).unwrap()
}

fn volume(name: &str, size: &str, spec: Value) -> Arc<PersistentVolume> {
    let mut all = json!({ "accessModes": ["ReadWriteOnce"], "capacity": { "storage": size } });
    all.as_object_mut().unwrap().append(&mut spec.as_object().unwrap().clone());
    let metadata = json!({ "name": name, "labels": { "disk": name } });
    Arc::new(from_value(json!({ "metadata": metadata, "spec": all, "status": { "phase": "Available" } })).unwrap())
}

/// What a claim gets of some volumes.
fn check(wants: Value, volumes: &[Arc<PersistentVolume>], expected: Option<&str>) {
    let candidates = Candidates::of(&claim(wants.clone()), volumes.iter().cloned());
    let best = candidates.best(|_| true).and_then(|volume| volume.metadata.name.as_deref());
    assert_eq!(best, expected, "{wants}");
}

#[test]
fn a_claim_gets_the_smallest_free_volume_that_fits() {
    let reference = |uid: &str| json!({ "claimRef": { "name": "c", "namespace": "n", "uid": uid } });
    let all = [
        volume("small", "1Gi", json!({})),
        volume("large", "8Gi", json!({})),
        volume("right", "3Gi", json!({})),
        volume("block", "2Gi", json!({ "volumeMode": "Block" })),
        volume("classy", "2Gi", json!({ "storageClassName": "fast" })),
        volume("gold", "2Gi", json!({ "volumeAttributesClassName": "gold" })),
        volume("shared", "20Gi", json!({ "accessModes": ["ReadWriteOnce", "ReadWriteMany"] })),
        volume("former", "2Gi", reference("another-uid")),
    ];
    check(json!({}), &all, Some("right"));
    check(json!({ "volumeMode": "Block" }), &all, Some("block"));
    check(json!({ "storageClassName": "fast" }), &all, Some("classy"));
    check(json!({ "volumeAttributesClassName": "gold" }), &all, Some("gold"));
    check(json!({ "accessModes": ["ReadWriteMany"] }), &all, Some("shared"));
    check(json!({ "accessModes": ["ReadWriteOncePod"] }), &all, None);
    check(json!({ "selector": { "matchLabels": { "disk": "large" } } }), &all, Some("large"));
    let not = json!([{ "key": "disk", "operator": "NotIn", "values": ["right"] }]);
    check(json!({ "selector": { "matchExpressions": not } }), &all, Some("large"));
    check(json!({ "resources": { "requests": { "storage": "100Gi" } } }), &all, None);
    let kept = [all[2].clone(), volume("kept", "50Gi", reference(""))];
    check(json!({}), &kept, Some("kept"));
    let bound = [all[2].clone(), volume("bound", "50Gi", reference("c-uid"))];
    check(json!({}), &bound, Some("bound"));
}

#[test]
fn a_volume_that_is_not_available_or_goes_is_not_chosen() {
    let mut released = (*volume("v", "3Gi", json!({}))).clone();
    released.status.as_mut().unwrap().phase = Some("Released".to_owned());
    check(json!({}), &[Arc::new(released)], None);
    let mut going = (*volume("v", "3Gi", json!({}))).clone();
    going.metadata.deletion_timestamp = Some(from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    assert_eq!(fits(&claim(json!({})), &going), Err(Misfit::Deleted("v".to_owned())));
    check(json!({}), &[Arc::new(going)], None);
}

#[test]
fn binding_completes_a_users_reference_and_marks_its_own() {
    let claim = claim(json!({}));
    let by_us = bound_to(&volume("v", "3Gi", json!({})), &claim).unwrap();
    assert_eq!(annotation(&by_us.metadata, BOUND_BY_CONTROLLER), Some("yes"));
    assert_eq!(claim_reference(&by_us).unwrap().uid.as_deref(), Some("c-uid"));
    assert!(bound_to(&by_us, &claim).is_none());
    let kept = volume("v", "3Gi", json!({ "claimRef": { "name": "c", "namespace": "n" } }));
    let by_user = bound_to(&kept, &claim).unwrap();
    assert_eq!(annotation(&by_user.metadata, BOUND_BY_CONTROLLER), None);
    assert_eq!(claim_reference(&by_user).unwrap().uid.as_deref(), Some("c-uid"));
}

#[test]
fn topologies_are_alternatives_of_conditions() {
    let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
    let allowed = |terms: Value| {
        let terms: Option<Vec<TopologySelectorTerm>> = from_value(terms).unwrap();
        allows(terms.as_deref(), &labels)
    };
    let rule = |key: &str, values: &[&str]| json!({ "matchLabelExpressions": [{ "key": key, "values": values }] });
    assert!(allowed(json!(null)) && allowed(json!([])));
    assert!(allowed(json!([rule("zone", &["a", "b"])])));
    assert!(allowed(json!([rule("zone", &["b"]), rule("zone", &["a"])])));
    assert!(
        !allowed(json!([rule("zone", &["b"])])) && !allowed(json!([rule("rack", &["a"])])) && !allowed(json!([{}]))
    );
}

#[test]
fn the_newest_default_class_wins() {
    let class = |name: &str, time: &str, mark: &str| -> Arc<StorageClass> {
        let annotations = json!({ "storageclass.kubernetes.io/is-default-class": mark });
        let metadata = json!({ "name": name, "creationTimestamp": time, "annotations": annotations });
        Arc::new(from_value(json!({ "metadata": metadata, "provisioner": "p" })).unwrap())
    };
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let all = [class("a", old, "true"), class("c", new, "true"), class("b", new, "true"), class("d", new, "false")];
    assert_eq!(default_class(&all).unwrap().metadata.name.as_deref(), Some("b"));
    assert!(default_class(&all[3..]).is_none());
}

#[test]
fn a_pods_claims_are_those_it_names_and_those_made_for_it() {
    let volumes = json!([
        { "name": "a", "persistentVolumeClaim": { "claimName": "data" } },
        { "name": "b", "persistentVolumeClaim": { "claimName": "data" } },
        { "name": "c", "ephemeral": {} }, { "name": "d", "emptyDir": {} },
    ]);
    let metadata = json!({ "name": "p", "namespace": "n", "uid": "p-uid" });
    let pod: Pod =
        from_value(json!({ "metadata": metadata, "spec": { "containers": [], "volumes": volumes } })).unwrap();
    let names: Vec<_> = claims_of(&pod).into_iter().map(|used| (used.name, used.is_made)).collect();
    assert_eq!(names, [("data".to_owned(), false), ("p-c".to_owned(), true)]);
    let mut made = claim(json!({}));
    let no = check_made_for(&made, &pod).unwrap_err();
    assert_eq!(no.to_string(), "PVC n/c was not created for pod n/p (pod is not owner)");
    let owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "p-uid", "controller": true }]);
    made.metadata.owner_references = from_value(owner).unwrap();
    assert_eq!(check_made_for(&made, &pod), Ok(()));
}
