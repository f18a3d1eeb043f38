//! What is done after a container has started and before it ends.

use e2e::Ground;
use serde_json::{Value, json};

use super::tools::{exec, gone, idle, logs, reaches, ready, run, script, with};

/// A server that says in its log what it was asked for; what is posted to `/cgi-bin/write` is read at `/received`.
const SERVER: &str = "
mkdir -p /www/cgi-bin
for page in ready poststart-exec poststart-http prestop-exec prestop-http; do echo ok > /www/$page; done
printf '#!/bin/sh\\ncat > /www/received\\nprintf \"Content-Type: text/plain\\\\r\\\\n\\\\r\\\\nok\"\\n' > /www/cgi-bin/write
chmod +x /www/cgi-bin/write
exec httpd -f -vv -p 8080 -h /www";

/// Starts the server, and returns its address.
fn server(ground: &Ground<'_>) -> String {
    let probe = json!({"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1});
    run(ground, "server", json!({"containers": [with(script("c", SERVER), json!({"readinessProbe": probe}))]}));
    ready(ground, "server");
    ground.value("pod/server", "{.status.podIP}")
}

fn visit(address: &str, page: &str) -> Value {
    json!({"exec": {"command": ["wget", "-q", "-O", "/dev/null", format!("http://{address}:8080/{page}")]}})
}

fn get(address: &str, page: &str) -> Value {
    json!({"httpGet": {"host": address, "port": 8080, "path": format!("/{page}")}})
}

/// Whether the server was asked for a page.
fn was_asked(ground: &Ground<'_>, page: &str) -> bool {
    logs(ground, "server", "c").lines().any(|line| line.ends_with(&format!("url:/{page}")))
}

/// Conformance: [sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart exec hook properly [NodeConformance] [Conformance]
/// Conformance: [sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart http hook properly [NodeConformance] [Conformance]
/// Conformance: [sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop exec hook properly [NodeConformance] [Conformance]
/// Conformance: [sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop http hook properly [NodeConformance] [Conformance]
pub(super) fn run_in_time(ground: &Ground<'_>) {
    let server = server(ground);
    let by_exec = json!({"postStart": visit(&server, "poststart-exec"), "preStop": visit(&server, "prestop-exec")});
    let by_http = json!({"postStart": get(&server, "poststart-http"), "preStop": get(&server, "prestop-http")});
    for (name, hooks) in [("exec", by_exec), ("http", by_http)] {
        let container = with(idle("c"), json!({"lifecycle": hooks}));
        run(ground, name, json!({"containers": [container], "terminationGracePeriodSeconds": 15}));
    }
    for name in ["exec", "http"] {
        ready(ground, name);
        ground.wait_until("its hook was run", || was_asked(ground, &format!("poststart-{name}")));
        assert!(!was_asked(ground, &format!("prestop-{name}")), "nobody has asked it to end");
        ground.kubectl(&["delete", "pod", name]).ok();
        gone(ground, name);
        assert!(was_asked(ground, &format!("prestop-{name}")), "{}", logs(ground, "server", "c"));
    }
}

/// Conformance: [sig-node] PreStop should call prestop when killing a pod [Conformance]
pub(super) fn before_the_end(ground: &Ground<'_>) {
    let server = server(ground);
    let post = format!("http://{server}:8080/cgi-bin/write");
    let data = "--post-data={\"Source\": \"prestop\"}";
    let hook = json!({"preStop": {"exec": {"command": ["wget", "-O-", data, post]}}});
    let container = with(idle("c"), json!({"lifecycle": hook}));
    run(ground, "tester", json!({"containers": [container], "terminationGracePeriodSeconds": 30}));
    reaches(ground, "tester", "Running");
    let received = format!("/api/v1/namespaces/{}/pods/server:8080/proxy/received", ground.namespace);
    assert!(!ground.kubectl(&["get", "--raw", &received]).success, "nobody has posted anything");
    ground.kubectl(&["delete", "pod", "tester"]).ok();
    gone(ground, "tester");
    assert_eq!(ground.kubectl(&["get", "--raw", &received]).ok(), "{\"Source\": \"prestop\"}");
    exec(ground, "server", "c", "grep -q prestop /www/received");
}
