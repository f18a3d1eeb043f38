//! Keys, certificates and kubeconfigs for a cluster whose members are separate processes.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use facts::cidr::Cidr;
use http::Uri;

use crate::keys::{Keys, Subjects};
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
    /// Name of the node.
    #[arg(long)]
    pub node_name: String,
    /// Address of the node.
    #[arg(long)]
    pub node_ip: IpAddr,
    /// Domain of cluster names.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Range of Service addresses; the first is the API server's.
    #[arg(long, default_value = "10.96.0.0/16")]
    pub service_cluster_ip_range: String,
}

impl Certificates {
    /// Makes what is missing or outdated, and returns the paths of the kubeconfigs, the administrator's first.
    pub fn make(&self) -> anyhow::Result<Vec<PathBuf>> {
        let host = self.server_host()?;
        node::check_name(&self.node_name)?;
        let (services, length) = options::cidr(&self.service_cluster_ip_range).context("--service-cluster-ip-range")?;
        let subjects = Subjects {
            node_name: &self.node_name,
            node_ips: std::slice::from_ref(&self.node_ip),
            api_service: Cidr::new(services, length).nth(1),
            cluster_domain: &self.cluster_domain,
            server: Some(&host),
        };
        let keys = Keys::make(&self.data_dir.join("pki"), subjects).context("keys and certificates")?;
        let users = [
            ("admin", &keys.admin),
            ("controller-manager", &keys.controller_manager),
            ("scheduler", &keys.scheduler),
            ("kubelet", &keys.kubelet),
            ("proxy", &keys.proxy),
            ("network-policy", &keys.network_policy),
            ("dns", &keys.dns),
        ];
        let mut written = Vec::new();
        for (user, identity) in users {
            let config = kubeconfig::kubeconfig(
                "coracle",
                &self.server,
                &keys.pki.ca().certificate,
                &format!("coracle-{user}"),
                identity,
            );
            let path = self.data_dir.join(format!("{user}.kubeconfig"));
            kubeconfig::write(&path, &config)?;
            written.push(path);
        }
        Ok(written)
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

#[cfg(test)]
mod tests {
    use x509_parser::extensions::GeneralName;

    use super::*;

    fn certificates(data_dir: &std::path::Path, server: &str) -> Certificates {
        Certificates {
            data_dir: data_dir.to_owned(),
            server: server.to_owned(),
            node_name: "n1".to_owned(),
            node_ip: IpAddr::from([10, 1, 0, 1]),
            cluster_domain: "cluster.local".to_owned(),
            service_cluster_ip_range: "10.2.0.0/16".to_owned(),
        }
    }

    #[test]
    fn every_component_gets_a_kubeconfig_for_the_server() {
        let directory = tempfile::tempdir().unwrap();
        let written = certificates(directory.path(), "https://10.1.0.1:6443").make().unwrap();
        let names: Vec<_> = written.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["admin", "controller-manager", "scheduler", "kubelet", "proxy", "network-policy", "dns"]);
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
        let pem = std::fs::read(directory.path().join("pki/apiserver.crt")).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert!(names.contains(&GeneralName::DNSName("api.example.org")), "{names:?}");
    }

    #[test]
    fn wrong_flags_name_themselves() {
        let directory = tempfile::tempdir().unwrap();
        for server in ["10.0.0.1:6443", "http://10.0.0.1", "https://", ""] {
            let err = format!("{:#}", certificates(directory.path(), server).make().unwrap_err());
            assert!(err.contains("--server"), "{err}");
        }
        let named =
            Certificates { node_name: "Not_a_name".to_owned(), ..certificates(directory.path(), "https://[::1]:6443") };
        assert!(format!("{:#}", named.make().unwrap_err()).contains("--node-name"));
    }
}
