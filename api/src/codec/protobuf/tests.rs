use std::path::PathBuf;
use std::time::Instant;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Vectors that do not come back as they are: none may be added.
const KNOWN_FAILURES: &[&str] = &[];

struct Vector {
    name: String,
    protobuf: Vec<u8>,
    json: Value,
}

/// The recorded objects of the kinds that this server knows; `None` (loudly) where the recordings are not at hand.
fn vectors() -> Option<Vec<Vector>> {
    let root = std::env::var_os("CORACLE_REFERENCE")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")), PathBuf::from);
    let Ok(files) = std::fs::read_dir(root.join("reference/api-roundtrip")) else {
        eprintln!("SKIP: no recorded objects below {}", root.display());
        return None;
    };
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "pb"));
    paths.sort();
    Some(paths.iter().filter_map(|path| vector(path)).collect())
}

fn vector(path: &std::path::Path) -> Option<Vector> {
    let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
    let (rest, kind) = name.rsplit_once('.').unwrap();
    let (group, version) = rest.rsplit_once('.').unwrap();
    let group = if group == "core" { "" } else { group };
    message_of(group, version, kind)?;
    let json = serde_json::from_slice(&std::fs::read(path.with_extension("json")).unwrap()).unwrap();
    Some(Vector { protobuf: std::fs::read(path).unwrap(), json, name })
}

/// The message of a vector; those of options leave kind and version empty.
fn message_for(vector: &Vector) -> &'static Message {
    let (rest, kind) = vector.name.rsplit_once('.').unwrap();
    let (group, version) = rest.rsplit_once('.').unwrap();
    message_of(if group == "core" { "" } else { group }, version, kind).unwrap()
}

fn decoded(vector: &Vector) -> Result<Value, Error> {
    let unknown = Unknown::read(&vector.protobuf)?;
    let mut map = decode::fields(unknown.raw, message_for(vector), 0)?;
    for (name, text) in [("apiVersion", unknown.api_version), ("kind", unknown.kind)] {
        if !text.is_empty() {
            map.insert(name.to_owned(), text.into());
        }
    }
    Ok(Value::Object(map))
}

