//! What containers find in their environment.

use e2e::Ground;
use serde_json::{Value, json};

use super::tools::{command, get, logs, once, reaches, with, wrote};

/// Conformance: [sig-node] ConfigMap should be consumable via environment variable [NodeConformance] [Conformance]
/// Conformance: [sig-node] ConfigMap should be consumable via the environment [NodeConformance] [Conformance]
/// Conformance: [sig-node] ConfigMap should be consumable as environment variable names with various prefixes [Conformance]
pub(super) fn config_maps(ground: &Ground<'_>) {
    let data = ["--from-literal=data-1=value-1", "--from-literal=data-2=value-2"];
    ground.kubectl(&[&["create", "configmap", "values"][..], &data].concat()).ok();
    values_come(ground, "configMapKeyRef", "configMapRef");
}

/// Conformance: [sig-node] Secrets should be consumable from pods in env vars [NodeConformance] [Conformance]
/// Conformance: [sig-node] Secrets should be consumable via the environment [NodeConformance] [Conformance]
/// Conformance: [sig-node] Secrets should be consumable as environment variable names variable names with various prefixes [Conformance]
pub(super) fn secrets(ground: &Ground<'_>) {
    let data = ["--from-literal=data-1=value-1", "--from-literal=data-2=value-2"];
    ground.kubectl(&[&["create", "secret", "generic", "values"][..], &data].concat()).ok();
    values_come(ground, "secretKeyRef", "secretRef");
}

/// All printable characters but the one that ends a name.
const PREFIXES: [&str; 5] = ["p-", "1_", "#/,;:.&%@!~", "$()'`", "a b"];

fn values_come(ground: &Ground<'_>, one: &str, all: &str) {
    let reference = json!({"name": "values"});
    let env = json!([{"name": "CHOSEN", "valueFrom": {one: {"name": "values", "key": "data-1"}}}]);
    let prefixed = PREFIXES.map(|prefix| json!({"prefix": prefix, all: reference}));
    // Shells drop names that they cannot spell.
    let show = |name: &str, more: Value| with(command(name, &json!(["env"])), more);
    let containers = [
        show("one", json!({"env": env})),
        show("all", json!({"envFrom": [{all: reference}]})),
        show("prefixed", json!({"envFrom": prefixed})),
    ];
    once(ground, "p", json!({"containers": containers}));
    reaches(ground, "p", "Succeeded");
    wrote(ground, "p", "one", &["CHOSEN=value-1"]);
    wrote(ground, "p", "all", &["data-1=value-1", "data-2=value-2"]);
    for prefix in PREFIXES {
        let lines = ["1", "2"].map(|number| format!("{prefix}data-{number}=value-{number}"));
        wrote(ground, "p", "prefixed", &[&lines[0], &lines[1]]);
    }
}

