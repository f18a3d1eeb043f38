//! A cluster of many machines, each a container of Docker: the work of a cluster across three nodes, then faults of every part
//! that there is more than one of, while writes go on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use e2e::{COMPOSE_IMAGE, ComposeCluster, PARTS, Place, Writes, can_run, eventually, place, run_apart, skip};

const PATIENCE: Duration = Duration::from_secs(90);
const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];
const SERVERS: [&str; 2] = ["apiserver-1", "apiserver-2"];
/// Acknowledged writes after which a fault is over.
const ENOUGH: u64 = 10;

#[test]
fn a_cluster_of_many_machines_works_and_loses_nothing_whichever_of_them_fails() {
    if !can_run() {
        return;
    }
    // Kept until the cluster is down.
    let _daemon = match place() {
        Place::Here(daemon) => daemon,
        Place::Apart => {
            return run_apart("a_cluster_of_many_machines_works_and_loses_nothing_whichever_of_them_fails");
        }
        Place::Nowhere(reason) => return skip("the cluster in containers of Docker", &reason),
    };
    let cluster = ComposeCluster::up();
    let mut clock = Clock(Instant::now());
    pods_of_all_nodes_run_an_image_of_the_registry(&cluster);
    clock.tell("pods run on all nodes");
    every_pod_reaches_every_other(&cluster);
    clock.tell("pods, Service and DNS answer on all nodes");
    either_server_reaches_the_pods_of_every_node(&cluster);
    clock.tell("logs, exec and port-forward by either API server");
    a_policy_holds_between_nodes(&cluster);
    clock.tell("a NetworkPolicy holds between nodes");

    let writes = Writes::start(&cluster.kubeconfig(), "written");
    writes.go_on(ENOUGH);
    let mut gaps = Vec::new();
    for (fault, play) in FAULTS {
        gaps.push((fault, play(&cluster, &writes)));
        clock.tell(fault);
    }
    everything_is_ready_again(&cluster);
    nothing_acknowledged_is_lost(&cluster, writes, &gaps);
    nothing_runs_twice(&cluster);
    clock.tell("all is as it should be");
    drop(cluster);
    clock.tell("taken down");
}

/// What fails, and how: answers the longest time without an acknowledged write, in milliseconds.
type Fault = (&'static str, fn(&ComposeCluster, &Writes) -> u64);
const FAULTS: [Fault; 5] = [
    ("an API server killed", an_api_server_is_killed),
    ("the leading scheduler and controller manager killed", the_leaders_are_killed),
    ("the leader of etcd killed", the_leader_of_etcd_is_killed),
    ("the leader of etcd cut off", the_leader_of_etcd_is_cut_off),
    ("a node killed", a_node_is_killed),
];

/// Tells how long each step took.
struct Clock(Instant);

impl Clock {
    fn tell(&mut self, step: &str) {
        eprintln!("{:5.1} s  {step}", self.0.elapsed().as_secs_f32());
        self.0 = Instant::now();
    }
}

fn workload() -> String {
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
          image: {COMPOSE_IMAGE}
          imagePullPolicy: Always
          command: [sh, -c, "mkdir -p /tmp/w && echo $NODE > /tmp/w/index.html && echo started && exec httpd -f -p 8080 -h /tmp/w"]
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
  replicas: 6
  selector: {{matchLabels: {{app: roam}}}}
  template:
    metadata: {{labels: {{app: roam}}}}
    spec:
      terminationGracePeriodSeconds: 0
      tolerations:
        - {{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 3}}
        - {{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 3}}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector: {{matchLabels: {{app: roam}}}}
      containers:
        - {{name: sleep, image: {COMPOSE_IMAGE}, command: [sleep, "100000"]}}
"#
    )
}

/// Three pods that each run once.
fn job() -> String {
    format!(
        r#"
apiVersion: batch/v1
kind: Job
metadata: {{name: once}}
spec:
  completions: 3
  parallelism: 3
  template:
    spec:
      restartPolicy: Never
      containers: [{{name: echo, image: {COMPOSE_IMAGE}, command: [echo, done]}}]
"#
    )
}

