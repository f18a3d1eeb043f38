//! Three nodes: pods reach each other wherever they are, and a node can be drained, deleted and lost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "many_nodes/names.rs"]
mod names;
#[path = "many_nodes/ports.rs"]
mod ports;
#[path = "many_nodes/services.rs"]
mod services;
#[path = "many_nodes/six.rs"]
mod six;
#[path = "many_nodes/updates.rs"]
mod updates;
#[path = "many_nodes/way_in.rs"]
mod way_in;

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
apiVersion: v1
kind: Service
metadata: {{name: web6}}
spec:
  ipFamilyPolicy: SingleStack
  ipFamilies: [IPv6]
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
    services::work(&cluster);
    updates::lose_no_request(&cluster);
    both_families_reach_every_pod_unless_a_policy_says_no(&cluster);
    names::are_answered_without_the_first_nodes_server(&cluster);
    a_node_whose_process_dies_comes_back_with_its_pods(&cluster);
    every_node_tells_of_its_pods(&cluster);
    a_drained_node_has_no_pods_that_can_go(&cluster);
    a_node_without_power_loses_its_pods(&cluster);
    a_deleted_node_is_reached_no_more(&cluster);
    cluster.stop();
    nothing_is_left();
}

/// Conformance: [sig-network] Networking Granular Checks: Pods should function for intra-pod communication: http [NodeConformance] [Conformance]
/// Conformance: [sig-network] DNS should resolve DNS of partial qualified names for services [LinuxOnly] [Conformance]
/// Conformance: [sig-network] DNS should provide DNS for the cluster [Conformance]
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
        for name in ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local"] {
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

fn page_of(cluster: &ManyNodes, pod: &str, url: &str) -> String {
    cluster.kubectl(&["exec", pod, "--", "timeout", "5", "wget", "-q", "-O", "-", url]).stdout.trim().to_owned()
}

fn both_families_reach_every_pod_unless_a_policy_says_no(cluster: &ManyNodes) {
    let nodes = cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].status.addresses[*].address}"]);
    assert!(
        ["fd00:10:185::1", "fd00:10:185::2", "10.185.0.3"].iter().all(|one| nodes.stdout.contains(one)),
        "{}",
        nodes.stdout
    );
    let web =
        pods(cluster, "app=web", "{.metadata.name} {.status.podIPs[1].ip} {.spec.nodeName} {.status.hostIPs[1].ip}");
    let fields: Vec<Vec<&str>> = web.iter().map(|line| line.split(' ').collect()).collect();
    assert!(
        fields.iter().all(|pod| pod[1].starts_with("fd00:10:184:") && pod[3].starts_with("fd00:10:185::")),
        "{web:?}"
    );
    let pairs = || fields.iter().flat_map(|from| fields.iter().map(move |to| (from[0], to)));
    for (from, to) in pairs() {
        eventually(&format!("{from} reaches {to:?}"), PATIENCE, || {
            (page_of(cluster, from, &format!("http://[{}]:8080/", to[1])) == to[2]).then_some(())
        });
    }
    for pod in &fields {
        eventually("the Service of IPv6 answers", PATIENCE, || {
            page_of(cluster, pod[0], "http://web6/").starts_with("many").then_some(())
        });
    }
    // One family is cut off as the other is, and what finds neighbours is not: the pods are ready afterwards.
    cluster.apply(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: none}, \
         spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}}",
    );
    let reached = |(from, to): (&str, &Vec<&str>)| {
        from != to[0] && page_of(cluster, from, &format!("http://[{}]:8080/", to[1])) == to[2]
    };
    eventually("no pod reaches another", PATIENCE, || (!pairs().any(reached)).then_some(()));
    cluster.kubectl(&["delete", "networkpolicy", "none"]).ok();
    eventually("every pod reaches every other again", PATIENCE, || {
        pairs().all(|(from, to)| from == to[0] || reached((from, to))).then_some(())
    });
}

fn a_node_whose_process_dies_comes_back_with_its_pods(cluster: &ManyNodes) {
    let here = || pods(cluster, "app=web", "{.metadata.name} {.status.containerStatuses[0].restartCount}");
    let before = here();
    cluster.crash("many-2");
    eventually("it says so", PATIENCE, || {
        cluster
            .printed()
            .contains("node many-2 has ended (signal: 9 (SIGKILL)): it is started again in 1 s")
            .then_some(())
    });
    let pod = &pods(cluster, "app=web", "{.metadata.name} {.spec.nodeName}");
    let line = pod.iter().find(|line| line.ends_with(" many-2")).unwrap();
    let name = line.split(' ').next().unwrap();
    eventually("its kubelet is back", PATIENCE, || {
        cluster.kubectl(&["exec", name, "--", "echo", "here"]).stdout.contains("here").then_some(())
    });
    assert_eq!(here(), before, "no container was restarted");
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

/// A Service that is reached from outside; answers its address.
fn balanced(cluster: &ManyNodes, number: usize) -> String {
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: near-{number}}}, spec: {{type: LoadBalancer, \
         selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}}}"
    ));
    let service = format!("near-{number}");
    let path = ["get", "service", &service, "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}"];
    eventually("it has an address", PATIENCE, || {
        Some(cluster.kubectl(&path).stdout.trim().to_owned()).filter(|address| address.starts_with("10.185.0.2"))
    })
}

/// A machine on the link of the nodes that is none of them.
struct Near;

impl Near {
    const NAME: &str = "ce2e8-near";

    fn to_the_nodes() -> Self {
        let script = "ip netns add ce2e8-near && ip link add ce2e8c type veth peer name eth0 netns ce2e8-near && \
                      ip link set ce2e8c master ce2e8-node up && ip -n ce2e8-near link set eth0 up && \
                      ip -n ce2e8-near address add 10.185.0.99/24 dev eth0";
        Command::new("sh").args(["-c", script]).run().ok();
        Self
    }

    /// Whether an address answers.
    fn reaches(&self, address: &str) -> bool {
        let url = format!("http://{address}/");
        let fetch = ["netns", "exec", Self::NAME, "timeout", "2", "busybox", "wget", "-q", "-O", "-", &url];
        Command::new("ip").args(fetch).run().stdout.starts_with("many")
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        Command::new("ip").args(["netns", "delete", Self::NAME]).run();
        Command::new("ip").args(["link", "delete", "ce2e8c"]).run();
    }
}

fn a_node_without_power_loses_its_pods(cluster: &ManyNodes) {
    // Some are there to lose.
    cluster.kubectl(&["rollout", "restart", "deployment/roam"]).ok();
    cluster.kubectl(&["rollout", "status", "deployment/roam", "--timeout=60s"]).ok();
    let near = Near::to_the_nodes();
    let balanced: Vec<String> = (0..6).map(|number| balanced(cluster, number)).collect();
    for address in &balanced {
        eventually(&format!("{address} is found on the link"), PATIENCE, || near.reaches(address).then_some(()));
    }
    cluster.cut_power("many-3");
    for address in &balanced {
        eventually(&format!("{address} is found elsewhere"), Duration::from_secs(20), || {
            near.reaches(address).then_some(())
        });
    }
    drop(near);
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
    assert!(!ip(&["-6", "route"]).contains("fd00:10:18"), "{}", ip(&["-6", "route"]));
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
