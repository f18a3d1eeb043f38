//! Keys, certificates and kubeconfigs for a cluster whose members are separate processes.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use facts::cidr::Cidr;
use http::Uri;

use crate::keys::{Keys, NodeKeys, Subjects, make_etcd};
use crate::pki::{Pair, Pki};
use crate::{kubeconfig, node, options};

/// What the certificates are for.
#[derive(Clone, Debug, clap::Args)]
pub struct Certificates {
    /// Where to write: keys and certificates into <data-dir>/pki, kubeconfigs beside it.
    #[arg(long)]
    pub data_dir: PathBuf,
    /// How clients reach the API server, such as https://10.0.0.1:6443.
    #[arg(long)]
    pub server: String,
    /// More names and addresses at which clients reach an API server.
    #[arg(long, value_delimiter = ',')]
    pub apiserver_cert_extra_sans: Vec<String>,
    /// Name of a node on the machine of the API server: its keys lie among the others.
    #[arg(long, requires = "node_ip")]
    pub node_name: Option<String>,
    /// Address of that node.
    #[arg(long, requires = "node_name")]
    pub node_ip: Option<IpAddr>,
    /// A node on a machine of its own, as NAME=ADDRESS: <data-dir>/nodes/NAME has all that it needs, and no more. May be
    /// given again.
    #[arg(long)]
    pub node: Vec<NodeAddress>,
    /// Names and addresses of the members of etcd, whose keys, and those of the API server for them, are in <data-dir>/pki/etcd.
    #[arg(long, value_delimiter = ',')]
    pub etcd_cert_sans: Vec<String>,
    /// Domain of cluster names.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Range of Service addresses; the first is the API server's.
    #[arg(long, default_value = "10.96.0.0/16")]
    pub service_cluster_ip_range: String,
}

/// A node and where it is, as `NAME=ADDRESS`.
#[derive(Clone, Debug)]
pub struct NodeAddress {
    pub name: String,
    pub address: IpAddr,
}

impl FromStr for NodeAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text.split_once('=').ok_or("must be NAME=ADDRESS, such as n1=10.0.0.1")?;
        let address = address.parse().map_err(|err| format!("{address:?}: {err}"))?;
        node::check_name(name).map_err(|err| err.to_string())?;
        Ok(Self { name: name.to_owned(), address })
    }
}

impl Certificates {
    /// Makes what is missing or outdated, and returns the paths of the kubeconfigs, the administrator's first.
    pub fn make(&self) -> anyhow::Result<Vec<PathBuf>> {
        let subjects = self.subjects()?;
        let keys = Keys::make(&self.data_dir.join("pki"), subjects).context("keys and certificates")?;
        let pki = &keys.pki;
        if !self.etcd_cert_sans.is_empty() {
            check_hosts(&self.etcd_cert_sans).context("--etcd-cert-sans")?;
            make_etcd(pki, &self.etcd_cert_sans).context("keys and certificates of etcd")?;
        }
        let users =
            [("admin", &keys.admin), ("controller-manager", &keys.controller_manager), ("scheduler", &keys.scheduler)];
        let mut written = self.write_kubeconfigs(&self.data_dir, pki, &users)?;
        if let (Some(name), Some(address)) = (&self.node_name, self.node_ip) {
            written.extend(self.make_node(&self.data_dir, pki, name, address)?);
        }
        for node in &self.node {
            let directory = self.data_dir.join("nodes").join(&node.name);
            let pki = pki.elsewhere(&directory.join("pki")).context("keys and certificates")?;
            written.extend(self.make_node(&directory, &pki, &node.name, node.address)?);
        }
        Ok(written)
    }

    fn subjects(&self) -> anyhow::Result<Subjects<'_>> {
        let mut servers = vec![self.server_host()?];
        check_hosts(&self.apiserver_cert_extra_sans).context("--apiserver-cert-extra-sans")?;
        servers.extend_from_slice(&self.apiserver_cert_extra_sans);
        if let Some(name) = &self.node_name {
            node::check_name(name)?;
            servers.push(name.clone());
        }
        servers.extend(self.node_ip.map(|address| address.to_string()));
        let (services, length) = options::cidr(&self.service_cluster_ip_range).context("--service-cluster-ip-range")?;
        let api_service = Cidr::new(services, length).nth(1);
        Ok(Subjects { api_service, cluster_domain: &self.cluster_domain, servers })
    }

    /// What a node needs, in this directory, whose certificates lie in that of `pki`.
    fn make_node(&self, directory: &Path, pki: &Pki, name: &str, address: IpAddr) -> anyhow::Result<Vec<PathBuf>> {
        let keys = NodeKeys::make(pki, name, &[address]);
        let keys = keys.with_context(|| format!("keys and certificates of node {name}"))?;
        let users = [
            ("kubelet", &keys.kubelet),
            ("proxy", &keys.proxy),
            ("network-policy", &keys.network_policy),
            ("dns", &keys.dns),
            ("provisioner", &keys.provisioner),
        ];
        self.write_kubeconfigs(directory, pki, &users)
    }

    fn write_kubeconfigs(&self, directory: &Path, pki: &Pki, users: &[(&str, &Pair)]) -> anyhow::Result<Vec<PathBuf>> {
        let write = |(user, identity): &(&str, &Pair)| {
            let (ca, name) = (&pki.ca().certificate, format!("coracle-{user}"));
            let config = kubeconfig::kubeconfig("coracle", &self.server, ca, &name, identity);
            let path = directory.join(format!("{user}.kubeconfig"));
            kubeconfig::write(&path, &config)?;
            Ok(path)
        };
        users.iter().map(write).collect()
    }

    /// The host of the API server, an IPv6 address without its brackets.
    fn server_host(&self) -> anyhow::Result<String> {
        let wrong = || format!("--server {:?}: must be a URL such as https://10.0.0.1:6443", self.server);
        let url: Uri = self.server.parse().with_context(wrong)?;
        ensure!(url.scheme_str() == Some("https"), wrong());
        let host = url.host().filter(|host| !host.is_empty()).with_context(wrong)?;
        Ok(host.trim_matches(['[', ']']).to_owned())
    }
}