/// Conformance: [sig-node] Downward API should provide pod name, namespace and IP address as env vars [NodeConformance] [Conformance]
/// Conformance: [sig-node] Downward API should provide host IP as an env var [NodeConformance] [Conformance]
/// Conformance: [sig-node] Downward API should provide hostIPs as an env var [NodeConformance] [Conformance]
/// Conformance: [sig-node] Downward API should provide pod UID as env vars [NodeConformance] [Conformance]
/// Conformance: [sig-node] Downward API should provide container's limits.cpu/memory and requests.cpu/memory as env vars [NodeConformance] [Conformance]
/// Conformance: [sig-node] Downward API should provide default limits.cpu/memory from node allocatable [NodeConformance] [Conformance]
pub(super) fn downward(ground: &Ground<'_>) {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let amount = |name: &str, of: &str| json!({"name": name, "valueFrom": {"resourceFieldRef": {"resource": of}}});
    let fields = json!([
        field("NAME", "metadata.name"),
        field("NAMESPACE", "metadata.namespace"),
        field("ID", "metadata.uid"),
        field("IP", "status.podIP"),
        field("HOST", "status.hostIP"),
        field("HOSTS", "status.hostIPs"),
    ]);
    let limits = [amount("CPU_LIMIT", "limits.cpu"), amount("MEMORY_LIMIT", "limits.memory")];
    let requests = [amount("CPU_REQUEST", "requests.cpu"), amount("MEMORY_REQUEST", "requests.memory")];
    let amounts = [limits.clone(), requests].concat();
    let resources =
        json!({"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}});
    let show = |name: &str, more: Value| with(command(name, &json!(["env"])), more);
    let containers = [
        show("fields", json!({"env": fields})),
        show("amounts", json!({"env": amounts, "resources": resources})),
        show("defaults", json!({"env": limits})),
    ];
    once(ground, "p", json!({"containers": containers}));
    reaches(ground, "p", "Succeeded");
    let pod = get(ground, "pod/p");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (id, ip, host) = (&pod["metadata"]["uid"], &pod["status"]["podIP"], &pod["status"]["hostIP"]);
    let hosts: Vec<String> =
        pod["status"]["hostIPs"].as_array().unwrap().iter().map(|host| text(&host["ip"])).collect();
    let lines = [
        "NAME=p".to_owned(),
        format!("NAMESPACE={}", ground.namespace),
        format!("ID={}", text(id)),
        format!("IP={}", text(ip)),
        format!("HOST={}", text(host)),
        format!("HOSTS={}", hosts.join(",")),
    ];
    wrote(ground, "p", "fields", &lines.each_ref().map(String::as_str));
    let amounts = ["CPU_LIMIT=2", "MEMORY_LIMIT=67108864", "CPU_REQUEST=1", "MEMORY_REQUEST=33554432"];
    wrote(ground, "p", "amounts", &amounts);
    let defaults = logs(ground, "p", "defaults");
    for name in ["CPU_LIMIT=", "MEMORY_LIMIT="] {
        let value = defaults.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert!(value.parse::<u64>().unwrap() > 0, "{name}{value}");
    }
}

/// Conformance: [sig-node] Variable Expansion should allow composing env vars into new env vars [NodeConformance] [Conformance]
/// Conformance: [sig-node] Variable Expansion should allow substituting values in a container's command [NodeConformance] [Conformance]
/// Conformance: [sig-node] Variable Expansion should allow substituting values in a container's args [NodeConformance] [Conformance]
pub(super) fn references(ground: &Ground<'_>) {
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    let composed = [variable("FOO", "foo-value"), variable("BAR", "bar-value"), variable("FOOBAR", "$(FOO);;$(BAR)")];
    let test = json!([variable("TEST_VAR", "test-value")]);
    let line = "TEST_VAR=wrong echo \"$(TEST_VAR)\"";
    let containers = [
        with(command("composed", &json!(["env"])), json!({"env": composed})),
        with(command("command", &json!(["sh", "-c", line])), json!({"env": test})),
        with(command("arguments", &json!(["sh", "-c"])), json!({"env": test, "args": [line]})),
    ];
    once(ground, "p", json!({"containers": containers}));
    reaches(ground, "p", "Succeeded");
    wrote(ground, "p", "composed", &["FOO=foo-value", "BAR=bar-value", "FOOBAR=foo-value;;bar-value"]);
    assert_eq!(logs(ground, "p", "command"), "test-value");
    assert_eq!(logs(ground, "p", "arguments"), "test-value");
}

/// Conformance: [sig-node] Pods should contain environment variables for services [NodeConformance] [Conformance]
pub(super) fn services(ground: &Ground<'_>) {
    ground.kubectl(&["create", "service", "clusterip", "fooservice", "--tcp=8765:8080"]).ok();
    let address = ground.value("service/fooservice", "{.spec.clusterIP}");
    let mut wanted = vec![format!("FOOSERVICE_SERVICE_HOST={address}"), "FOOSERVICE_SERVICE_PORT=8765".to_owned()];
    let port = "FOOSERVICE_PORT_8765_TCP";
    wanted.extend([format!("FOOSERVICE_PORT=tcp://{address}:8765"), format!("{port}=tcp://{address}:8765")]);
    wanted.extend([format!("{port}_PROTO=tcp"), format!("{port}_PORT=8765"), format!("{port}_ADDR={address}")]);
    // The first pod may come to the node before it has heard of the Service.
    let found = ["first", "second", "third"].iter().any(|pod| {
        once(ground, pod, json!({"containers": [command("c", &json!(["env"]))]}));
        reaches(ground, pod, "Succeeded");
        let written = logs(ground, pod, "c");
        wanted.iter().all(|line| written.lines().any(|known| known == line))
    });
    assert!(found, "no pod has {wanted:?}");
}