#[test]
fn resource_metrics_come_back_as_they_were() {
    let usage = json!({"cpu": "12345678n", "memory": "20Mi"});
    let metrics = json!({
        "kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {"name": "p", "namespace": "n"},
        "timestamp": "2026-01-02T03:04:05Z", "window": "15.000000001s", "containers": [{"name": "c", "usage": usage}],
    });
    assert_eq!(super::decode(&super::encode(&metrics).unwrap()).unwrap(), metrics);
    let list = json!({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": [{"window": "x"}]});
    assert!(super::encode(&list).is_err());
}

fn encoded(vector: &Vector) -> Result<Vec<u8>, Error> {
    let text = |name: &str| vector.json.get(name).and_then(Value::as_str).unwrap_or("");
    encode_as(&vector.json, message_for(vector), text("apiVersion"), text("kind"))
}

fn compare(what: &str, outcome: impl Fn(&Vector) -> Result<(), String>) {
    let Some(vectors) = vectors() else { return };
    assert!(vectors.len() > 100, "{} recorded objects", vectors.len());
    let mut failures = Vec::new();
    for vector in &vectors {
        match outcome(vector) {
            Ok(()) => {
                assert!(!KNOWN_FAILURES.contains(&vector.name.as_str()), "{} works now: take it off", vector.name)
            }
            Err(why) if !KNOWN_FAILURES.contains(&vector.name.as_str()) => {
                failures.push(format!("{}: {why}", vector.name));
            }
            Err(_) => {}
        }
    }
    eprintln!("{what}: {} of {} recorded objects", vectors.len() - failures.len(), vectors.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn recorded_messages_become_the_recorded_json() {
    compare("decoded", |vector| {
        let got = decoded(vector).map_err(|err| err.to_string())?;
        if got == vector.json { Ok(()) } else { Err(difference("", &vector.json, &got)) }
    });
}

#[test]
fn recorded_json_becomes_the_recorded_messages() {
    compare("encoded", |vector| {
        let got = encoded(vector).map_err(|err| err.to_string())?;
        let at = got.iter().zip(&vector.protobuf).position(|(got, want)| got != want);
        match (at, got.len() == vector.protobuf.len()) {
            (None, true) => Ok(()),
            (at, _) => {
                let at = at.unwrap_or(0);
                let part = |bytes: &[u8]| {
                    String::from_utf8_lossy(&bytes[at.saturating_sub(20)..(at + 20).min(bytes.len())]).into_owned()
                };
                Err(format!("byte {at} of {}: {:?} != {:?}", vector.protobuf.len(), part(&got), part(&vector.protobuf)))
            }
        }
    });
}

/// The first place where two trees differ.
fn difference(path: &str, want: &Value, got: &Value) -> String {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            let mut names: Vec<&String> = want.keys().chain(got.keys()).collect();
            names.sort();
            let name = names.into_iter().find(|name| want.get(*name) != got.get(*name)).unwrap();
            let null = Value::Null;
            difference(&format!("{path}.{name}"), want.get(name).unwrap_or(&null), got.get(name).unwrap_or(&null))
        }
        (Value::Array(want), Value::Array(got)) if want.len() == got.len() => {
            let at = (0..want.len()).find(|at| want[*at] != got[*at]).unwrap();
            difference(&format!("{path}[{at}]"), &want[at], &got[at])
        }
        _ => format!("{path}: want {want}, got {got}"),
    }
}

/// What comes back after a round trip.
fn around(tree: &Value) -> Value {
    decode(&encode(tree).unwrap()).unwrap()
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web", "namespace": "default", "uid": "6c0d5e3f", "resourceVersion": "7",
            "creationTimestamp": "2024-01-02T03:04:05Z", "labels": {"app": "web", "tier": "front"},
            "managedFields": [{"manager": "kubectl", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
                "time": "2024-01-02T03:04:05Z", "fieldsV1": {"f:spec": {"f:containers": {}}}}],
        },
        "spec": {
            "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "conf", "configMap": {"name": "c", "defaultMode": 420}}],
            "containers": [{"name": "c", "image": "nginx", "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}},
                "env": [{"name": "A", "value": "b"}, {"name": "N", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 10},
                "livenessProbe": {"tcpSocket": {"port": "http"}}}],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "nodeSelector": {"disk": "ssd"}, "hostNetwork": true,
        },
        "status": {"phase": "Running", "hostIP": "10.0.0.1", "podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}]},
    })
}

#[test]
fn a_pod_comes_back_with_its_inlined_structs_and_its_empty_pointers() {
    assert_eq!(around(&pod()), pod());
}

#[test]
fn lists_and_partial_metadata_and_statuses_have_encodings() {
    let item = json!({"metadata": {"name": "a"}, "data": {"k": "dg=="}, "type": "Opaque"});
    let trees = [
        json!({"apiVersion": "v1", "kind": "SecretList", "metadata": {"resourceVersion": "5"}, "items": [item, item]}),
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "a"}}),
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": [
            {"metadata": {"name": "a"}}]}),
        json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "reason": "NotFound", "code": 404}),
    ];
    for tree in trees {
        assert_eq!(around(&tree), tree);
    }
}

#[test]
fn kinds_without_messages_are_refused() {
    for (api_version, kind) in [("meta.k8s.io/v1", "Table"), ("example.com/v1", "Gadget"), ("", "")] {
        let refused = encode(&json!({"apiVersion": api_version, "kind": kind}));
        assert!(matches!(refused, Err(Error::UnknownKind { .. })), "{kind}");
    }
    assert!(has_kind("apps", "v1", "Deployment") && !has_kind("meta.k8s.io", "v1", "Table"));
}

#[test]
fn errors_name_the_field() {
    let tree = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": 1}]}});
    assert_eq!(encode(&tree).unwrap_err().to_string(), "proto: spec.containers.[0].name: must be a string");
    let mut wrong = b"k8s\0\x0a\x0d\x0a\x02v1\x12\x07\x50od".to_vec();
    wrong.truncate(6);
    assert_eq!(decode(&wrong).unwrap_err().to_string(), "proto: unexpected EOF");
    assert_eq!(decode(b""), Err(Error::Empty));
    assert_eq!(decode(b"{}"), Err(Error::Foreign));
    // spec (field 2) as a varint.
    let spec = decode_fields(&[0x10, 1], "io.k8s.api.core.v1.Pod").unwrap_err();
    assert_eq!(spec.to_string(), "proto: spec: wrong wireType Varint");
}

