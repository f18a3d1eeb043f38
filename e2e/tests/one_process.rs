//! The main job on one process: a cluster comes up, and the real kubectl does its work on real containers.
//!
//! Each test brings up a cluster of its own; they run one after the other, since they share the machine's network.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::{Cluster, Run as _, can_run, eventually};

const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn the_samples_run_and_their_service_answers_by_name() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::up();
    for part in
        ["apiserver", "controller-manager", "scheduler", "kubelet", "proxy", "network-policy", "dns", "node e2e"]
    {
        assert!(
            cluster.printed().lines().any(|line| line.starts_with(part) && line.ends_with(" ms")),
            "{part}: {}",
            cluster.printed()
        );
    }
    cluster.apply_samples();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]).ok();
    eventually("the client reads the page through the Service", PATIENCE, || {
        cluster.kubectl(&["logs", "client", "--tail=1"]).stdout.contains("hello from the coracle").then_some(())
    });
    let page = |url: &str| cluster.kubectl(&["exec", "client", "--", "timeout", "5", "wget", "-q", "-O", "-", url]);
    let address = cluster.value(&["service", "web"], "{.spec.clusterIP}");
    assert_eq!(page(&format!("http://{address}/")).ok(), "hello from the coracle");
    let token = cluster.kubectl(&["exec", "deploy/web", "--", "sh", "-c", "echo $TOKEN"]);
    assert_eq!(token.ok(), "a-secret-that-only-the-pods-see");
    let status = cluster.kubectl(&["exec", "client", "--", "sh", "-c", "exit 7"]);
    assert!(status.fails().contains("exit code 7"), "{}", status.stderr);

    only_ready_pods_are_reached(&cluster);
    node_ports_answer_on_loopback(&cluster);
    load_balancers_answer(&cluster);
    policies_hold(&cluster);
    let nodes = cluster.kubectl(&["get", "nodes", "--no-headers"]);
    assert_eq!(nodes.ok().split_whitespace().nth(2), Some("control-plane"), "{}", nodes.stdout);
}

/// From this process, which is on the node.
fn node_ports_answer_on_loopback(cluster: &Cluster) {
    cluster.kubectl(&["patch", "service", "web", "-p", r#"{"spec": {"type": "NodePort"}}"#]).ok();
    let port = cluster.value(&["service", "web"], "{.spec.ports[0].nodePort}");
    eventually("the node port answers on 127.0.0.1", PATIENCE, || serves(&format!("127.0.0.1:{port}")).then_some(()));
}

/// Whether this process, which is on the node, gets the page at an address.
fn serves(at: &str) -> bool {
    let page = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&at.parse().unwrap(), Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    };
    page().is_ok_and(|text| text.contains("hello from the coracle"))
}

/// Whether the client of the samples gets the page at a URL.
fn client_gets(cluster: &Cluster, url: &str) -> bool {
    let page = cluster.kubectl(&["exec", "client", "--", "timeout", "3", "wget", "-q", "-O", "-", url]);
    page.stdout.contains("hello from the coracle")
}

/// An address of the pool of [`Cluster`], for pods and for the node itself.
fn load_balancers_answer(cluster: &Cluster) {
    cluster.kubectl(&["patch", "service", "web", "-p", r#"{"spec": {"type": "LoadBalancer"}}"#]).ok();
    cluster.wait_for(&["service", "web"], "{.status.loadBalancer.ingress[0].ip}", "10.207.0.1");
    eventually("it answers the node", PATIENCE, || serves("10.207.0.1:80").then_some(()));
    eventually("it answers pods", PATIENCE, || client_gets(cluster, "http://10.207.0.1/").then_some(()));
}

/// With the kubelet's probes going on all the time.
fn policies_hold(cluster: &Cluster) {
    let policy = |rules: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: web}}\n\
             spec: {{podSelector: {{matchLabels: {{app: web}}}}, ingress: {rules}}}\n"
        )
    };
    let available = cluster.value(&["deployment", "web"], "{.status.availableReplicas}");
    cluster.apply(&policy("[]"));
    eventually("nobody reaches the pods", PATIENCE, || (!client_gets(cluster, "http://web/")).then_some(()));
    assert!(!client_gets(cluster, "http://10.207.0.1/"), "by no way");
    assert!(serves("10.207.0.1:80"), "their own node reaches them");
    cluster.apply(&policy("[{from: [{podSelector: {matchLabels: {may: 'yes'}}}], ports: [{port: http}]}]"));
    cluster.kubectl(&["label", "pod", "client", "may=yes"]).ok();
    eventually("who may reaches the pods", PATIENCE, || client_gets(cluster, "http://web/").then_some(()));
    cluster.kubectl(&["label", "pod", "client", "may-"]).ok();
    eventually("who may no longer does not", PATIENCE, || (!client_gets(cluster, "http://web/")).then_some(()));
    assert_eq!(cluster.value(&["deployment", "web"], "{.status.availableReplicas}"), available, "probes pass");
    cluster.kubectl(&["delete", "networkpolicy", "web"]).ok();
    eventually("without policies all reach them", PATIENCE, || client_gets(cluster, "http://web/").then_some(()));
}

