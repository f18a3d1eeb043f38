//! Pods that CNI plugins connect: those of Debian's containernetworking-plugins, by a configuration of ours.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::{Cluster, Run as _, can_run, eventually};

const PATIENCE: Duration = Duration::from_secs(90);
/// Where Debian has the plugins.
const PLUGINS: &str = "/usr/lib/cni";
const BRIDGE: &str = "cni-e2e0";
/// A host port that nobody else here has.
const PORT: u16 = 28080;

fn list(state: &Path) -> String {
    format!(
        r#"{{"cniVersion": "1.0.0", "name": "e2e", "plugins": [
  {{"type": "bridge", "bridge": "{BRIDGE}", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {{"type": "host-local", "dataDir": "{}", "ranges": [[{{"subnet": "10.208.0.0/24"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "snat": true, "capabilities": {{"portMappings": true}}}}
]}}"#,
        state.display()
    )
}

fn page(image: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: page, labels: {{app: page}}}}
spec:
  containers:
  - name: page
    image: {image}
    command: [sh, -c, 'mkdir /www && echo by-plugins > /www/index.html && exec httpd -f -p 80 -h /www']
    ports: [{{containerPort: 80, hostPort: {PORT}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: page}}
spec: {{selector: {{app: page}}, ports: [{{port: 80}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client}}
spec:
  containers:
  - {{name: client, image: {image}, command: [sleep, '100000']}}
"
    )
}

/// Removes the bridge, which plugins leave.
struct Left;

impl Drop for Left {
    fn drop(&mut self) {
        Command::new("ip").args(["link", "delete", BRIDGE]).run();
    }
}

#[test]
fn plugins_connect_the_pods_and_nothing_of_them_is_left() {
    if !can_run() {
        return;
    }
    if !Path::new(PLUGINS).join("bridge").exists() {
        assert!(std::env::var_os("E2E_REQUIRED").is_none(), "missing: containernetworking-plugins");
        eprintln!("SKIP: missing: containernetworking-plugins");
        return;
    }
    let _left = Left;
    let directory = tempfile::tempdir().unwrap();
    let (conf, state) = (directory.path().join("net.d"), directory.path().join("state"));
    std::fs::create_dir(&conf).unwrap();
    std::fs::write(conf.join("10-e2e.conflist"), list(&state)).unwrap();
    let flag = format!("--cni-conf-dir={}", conf.display());
    let mut cluster = Cluster::up_with(&[&flag]);
    cluster.apply(&page(&cluster.image("busybox:1")));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/page", "pod/client", "--timeout=60s"]).ok();
    let address = cluster.value(&["pod", "page"], "{.status.podIP}");
    assert!(address.starts_with("10.208.0."), "{address}");

    let from_client = |url: &str| {
        let page = cluster.kubectl(&["exec", "client", "--", "timeout", "5", "wget", "-q", "-O", "-", url]);
        page.stdout.trim() == "by-plugins"
    };
    let from_node = |url: &str| {
        let page = Command::new("busybox").args(["timeout", "5", "busybox", "wget", "-q", "-O", "-", url]).run();
        page.stdout.trim() == "by-plugins"
    };
    let service = cluster.value(&["service", "page"], "{.spec.clusterIP}");
    let reached = |what: &str, is: &dyn Fn() -> bool| eventually(what, PATIENCE, || is().then_some(()));
    reached("pod to pod", &|| from_client(&format!("http://{address}/")));
    reached("node to pod", &|| from_node(&format!("http://{address}/")));
    reached("node to Service", &|| from_node(&format!("http://{service}/")));
    reached("the host port", &|| from_node(&format!("http://10.205.0.1:{PORT}/")));

    // A pod that asks for what no plugin can do hears that.
    cluster.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: slow, annotations: {{kubernetes.io/ingress-bandwidth: 1M}}}}
spec: {{containers: [{{name: c, image: {}, command: [sleep, '1']}}]}}
",
        cluster.image("busybox:1")
    ));
    eventually("an event says what no plugin can do", PATIENCE, || {
        let events = cluster.kubectl(&["get", "events", "--field-selector", "involvedObject.name=slow"]);
        events.stdout.contains("no plugin of the network \"e2e\" has the capability bandwidth").then_some(())
    });

    // The next start takes the pods up as they are.
    cluster.crash();
    cluster.start(&[&flag]);
    assert_eq!(cluster.value(&["pod", "page"], "{.status.podIP}"), address);
    cluster.kubectl(&["delete", "pod", "--all", "--grace-period=1"]).ok();
    let leases = || std::fs::read_dir(state.join("e2e")).unwrap().map(|entry| entry.unwrap().file_name());
    eventually("every address was given back", PATIENCE, || {
        leases().all(|name| !name.to_string_lossy().starts_with("10.")).then_some(())
    });
    let namespaces = Path::new("/run/coracle/coracle-e2e0/netns");
    assert_eq!(std::fs::read_dir(namespaces).unwrap().count(), 0);
}

#[test]
fn a_node_without_a_configuration_says_so_and_is_ready_once_there_is_one() {
    if !can_run() || !Path::new(PLUGINS).join("bridge").exists() {
        return;
    }
    let _left = Left;
    let directory = tempfile::tempdir().unwrap();
    let (conf, state) = (directory.path().join("net.d"), directory.path().join("state"));
    std::thread::scope(|scope| {
        let flag = format!("--cni-conf-dir={}", conf.display());
        let up = scope.spawn(move || Cluster::up_with(&[&flag]));
        // It comes up as soon as somebody has installed a network.
        std::thread::sleep(Duration::from_secs(3));
        assert!(!up.is_finished(), "it was ready without a network");
        std::fs::create_dir(&conf).unwrap();
        std::fs::write(conf.join("10-e2e.conflist"), list(&state)).unwrap();
        drop(up.join().unwrap());
    });
}