#[test]
fn unknown_fields_and_groups_are_skipped_and_zeros_of_values_dropped() {
    // Field 100 as varint, bytes, fixed and group; then `hostNetwork: false` (11) and `activeDeadlineSeconds: 0` (5).
    let bytes = [
        &[0xa0, 0x06, 7][..],
        &[0xa2, 0x06, 1, 9],
        &[0xa5, 0x06, 1, 2, 3, 4],
        &[0xa3, 0x06, 0x08, 1, 0xa4, 0x06],
        &[0x58, 0],
        &[0x28, 0],
    ]
    .concat();
    let map = decode_fields(&bytes, "io.k8s.api.core.v1.PodSpec").unwrap();
    assert_eq!(Value::Object(map), json!({"activeDeadlineSeconds": 0}));
    assert!(decode_fields(&[0xa3, 0x06, 0x08, 1], "io.k8s.api.core.v1.PodSpec").is_err());
}

#[test]
fn packed_lists_are_read() {
    // supplementalGroups is field 4 of the security context: once packed, once alone.
    let map = decode_fields(&[0x22, 2, 1, 2, 0x20, 3], "io.k8s.api.core.v1.PodSecurityContext").unwrap();
    assert_eq!(Value::Object(map), json!({"supplementalGroups": [1, 2, 3]}));
}

#[test]
fn depth_is_limited() {
    let mut tree = json!({});
    for _ in 0..MAX_DEPTH + 2 {
        tree = json!({"not": tree});
    }
    let definition = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    let message = Table::get().message(definition).unwrap();
    let mut out = Writer::default();
    assert!(encode::message(&mut out, &tree, message, 0).unwrap_err().to_string().ends_with("exceeded max depth"));
    let mut bytes = Vec::new();
    for _ in 0..100_000 {
        let mut out = Writer::default();
        // `not` is field 28.
        out.bytes(28, &bytes);
        bytes = out.into_bytes();
        if bytes.len() > 10_000 {
            break;
        }
    }
    assert!(decode_fields(&bytes, definition).unwrap_err().to_string().ends_with("exceeded max depth"));
}

#[test]
fn a_watch_frame_holds_an_object_in_its_envelope() {
    let object = encode(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}})).unwrap();
    let frame = watch_frame("ADDED", &object);
    assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
    let event = decode_fields(&frame[4..], "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent").unwrap();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}});
    assert_eq!(Value::Object(event), json!({"type": "ADDED", "object": namespace}));
}

#[test]
fn times_before_the_epoch_and_the_zero_time_are_understood() {
    let tree =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"creationTimestamp": "1969-12-31T23:59:59Z"}});
    assert_eq!(around(&tree), tree);
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {}, "spec": {
        "renewTime": "1969-12-31T23:59:59.999999Z", "acquireTime": "2024-01-02T03:04:05.000001Z"}});
    assert_eq!(around(&lease), lease);
    // creationTimestamp (8) with Go's zero seconds, and empty.
    let mut zero = Writer::default();
    zero.nested(8, |out| {
        out.integer(1, -62_135_596_800);
        Ok(())
    })
    .unwrap();
    let definition = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    assert_eq!(decode_fields(&zero.into_bytes(), definition), Ok(Map::new()));
    assert_eq!(decode_fields(&[0x42, 0], definition), Ok(Map::new()));
}

/// Shows what a pod costs; nothing is asserted, since machines differ.
#[test]
fn the_cost_of_a_pod_is_shown() {
    const ROUNDS: u32 = 2_000;
    let tree = pod();
    let bytes = encode(&tree).unwrap();
    let start = Instant::now();
    (0..ROUNDS).for_each(|_| drop(decode(&bytes).unwrap()));
    let decoding = start.elapsed() / ROUNDS;
    let start = Instant::now();
    (0..ROUNDS).for_each(|_| drop(encode(&tree).unwrap()));
    eprintln!("a pod of {} bytes: decoded in {decoding:?}, encoded in {:?}", bytes.len(), start.elapsed() / ROUNDS);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes);
        let _ = decode(&[MAGIC, &bytes].concat());
        for definition in ["io.k8s.api.core.v1.Pod", "io.k8s.api.apps.v1.Deployment",
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"] {
            let _ = decode_fields(&bytes, definition);
        }
    }

    #[test]
    fn no_damaged_pod_panics(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = encode(&pod()).unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(tree) = decode(&bytes) {
            prop_assert_eq!(around(&tree), tree);
        }
    }

    #[test]
    fn any_config_map_comes_back(data in prop::collection::btree_map("\\PC{1,8}", "\\PC{0,300}", 1..6)) {
        let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data});
        prop_assert_eq!(around(&tree), tree);
    }
}