/// Takes the page that the readiness probe reads away from one pod: the Service must leave it alone.
fn only_ready_pods_are_reached(cluster: &Cluster) {
    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: lazy, labels: {app: web}}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    image: IMAGE\n    command: [sh, -c, 'mkdir /www; echo lazy > /www/index.html; httpd -f -p 8080 -h /www']\n    ports: [{name: http, containerPort: 8080}]\n    readinessProbe: {exec: {command: [cat, /ready]}, periodSeconds: 1}\n"
            .replace("IMAGE", &cluster.image("busybox:1"))
            .as_str(),
    );
    cluster.wait_for(&["pod", "lazy"], "{.status.phase}", "Running");
    let lazy = cluster.value(&["pod", "lazy"], "{.status.podIP}");
    let ready = |address: &str| format!("{{.items[*].endpoints[?(@.addresses[0]==\"{address}\")].conditions.ready}}");
    let slices = ["endpointslices", "-l", "kubernetes.io/service-name=web"];
    cluster.wait_for(&slices, &ready(&lazy), "false");
    for _ in 0..10 {
        assert_eq!(
            cluster.kubectl(&["exec", "client", "--", "timeout", "5", "wget", "-q", "-O", "-", "http://web/"]).ok(),
            "hello from the coracle"
        );
    }
    cluster.kubectl(&["exec", "lazy", "--", "touch", "/ready"]).ok();
    cluster.wait_for(&slices, &ready(&lazy), "true");
    eventually("the Service reaches the pod that became ready", PATIENCE, || {
        cluster
            .kubectl(&["exec", "client", "--", "timeout", "5", "wget", "-q", "-O", "-", "http://web/"])
            .stdout
            .contains("lazy")
            .then_some(())
    });
    cluster.kubectl(&["delete", "pod", "lazy", "--now"]).ok();
}

