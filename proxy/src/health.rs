//! Ports by which load balancers ask whether this node has endpoints of a Service (upstream: `pkg/proxy/healthcheck`):
//! `spec.healthCheckNodePort` of Services whose traffic from outside stays on the node that it comes to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use axum::response::IntoResponse;
use daemon::listen::{self, Limits};
use daemon::serve_http;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::services::ServicePort;

const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");
/// A client that asks nothing for so long is let go.
const IDLE: Duration = Duration::from_secs(30);
/// Enough for the checks of a few load balancers, whatever else is open.
const LIMITS: Limits = Limits {
    total: 64,
    per_peer: 32,
    pending: 64,
    pending_per_peer: 32,
    first_request: Duration::from_secs(10),
    lifetime: Some(Duration::from_secs(120)),
    drain: Duration::from_secs(5),
};

/// What is told of one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Local {
    namespace: String,
    name: String,
    /// Addresses of its endpoints on this node.
    endpoints: BTreeSet<IpAddr>,
    /// Whether the rules are those of the Services.
    pub(crate) healthy: bool,
}

/// What is to be told at which port. Of two Services with one port, which the API server keeps apart, the first has it.
pub(crate) fn wanted<'a>(ports: impl Iterator<Item = &'a ServicePort>, healthy: bool) -> BTreeMap<u16, Local> {
    let mut found: BTreeMap<u16, Local> = BTreeMap::new();
    for port in ports {
        let Some(number) = port.health_port else { continue };
        let mut parts = port.id.splitn(3, '/').map(str::to_owned);
        let (namespace, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let local = found.entry(number).or_insert_with(|| Local {
            namespace: namespace.clone(),
            name: name.clone(),
            endpoints: BTreeSet::new(),
            healthy,
        });
        if local.namespace == namespace && local.name == name {
            local.endpoints.extend(port.local_endpoints.iter().map(SocketAddr::ip));
        }
    }
    found
}

/// Ports that are open. Dropping it closes them.
pub(crate) struct HealthPorts {
    address: IpAddr,
    open: BTreeMap<u16, Open>,
    tasks: JoinSet<()>,
}

struct Open {
    told: Arc<Mutex<Local>>,
    stop: CancellationToken,
}

impl HealthPorts {
    /// None yet; they open at this address.
    pub(crate) fn at(address: IpAddr) -> Self {
        Self { address, open: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Tells these from now on. A port that cannot be had is tried again the next time.
    pub(crate) async fn tell(&mut self, wanted: BTreeMap<u16, Local>) {
        while self.tasks.try_join_next().is_some() {}
        self.open.retain(|port, open| {
            let stays = wanted.contains_key(port);
            if !stays {
                open.stop.cancel();
            }
            stays
        });
        for (port, local) in wanted {
            if let Some(open) = self.open.get(&port) {
                *open.told.lock().unwrap_or_else(PoisonError::into_inner) = local;
                continue;
            }
            match TcpListener::bind((self.address, port)).await {
                Ok(listener) => self.serve(port, listener, local),
                Err(err) => warn!(
                    error = &err as &dyn std::error::Error,
                    port,
                    service = format!("{}/{}", local.namespace, local.name),
                    "the port for health checks of a Service cannot be opened"
                ),
            }
        }
    }

    fn serve(&mut self, port: u16, listener: TcpListener, local: Local) {
        let (told, stop) = (Arc::new(Mutex::new(local)), CancellationToken::new());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&told));
        let ending = stop.clone();
        self.tasks.spawn(listen::accept(listener, LIMITS, stop.clone(), move |stream| {
            let (router, seat, ending) = (router.clone(), stream.seat(), ending.clone());
            serve_http(stream, seat, router, IDLE, ending)
        }));
        self.open.insert(port, Open { told, stop });
    }
}

async fn answer(State(told): State<Arc<Mutex<Local>>>) -> impl IntoResponse {
    let local = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let count = local.endpoints.len();
    let status = if count > 0 && local.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {:?},\n\t\t\"name\": {:?}\n\t}},\n\t\"localEndpoints\": {count},\n\t\
         \"serviceProxyHealthy\": {}\n}}",
        local.namespace, local.name, local.healthy
    );
    let headers = [
        (CONTENT_TYPE, "application/json".to_owned()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (WEIGHT, count.to_string()),
    ];
    (status, headers, body)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    fn local(endpoints: &[&str]) -> Local {
        let endpoints = endpoints.iter().map(|ip| ip.parse().unwrap()).collect();
        Local { namespace: "d".into(), name: "web".into(), endpoints, healthy: true }
    }

    async fn ask(port: u16) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(b"GET /anything HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    fn free_port() -> u16 {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn a_load_balancer_hears_how_many_endpoints_are_here() {
        let port = free_port();
        let mut ports = HealthPorts::at([127, 0, 0, 1].into());
        ports.tell(BTreeMap::from([(port, local(&["10.244.0.2", "10.244.0.3"]))])).await;
        let answer = ask(port).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("x-load-balancing-endpoint-weight: 2\r\n"), "{answer}");
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let service = serde_json::json!({"namespace": "d", "name": "web"});
        assert_eq!(body, serde_json::json!({"service": service, "localEndpoints": 2, "serviceProxyHealthy": true}));

        for unfit in [local(&[]), Local { healthy: false, ..local(&["10.244.0.2"]) }] {
            ports.tell(BTreeMap::from([(port, unfit)])).await;
            assert!(ask(port).await.unwrap().starts_with("HTTP/1.1 503 "));
        }
        ports.tell(BTreeMap::new()).await;
        let closed = async {
            while ask(port).await.is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), closed).await.unwrap();
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_opened_when_it_is_free() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut ports = HealthPorts::at([127, 0, 0, 1].into());
        ports.tell(BTreeMap::from([(port, local(&["10.244.0.2"]))])).await;
        assert!(ports.open.is_empty());
        drop(taken);
        ports.tell(BTreeMap::from([(port, local(&["10.244.0.2"]))])).await;
        assert!(ask(port).await.unwrap().starts_with("HTTP/1.1 200 "));
    }
}
