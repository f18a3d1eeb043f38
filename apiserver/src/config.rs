//! The configuration of the API server, which is what its flags say.
//!
//! To add a flag:
//!
//! 1. Find its part: the type that has the flags beside it ([`AdmissionConfig`], [`AuthorizationConfig`], [`Limits`], ...),
//!    or [`Config`] for those of the server itself.
//! 2. Add a field there, with the text for `--help` as its comment and upstream's default: `#[arg(long, ...)]` if it is
//!    called as the flag, or else `#[arg(id = "the-flag", long, ...)]`.
//! 3. Use it. What says the same is "no value" of a field is one for its parser ([`nothing_for`]).
//! 4. What only makes sense with other flags is checked in `Args::into_config`, by the flag's name.
//! 5. Take its line out of `upstream_flags.txt`; a test tells if one is there twice or nowhere.
//!
//! `Config::default()` is made of the same defaults.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser;
use daemon::TlsOptions;
use daemon::pflag::duration;
use facts::cidr::Cidr;

use crate::admission::{AdmissionConfig, DefaultTolerationSeconds};
use crate::audit::AuditConfig;
use crate::authn::{AuthenticationConfig, Headers, TokenWebhookConfig};
use crate::authz::AuthorizationConfig;
use crate::encryption::EncryptionConfig;
use crate::flow_control::Limits;
use crate::http::NamedCertificate;
use crate::runtime_config::Served;

/// Everything that can be set. Made in `main`, moved into [`crate::ApiServer::new`].
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// The flags that the process was started with, to be shown.
    #[arg(skip)]
    pub flags: Vec<(String, String)>,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    pub bind_address: IpAddr,
    /// Port to listen on, with TLS.
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// Address at which other members of the cluster reach this server.
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// Serving certificate, with intermediates.
    #[arg(id = "tls-cert-file", long)]
    pub tls_certificate: Option<PathBuf>,
    /// Key of the serving certificate.
    #[arg(id = "tls-private-key-file", long)]
    pub tls_private_key: Option<PathBuf>,
    /// Where a self-signed certificate is kept when no --tls-cert-file is given.
    #[arg(id = "cert-dir", long, default_value = "/var/run/kubernetes")]
    pub certificate_directory: PathBuf,
    /// CA that signs client certificates.
    #[arg(id = "client-ca-file", long)]
    pub client_ca: Option<PathBuf>,
    /// Addresses of Services, one range per family, separated by commas.
    #[arg(id = "service-cluster-ip-range", long, value_delimiter = ',', default_value = "10.96.0.0/16")]
    pub service_cluster_ip_ranges: Vec<Cidr>,
    /// Ports of NodePort Services.
    #[arg(id = "service-node-port-range", long, default_value = "30000-32767", value_parser = ports)]
    pub service_node_ports: RangeInclusive<u16>,
    /// Public or private keys that verify ServiceAccount tokens.
    #[arg(id = "service-account-key-file", long)]
    pub service_account_keys: Vec<PathBuf>,
    /// Private key that signs ServiceAccount tokens.
    #[arg(id = "service-account-signing-key-file", long)]
    pub service_account_signing_key: Option<PathBuf>,
    /// Issuer of ServiceAccount tokens; the first signs, the others are accepted.
    #[arg(id = "service-account-issuer", long, default_value = "https://kubernetes.default.svc.cluster.local")]
    pub service_account_issuers: Vec<String>,
    /// Audiences that tokens must have.
    #[arg(long, value_delimiter = ',')]
    pub api_audiences: Vec<String>,
    /// Static tokens: token,user,uid,"group1,group2" a line.
    #[arg(long)]
    pub token_auth_file: Option<PathBuf>,
    /// Whether requests without credentials pass as system:anonymous.
    #[arg(long, default_value_t = true)]
    pub anonymous_auth: bool,
    /// Authorisers in order: Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny; Node and RBAC if nothing is said.
    #[arg(id = "authorization-mode", long, value_delimiter = ',')]
    pub authorization_modes: Vec<String>,
    #[command(flatten)]
    pub authentication: AuthenticationConfig,
    #[command(flatten)]
    pub authorization: AuthorizationConfig,
    #[command(flatten)]
    pub token_webhook: TokenWebhookConfig,
    #[command(flatten)]
    pub admission: AdmissionConfig,
    /// Client certificate for kubelets.
    #[arg(long)]
    pub kubelet_client_certificate: Option<PathBuf>,
    /// Key of the client certificate for kubelets.
    #[arg(long)]
    pub kubelet_client_key: Option<PathBuf>,
    /// CA of the kubelets' serving certificates.
    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// Which node addresses to use, best first.
    #[arg(id = "kubelet-preferred-address-types", long, value_delimiter = ',')]
    #[arg(default_value = "InternalIP,Hostname,ExternalIP")]
    pub kubelet_address_types: Vec<String>,
    /// Client certificate for aggregated API servers.
    #[arg(id = "proxy-client-cert-file", long)]
    pub proxy_client_certificate: Option<PathBuf>,
    /// Key of the client certificate for aggregated API servers.
    #[arg(id = "proxy-client-key-file", long)]
    pub proxy_client_key: Option<PathBuf>,
    /// Reach aggregated API servers by the endpoints of their Service, rather than by its cluster address.
    #[arg(id = "enable-aggregator-routing", long)]
    pub aggregator_routing: bool,
    /// Whether an aggregated API server may not send clients elsewhere.
    #[arg(id = "aggregator-reject-forwarding-redirect", long, default_value_t = true)]
    pub aggregator_rejects_redirects: bool,
    /// Whether aggregated API servers may be at addresses that only this machine can see. Users write Services: off but
    /// for tests.
    #[arg(skip)]
    pub aggregator_reaches_loopback: bool,
    #[command(flatten)]
    pub front_proxies: FrontProxies,
    /// Whether the Secrets of bootstrap tokens make users.
    #[arg(id = "enable-bootstrap-token-auth", long)]
    pub bootstrap_tokens: bool,
    /// Longest life of a token that somebody asks for, between one hour and 2^32 seconds; 0 for any.
    #[arg(long, default_value = "0s", value_parser = nothing_for(Duration::ZERO, duration))]
    pub service_account_max_token_expiration: std::option::Option<Duration>,
    /// Whether the tokens of pods live for a year, for clients that never read a new one.
    #[arg(long, default_value_t = true)]
    pub service_account_extend_token_expiration: bool,
    /// Where others find the keys that tokens are checked with, if not at this server.
    #[arg(long)]
    pub service_account_jwks_uri: Option<String>,
    /// Name, perhaps with a port, by which others outside of the cluster reach this server.
    #[arg(long)]
    pub external_hostname: Option<String>,
    /// Who keeps the endpoints of the Service kubernetes: lease and master-count for this server, none for nobody.
    #[arg(long, default_value = "lease")]
    pub endpoint_reconciler_type: EndpointReconciler,
    /// The name of this machine, by which a Lease in `kube-system` tells others of this server; `None` for no Lease.
    #[arg(skip)]
    pub identity: Option<String>,
    /// Whether other servers may use the same store, and have endpoints of their own.
    #[arg(skip)]
    pub shares_store: bool,
    /// Whether scheduler and controllers run in this process as well.
    #[arg(skip)]
    pub is_whole_control_plane: bool,
    #[command(flatten)]
    pub tls: TlsOptions,
    /// Certificate for names of its own, as CERTIFICATE,KEY or CERTIFICATE,KEY:NAME,NAME. May be given again.
    #[arg(id = "tls-sni-cert-key", long)]
    pub named_certificates: Vec<NamedCertificate>,
    /// Speak HTTP/1.1 only.
    #[arg(long)]
    pub disable_http2_serving: bool,
    /// Streams of one HTTP/2 connection; 0 for what is good for watches.
    #[arg(id = "http2-max-streams-per-connection", long, default_value = "0")]
    #[arg(value_parser = nothing_for(0, clap::value_parser!(u32)))]
    pub http2_streams: std::option::Option<u32>,
    /// The share of HTTP/2 requests after which a client is told to connect anew, 0 to 0.02.
    #[arg(long, default_value_t = 0.0)]
    pub goaway_chance: f64,
    #[command(flatten)]
    pub limits: Limits,
    /// How long the server goes on serving, but is not ready any more, after it was asked to end.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub shutdown_delay_duration: Duration,
    /// API versions to turn on and off, as api/all=false,apps/v1=true; api/ga, api/beta and api/alpha are levels.
    #[arg(long, value_delimiter = ',')]
    pub runtime_config: Vec<Served>,
    #[command(flatten)]
    pub toleration_seconds: DefaultTolerationSeconds,
    /// How long events are kept.
    #[arg(long, default_value = "1h0m0s", value_parser = duration)]
    pub event_ttl: Duration,
    /// Other requests than watches and streams end after this.
    #[arg(long, default_value = "1m0s", value_parser = duration)]
    pub request_timeout: Duration,
    /// Watches without a timeout end after between this many seconds and twice as many.
    #[arg(long, default_value = "1800", value_parser = clap::value_parser!(u64).map(Duration::from_secs))]
    pub min_request_timeout: Duration,
    /// Whether deletes leave dependents to the garbage collector.
    #[arg(long, default_value_t = true)]
    pub enable_garbage_collector: bool,
    /// The audit log: its flags are checked together before they are this.
    #[arg(skip)]
    pub audit: AuditConfig,
    /// How objects lie in the store.
    #[arg(skip)]
    pub encryption: EncryptionConfig,
}

