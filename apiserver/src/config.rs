//! The configuration of the API server.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::allocate::Cidr;
use crate::audit::AuditConfig;

/// Everything that can be set. Made in `main`, moved into [`crate::ApiServer::new`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub bind_address: IpAddr,
    pub secure_port: u16,
    /// The address that other members reach this server at; the endpoint of the `kubernetes` Service.
    pub advertise_address: Option<IpAddr>,
    pub tls_certificate: Option<PathBuf>,
    pub tls_private_key: Option<PathBuf>,
    /// Where a self-signed certificate is kept when none is given.
    pub certificate_directory: PathBuf,
    /// Who signs client certificates.
    pub client_ca: Option<PathBuf>,
    pub service_cluster_ip_ranges: Vec<Cidr>,
    pub service_node_ports: RangeInclusive<u16>,
    pub service_account_keys: Vec<PathBuf>,
    pub service_account_signing_key: Option<PathBuf>,
    pub service_account_issuers: Vec<String>,
    pub api_audiences: Vec<String>,
    pub token_auth_file: Option<PathBuf>,
    pub anonymous_auth: bool,
    pub authorization_modes: Vec<String>,
    pub enable_admission_plugins: Vec<String>,
    pub disable_admission_plugins: Vec<String>,
    /// What pods find beside their token and the cluster's CA.
    pub service_account_extra_ca_config_maps: Vec<ConfigMapKey>,
    pub allow_privileged: bool,
    pub kubelet_client_certificate: Option<PathBuf>,
    pub kubelet_client_key: Option<PathBuf>,
    pub kubelet_certificate_authority: Option<PathBuf>,
    pub kubelet_address_types: Vec<String>,
    pub proxy_client_certificate: Option<PathBuf>,
    pub proxy_client_key: Option<PathBuf>,
    pub requestheader_client_ca: Option<PathBuf>,
    pub requestheader_allowed_names: Vec<String>,
    pub requestheader_username_headers: Vec<String>,
    pub requestheader_group_headers: Vec<String>,
    pub requestheader_extra_headers_prefix: Vec<String>,
    pub event_ttl: Duration,
    /// Other requests than watches and streams end after this.
    pub request_timeout: Duration,
    /// Watches without `timeoutSeconds` end after between this and twice this.
    pub min_request_timeout: Duration,
    pub enable_garbage_collector: bool,
    pub audit: AuditConfig,
}

/// One key of a ConfigMap, which lies in each namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMapKey {
    pub name: String,
    pub key: String,
}

impl FromStr for ConfigMapKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let of = |part: &str| {
            let plain = part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
            (plain && !part.is_empty() && !part.starts_with("..")).then(|| part.to_owned())
        };
        let read = text.split_once(':').and_then(|(name, key)| Some(Self { name: of(name)?, key: of(key)? }));
        read.ok_or_else(|| format!("{text:?} is not NAME:KEY, such as service-ca.crt:ca.crt"))
    }
}

impl Default for Config {
    /// Loopback, RBAC, anonymous health checks: what a server in a test needs.
    fn default() -> Self {
        Self {
            bind_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            secure_port: 6443,
            advertise_address: None,
            tls_certificate: None,
            tls_private_key: None,
            certificate_directory: PathBuf::from("/var/run/kubernetes"),
            client_ca: None,
            service_cluster_ip_ranges: vec![Cidr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 0)), 16)],
            service_node_ports: 30_000..=32_767,
            service_account_keys: Vec::new(),
            service_account_signing_key: None,
            service_account_issuers: vec!["https://kubernetes.default.svc.cluster.local".into()],
            api_audiences: Vec::new(),
            token_auth_file: None,
            anonymous_auth: true,
            authorization_modes: vec!["Node".into(), "RBAC".into()],
            enable_admission_plugins: Vec::new(),
            disable_admission_plugins: Vec::new(),
            service_account_extra_ca_config_maps: Vec::new(),
            allow_privileged: true,
            kubelet_client_certificate: None,
            kubelet_client_key: None,
            kubelet_certificate_authority: None,
            kubelet_address_types: ["InternalIP", "Hostname", "ExternalIP"].map(str::to_owned).to_vec(),
            proxy_client_certificate: None,
            proxy_client_key: None,
            requestheader_client_ca: None,
            requestheader_allowed_names: Vec::new(),
            requestheader_username_headers: Vec::new(),
            requestheader_group_headers: Vec::new(),
            requestheader_extra_headers_prefix: Vec::new(),
            event_ttl: Duration::from_secs(3600),
            request_timeout: Duration::from_secs(60),
            min_request_timeout: Duration::from_secs(1800),
            enable_garbage_collector: true,
            audit: AuditConfig::default(),
        }
    }
}