#[test]
fn a_deployment_scales_rolls_back_and_leaves_nothing_behind() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::up();
    cluster.apply_samples();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]).ok();
    cluster.kubectl(&["scale", "deployment/web", "--replicas=4"]).ok();
    cluster.wait_for(&["deployment", "web"], "{.status.availableReplicas}", "4");

    rolling_update_stays_within_its_limits(&cluster);
    let history = cluster.kubectl(&["rollout", "history", "deployment/web"]);
    assert!(history.ok().lines().any(|line| line.starts_with('2')), "{}", history.stdout);
    cluster.kubectl(&["rollout", "undo", "deployment/web"]).ok();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]).ok();
    assert_eq!(
        cluster.value(&["deployment", "web"], "{.spec.template.spec.containers[0].image}"),
        cluster.image("busybox:1")
    );

    // A rollout has ended while pods of the other revision are still leaving.
    cluster.wait_for(&["pods", "-l", "app=web"], "{.items[*].metadata.deletionTimestamp}", "");
    let pod = cluster.value(&["pods", "-l", "app=web"], "{.items[0].metadata.name}");
    cluster.kubectl(&["delete", "pod", &pod]).ok();
    cluster.wait_for(&["deployment", "web"], "{.status.availableReplicas}", "4");
    assert!(!cluster.value(&["pods", "-l", "app=web"], "{.items[*].metadata.name}").contains(&pod));

    cluster.kubectl(&["delete", "deployment", "web"]).ok();
    cluster.wait_for(&["replicasets,pods", "-l", "app=web"], "{.items[*].metadata.name}", "");

    cluster.kubectl(&["create", "namespace", "full"]).ok();
    let image = format!("--image={}", cluster.image("busybox:1"));
    cluster
        .kubectl(&["-n", "full", "run", "a", &image, "--", "sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"])
        .ok();
    cluster.kubectl(&["-n", "full", "wait", "--for=condition=Ready", "pod/a", "--timeout=60s"]).ok();
    cluster.kubectl(&["delete", "namespace", "full", "--timeout=80s"]).ok();
}

/// With four replicas and the default limits of 25 %, at least three are available and at most five exist.
fn rolling_update_stays_within_its_limits(cluster: &Cluster) {
    let image = format!("httpd={}", cluster.image("busybox:2"));
    cluster.kubectl(&["set", "image", "deployment/web", &image]).ok();
    let path = "{.status.availableReplicas} {.status.replicas} {.status.updatedReplicas} {.status.observedGeneration} {.metadata.generation}";
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = cluster.value(&["deployment", "web"], path);
        let numbers: Vec<u32> = status.split(' ').filter_map(|number| number.parse().ok()).collect();
        if let [available, replicas, updated, observed, generation] = numbers[..] {
            assert!(available >= 3, "{available} available");
            assert!(replicas <= 5, "{replicas} replicas");
            if (available, replicas, updated) == (4, 4, 4) && observed == generation {
                return;
            }
        }
        assert!(Instant::now() < deadline, "the rolling update did not end: {status}\n{}", cluster.state());
    }
}

#[test]
fn what_goes_wrong_is_healed_or_explained() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::up();
    let image = format!("--image={}", cluster.image("busybox:1"));

    cluster.kubectl(&["run", "worker", &image, "--", "sleep", "4242"]).ok();
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/worker", "--timeout=60s"]).ok();
    Command::new("pkill").args(["-KILL", "-f", "^sleep 4242"]).run().ok();
    cluster.wait_for(&["pod", "worker"], "{.status.containerStatuses[0].restartCount}", "1");
    cluster.wait_for(&["pod", "worker"], "{.status.containerStatuses[0].ready}", "true");
    assert_eq!(
        cluster.value(&["pod", "worker"], "{.status.containerStatuses[0].lastState.terminated.exitCode}"),
        "137"
    );

    cluster.kubectl(&["run", "crasher", &image, "--", "false"]).ok();
    cluster.wait_for(&["pod", "crasher"], "{.status.containerStatuses[0].state.waiting.reason}", "CrashLoopBackOff");

    let missing = format!("--image={}", cluster.image("busybox:none"));
    cluster.kubectl(&["run", "missing", &missing]).ok();
    cluster.wait_for(&["pod", "missing"], "{.status.containerStatuses[0].state.waiting.reason}", "ImagePullBackOff");
    let events = cluster.kubectl(&["describe", "pod", "missing"]);
    assert!(events.ok().contains("manifest unknown") && events.stdout.contains("ErrImagePull"), "{}", events.stdout);

    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: huge}}\nspec: {{containers: [{{name: c, image: {}, resources: {{requests: {{cpu: 4k}}}}}}]}}",
        cluster.image("busybox:1")
    ));
    eventually("the pod that fits nowhere says why", PATIENCE, || {
        cluster
            .kubectl(&["describe", "pod", "huge"])
            .stdout
            .contains("0/1 nodes are available: 1 Insufficient cpu")
            .then_some(())
    });
}