impl Default for Config {
    /// What the flags say, for a server in a test: RBAC, and containers may be privileged.
    fn default() -> Self {
        let authorization_modes = ["Node", "RBAC"].map(str::to_owned).to_vec();
        Self { authorization_modes, admission: AdmissionConfig::default(), ..daemon::pflag::defaults() }
    }
}

/// Proxies in front of this server, which name users in headers.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct FrontProxies {
    /// CA of front proxies that name users in headers.
    #[arg(id = "requestheader-client-ca-file", long)]
    pub ca: Option<PathBuf>,
    /// Common names of front proxies; empty for any that the CA signed.
    #[arg(id = "requestheader-allowed-names", long, value_delimiter = ',')]
    pub allowed_names: Vec<String>,
    #[command(flatten)]
    pub headers: Headers,
}

/// Who keeps the endpoints of the Service `kubernetes`: nobody, or this server with those that share its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EndpointReconciler {
    Lease,
    MasterCount,
    None,
}

/// A parser for which one value says the same as none.
fn nothing_for<P>(nothing: P::Value, parser: P) -> impl TypedValueParser<Value = Option<P::Value>>
where
    P: TypedValueParser<Value: PartialEq + Clone + Send + Sync + 'static>,
{
    parser.map(move |value| Some(value).filter(|value| *value != nothing))
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let bad = || format!("{text:?} is not a range of ports such as 30000-32767");
    let (first, last) = text.split_once('-').ok_or_else(bad)?;
    let (first, last): (u16, u16) = (first.trim().parse().map_err(|_| bad())?, last.trim().parse().map_err(|_| bad())?);
    if first == 0 || first > last { Err(bad()) } else { Ok(first..=last) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ports_are_read() {
        assert_eq!(ports("30000-32767"), Ok(30_000..=32_767));
        assert!(ports("5-1").is_err());
    }
}