/// Refuses what a certificate cannot name.
fn check_hosts(hosts: &[String]) -> anyhow::Result<()> {
    for host in hosts.iter().filter(|host| host.parse::<IpAddr>().is_err()) {
        let wrong = api::names::dns1123_subdomain(host);
        ensure!(wrong.is_empty(), "{host:?} is no address, and no name: {}", wrong.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use x509_parser::extensions::GeneralName;

    use super::*;

    fn certificates(data_dir: &std::path::Path, server: &str) -> Certificates {
        Certificates {
            data_dir: data_dir.to_owned(),
            server: server.to_owned(),
            apiserver_cert_extra_sans: Vec::new(),
            node_name: Some("n1".to_owned()),
            node_ip: Some(IpAddr::from([10, 1, 0, 1])),
            node: Vec::new(),
            etcd_cert_sans: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            service_cluster_ip_range: "10.2.0.0/16".to_owned(),
        }
    }

    #[test]
    fn every_component_gets_a_kubeconfig_for_the_server() {
        let directory = tempfile::tempdir().unwrap();
        let written = certificates(directory.path(), "https://10.1.0.1:6443").make().unwrap();
        let names: Vec<_> = written.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
        let wanted =
            ["admin", "controller-manager", "scheduler", "kubelet", "proxy", "network-policy", "dns", "provisioner"];
        assert_eq!(names, wanted);
        for path in written {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains("server: https://10.1.0.1:6443"), "{text}");
        }
        assert!(directory.path().join("pki/apiserver.crt").exists());
    }

    #[test]
    fn the_servers_certificate_names_the_host_of_the_url() {
        let directory = tempfile::tempdir().unwrap();
        certificates(directory.path(), "https://api.example.org:443").make().unwrap();
        assert!(names_of(&directory.path().join("pki/apiserver.crt")).contains("api.example.org"));
    }

    /// The subjects of a certificate, as text.
    fn names_of(path: &Path) -> String {
        let pem = std::fs::read(path).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
        let texts = names.iter().map(|name| match name {
            GeneralName::IPAddress(octets) => format!("{octets:?}"),
            other => other.to_string(),
        });
        texts.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn nodes_on_machines_of_their_own_get_their_own_keys_and_nobody_elses() {
        let directory = tempfile::tempdir().unwrap();
        let nodes = ["a=10.1.0.2", "b=10.1.0.3"].map(|node| node.parse().unwrap());
        let apart = Certificates {
            node_name: None,
            node_ip: None,
            node: nodes.to_vec(),
            ..certificates(directory.path(), "https://api:6443")
        };
        apart.make().unwrap();
        assert!(!directory.path().join("kubelet.kubeconfig").exists());
        for (name, last) in [("a", 2), ("b", 3)] {
            let own = directory.path().join("nodes").join(name);
            assert!(names_of(&own.join("pki/kubelet-server.crt")).contains(&format!("[10, 1, 0, {last}]")));
            assert!(own.join("kubelet.kubeconfig").exists() && own.join("pki/ca.crt").exists());
            assert!(!own.join("pki/ca.key").exists() && !own.join("pki/sa.key").exists());
        }
    }

    #[test]
    fn more_servers_and_the_members_of_etcd_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let several = Certificates {
            apiserver_cert_extra_sans: vec!["other".to_owned(), "10.1.0.9".to_owned()],
            etcd_cert_sans: vec!["etcd-1".to_owned(), "10.1.0.7".to_owned()],
            ..certificates(directory.path(), "https://10.1.0.9:6443")
        };
        several.make().unwrap();
        let server = names_of(&directory.path().join("pki/apiserver.crt"));
        assert!(server.contains("other") && server.matches("[10, 1, 0, 9]").count() == 1, "{server}");
        let etcd = names_of(&directory.path().join("pki/etcd/server.crt"));
        assert!(etcd.contains("etcd-1") && etcd.contains("[10, 1, 0, 7]"), "{etcd}");
        assert!(directory.path().join("pki/etcd/apiserver-etcd-client.key").exists());
    }

    #[test]
    fn wrong_flags_name_themselves() {
        let directory = tempfile::tempdir().unwrap();
        for server in ["10.0.0.1:6443", "http://10.0.0.1", "https://", ""] {
            let err = format!("{:#}", certificates(directory.path(), server).make().unwrap_err());
            assert!(err.contains("--server"), "{err}");
        }
        let named = Certificates {
            node_name: Some("Not_a_name".to_owned()),
            ..certificates(directory.path(), "https://[::1]:6443")
        };
        assert!(format!("{:#}", named.make().unwrap_err()).contains("--node-name"));
        let sans = vec!["two words".to_owned()];
        let etcd = Certificates { etcd_cert_sans: sans, ..certificates(directory.path(), "https://[::1]:6443") };
        assert!(format!("{:#}", etcd.make().unwrap_err()).contains("--etcd-cert-sans"));
        for node in ["a", "a=", "a=10.0.0", "../a=10.0.0.1", "A=10.0.0.1"] {
            assert!(node.parse::<NodeAddress>().is_err(), "{node}");
        }
    }
}
