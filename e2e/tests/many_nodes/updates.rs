//! A rolling update while its Service is in use.

use std::thread;

use e2e::{IMAGE, ManyNodes, eventually};

use super::services::{service, value};
use super::{NODES, PATIENCE, page_of, pods};

/// Asks for pages until it is told to stop, each over a connection of its own; prints how many came, and how many did not.
const ASK: &str = "came=0; lost=0; while [ ! -e /tmp/stop ]; do \
                   if timeout 5 wget -q -O /dev/null $URL; then came=$((came+1)); else lost=$((lost+1)); fi; done; \
                   echo $came $lost";

/// Clients on every node lose no page while all pods behind a Service are replaced, twice, and while it becomes smaller. As
/// always where nothing may be lost, pods serve on for as long as others may still be sent to them.
pub(super) fn lose_no_request(cluster: &ManyNodes) {
    cluster.apply(&format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: updated}}
spec:
  replicas: 6
  selector: {{matchLabels: {{app: updated}}}}
  template:
    metadata: {{labels: {{app: updated}}}}
    spec:
      terminationGracePeriodSeconds: 15
      containers:
        - name: httpd
          image: {IMAGE}
          imagePullPolicy: Never
          command: [sh, -c, "mkdir /tmp/w && echo page > /tmp/w/index.html && exec httpd -f -p 8080 -h /tmp/w"]
          readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
          lifecycle: {{preStop: {{sleep: {{seconds: 5}}}}}}
"#
    ));
    service(cluster, "updated", "selector: {app: updated}, ports: [{port: 80, targetPort: 8080}]");
    rolled_out(cluster, 6);
    let url = format!("http://{}/", value(cluster, &["service", "updated"], "{.spec.clusterIP}"));
    let clients = pods(cluster, "app=web", "{.metadata.name}");
    assert_eq!(clients.len(), NODES.len());
    for client in &clients {
        eventually("the Service answers", PATIENCE, || (page_of(cluster, client, &url) == "page").then_some(()));
    }
    let ask = ASK.replace("$URL", &url);
    let counts: Vec<String> = thread::scope(|scope| {
        let asking: Vec<_> = clients
            .iter()
            .map(|client| scope.spawn(|| cluster.kubectl(&["exec", client, "--", "sh", "-c", &ask]).ok().to_owned()))
            .collect();
        for _ in 0..2 {
            cluster.kubectl(&["rollout", "restart", "deployment/updated"]).ok();
            rolled_out(cluster, 6);
        }
        cluster.kubectl(&["scale", "deployment/updated", "--replicas=2"]).ok();
        rolled_out(cluster, 2);
        for client in &clients {
            cluster.kubectl(&["exec", client, "--", "touch", "/tmp/stop"]).ok();
        }
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    eprintln!("pages that came, and pages that were lost, of each client: {counts:?}");
    for count in &counts {
        let (came, lost) = count.split_once(' ').unwrap();
        assert!(lost == "0" && came.parse::<u32>().unwrap() > 50, "{counts:?}");
    }
    for client in &clients {
        cluster.kubectl(&["exec", client, "--", "rm", "/tmp/stop"]).ok();
    }
    cluster.kubectl(&["delete", "deployment,service", "updated"]).ok();
}

/// Waits until there are so many pods, and none of those before.
fn rolled_out(cluster: &ManyNodes, replicas: usize) {
    cluster.kubectl(&["rollout", "status", "deployment/updated", "--timeout=90s"]).ok();
    eventually("the pods before are gone", PATIENCE, || {
        (pods(cluster, "app=updated", "{.metadata.name}").len() == replicas).then_some(())
    });
}