const POLICY: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]
"#;

/// A pod, as the API server knows it.
#[derive(Clone, Debug)]
struct Pod {
    name: String,
    address: String,
    node: String,
}

/// The pods that a selector chooses and that are to stay.
fn pods(cluster: &ComposeCluster, selector: &str) -> Vec<Pod> {
    let fields = "{.metadata.name},{.status.podIP},{.spec.nodeName},{.metadata.deletionTimestamp}";
    let output = format!("jsonpath={{range .items[*]}}{fields}{{\"\\n\"}}{{end}}");
    let found = cluster.kubectl(&["get", "pods", "-l", selector, "-o", &output]);
    let rows = found.ok().lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let kept = rows.filter(|row| row.len() == 4 && row[3].is_empty());
    kept.map(|row| Pod { name: row[0].clone(), address: row[1].clone(), node: row[2].clone() }).collect()
}

fn one_on<'a>(pods: &'a [Pod], node: &str) -> &'a Pod {
    pods.iter().find(|pod| pod.node == node).unwrap_or_else(|| panic!("no pod on {node}: {pods:?}"))
}

/// What a page holds, as a pod reads it; nothing where it cannot.
fn page(cluster: &ComposeCluster, from: &Pod, url: &str) -> String {
    let read = ["exec", &from.name, "--", "timeout", "3", "wget", "-q", "-O", "-", url];
    cluster.kubectl(&read).stdout.trim().to_owned()
}

fn pods_of_all_nodes_run_an_image_of_the_registry(cluster: &ComposeCluster) {
    cluster.apply(&workload());
    cluster.kubectl(&["rollout", "status", "daemonset/web", "--timeout=90s"]).ok();
    cluster.kubectl(&["rollout", "status", "deployment/roam", "--timeout=90s"]).ok();
    let roaming = pods(cluster, "app=roam");
    for node in NODES {
        one_on(&roaming, node);
        let web = one_on(&pods(cluster, "app=web"), node).name.clone();
        let pulled = ["get", "events", "--field-selector", &format!("involvedObject.name={web},reason=Pulled")];
        assert!(cluster.kubectl(&pulled).ok().contains("Successfully pulled image \"registry:5000/"), "{node}");
    }
}

fn every_pod_reaches_every_other(cluster: &ComposeCluster) {
    let web = pods(cluster, "app=web");
    assert_eq!(web.len(), NODES.len(), "{web:?}");
    for from in &web {
        for to in &web {
            let url = format!("http://{}:8080/", to.address);
            let reached = || (page(cluster, from, &url) == to.node).then_some(());
            eventually(&format!("the pod of {} reaches that of {}", from.node, to.node), PATIENCE, reached);
        }
        the_service_answers(cluster, from);
    }
}

fn the_service_answers(cluster: &ComposeCluster, from: &Pod) {
    eventually(&format!("{} reaches the Service by its name", from.node), PATIENCE, || {
        page(cluster, from, "http://web.default.svc.cluster.local/").starts_with("node-").then_some(())
    });
}

fn either_server_reaches_the_pods_of_every_node(cluster: &ComposeCluster) {
    for server in SERVERS {
        for pod in pods(cluster, "app=web") {
            let when = format!("{server}, {}", pod.node);
            assert_eq!(cluster.kubectl_by(server, &["logs", &pod.name]).ok(), "started", "{when}");
            let exec =
                cluster.kubectl_command_by(server, &["exec", &pod.name]).args(["--", "hostname"]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&exec.stdout).trim(), pod.name, "{when}");
            let page = Forwarded::to(cluster, server, &pod).page();
            assert!(page.contains(&pod.node), "{when}: {page}");
        }
    }
}

/// A port of loopback that leads to a pod's, by way of an API server.
struct Forwarded {
    kubectl: Child,
    // It tells of each connection, and ends where nobody can hear it.
    _output: BufReader<ChildStdout>,
    port: u16,
}

