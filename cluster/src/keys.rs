//! Every key and certificate that the members of one cluster need.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use crate::addons;
use crate::pki::{Identity, Pair, Pki, PkiError};

/// Who the API server is to aggregated API servers; the name of the files and of the user in them.
pub(crate) const FRONT_PROXY: &str = "front-proxy-client";

/// What the certificates must name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subjects<'a> {
    pub(crate) node_name: &'a str,
    pub(crate) node_ips: &'a [IpAddr],
    /// The address of the Service `kubernetes`.
    pub(crate) api_service: IpAddr,
    pub(crate) cluster_domain: &'a str,
    /// Another name or address at which clients reach the API server.
    pub(crate) server: Option<&'a str>,
}

/// Every key of a cluster, made or found.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) pki: Pki,
    pub(crate) admin: Pair,
    pub(crate) controller_manager: Pair,
    pub(crate) scheduler: Pair,
    pub(crate) kubelet: Pair,
    pub(crate) proxy: Pair,
    pub(crate) network_policy: Pair,
    pub(crate) dns: Pair,
    pub(crate) provisioner: Pair,
}

impl Keys {
    /// Opens the keys in `directory`, and makes those that are missing or no longer name their subjects.
    pub(crate) fn make(directory: &Path, subjects: Subjects<'_>) -> Result<Self, PkiError> {
        let pki = Pki::open(directory)?;
        let client = |name: &str, user: &str, group: &str| pki.client(name, Identity { user, group });
        make_api_server(&pki, subjects)?;
        client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters")?;
        let front_proxy = Identity { user: FRONT_PROXY, group: "" };
        pki.front_proxy()?.client(FRONT_PROXY, front_proxy)?;
        pki.service_account_key()?;
        let node = format!("system:node:{}", subjects.node_name);
        let kubelet_server = Identity { user: &node, group: "system:nodes" };
        pki.server("kubelet-server", kubelet_server, &[subjects.node_name, "localhost"], subjects.node_ips)?;
        Ok(Self {
            admin: client("admin", "kubernetes-admin", "system:masters")?,
            controller_manager: client("controller-manager", "system:kube-controller-manager", "")?,
            scheduler: client("scheduler", "system:kube-scheduler", "")?,
            kubelet: client("kubelet", &node, "system:nodes")?,
            proxy: client("proxy", "system:kube-proxy", "")?,
            network_policy: client("network-policy", addons::NETWORK_POLICY_USER, "")?,
            dns: client("dns", addons::DNS_USER, "")?,
            provisioner: client("provisioner", addons::PROVISIONER_USER, "")?,
            pki,
        })
    }
}

fn make_api_server(pki: &Pki, subjects: Subjects<'_>) -> Result<Pair, PkiError> {
    let domain = format!("kubernetes.default.svc.{}", subjects.cluster_domain);
    let mut names =
        vec!["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", &domain, subjects.node_name];
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), subjects.api_service];
    addresses.extend(subjects.node_ips);
    if let Some(server) = subjects.server {
        match server.parse() {
            Ok(address) if addresses.contains(&address) => {}
            Ok(address) => addresses.push(address),
            Err(_) if names.contains(&server) => {}
            Err(_) => names.push(server),
        }
    }
    pki.server("apiserver", Identity { user: "kube-apiserver", group: "" }, &names, &addresses)
}
