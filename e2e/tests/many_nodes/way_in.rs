//! The API server's proxy to a pod of another node, and to its Service, with every method. The line `Conformance:` in a comment
//! is the codename of what a step checks.

use e2e::{IMAGE, ManyNodes, eventually};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::services::service;
use super::{NODES, PATIENCE};

/// Tells of the request that it reads, as the image `porter` of upstream's suite does.
const TELL: &str = r#"read -r method path version
while read -r line; do line=${line%$(printf '\r')}; [ -n "$line" ] || break; done
body="{\"Method\": \"$method\", \"Path\": \"$path\", \"Body\": \"foo\"}"
printf 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %s\r\nConnection: close\r\n\r\n' ${#body}
[ "$method" = HEAD ] || printf '%s' "$body"
"#;

/// Conformance: [sig-network] Proxy version v1 A set of valid responses are returned for both pod and service ProxyWithPath [Conformance]
/// Conformance: [sig-network] Proxy version v1 A set of valid responses are returned for both pod and service Proxy [Conformance]
pub(super) fn work(cluster: &ManyNodes) {
    teller(cluster);
    service(cluster, "teller", "selector: {app: teller}, ports: [{port: 80, targetPort: 8080}]");
    let client = Asking::new(cluster);
    for door in ["pods/teller:8080", "services/teller"] {
        let at = format!("/api/v1/namespaces/default/{door}/proxy");
        eventually(&format!("{door} answers"), PATIENCE, || {
            (client.ask(&Method::POST, &at).0 == StatusCode::OK).then_some(())
        });
        for method in ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"] {
            let path = format!("/some/path/with/{method}");
            client.is_told(method, &format!("{at}{path}"), &path);
        }
        for method in ["DELETE", "OPTIONS", "PATCH", "POST", "PUT"] {
            let query = format!("?method={method}");
            client.is_told(method, &format!("{at}{query}"), &format!("/{query}"));
        }
        for method in [Method::GET, Method::HEAD] {
            let query = format!("?method={method}");
            let (status, location, _) = client.ask(&method, &format!("{at}{query}"));
            assert_eq!((status, location), (StatusCode::MOVED_PERMANENTLY, format!("{at}/{query}")), "{method}");
        }
    }
    cluster.kubectl(&["delete", "pod", "teller"]).ok();
}

fn teller(cluster: &ManyNodes) {
    let serve = "printf %s \"$TELL\" > /tmp/tell; exec nc -ll -p 8080 -e sh /tmp/tell";
    let container = json!({
        "name": "c", "image": IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", serve],
        "env": [{"name": "TELL", "value": TELL}],
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "teller", "labels": {"app": "teller"}},
        "spec": {"nodeName": NODES[1], "terminationGracePeriodSeconds": 0, "containers": [container]},
    });
    cluster.apply(&pod.to_string());
}

/// An administrator who follows no redirects.
struct Asking {
    client: Client,
    runtime: Runtime,
}

impl Asking {
    fn new(cluster: &ManyNodes) -> Self {
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let runtime = Runtime::new().unwrap();
        let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
        let config = runtime.block_on(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()));
        // The client keeps a task of its own.
        let entered = runtime.enter();
        let client = Client::try_from(config.unwrap()).unwrap();
        drop(entered);
        Self { client, runtime }
    }

    /// Status, `Location` and body of the answer.
    fn ask(&self, method: &Method, path: &str) -> (StatusCode, String, Vec<u8>) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        self.runtime.block_on(async {
            let (parts, body) = self.client.send(request).await.unwrap().into_parts();
            let location = parts.headers.get("Location").map_or("", |value| value.to_str().unwrap());
            (parts.status, location.to_owned(), body.collect().await.unwrap().to_bytes().to_vec())
        })
    }

    /// The pod was asked with this method for this path, and its answer is what comes back.
    fn is_told(&self, method: &str, at: &str, path: &str) {
        let (status, _, body) = self.ask(&method.parse().unwrap(), at);
        assert_eq!(status, StatusCode::OK, "{method} {at}: {}", String::from_utf8_lossy(&body));
        if method == "HEAD" {
            return assert!(body.is_empty(), "{at}");
        }
        let told: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(told, json!({"Method": method, "Path": path, "Body": "foo"}), "{at}");
    }
}