impl Forwarded {
    fn to(cluster: &ComposeCluster, server: &str, pod: &Pod) -> Self {
        let mut command = cluster.kubectl_command_by(server, &["port-forward", &pod.name, ":8080"]);
        let mut kubectl = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut output, mut line) = (BufReader::new(kubectl.stdout.take().unwrap()), String::new());
        output.read_line(&mut line).unwrap();
        let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        Self { port: port.unwrap_or_else(|| panic!("{line:?}")), kubectl, _output: output }
    }

    fn page(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ended = self.kubectl.kill();
        let _reaped = self.kubectl.wait();
    }
}

fn a_policy_holds_between_nodes(cluster: &ComposeCluster) {
    let (web, roaming) = (pods(cluster, "app=web"), pods(cluster, "app=roam"));
    let (there, friend, stranger) = (one_on(&web, "node-1"), one_on(&web, "node-2"), one_on(&roaming, "node-3"));
    let url = format!("http://{}:8080/", there.address);
    let gets = |from: &Pod| page(cluster, from, &url) == there.node;
    assert!(gets(stranger) && gets(friend));
    cluster.apply(POLICY);
    eventually("strangers are shut out", PATIENCE, || (!gets(stranger)).then_some(()));
    eventually("friends are not", PATIENCE, || gets(friend).then_some(()));
    assert!(!gets(stranger));
    cluster.kubectl(&["delete", "networkpolicy", "web"]).ok();
    eventually("all are let in again", PATIENCE, || gets(stranger).then_some(()));
}

fn an_api_server_is_killed(cluster: &ComposeCluster, writes: &Writes) -> u64 {
    let mut longest = 0;
    for server in SERVERS {
        cluster.kill(server);
        longest = longest.max(writes.go_on(ENOUGH));
        cluster.kubectl(&["get", "nodes"]).ok();
        cluster.start(server);
        cluster.wait_until_well(server);
    }
    longest
}

fn the_leaders_are_killed(cluster: &ComposeCluster, writes: &Writes) -> u64 {
    const LEASES: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];
    let leaders = LEASES.map(|lease| eventually("somebody leads", PATIENCE, || cluster.holder(lease)));
    leaders.iter().for_each(|leader| cluster.kill(leader));
    // There is work, and nobody to do it yet.
    cluster.apply(&job());
    cluster.kubectl(&["scale", "deployment/roam", "--replicas=9"]).ok();
    for (lease, leader) in LEASES.iter().zip(&leaders) {
        let taken_over = || cluster.holder(lease).is_some_and(|holder| holder != *leader).then_some(());
        eventually(&format!("another one than {leader} leads"), PATIENCE, taken_over);
    }
    leaders.iter().for_each(|leader| cluster.start(leader));
    cluster.kubectl(&["rollout", "status", "deployment/roam", "--timeout=90s"]).ok();
    cluster.kubectl(&["wait", "--for=condition=Complete", "job/once", "--timeout=90s"]).ok();
    assert_eq!(pods(cluster, "job-name=once").len(), 3);
    leaders.iter().for_each(|leader| cluster.wait_until_well(leader));
    writes.go_on(ENOUGH)
}

fn the_leader_of_etcd_is_killed(cluster: &ComposeCluster, writes: &Writes) -> u64 {
    let leader = cluster.etcd_leader();
    cluster.kill(leader);
    let longest = writes.go_on(ENOUGH);
    cluster.start(leader);
    cluster.wait_until_well(leader);
    longest
}

fn the_leader_of_etcd_is_cut_off(cluster: &ComposeCluster, writes: &Writes) -> u64 {
    let leader = cluster.etcd_leader();
    let address = cluster.address(leader);
    cluster.disconnect(leader);
    let longest = writes.go_on(ENOUGH);
    cluster.connect(leader, &address);
    cluster.wait_until_well(leader);
    longest.max(writes.go_on(ENOUGH))
}

