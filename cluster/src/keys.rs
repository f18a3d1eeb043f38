//! Every key and certificate that the members of one cluster need.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use crate::addons;
use crate::pki::{Identity, Pair, Pki, PkiError};

/// Who the API server is to aggregated API servers; the name of the files and of the user in them.
pub(crate) const FRONT_PROXY: &str = "front-proxy-client";

/// What the API servers' certificate must name beside loopback and the Service's own names.
#[derive(Clone, Debug)]
pub(crate) struct Subjects<'a> {
    /// The address of the Service `kubernetes`.
    pub(crate) api_service: IpAddr,
    pub(crate) cluster_domain: &'a str,
    /// Names and addresses at which clients reach an API server.
    pub(crate) servers: Vec<String>,
}

/// The keys of a control plane, made or found.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) pki: Pki,
    pub(crate) admin: Pair,
    pub(crate) controller_manager: Pair,
    pub(crate) scheduler: Pair,
}

/// The keys of a node, made or found.
#[derive(Debug)]
pub(crate) struct NodeKeys {
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
        Ok(Self {
            admin: client("admin", "kubernetes-admin", "system:masters")?,
            controller_manager: client("controller-manager", "system:kube-controller-manager", "")?,
            scheduler: client("scheduler", "system:kube-scheduler", "")?,
            pki,
        })
    }
}

impl NodeKeys {
    /// Those of the node with this name and these addresses, in the directory of `pki`.
    pub(crate) fn make(pki: &Pki, name: &str, addresses: &[IpAddr]) -> Result<Self, PkiError> {
        let client = |name: &str, user: &str, group: &str| pki.client(name, Identity { user, group });
        let user = format!("system:node:{name}");
        let server = Identity { user: &user, group: "system:nodes" };
        pki.server("kubelet-server", server, &[name, "localhost"], addresses)?;
        Ok(Self {
            kubelet: client("kubelet", &user, "system:nodes")?,
            proxy: client("proxy", "system:kube-proxy", "")?,
            network_policy: client("network-policy", addons::NETWORK_POLICY_USER, "")?,
            dns: client("dns", addons::DNS_USER, "")?,
            provisioner: client("provisioner", addons::PROVISIONER_USER, "")?,
        })
    }
}

/// The keys of etcd: one certificate for all members, whom it names, and that of their client, the API server.
pub(crate) fn make_etcd(pki: &Pki, members: &[String]) -> Result<(), PkiError> {
    let etcd = pki.etcd()?;
    let (names, addresses) = split(members);
    etcd.peer("server", Identity { user: "etcd", group: "" }, &names, &addresses)?;
    etcd.client("apiserver-etcd-client", Identity { user: "kube-apiserver-etcd-client", group: "" })?;
    Ok(())
}

fn make_api_server(pki: &Pki, subjects: Subjects<'_>) -> Result<Pair, PkiError> {
    let domain = format!("kubernetes.default.svc.{}", subjects.cluster_domain);
    let mut names = vec!["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", &domain];
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), subjects.api_service];
    let (others, more) = split(&subjects.servers);
    names.extend(others);
    addresses.extend(more);
    // Each once: whose names were given twice has no other certificate.
    names.sort_unstable();
    names.dedup();
    addresses.sort_unstable();
    addresses.dedup();
    pki.server("apiserver", Identity { user: "kube-apiserver", group: "" }, &names, &addresses)
}

/// Names and addresses, each by itself.
fn split(hosts: &[String]) -> (Vec<&str>, Vec<IpAddr>) {
    let (addresses, names): (Vec<_>, Vec<_>) = hosts.iter().partition(|host| host.parse::<IpAddr>().is_ok());
    let addresses = addresses.iter().filter_map(|host| host.parse().ok()).collect();
    (names.into_iter().map(String::as_str).collect(), addresses)
}
