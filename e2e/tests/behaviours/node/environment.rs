//! What containers find in their environment.

use e2e::Ground;

/// Conformance: [sig-node] ConfigMap should be consumable via environment variable [NodeConformance] [Conformance]
pub(super) fn config_map(ground: &Ground<'_>) {
    ground.kubectl(&["create", "configmap", "c", "--from-literal=data-1=value-1"]).ok();
    ground.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: IMAGE
    command: [sh, -c, "echo $DATA"]
    env: [{name: DATA, valueFrom: {configMapKeyRef: {name: c, key: data-1}}}]
"#,
    );
    ground.wait_for("pod/p", "{.status.phase}", "Succeeded");
    assert_eq!(ground.kubectl(&["logs", "p"]).ok(), "value-1");
}
