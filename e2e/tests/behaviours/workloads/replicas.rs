//! Replicas that answer with their names.

use e2e::Ground;

/// Conformance: [sig-apps] ReplicaSet should serve a basic image on each replica with a public image [Conformance]
pub(super) fn replica_set(ground: &Ground<'_>) {
    ground.apply(&replicas("apps/v1", "ReplicaSet", "{matchLabels: {app: web}}"));
    each_answers(ground, "replicaset/web");
}

/// Conformance: [sig-apps] ReplicationController should serve a basic image on each replica with a public image [Conformance]
pub(super) fn replication_controller(ground: &Ground<'_>) {
    ground.apply(&replicas("v1", "ReplicationController", "{app: web}"));
    each_answers(ground, "replicationcontroller/web");
}

fn replicas(version: &str, kind: &str, selector: &str) -> String {
    let serve = "mkdir -p /tmp/w && hostname > /tmp/w/index.html && exec httpd -f -p 8080 -h /tmp/w";
    format!(
        r#"
apiVersion: {version}
kind: {kind}
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {selector}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: IMAGE
        command: [sh, -c, "{serve}"]
        ports: [{{containerPort: 8080}}]
        readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: c, image: IMAGE, command: [sleep, "1000"]}}
"#
    )
}

/// Each replica answers with its own name, asked by its address.
fn each_answers(ground: &Ground<'_>, owner: &str) {
    ground.wait_for(owner, "{.status.readyReplicas}", "2");
    ground.wait_for("pod/client", "{.status.phase}", "Running");
    let list = "{range .items[*]}{.metadata.name} {.status.podIP}{'\\n'}{end}";
    let pods = ground.kubectl(&["get", "pods", "-l", "app=web", "-o", &format!("jsonpath={list}")]);
    let pods: Vec<_> = pods.ok().lines().filter_map(|line| line.split_once(' ')).collect();
    assert_eq!(pods.len(), 2);
    for (name, address) in pods {
        assert_eq!(ground.exec("client", &format!("timeout 5 wget -q -O - http://{address}:8080/")), name);
    }
}
