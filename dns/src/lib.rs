//! The cluster's DNS: A, AAAA, SRV, PTR, CNAME and TXT records for Services and pods, and forwarding for all other names.
//!
//! Invariant: answers for the cluster's zone come from the caches only; no question makes an API request.
#![forbid(unsafe_code)]

mod command;
mod config;
mod handler;
mod message;
mod schema;
mod serve;
mod zone;

pub use command::Command;
pub use config::{Args, Config};

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use client::{Informer, Informers, ObjectKey};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use prometheus_client::metrics::counter::Counter;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::handler::Handler;
use crate::zone::{Cluster, Zone};

/// Questions that may wait for an upstream server at the same time.
const UPSTREAM_REQUESTS: usize = 1024;

/// Why the resolver ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen on {address} for DNS")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("set up forwarding to {servers:?}")]
    Upstream {
        servers: Vec<IpAddr>,
        #[source]
        source: hickory_resolver::net::NetError,
    },
    #[error("a socket of the resolver is no longer served")]
    Ended,
    #[error("watch Services and EndpointSlices")]
    Informers(#[from] client::InformerStopped),
}

/// Answers questions until shutdown.
pub async fn run(config: Config, client: kube::Client, process: daemon::Process) -> Result<(), Error> {
    let informers = Informers::new(client);
    let caches = Caches::new(&informers);
    let (requests, failures) = (Counter::default(), Counter::default());
    process.metrics.register(|registry| {
        registry.register("coredns_dns_requests", "DNS requests", requests.clone());
        registry.register("coredns_forward_failures", "Requests that no upstream server answered", failures.clone());
    });
    let handler =
        Handler { zone: Zone::new(config.domain.clone(), caches), upstream: upstream(&config)?, requests, failures };
    let serve = async {
        let mut sockets = listen(&Arc::new(handler), &config.listen, &process.shutdown).await?;
        process.ready.set();
        until_shutdown(&mut sockets, &process.shutdown).await
    };
    // An answer before the caches are full would deny names that exist.
    informers.beside(&process.shutdown, serve).await?.unwrap_or(Ok(()))
}

/// Waits for the sockets to end, which they must not before shutdown.
async fn until_shutdown(sockets: &mut JoinSet<()>, shutdown: &CancellationToken) -> Result<(), Error> {
    while sockets.join_next().await.is_some() {
        if !shutdown.is_cancelled() {
            return Err(Error::Ended);
        }
    }
    Ok(())
}

/// Binds all addresses, and serves them until `shutdown`.
async fn listen<C: Cluster>(
    handler: &Arc<Handler<C>>,
    addresses: &[SocketAddr],
    shutdown: &CancellationToken,
) -> Result<JoinSet<()>, Error> {
    let mut sockets = JoinSet::new();
    for address in addresses.iter().copied() {
        let failed = |source| Error::Listen { address, source };
        let datagrams = UdpSocket::bind(address).await.map_err(failed)?;
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        sockets.spawn(serve::udp(datagrams, Arc::clone(handler), shutdown.clone()));
        sockets.spawn(serve::tcp(listener, Arc::clone(handler), shutdown.clone()));
        info!(%address, "answering DNS");
    }
    Ok(sockets)
}

fn upstream(config: &Config) -> Result<Option<TokioResolver>, Error> {
    let servers = config.upstream_servers();
    if servers.is_empty() {
        return Ok(None);
    }
    let mut resolver = ResolverConfig::default();
    for server in &servers {
        resolver.add_name_server(NameServerConfig::udp_and_tcp(*server));
    }
    let mut builder = TokioResolver::builder_with_config(resolver, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.use_hosts_file = ResolveHosts::Never;
    options.max_active_requests = UPSTREAM_REQUESTS;
    options.preserve_intermediates = true;
    builder.build().map(Some).map_err(|source| Error::Upstream { servers, source })
}

const BY_SERVICE: &str = "service";
const BY_ADDRESS: &str = "address";

/// The cluster as the informers know it.
struct Caches {
    namespaces: Informer<Namespace>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
}

impl Caches {
    fn new(informers: &Informers) -> Self {
        let caches = Self { namespaces: informers.of(), services: informers.of(), slices: informers.of() };
        caches.services.add_index(BY_ADDRESS, |service| {
            service
                .spec
                .iter()
                .flat_map(|spec| spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip))
                .filter_map(|ip| canonical(ip))
                .collect()
        });
        caches.slices.add_index(BY_SERVICE, |slice| {
            let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/service-name"));
            let namespace = slice.metadata.namespace.as_deref();
            namespace.zip(service).map(|(namespace, service)| format!("{namespace}/{service}")).into_iter().collect()
        });
        caches.slices.add_index(BY_ADDRESS, |slice| {
            slice.endpoints.iter().flatten().filter_map(|endpoint| canonical(endpoint.addresses.first()?)).collect()
        });
        caches
    }
}

/// One spelling for an address.
fn canonical(address: &str) -> Option<String> {
    address.parse::<IpAddr>().ok().map(|ip| ip.to_string())
}

impl Cluster for Caches {
    fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.get(&ObjectKey::cluster(name)).is_some()
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.services.get(&ObjectKey::new(namespace, name))
    }

    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>> {
        self.slices.by_index(BY_SERVICE, &format!("{namespace}/{service}"))
    }

    fn services_at(&self, address: IpAddr) -> Vec<Arc<Service>> {
        self.services.by_index(BY_ADDRESS, &address.to_string())
    }

    fn slices_at(&self, address: IpAddr) -> Vec<Arc<EndpointSlice>> {
        self.slices.by_index(BY_ADDRESS, &address.to_string())
    }
}
