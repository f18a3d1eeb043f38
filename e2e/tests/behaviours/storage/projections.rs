//! Objects as files: ConfigMaps, Secrets, the downward API and projections of several.

use e2e::Ground;

/// Conformance: [sig-storage] ConfigMap should be consumable from pods in volume [NodeConformance] [Conformance]
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
    command: [cat, /etc/files/data-1]
    volumeMounts: [{name: files, mountPath: /etc/files}]
  volumes: [{name: files, configMap: {name: c}}]
"#,
    );
    ground.wait_for("pod/p", "{.status.phase}", "Succeeded");
    assert_eq!(ground.kubectl(&["logs", "p"]).ok(), "value-1");
}
