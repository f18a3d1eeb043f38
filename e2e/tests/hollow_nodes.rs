//! Hollow nodes beside a real one: they join, run pods in name, and do what pods ask of them by annotation.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::{Cluster, Run as _, binary, can_run, eventually};

const PATIENCE: Duration = Duration::from_secs(90);
const NODES: usize = 20;

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 40
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {hollow.coracle.dev/node: 'true'}
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}
      volumes:
      - {name: host, hostPath: {path: /tmp/never-made-by-a-hollow-node, type: DirectoryOrCreate}}
      containers:
      - name: web
        image: example.com/no/such/image:1
        resources: {requests: {cpu: '2', nvidia.com/gpu: '1'}, limits: {nvidia.com/gpu: '1'}}
        readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}
        volumeMounts: [{name: host, mountPath: /host}]
";

/// Many kubelets in one process; gone with it.
struct Hollow(Child);

impl Hollow {
    fn start(cluster: &Cluster) -> Self {
        let log = File::create(cluster.directory().join("hollow.log")).unwrap();
        let mut command = kubelet(cluster);
        command.arg(format!("--count={NODES}")).arg("--runtime=fake");
        command.arg("--capacity=cpu=16,memory=64Gi,nvidia.com/gpu=8");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Hollow {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kubelet(cluster: &Cluster) -> Command {
    let mut command = Command::new(binary("kubelet"));
    command.arg("--kubeconfig").arg(cluster.kubeconfig()).arg("--hostname-override=hollow");
    command.arg("--root-dir").arg(cluster.directory().join("hollow"));
    command.arg("--pod-log-dir").arg(cluster.directory().join("hollow-logs"));
    command
}

#[test]
fn hollow_nodes_take_pods_and_do_with_them_what_their_annotations_say() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::up();
    let _hollow = Hollow::start(&cluster);
    let ready = "{.items[*].status.conditions[?(@.type==\"Ready\")].status}";
    cluster.wait_for(&["nodes", "-l", "hollow.coracle.dev/node"], ready, vec!["True"; NODES].join(" ").as_str());
    let capacity =
        cluster.value(&["node", "hollow-7"], "{.status.capacity.cpu} {.status.allocatable.nvidia\\.com/gpu}");
    assert_eq!(capacity, "16 8");

    cluster.apply(WEB);
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]).ok();
    let all = cluster.value(&["pods", "-l", "app=web"], "{range .items[*]}{.spec.nodeName} {.status.podIP}\n{end}");
    let (nodes, addresses): (Vec<_>, Vec<_>) = all.lines().filter_map(|line| line.split_once(' ')).unzip();
    for number in 0..NODES {
        let on_it = nodes.iter().filter(|node| **node == format!("hollow-{number}")).count();
        assert_eq!(on_it, 2, "hollow-{number} of {nodes:?}");
    }
    let unique: std::collections::BTreeSet<_> = addresses.iter().filter(|address| !address.is_empty()).collect();
    assert_eq!(unique.len(), 40, "{addresses:?}");
    assert!(!std::path::Path::new("/tmp/never-made-by-a-hollow-node").exists());

    pods_do_as_they_say(&cluster);

    cluster.kubectl(&["delete", "deployment", "web"]).ok();
    eventually("the pods are gone", PATIENCE, || {
        cluster.value(&["pods", "-l", "app=web"], "{.items[*].metadata.name}").is_empty().then_some(())
    });
}

fn pods_do_as_they_say(cluster: &Cluster) {
    let pod = |name: &str, annotations: &str| {
        cluster.apply(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}, annotations: {{{annotations}}}}}
spec:
  nodeSelector: {{hollow.coracle.dev/node: 'true'}}
  restartPolicy: Never
  containers: [{{name: main, image: example.com/no/such/image:1}}]
"
        ));
    };
    pod("done", "hollow.coracle.dev/run-for: 100ms");
    pod("failed", "hollow.coracle.dev/run-for: 100ms, hollow.coracle.dev/exit-code: '3'");
    pod("killed", "hollow.coracle.dev/out-of-memory: 100ms");
    pod("broken", "hollow.coracle.dev/fail-start: no such program");
    pod("typo", "hollow.coracle.dev/run-fro: 1s");
    cluster.wait_for(&["pod", "done"], "{.status.phase}", "Succeeded");
    let terminated = "{.status.containerStatuses[0].state.terminated";
    cluster.wait_for(&["pod", "failed"], &format!("{terminated}.exitCode}}"), "3");
    cluster.wait_for(&["pod", "killed"], &format!("{terminated}.reason}}"), "OOMKilled");
    for (name, words) in [("broken", "no such program"), ("typo", "hollow.coracle.dev/run-fro")] {
        eventually(&format!("an event of {name} says {words:?}"), PATIENCE, || {
            let about = format!("involvedObject.name={name}");
            let events = cluster.kubectl(&["get", "events", "--field-selector", &about]);
            events.stdout.contains(words).then_some(())
        });
    }
    // No server stands behind such a node, and whoever asks for it hears that.
    cluster.kubectl(&["logs", "done"]).fails();
}

#[test]
fn what_only_hollow_nodes_have_is_refused_of_real_ones_and_the_other_way_round() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::up();
    for (flags, words) in [
        (&["--count=2"][..], "--count: only hollow nodes"),
        (&["--runtime=fake", "--count=0"], "--count"),
        (&["--runtime=fake", "--capacity=cpu=lots"], "--capacity cpu: \"lots\""),
        (&["--runtime=fake", "--capacity=pods=5"], "--max-pods"),
        (&["--runtime=fake", "--port=10250"], "--port: hollow nodes have no server"),
    ] {
        let refused = kubelet(&cluster).args(flags).run();
        assert!(refused.fails().contains(words), "{flags:?}: {}", refused.stderr);
    }
}