#[test]
fn kubectl_does_its_work() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::up();
    cluster.apply_samples();
    cluster.kubectl(&["wait", "--for=condition=Available", "deployment/web", "--timeout=90s"]).ok();
    let ok = |arguments: &[&str], contains: &str| {
        let output = cluster.kubectl(arguments);
        assert!(output.ok().contains(contains), "{arguments:?}: {}", output.stdout);
    };
    for format in [
        "wide",
        "yaml",
        "json",
        "name",
        "jsonpath={.items[*].metadata.name}",
        "custom-columns=NAME:.metadata.name",
        "go-template={{range .items}}{{.metadata.name}}{{end}}",
    ] {
        ok(&["get", "pods", "-o", format], "web-");
    }
    ok(&["get", "all"], "deployment.apps/web");
    let image = format!("--image={}", cluster.image("busybox:1"));
    for (name, command) in [("quick", "echo first; echo last"), ("slow", "echo first; sleep 1; echo last")] {
        let run = ["run", name, &image, "--rm", "-i", "--restart=Never", "--", "sh", "-c", command];
        let output = cluster.kubectl(&run);
        assert!(output.ok().contains("first") && output.stdout.contains("last"), "{name}: {}", output.stdout);
    }
    ok(&["describe", "deployment", "web"], "3 available");
    ok(&["describe", "service", "web"], "Endpoints:");
    ok(&["describe", "node", "e2e"], "Ready");
    ok(&["logs", "deployment/web", "--tail=5"], "");
    ok(&["expose", "deployment", "web", "--name=again", "--port=80"], "exposed");
    ok(&["label", "pod", "client", "color=red"], "labeled");
    ok(&["annotate", "pod", "client", "note=x"], "annotated");
    ok(&["get", "pods", "-l", "color=red", "-o", "name"], "pod/client");
    ok(&["patch", "configmap", "web", "-p", r#"{"data":{"more":"x"}}"#], "patched");
    ok(&["patch", "configmap", "web", "--type=json", "-p", r#"[{"op":"remove","path":"/data/more"}]"#], "patched");
    ok(&["api-resources"], "deployments");
    ok(&["api-versions"], "apps/v1");
    ok(&["explain", "deployment.spec.strategy.rollingUpdate"], "maxSurge");
    ok(&["auth", "can-i", "create", "pods"], "yes");
    ok(&["auth", "whoami"], "kubernetes-admin");
    ok(&["version"], "Server Version: v1.36");
    ok(&["cluster-info"], "is running at");
    ok(&["create", "deployment", "made", "--image=busybox:1"], "created");
    ok(&["create", "configmap", "made", "--from-literal=a=b"], "created");

    let mut edit = cluster.kubectl_command(&["edit", "configmap", "web"]);
    edit.env("KUBE_EDITOR", "sed -i s/hello/ahoy/").run().ok();
    assert!(cluster.value(&["configmap", "web"], "{.data.index\\.html}").starts_with("ahoy"));

    what_is_used_is_shown(&cluster);
    nodes_are_cordoned_tainted_and_drained(&cluster);
    watches_print_changes(&cluster);
}

/// A pod that burns what it may of a core, as `kubectl top` shows it from the first question on.
fn what_is_used_is_shown(cluster: &Cluster) {
    let image = cluster.image("busybox:1");
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: burner, labels: {{job: burn}}}}\nspec:\n  containers:\n  \
         - {{name: burn, image: '{image}', command: [sh, -c, 'while :; do :; done'], resources: {{limits: {{cpu: 300m}}}}}}\n  \
         - {{name: rest, image: '{image}', command: [sleep, '3600']}}\n"
    ));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/burner", "--timeout=60s"]).ok();
    let top = |arguments: &[&str]| cluster.kubectl(&[&["top"], arguments].concat()).ok().to_owned();
    let millis = |line: &str, column: usize| -> Option<u64> {
        line.split_whitespace().nth(column)?.strip_suffix('m')?.parse().ok()
    };
    eventually("the burner uses what it may", PATIENCE, || {
        let pods = cluster.kubectl(&["top", "pod", "burner", "--containers", "--no-headers"]);
        let burns = pods.stdout.lines().find(|line| line.contains("burn "))?;
        millis(burns, 2).filter(|millis| (200..=330).contains(millis))
    });
    assert!(top(&["pods", "--containers"]).contains("rest"));
    let sum = top(&["pods", "-l", "job=burn", "--sum", "--no-headers"]);
    assert!(sum.lines().next().and_then(|line| millis(line, 1)).is_some_and(|millis| millis >= 200), "{sum}");
    assert!(!sum.contains("web-"), "{sum}");
    let node = top(&["nodes", "--no-headers"]);
    assert!(node.starts_with("e2e") && millis(&node, 1).is_some_and(|millis| millis >= 200), "{node}");
    let raw = cluster.kubectl(&["get", "--raw", "/api/v1/nodes/e2e/proxy/metrics/cadvisor"]);
    assert!(raw.ok().contains("container_cpu_cfs_throttled_periods_total{container=\"burn\""), "{}", raw.stdout);
    cluster.kubectl(&["delete", "pod", "burner", "--now"]).ok();
}

