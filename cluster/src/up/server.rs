//! The API server of a cluster in one process: its store, its ports, what it is told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use apiserver::authn::Headers;
use http::HeaderName;
use store::Store;
use tokio::net::TcpListener;

use crate::keys::{FRONT_PROXY, Keys};
use crate::options::Plan;

pub(super) async fn open_store(plan: &Plan) -> anyhow::Result<Arc<dyn Store>> {
    if !plan.options.etcd.etcd_servers.is_empty() {
        return Ok(Arc::new(store::etcd::EtcdStore::open(plan.options.etcd.options()?).await?));
    }
    let path = plan.options.node.data_dir.join("store");
    let options = store::embedded::Options::at(&path);
    let opened = tokio::task::spawn_blocking(move || store::embedded::EmbeddedStore::open(options)).await?;
    Ok(Arc::new(opened.with_context(|| format!("open the store in {}", path.display()))?))
}

/// Loopback for this machine's users, the node's address for its pods.
pub(super) async fn listen(plan: &Plan) -> anyhow::Result<Vec<TcpListener>> {
    let port = plan.options.secure_port;
    let mut listeners = Vec::new();
    for address in std::iter::once(IpAddr::V4(Ipv4Addr::LOCALHOST)).chain(plan.options.node_ip.iter().copied()) {
        let address = SocketAddr::new(address, port);
        let bound = TcpListener::bind(address).await;
        listeners.push(
            bound.with_context(|| format!("listen on {address} (another API server? choose another --secure-port)"))?,
        );
    }
    Ok(listeners)
}

pub(super) fn config(plan: &Plan, keys: &Keys) -> apiserver::Config {
    let path = |file: &str| Some(keys.pki.path(file));
    apiserver::Config {
        secure_port: plan.options.secure_port,
        advertise_address: Some(plan.node_ip()),
        shares_store: !plan.options.etcd.etcd_servers.is_empty(),
        identity: host::name(),
        is_whole_control_plane: true,
        tls_certificate: path("apiserver.crt"),
        tls_private_key: path("apiserver.key"),
        client_ca: path("ca.crt"),
        service_cluster_ip_ranges: plan.services.clone(),
        service_account_keys: path("sa.pub").into_iter().collect(),
        service_account_signing_key: path("sa.key"),
        // Nodes join by them.
        bootstrap_tokens: true,
        service_account_issuers: vec![format!("https://kubernetes.default.svc.{}", plan.options.cluster_domain)],
        kubelet_client_certificate: path("apiserver-kubelet-client.crt"),
        kubelet_client_key: path("apiserver-kubelet-client.key"),
        kubelet_certificate_authority: path("ca.crt"),
        proxy_client_certificate: path("front-proxy-client.crt"),
        proxy_client_key: path("front-proxy-client.key"),
        front_proxies: front_proxies(keys),
        // The node's rules for Services may be made later than an aggregated server is there.
        aggregator_routing: true,
        ..apiserver::Config::default()
    }
}

/// Whom aggregated API servers believe, and in which headers: as kubeadm has it.
fn front_proxies(keys: &Keys) -> apiserver::FrontProxies {
    let name = |name| vec![HeaderName::from_static(name)];
    apiserver::FrontProxies {
        ca: Some(keys.pki.path("front-proxy-ca.crt")),
        allowed_names: vec![FRONT_PROXY.to_owned()],
        headers: Headers {
            username: name("x-remote-user"),
            uid: name("x-remote-uid"),
            group: name("x-remote-group"),
            extra_prefix: vec!["x-remote-extra-".to_owned()],
        },
    }
}
