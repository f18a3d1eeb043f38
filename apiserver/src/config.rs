//! The configuration of the API server.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use daemon::TlsOptions;

use crate::admission::{AdmissionConfig, DefaultTolerationSeconds};
use crate::service_addresses::Cidr;
use crate::audit::AuditConfig;
use crate::authn::{AuthenticationConfig, Headers, TokenWebhookConfig};
use crate::authz::AuthorizationConfig;
use crate::encryption::EncryptionConfig;
use crate::flow_control::Limits;
use crate::http::NamedCertificate;
use crate::runtime_config::Served;
use crate::service_addresses::Cidr;

/// Everything that can be set. Made in `main`, moved into [`crate::ApiServer::new`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The flags that the process was started with, to be shown.
    pub flags: Vec<(String, String)>,
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
    /// Issuers of tokens, and where requests without credentials pass.
    pub authentication: AuthenticationConfig,
    pub authorization_modes: Vec<String>,
    /// Authorisers that are told more than their mode.
    pub authorization: AuthorizationConfig,
    /// The webhook that knows bearer tokens.
    pub token_webhook: TokenWebhookConfig,
    pub admission: AdmissionConfig,
    pub kubelet_client_certificate: Option<PathBuf>,
    pub kubelet_client_key: Option<PathBuf>,
    pub kubelet_certificate_authority: Option<PathBuf>,
    pub kubelet_address_types: Vec<String>,
    pub proxy_client_certificate: Option<PathBuf>,
    pub proxy_client_key: Option<PathBuf>,
    /// Whether aggregated API servers are reached by the endpoints of their Service, rather than by its cluster address.
    pub aggregator_routing: bool,
    /// Whether an aggregated API server may not send clients elsewhere.
    pub aggregator_rejects_redirects: bool,
    /// Whether aggregated API servers may be at addresses that only this machine can see. Users write Services: off but
    /// for tests.
    pub aggregator_reaches_loopback: bool,
    /// Proxies in front of this server, which name users in headers.
    pub front_proxies: Option<FrontProxies>,
    /// Whether the Secrets of bootstrap tokens make users.
    pub bootstrap_tokens: bool,
    /// Longest life of a ServiceAccount token that somebody asks for.
    pub service_account_max_token_expiration: Option<Duration>,
    /// Whether the tokens of pods live on for clients that never read a new one.
    pub service_account_extend_token_expiration: bool,
    /// Where others find the keys of tokens, if not here.
    pub service_account_jwks_uri: Option<String>,
    /// The name, perhaps with a port, by which others outside of the cluster reach this server.
    pub external_hostname: Option<String>,
    /// Whether this server keeps the endpoints of the Service `kubernetes`.
    pub publish_endpoints: bool,
    /// The name of this machine, by which a Lease in `kube-system` tells others of this server; `None` for no Lease.
    pub identity: Option<String>,
    /// Whether other servers may use the same store, and have endpoints of their own.
    pub shares_store: bool,
    /// Whether scheduler and controllers run in this process as well.
    pub is_whole_control_plane: bool,
    /// Which built-in versions are served.
    pub runtime_config: Vec<Served>,
    pub limits: Limits,
    /// How long pods stay on bad nodes.
    pub toleration_seconds: DefaultTolerationSeconds,
    /// How TLS is spoken.
    pub tls: TlsOptions,
    /// Certificates for names of their own.
    pub named_certificates: Vec<NamedCertificate>,
    pub http2: bool,
    /// Streams of one HTTP/2 connection; `None` for what is good for watches.
    pub http2_streams: Option<u32>,
    /// The share of HTTP/2 requests after which a client is told to connect anew.
    pub goaway_chance: f64,
    pub event_ttl: Duration,
    /// Other requests than watches and streams end after this.
    pub request_timeout: Duration,
    /// Watches without `timeoutSeconds` end after between this and twice this.
    pub min_request_timeout: Duration,
    pub enable_garbage_collector: bool,
    pub audit: AuditConfig,
    /// How objects lie in the store.
    pub encryption: EncryptionConfig,
}

/// Who may name users in headers, and in which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontProxies {
    /// The CA of their certificates.
    pub ca: PathBuf,
    /// Their common names; empty for any that the CA signed.
    pub allowed_names: Vec<String>,
    pub headers: Headers,
}

impl Default for Config {
    /// Loopback, RBAC, anonymous health checks: what a server in a test needs.
    fn default() -> Self {
        Self {
            flags: Vec::new(),
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
            authentication: AuthenticationConfig::default(),
            authorization_modes: vec!["Node".into(), "RBAC".into()],
            authorization: AuthorizationConfig::default(),
            token_webhook: TokenWebhookConfig::default(),
            admission: AdmissionConfig::default(),
            kubelet_client_certificate: None,
            kubelet_client_key: None,
            kubelet_certificate_authority: None,
            kubelet_address_types: ["InternalIP", "Hostname", "ExternalIP"].map(str::to_owned).to_vec(),
            proxy_client_certificate: None,
            proxy_client_key: None,
            aggregator_routing: false,
            aggregator_rejects_redirects: true,
            aggregator_reaches_loopback: false,
            front_proxies: None,
            bootstrap_tokens: false,
            service_account_max_token_expiration: None,
            service_account_extend_token_expiration: true,
            service_account_jwks_uri: None,
            external_hostname: None,
            publish_endpoints: true,
            identity: None,
            shares_store: false,
            is_whole_control_plane: false,
            runtime_config: Vec::new(),
            limits: Limits::default(),
            toleration_seconds: DefaultTolerationSeconds::default(),
            tls: TlsOptions::default(),
            named_certificates: Vec::new(),
            http2: true,
            http2_streams: None,
            goaway_chance: 0.0,
            event_ttl: Duration::from_secs(3600),
            request_timeout: Duration::from_secs(60),
            min_request_timeout: Duration::from_secs(1800),
            enable_garbage_collector: true,
            audit: AuditConfig::default(),
            encryption: EncryptionConfig::default(),
        }
    }
}