fn nodes_are_cordoned_tainted_and_drained(cluster: &Cluster) {
    cluster.kubectl(&["cordon", "e2e"]).ok();
    assert!(cluster.kubectl(&["get", "node", "e2e"]).ok().contains("SchedulingDisabled"));
    cluster.kubectl(&["drain", "e2e", "--force", "--timeout=60s"]).ok();
    cluster.wait_for(
        &["pods", "-l", "app=web", "--field-selector=status.phase=Pending"],
        "{.items[0].status.phase}",
        "Pending",
    );
    cluster.kubectl(&["taint", "node", "e2e", "key=value:NoSchedule"]).ok();
    cluster.kubectl(&["uncordon", "e2e"]).ok();
    let pod = cluster.value(&["pods", "-l", "app=web"], "{.items[0].metadata.name}");
    eventually("the taint keeps pods away and is named", PATIENCE, || {
        cluster.kubectl(&["describe", "pod", &pod]).stdout.contains("untolerated taint").then_some(())
    });
    cluster.kubectl(&["taint", "node", "e2e", "key-"]).ok();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]).ok();
}

fn watches_print_changes(cluster: &Cluster) {
    let mut watch = cluster.kubectl_command(&["get", "configmaps", "-w", "-o", "name"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().unwrap()));
    cluster.kubectl(&["create", "configmap", "late"]).ok();
    let seen = lines.map_while(Result::ok).any(|line| line == "configmap/late");
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert!(seen);
}

#[test]
fn a_cluster_continues_where_it_stopped() {
    if !can_run() {
        return;
    }
    let mut cluster = Cluster::up();
    let image = format!("--image={}", cluster.image("busybox:1"));
    cluster.kubectl(&["run", "keeper", &image, "--", "sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"]).ok();
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/keeper", "--timeout=60s"]).ok();
    let container = |cluster: &Cluster| cluster.value(&["pod", "keeper"], "{.status.containerStatuses[0].containerID}");
    let first = container(&cluster);

    cluster.crash();
    cluster.start(&[]);
    cluster.wait_for(&["pod", "keeper"], "{.status.containerStatuses[0].ready}", "true");
    assert_eq!(container(&cluster), first, "a crash must not touch containers");

    cluster.stop();
    assert!(cluster.printed().contains("1 pod stopped"), "{}", cluster.printed());
    cluster.start(&[]);
    eventually("the pod runs again in a new container", PATIENCE, || {
        let ready = cluster.value(&["pod", "keeper"], "{.status.containerStatuses[0].ready}");
        (ready == "true" && container(&cluster) != first).then_some(())
    });
}

