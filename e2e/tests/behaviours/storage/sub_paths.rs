//! Mounts of a part of a volume.

use e2e::{Ground, Run as _};
use serde_json::{Value, json};

use super::files::{CONFIG_MAP, PROJECTED_CONFIG_MAP, SECRET};
use super::pods::{self, container, log, pod};

fn part(volume: &str, sub_path: &str, path: &str) -> Value {
    json!({"name": volume, "mountPath": path, "subPath": sub_path})
}

/// Conformance: [sig-storage] Subpath Atomic writer volumes should support subpaths with secret pod [Conformance]
/// Conformance: [sig-storage] Subpath Atomic writer volumes should support subpaths with configmap pod [Conformance]
/// Conformance: [sig-storage] Subpath Atomic writer volumes should support subpaths with configmap pod with mountPath of
/// existing file [Conformance]
/// Conformance: [sig-storage] Subpath Atomic writer volumes should support subpaths with downward pod [Conformance]
/// Conformance: [sig-storage] Subpath Atomic writer volumes should support subpaths with projected pod [Conformance]
pub(super) fn atomic(ground: &Ground<'_>) {
    pods::create(ground, &SECRET.object("my-secret", &json!({"secret-key": "secret-value"})));
    pods::create(ground, &CONFIG_MAP.object("my-configmap", &json!({"configmap-key": "configmap-value"})));
    let name = json!({"path": "downward/podname", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}});
    let deep = json!({"items": [{"key": "configmap-key", "path": "projected/configmap-key"}]});
    let volumes = [
        SECRET.volume("secret", "my-secret", None, &json!({})),
        CONFIG_MAP.volume("map", "my-configmap", None, &json!({})),
        PROJECTED_CONFIG_MAP.volume("projected", "my-configmap", None, &deep),
        json!({"name": "downward", "downwardAPI": {"items": [name]}}),
    ];
    let script = "for f in /s /c /etc/resolv.conf /d /p /in/projected/configmap-key; do cat $f; echo; done; ls /in";
    let mut container = container("c", script, &[]);
    container["volumeMounts"] = json!([
        part("secret", "secret-key", "/s"),
        part("map", "configmap-key", "/c"),
        part("map", "configmap-key", "/etc/resolv.conf"),
        part("downward", "downward/podname", "/d"),
        part("projected", "projected/configmap-key", "/p"),
        part("projected", "projected", "/in/projected"),
    ]);
    let mut pod = pod("p", &[container], &volumes);
    pod["spec"]["securityContext"] = json!({"seLinuxOptions": {"level": "s0:c0,c1"}});
    pods::run(ground, &pod);
    let expected = "secret-value\nconfigmap-value\nconfigmap-value\np\nconfigmap-value\nconfigmap-value\nprojected";
    assert_eq!(log(ground, "p", "c"), expected);
}

/// A part stays as it was when its container started; one that starts again has what is there by then.
pub(super) fn after_restart(ground: &Ground<'_>) {
    pods::create(ground, &CONFIG_MAP.object("m", &json!({"key": "old"})));
    let script = r#"until [ "$(cat /whole/key)" = new ]; do sleep 0.1; done; cat /part; [ "$(cat /part)" = new ]"#;
    let mut container = container("c", script, &[("m", "/whole")]);
    container["volumeMounts"].as_array_mut().unwrap().push(part("m", "key", "/part"));
    let mut pod = pod("p", &[container], &[CONFIG_MAP.volume("m", "m", None, &json!({}))]);
    pod["spec"]["restartPolicy"] = json!("OnFailure");
    pods::start(ground, &pod);
    let new = CONFIG_MAP.object("m", &json!({"key": "new"})).to_string();
    ground.command(&["replace", "-f", "-"]).output_with(&new).ok();
    pods::wait(ground, "pod/p", "{.status.phase}", "Succeeded");
    assert_eq!(ground.kubectl(&["logs", "p", "--previous"]).ok(), "old");
    assert_eq!(log(ground, "p", "c"), "new");
    assert_eq!(ground.value("pod/p", "{.status.containerStatuses[0].restartCount}"), "1");
}

/// A link in a volume leads to nothing outside of it; the container's status says so as upstream's does.
pub(super) fn leading_out(ground: &Ground<'_>) {
    let mut reader = container("c", "cat /part/passwd", &[]);
    reader["volumeMounts"] = json!([part("v", "link", "/part")]);
    let mut pod = pod("p", &[reader], &[json!({"name": "v", "emptyDir": {}})]);
    pod["spec"]["initContainers"] = json!([container("init", "ln -s /etc /v/link", &[("v", "/v")])]);
    ground.apply(&pod.to_string());
    let waiting = "{.status.containerStatuses[0].state.waiting.reason}";
    pods::wait(ground, "pod/p", waiting, "CreateContainerConfigError");
    let why = ground.value("pod/p", "{.status.containerStatuses[0].state.waiting.message}");
    assert!(why.contains("subPath"), "{why}");
}