fn a_node_is_killed(cluster: &ComposeCluster, writes: &Writes) -> u64 {
    const LOST: &str = "node-2";
    let ready = ["get", "node", LOST, "-o", "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}"];
    cluster.kill(LOST);
    eventually("the node is no longer Ready", PATIENCE, || {
        (cluster.kubectl(&ready).stdout.trim() == "Unknown").then_some(())
    });
    eventually("its pods run elsewhere", PATIENCE, || {
        let available = ["get", "deployment", "roam", "-o", "jsonpath={.status.readyReplicas}"];
        let there = pods(cluster, "app=roam").iter().filter(|pod| pod.node == LOST).count();
        (there == 0 && cluster.kubectl(&available).stdout.trim() == "9").then_some(())
    });
    let web = pods(cluster, "app=web");
    ["node-1", "node-3"].iter().for_each(|node| the_service_answers(cluster, one_on(&web, node)));
    cluster.start(LOST);
    cluster.wait_until_well(LOST);
    writes.go_on(ENOUGH)
}

fn everything_is_ready_again(cluster: &ComposeCluster) {
    PARTS.iter().for_each(|(part, _)| cluster.wait_until_well(part));
    cluster.kubectl(&["wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s"]).ok();
    cluster.kubectl(&["rollout", "status", "daemonset/web", "--timeout=60s"]).ok();
    cluster.kubectl(&["rollout", "status", "deployment/roam", "--timeout=60s"]).ok();
    every_pod_reaches_every_other(cluster);
}

fn nothing_acknowledged_is_lost(cluster: &ComposeCluster, writes: Writes, gaps: &[(&str, u64)]) {
    let acknowledged = writes.stop();
    let mut lost = 0;
    for server in SERVERS {
        let there = cluster.kubectl_by(server, &["get", "configmaps", "-o", "name"]);
        let there: std::collections::BTreeSet<&str> = there.ok().lines().map(str::trim).collect();
        lost += acknowledged.names.iter().filter(|name| !there.contains(format!("configmap/{name}").as_str())).count();
        let counter =
            cluster.kubectl_by(server, &["get", "configmap", "written-counter", "-o", "jsonpath={.data.value}"]);
        lost += usize::from(counter.ok().parse::<u64>().unwrap() < acknowledged.counter);
    }
    let mut attack = faults::Attack::new("cluster of many machines: each part killed or cut off under writes")
        .tried(acknowledged.names.len() as u64 + acknowledged.counter, lost as u64)
        .figure("writes without an answer", acknowledged.unanswered);
    for (fault, gap) in gaps {
        attack = attack.figure(&format!("longest without an acknowledged write, {fault}, ms"), gap);
    }
    eprintln!("{attack:?}");
    attack.record();
}

/// Each pod that is to run has one shim, on its own node, and there are no others.
fn nothing_runs_twice(cluster: &ComposeCluster) {
    assert_eq!(pods(cluster, "app=roam").len(), 9);
    let running = "jsonpath={range .items[*]}{.spec.nodeName} {.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}";
    eventually("what runs is what is to run", PATIENCE, || {
        let wanted = cluster.kubectl(&["get", "pods", "-A", "--field-selector=status.phase=Running", "-o", running]);
        let mut wanted: Vec<String> = wanted.ok().lines().map(str::to_owned).collect();
        let mut found: Vec<String> = NODES.iter().flat_map(|node| shims(cluster, node)).collect();
        wanted.sort();
        found.sort();
        (wanted == found).then_some(())
    });
}

/// The pods that have a shim on a node, as `NODE NAMESPACE/NAME`.
fn shims(cluster: &ComposeCluster, node: &str) -> Vec<String> {
    let processes = cluster.inside(node, &["ps", "-o", "args"]);
    let pods = processes.ok().lines().filter_map(|line| line.trim().strip_prefix("coracle-shim shim "));
    pods.map(|pod| format!("{node} {pod}")).collect()
}