#[test]
fn pods_have_the_time_that_they_ask_for_when_their_cluster_ends() {
    if !can_run() {
        return;
    }
    let mut cluster = Cluster::up();
    // It takes longer than the ten seconds that every pod once had, and its hook needs the name server.
    let database = r#"
apiVersion: v1
kind: Pod
metadata: {name: database}
spec:
  terminationGracePeriodSeconds: 60
  containers:
  - name: c
    image: IMAGE
    command: [sh, -c, "trap 'sleep 12; cat /told > /kept/ended; exit' TERM; while :; do sleep 0.1; done"]
    lifecycle:
      preStop: {exec: {command: [sh, -c, "nslookup kubernetes.default.svc.cluster.local > /dev/null && echo told > /told"]}}
    volumeMounts: [{name: kept, mountPath: /kept}]
  volumes:
  - {name: kept, hostPath: {path: KEPT, type: DirectoryOrCreate}}
---
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - {name: c, image: IMAGE, command: [sh, -c, "trap '' TERM; while :; do sleep 1; done"]}
"#;
    let kept = cluster.data().parent().unwrap().join("kept");
    cluster.apply(&database.replace("IMAGE", &cluster.image("busybox:1")).replace("KEPT", &kept.display().to_string()));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/database", "pod/stubborn", "--timeout=60s"]).ok();
    cluster.stop();
    let printed = cluster.printed();
    assert_eq!(std::fs::read_to_string(kept.join("ended")).unwrap_or_default(), "told\n", "{printed}");
    assert!(printed.contains("1 of 2 pods stopped; waiting for default/database"), "{printed}");
    assert!(printed.contains("\n2 pods stopped; the next start starts them again"), "{printed}");
    cluster.start(&[]);
    cluster.wait_for(&["pod", "database"], "{.status.containerStatuses[0].ready}", "true");
    assert_eq!(cluster.value(&["pod", "stubborn"], "{.status.phase}"), "Running");
}

#[test]
fn wrong_input_gets_clear_words() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::up();
    let refused = |manifest: &str, words: &str| {
        let output = cluster.kubectl_command(&["apply", "-f", "-"]).output_with(manifest);
        assert!(output.fails().contains(words), "{}", output.stderr);
    };
    refused("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_A_Name}", "RFC 1123");
    refused("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: [1]", "data");
    refused("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: many}", "replicas");
    refused(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replcas: 1, selector: {}, template: {}}",
        "unknown field \"spec.replcas\"",
    );
    refused(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}",
        "spec.containers: Required value",
    );
    refused("{", "error parsing STDIN");
    let absent = cluster.kubectl(&["get", "pod", "absent"]);
    assert!(absent.fails().contains("pods \"absent\" not found"), "{}", absent.stderr);

    // Another cluster on the same port, and one that cannot write.
    let port = cluster.value(&["endpoints", "kubernetes"], "{.subsets[0].ports[0].port}");
    let mut second = Command::new(e2e::binary("coracle"));
    let second = second.args(["up", &format!("--secure-port={port}"), "--node-ip=127.0.0.1", "--bridge=coracle-e2e9"]);
    let output = second.arg(format!("--data-dir={}", cluster.directory().join("second").display())).run();
    assert!(output.fails().contains("--secure-port"), "{}", output.stderr);
    let mut nowhere = Command::new(e2e::binary("coracle"));
    let output = nowhere.args(["up", "--data-dir=/proc/nowhere"]).run();
    assert!(output.fails().contains("/proc/nowhere"), "{}", output.stderr);

    // Garbage on the TLS port is survived.
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4096], &[22, 3, 1, 255, 255, 1]] {
        let mut stream = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        std::io::Write::write_all(&mut stream, garbage).unwrap();
    }
    cluster.kubectl(&["get", "nodes"]).ok();
}
