//! Three nodes: pods reach each other wherever they are, and a node can be drained, deleted and lost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::Duration;

use e2e::{IMAGE, ManyNodes, Run as _, binary, can_run, eventually};

const PATIENCE: Duration = Duration::from_secs(90);
const NODES: [&str; 3] = ["many", "many-2", "many-3"];

fn daemons() -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: web}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: httpd
          image: {IMAGE}
          imagePullPolicy: Never
          command: [sh, -c, "mkdir -p /tmp/w && echo $NODE > /tmp/w/index.html && head -c 3000000 /dev/zero > /tmp/w/big && exec httpd -f -p 8080 -h /tmp/w"]
          env: [{{name: NODE, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}]
          readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: roam}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: roam}}}}
  template:
    metadata: {{labels: {{app: roam}}}}
    spec:
      terminationGracePeriodSeconds: 0
      tolerations:
        - {{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}}
        - {{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}}
      containers:
        - {{name: sleep, image: {IMAGE}, imagePullPolicy: Never, command: [sleep, "100000"]}}
"#
    )
}

/// The values of a JSONPath of pods, one a line.
fn pods(cluster: &ManyNodes, selector: &str, fields: &str) -> Vec<String> {
    let output = format!("jsonpath={{range .items[*]}}{fields}{{\"\\n\"}}{{end}}");
    cluster.kubectl(&["get", "pods", "-l", selector, "-o", &output]).ok().lines().map(str::to_owned).collect()
}

#[test]
fn pods_of_three_nodes_are_one_cluster_whatever_happens_to_a_node() {
    if !can_run() {
        return;
    }
    let mut cluster = ManyNodes::up(NODES.len());
    cluster.apply(&daemons());
    cluster.kubectl(&["rollout", "status", "daemonset/web", "--timeout=90s"]).ok();
    cluster.kubectl(&["rollout", "status", "deployment/roam", "--timeout=90s"]).ok();
    every_pod_reaches_every_other(&cluster);
    every_node_tells_of_its_pods(&cluster);
    a_drained_node_has_no_pods_that_can_go(&cluster);
    a_node_without_power_loses_its_pods(&cluster);
    a_deleted_node_is_reached_no_more(&cluster);
    cluster.stop();
    nothing_is_left();
}

fn every_pod_reaches_every_other(cluster: &ManyNodes) {
    let web = pods(cluster, "app=web", "{.metadata.name} {.status.podIP} {.spec.nodeName}");
    assert_eq!(web.len(), NODES.len(), "{web:?}");
    for from in &web {
        let pod = from.split(' ').next().unwrap();
        let page =
            |url: &str| cluster.kubectl(&["exec", pod, "--", "timeout", "5", "wget", "-q", "-O", "-", url]).stdout;
        for to in &web {
            let fields: Vec<&str> = to.split(' ').collect();
            let (address, node) = (fields[1], fields[2]);
            eventually(&format!("{pod} reaches the pod of {node}"), PATIENCE, || {
                (page(&format!("http://{address}:8080/")).trim() == node).then_some(())
            });
            let size = cluster.kubectl(&[
                "exec",
                pod,
                "--",
                "sh",
                "-c",
                &format!("timeout 20 wget -q -O - http://{address}:8080/big | wc -c"),
            ]);
            assert_eq!(size.ok().trim(), "3000000", "from {from} to {to}");
        }
        for name in ["web", "web.default.svc.cluster.local"] {
            eventually(&format!("{pod} reaches the Service {name}"), PATIENCE, || {
                page(&format!("http://{name}/")).trim().starts_with("many").then_some(())
            });
        }
        let api = format!("{pod} reaches the API server by its Service");
        eventually(&api, PATIENCE, || {
            let asked =
                ["exec", pod, "--", "sh", "-c", "echo | nc -w 3 kubernetes.default.svc.cluster.local 443 && echo open"];
            cluster.kubectl(&asked).stdout.contains("open").then_some(())
        });
    }
}

/// Logs and exec go by way of the API server to the kubelet, whose certificate it checks.
fn every_node_tells_of_its_pods(cluster: &ManyNodes) {
    for pod in pods(cluster, "app=web", "{.metadata.name}") {
        cluster.kubectl(&["logs", &pod]).ok();
        assert_eq!(cluster.kubectl(&["exec", &pod, "--", "echo", "here"]).ok(), "here");
    }
    let names = ["get", "csr", "-o", "jsonpath={.items[*].spec.signerName}"];
    assert!(cluster.kubectl(&names).ok().contains("kubernetes.io/kubelet-serving"));
}

