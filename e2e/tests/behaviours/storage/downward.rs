//! What a pod says of itself as files, and all that can be projected side by side.

use e2e::Ground;
use serde_json::{Value, json};

use super::files::{CONFIG_MAP, SECRET};
use super::pods::{self, container, idle, log, looking_at, looks, pod, until};

/// Conformance: [sig-storage] Downward API volume should provide podname only [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Downward API volume should set DefaultMode on files [LinuxOnly] [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] Downward API volume should set mode on item file [LinuxOnly] [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] Downward API volume should provide container's cpu limit [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Downward API volume should provide container's cpu request [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] Downward API volume should provide container's memory limit [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] Downward API volume should provide container's memory request [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] Downward API volume should provide node allocatable (cpu) as default cpu limit if the
/// limit is not set [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Downward API volume should provide node allocatable (memory) as default memory limit if
/// the limit is not set [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Downward API volume should update labels on modification [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Downward API volume should update annotations on modification [NodeConformance]
/// [Conformance]
pub(super) fn by_itself(ground: &Ground<'_>) {
    told(ground, |name, mode, items| {
        let mut source = json!({"items": items});
        if let Some(mode) = mode {
            source["defaultMode"] = json!(mode);
        }
        json!({"name": name, "downwardAPI": source})
    });
}

/// Conformance: [sig-storage] Projected downwardAPI should provide podname only [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Projected downwardAPI should set DefaultMode on files [LinuxOnly] [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] Projected downwardAPI should set mode on item file [LinuxOnly] [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] Projected downwardAPI should provide container's cpu limit [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] Projected downwardAPI should provide container's cpu request [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] Projected downwardAPI should provide container's memory limit [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] Projected downwardAPI should provide container's memory request [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] Projected downwardAPI should provide node allocatable (cpu) as default cpu limit if the
/// limit is not set [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Projected downwardAPI should provide node allocatable (memory) as default memory limit if
/// the limit is not set [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Projected downwardAPI should update labels on modification [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] Projected downwardAPI should update annotations on modification [NodeConformance]
/// [Conformance]
pub(super) fn projected(ground: &Ground<'_>) {
    told(ground, |name, mode, items| {
        let mut source = json!({"sources": [{"downwardAPI": {"items": items}}]});
        if let Some(mode) = mode {
            source["defaultMode"] = json!(mode);
        }
        json!({"name": name, "projected": source})
    });
}

fn field(path: &str, field: &str) -> Value {
    json!({"path": path, "fieldRef": {"apiVersion": "v1", "fieldPath": field}})
}

fn resource(path: &str, container: &str, resource: &str) -> Value {
    json!({"path": path, "resourceFieldRef": {"containerName": container, "resource": resource}})
}

/// A pod with a container that has limits and one that has none.
fn told(ground: &Ground<'_>, volume: impl Fn(&str, Option<u32>, &Value) -> Value) {
    let mut private = field("private", "metadata.name");
    private["mode"] = json!(0o400);
    let items = json!([
        field("podname", "metadata.name"),
        private,
        field("labels", "metadata.labels"),
        field("annotations", "metadata.annotations"),
        resource("cpu_limit", "c", "limits.cpu"),
        resource("cpu_request", "c", "requests.cpu"),
        resource("memory_limit", "c", "limits.memory"),
        resource("memory_request", "c", "requests.memory"),
        resource("node_cpu", "free", "limits.cpu"),
        resource("node_memory", "free", "limits.memory"),
    ]);
    let volumes =
        [volume("info", None, &items), volume("private", Some(0o400), &json!([field("podname", "metadata.name")]))];
    let mut limited = idle(&volumes);
    limited["resources"] = json!({"requests": {"cpu": "250m", "memory": "32Mi"},
        "limits": {"cpu": "1250m", "memory": "64Mi"}});
    let mut pod = pod("p", &[limited, container("free", "sleep 100000", &[])], &volumes);
    pod["metadata"]["labels"] = json!({"key1": "value1", "key2": "value2"});
    pod["metadata"]["annotations"] = json!({"builder": "bar"});
    pods::start(ground, &pod);

    let (cpu, memory) = allocatable(ground);
    let files = [
        ("/info/podname", "-rw-r--r--", "p"),
        ("/info/private", "-r--------", "p"),
        ("/private/podname", "-r--------", "p"),
        ("/info/labels", "-rw-r--r--", "key1=\"value1\"\nkey2=\"value2\""),
        ("/info/cpu_limit", "-rw-r--r--", "2"),
        ("/info/cpu_request", "-rw-r--r--", "1"),
        ("/info/memory_limit", "-rw-r--r--", "67108864"),
        ("/info/memory_request", "-rw-r--r--", "33554432"),
        ("/info/node_cpu", "-rw-r--r--", cpu.as_str()),
        ("/info/node_memory", "-rw-r--r--", memory.as_str()),
    ];
    assert_eq!(ground.exec("p", &looking_at(&files)), looks(&files));
    assert!(ground.exec("p", "cat /info/annotations").lines().any(|line| line == "builder=\"bar\""));

    ground.kubectl(&["label", "pod", "p", "key3=value3", "key1-"]).ok();
    ground.kubectl(&["annotate", "--overwrite", "pod", "p", "builder=foo"]).ok();
    until(ground, "p", r#"[ "$(cat /info/labels)" = "$(printf 'key2="value2"\nkey3="value3"')" ]"#);
    until(ground, "p", r#"grep -qx 'builder="foo"' /info/annotations"#);
}

/// CPUs, rounded up, and bytes that pods may have of the node.
fn allocatable(ground: &Ground<'_>) -> (String, String) {
    let cpu = ground.value("node/e2e", "{.status.allocatable.cpu}");
    let cpu =
        cpu.strip_suffix('m').map_or(cpu.clone(), |milli| milli.parse::<u64>().unwrap().div_ceil(1000).to_string());
    let memory = ground.value("node/e2e", "{.status.allocatable.memory}");
    let memory =
        memory.strip_suffix("Ki").map_or(memory.clone(), |kibi| (kibi.parse::<u64>().unwrap() << 10).to_string());
    (cpu, memory)
}

/// Conformance: [sig-storage] Projected combined should project all components that make up the projection API
/// [Projection] [NodeConformance] [Conformance]
pub(super) fn combined(ground: &Ground<'_>) {
    pods::create(ground, &SECRET.object("s", &json!({"secret-data": "secret-value-1"})));
    pods::create(ground, &CONFIG_MAP.object("c", &json!({"configmap-data": "configmap-value-1"})));
    let sources = json!([
        {"downwardAPI": {"items": [field("podname", "metadata.name")]}},
        {"secret": {"name": "s"}},
        {"configMap": {"name": "c"}},
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
    ]);
    let volume = json!({"name": "all", "projected": {"sources": sources}});
    let script =
        "cd /all; for f in podname secret-data configmap-data; do cat $f; echo; done; ls; cut -d. -f2 token | wc -l";
    pods::run(ground, &pod("p", &[container("c", script, &[("all", "/all")])], &[volume]));
    let listed = "configmap-data\npodname\nsecret-data\ntoken";
    assert_eq!(log(ground, "p", "c"), format!("p\nsecret-value-1\nconfigmap-value-1\n{listed}\n1"));
}