fn on(cluster: &ManyNodes, node: &str) -> usize {
    pods(cluster, "app=roam", "{.spec.nodeName} {.metadata.deletionTimestamp}")
        .iter()
        .filter(|one| one.trim() == node)
        .count()
}

fn roam_is_there(cluster: &ManyNodes, without: &str) {
    eventually(&format!("three pods run elsewhere than on {without}"), PATIENCE, || {
        let ready = cluster.kubectl(&["get", "deployment", "roam", "-o", "jsonpath={.status.readyReplicas}"]);
        (ready.stdout.trim() == "3" && on(cluster, without) == 0).then_some(())
    });
}

fn a_drained_node_has_no_pods_that_can_go(cluster: &ManyNodes) {
    cluster.kubectl(&["drain", "many-2", "--ignore-daemonsets", "--timeout=60s"]).ok();
    roam_is_there(cluster, "many-2");
    cluster.kubectl(&["uncordon", "many-2"]).ok();
}

fn a_node_without_power_loses_its_pods(cluster: &ManyNodes) {
    // Some are there to lose.
    cluster.kubectl(&["rollout", "restart", "deployment/roam"]).ok();
    cluster.kubectl(&["rollout", "status", "deployment/roam", "--timeout=60s"]).ok();
    cluster.cut_power("many-3");
    let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    eventually("the node is no longer Ready", PATIENCE, || {
        (cluster.kubectl(&["get", "node", "many-3", "-o", ready]).stdout.trim() == "Unknown").then_some(())
    });
    roam_is_there(cluster, "many-3");
}

fn a_deleted_node_is_reached_no_more(cluster: &ManyNodes) {
    let range = cluster.kubectl(&["get", "node", "many-3", "-o", "jsonpath={.spec.podCIDR}"]).ok().to_owned();
    let route = || Command::new("ip").args(["route", "show", &range]).run().stdout;
    assert!(route().contains("10.185.0.3"), "{}", route());
    cluster.kubectl(&["delete", "node", "many-3"]).ok();
    eventually("the route is gone", PATIENCE, || route().trim().is_empty().then_some(()));
}

fn nothing_is_left() {
    let ip = |arguments: &[&str]| Command::new("ip").args(arguments).run().stdout;
    assert!(!ip(&["link"]).contains("ce2e8"), "{}", ip(&["link"]));
    assert!(!ip(&["route"]).contains("10.18"), "{}", ip(&["route"]));
    let tables = Command::new("nft").args(["list", "tables"]).run().stdout;
    assert!(!tables.contains("ce2e8"), "{tables}");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("/data/nodes/many"), "{mounts}");
}

#[test]
fn who_may_not_join_is_told_in_one_line_and_leaves_nothing_behind() {
    if !can_run() {
        return;
    }
    let cluster = ManyNodes::up(2);
    let line = cluster.invitation();
    let (server, token, hash) = (&line[0], &line[1], &line[2]);
    let wrong = format!("sha256:{}", "0".repeat(64));
    let data = tempfile::tempdir().unwrap();
    let at = data.path().join("node");
    for (server, token, hash, name, words) in [
        (server.as_str(), "aaaaaa.0123456789abcdef", hash.as_str(), "new", "does not know the token"),
        (server, &format!("{}.0123456789abcdef", &token[..6]), hash, "new", "does not know the token"),
        (server, token, &wrong, "new", "this is another cluster"),
        (server, token, hash, "many-2", "has a node many-2 already"),
        ("https://10.185.0.1:1", token, hash, "new", "cannot reach"),
    ] {
        let mut command = Command::new(binary("coracle"));
        command.args(["join", server, "--token", token, "--ca-hash", hash, "--node-name", name, "--bridge=ce2e9"]);
        let output = command.args(["--node-ip=10.185.0.1", "--data-dir"]).arg(&at).run();
        let said = output.fails();
        assert!(said.contains(words) && said.lines().count() == 1, "{words}: {said}");
        assert!(!at.exists(), "{words}");
    }
    a_node_leaves(&cluster);
}

fn a_node_leaves(cluster: &ManyNodes) {
    cluster.apply(&daemons());
    cluster.kubectl(&["rollout", "status", "deployment/roam", "--timeout=90s"]).ok();
    assert!(cluster.leave("many-2").ok().contains("node many-2 has left"));
    assert_eq!(on(cluster, "many-2"), 0);
    assert!(!cluster.data_of("many-2").join("pki/kubelet-client.pem").exists());
    cluster.kubectl(&["delete", "node", "many-2"]).ok();
    roam_is_there(cluster, "many-2");
}
