//! The command line, with upstream's flag names.

mod audit;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use daemon::TlsOptions;
use http::HeaderName;

use crate::admission::{AdmissionConfig, DefaultTolerationSeconds};
use crate::service_addresses::Cidr;
use crate::authn::{AuthenticationConfig, Headers, OidcArgs, TokenWebhookConfig};
use crate::authz::{AuthorizationConfig, ReviewVersion, WebhookConfig};
use crate::config::{Config, FrontProxies};
use crate::encryption::EncryptionConfig;
use crate::error::Error;
use crate::flow_control::Limits;
use crate::http::NamedCertificate;
use crate::runtime_config::Served;
use crate::service_addresses::Cidr;

use self::audit::AuditArgs;

/// Where the objects lie.
#[derive(Clone, Debug, clap::Args)]
pub struct StoreArgs {
    /// Directory of the embedded store, used when no --etcd-servers are given.
    #[arg(long, default_value = "/var/lib/coracle/apiserver")]
    pub data_dir: PathBuf,
    /// etcd endpoints, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub etcd_servers: Vec<String>,
    /// CA of the etcd endpoints.
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,
    /// Client certificate for etcd.
    #[arg(long)]
    pub etcd_certfile: Option<PathBuf>,
    /// Key of the client certificate for etcd.
    #[arg(long)]
    pub etcd_keyfile: Option<PathBuf>,
    /// Prefix of all keys in etcd.
    #[arg(long, default_value = "/registry")]
    pub etcd_prefix: String,
}

/// Flags of the API server.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub store: StoreArgs,
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
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    /// Key of the serving certificate.
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// Where a self-signed certificate is kept when no --tls-cert-file is given.
    #[arg(long, default_value = "/var/run/kubernetes")]
    pub cert_dir: PathBuf,
    /// CA that signs client certificates.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Addresses of Services, one range per family, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "10.96.0.0/16")]
    pub service_cluster_ip_range: Vec<Cidr>,
    /// Ports of NodePort Services.
    #[arg(long, default_value = "30000-32767", value_parser = parse_ports)]
    pub service_node_port_range: RangeInclusive<u16>,
    /// Public or private keys that verify ServiceAccount tokens.
    #[arg(long)]
    pub service_account_key_file: Vec<PathBuf>,
    /// Private key that signs ServiceAccount tokens.
    #[arg(long)]
    pub service_account_signing_key_file: Option<PathBuf>,
    /// Issuer of ServiceAccount tokens; the first signs, the others are accepted.
    #[arg(long, default_value = "https://kubernetes.default.svc.cluster.local")]
    pub service_account_issuer: Vec<String>,
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
    #[arg(long, value_delimiter = ',')]
    pub authorization_mode: Vec<String>,
    #[command(flatten)]
    pub oidc: OidcArgs,
    #[command(flatten)]
    pub webhooks: WebhookArgs,
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
    #[arg(long, value_delimiter = ',', default_value = "InternalIP,Hostname,ExternalIP")]
    pub kubelet_preferred_address_types: Vec<String>,
    /// Client certificate for aggregated API servers.
    #[arg(long)]
    pub proxy_client_cert_file: Option<PathBuf>,
    /// Key of the client certificate for aggregated API servers.
    #[arg(long)]
    pub proxy_client_key_file: Option<PathBuf>,
    /// Reach aggregated API servers by the endpoints of their Service, rather than by its cluster address.
    #[arg(long)]
    pub enable_aggregator_routing: bool,
    /// Whether an aggregated API server may not send clients elsewhere.
    #[arg(long, default_value_t = true)]
    pub aggregator_reject_forwarding_redirect: bool,
    #[command(flatten)]
    pub front_proxy: FrontProxyArgs,
    /// Whether the Secrets of bootstrap tokens make users.
    #[arg(long)]
    pub enable_bootstrap_token_auth: bool,
    #[command(flatten)]
    pub tokens: TokenArgs,
    #[command(flatten)]
    pub serving: ServingArgs,
    /// API versions to turn on and off, as api/all=false,apps/v1=true; api/ga, api/beta and api/alpha are levels.
    #[arg(long, value_delimiter = ',')]
    pub runtime_config: Vec<Served>,
    #[command(flatten)]
    pub toleration_seconds: DefaultTolerationSeconds,
    /// How long events are kept.
    #[arg(long, default_value = "1h0m0s", value_parser = daemon::pflag::duration)]
    pub event_ttl: Duration,
    /// Other requests than watches and streams end after this.
    #[arg(long, default_value = "1m0s", value_parser = daemon::pflag::duration)]
    pub request_timeout: Duration,
    /// Watches without a timeout end after between this many seconds and twice as many.
    #[arg(long, default_value_t = 1800)]
    pub min_request_timeout: u64,
    /// Whether deletes leave dependents to the garbage collector.
    #[arg(long, default_value_t = true)]
    pub enable_garbage_collector: bool,
    #[command(flatten)]
    pub audit: AuditArgs,
    #[command(flatten)]
    pub encryption: EncryptionArgs,
}

/// Files and webhooks that say who authenticates and authorises.
#[derive(Clone, Debug, clap::Args)]
pub struct WebhookArgs {
    /// Issuers of tokens, and on which paths requests without credentials pass: an AuthenticationConfiguration.
    #[arg(long)]
    pub authentication_config: Option<PathBuf>,
    /// Authorisers in order, with their options: an AuthorizationConfiguration, instead of --authorization-mode.
    #[arg(long)]
    pub authorization_config: Option<PathBuf>,
    /// Where the authoriser Webhook is: a kubeconfig file.
    #[arg(long)]
    pub authorization_webhook_config_file: Option<PathBuf>,
    /// The version of the reviews that it is sent: v1 or v1beta1.
    #[arg(long, default_value = "v1beta1")]
    pub authorization_webhook_version: ReviewVersion,
    /// For how long it is remembered what it has allowed.
    #[arg(long, default_value = "5m0s", value_parser = daemon::pflag::duration)]
    pub authorization_webhook_cache_authorized_ttl: Duration,
    /// For how long it is remembered what it has not allowed.
    #[arg(long, default_value = "30s", value_parser = daemon::pflag::duration)]
    pub authorization_webhook_cache_unauthorized_ttl: Duration,
    /// Where the webhook is that knows bearer tokens: a kubeconfig file.
    #[arg(long)]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// The version of the reviews that it is sent: v1 or v1beta1.
    #[arg(long, default_value = "v1beta1")]
    pub authentication_token_webhook_version: ReviewVersion,
    /// For how long its answers are remembered.
    #[arg(long, default_value = "2m0s", value_parser = daemon::pflag::duration)]
    pub authentication_token_webhook_cache_ttl: Duration,
}

impl WebhookArgs {
    fn authorization(&self, modes: &[String]) -> Result<AuthorizationConfig, Error> {
        let webhook = WebhookConfig {
            file: self.authorization_webhook_config_file.clone(),
            version: self.authorization_webhook_version,
            authorized: self.authorization_webhook_cache_authorized_ttl,
            unauthorized: self.authorization_webhook_cache_unauthorized_ttl,
            ..WebhookConfig::default()
        };
        if self.authorization_config.is_some() && (!modes.is_empty() || webhook != WebhookConfig::default()) {
            let why = "can not be specified when --authorization-mode or --authorization-webhook-* flags are defined";
            return Err(Error::Flag { flag: "authorization-config", why: why.to_owned() });
        }
        Ok(AuthorizationConfig { file: self.authorization_config.clone(), webhook, ..AuthorizationConfig::default() })
    }

    fn tokens(self) -> TokenWebhookConfig {
        TokenWebhookConfig {
            file: self.authentication_token_webhook_config_file,
            version: self.authentication_token_webhook_version,
            keep: self.authentication_token_webhook_cache_ttl,
        }
    }
}

/// Encryption at rest.
#[derive(Clone, Debug, clap::Args)]
pub struct EncryptionArgs {
    /// With which keys objects are encrypted in the store: an EncryptionConfiguration.
    #[arg(long)]
    pub encryption_provider_config: Option<PathBuf>,
    /// Whether changes of that file count without a restart.
    #[arg(long)]
    pub encryption_provider_config_automatic_reload: bool,
}

impl EncryptionArgs {
    fn into_config(self) -> Result<EncryptionConfig, Error> {
        let (file, reload) = (self.encryption_provider_config, self.encryption_provider_config_automatic_reload);
        if reload && file.is_none() {
            let why = "must be set with --encryption-provider-config".to_owned();
            return Err(Error::Flag { flag: "encryption-provider-config-automatic-reload", why });
        }
        Ok(EncryptionConfig { file, reload, ..EncryptionConfig::default() })
    }
}

/// Flags for proxies in front of the server.
#[derive(Clone, Debug, clap::Args)]
pub struct FrontProxyArgs {
    /// CA of front proxies that name users in headers.
    #[arg(long)]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of front proxies; empty for any that the CA signed.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_allowed_names: Vec<String>,
    /// Headers that name the user.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_username_headers: Vec<HeaderName>,
    /// Headers that name the user's UID.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_uid_headers: Vec<HeaderName>,
    /// Headers that name the groups.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_group_headers: Vec<HeaderName>,
    /// Prefixes of headers with extra facts of the user.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_extra_headers_prefix: Vec<String>,
}

/// Flags for ServiceAccount tokens beside their keys.
#[derive(Clone, Debug, clap::Args)]
pub struct TokenArgs {
    /// Longest life of a token that somebody asks for, between one hour and 2^32 seconds; 0 for any.
    #[arg(long, default_value = "0s", value_parser = daemon::pflag::duration)]
    pub service_account_max_token_expiration: Duration,
    /// Whether the tokens of pods live for a year, for clients that never read a new one.
    #[arg(long, default_value_t = true)]
    pub service_account_extend_token_expiration: bool,
    /// Where others find the keys that tokens are checked with, if not at this server.
    #[arg(long)]
    pub service_account_jwks_uri: Option<String>,
}

/// Flags for how requests come in.
#[derive(Clone, Debug, clap::Args)]
pub struct ServingArgs {
    /// Name, perhaps with a port, by which others outside of the cluster reach this server.
    #[arg(long)]
    pub external_hostname: Option<String>,
    /// Who keeps the endpoints of the Service kubernetes: lease and master-count for this server, none for nobody.
    #[arg(long, default_value = "lease", value_parser = ["lease", "master-count", "none"])]
    pub endpoint_reconciler_type: String,
    #[command(flatten)]
    pub tls: TlsOptions,
    /// Certificate for names of its own, as CERTIFICATE,KEY or CERTIFICATE,KEY:NAME,NAME. May be given again.
    #[arg(long)]
    pub tls_sni_cert_key: Vec<NamedCertificate>,
    /// Speak HTTP/1.1 only.
    #[arg(long)]
    pub disable_http2_serving: bool,
    /// Streams of one HTTP/2 connection; 0 for what is good for watches.
    #[arg(long, default_value_t = 0)]
    pub http2_max_streams_per_connection: u32,
    /// The share of HTTP/2 requests after which a client is told to connect anew, 0 to 0.02.
    #[arg(long, default_value_t = 0.0)]
    pub goaway_chance: f64,
    /// Reads at a time; with writes the number of requests at a time. 0 for no limit.
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    /// Writes at a time; with reads the number of requests at a time. 0 for no limit.
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    /// Whether requests beyond the limit wait in order; else they are turned away.
    #[arg(long, default_value_t = true)]
    pub enable_priority_and_fairness: bool,
    /// How long the server goes on serving, but is not ready any more, after it was asked to end.
    #[arg(long, default_value = "0s", value_parser = daemon::pflag::duration)]
    pub shutdown_delay_duration: Duration,
}

impl Args {
    /// The configuration that the flags say.
    pub fn into_config(self) -> Result<Config, Error> {
        if self.service_cluster_ip_range.is_empty() || self.service_cluster_ip_range.len() > 2 {
            return Err(Error::Flag {
                flag: "service-cluster-ip-range",
                why: "give one range, or one per address family".into(),
            });
        }
        if self.request_timeout.is_zero() {
            return Err(Error::Flag { flag: "request-timeout", why: "must not be zero".into() });
        }
        self.tokens.check()?;
        self.serving.check()?;
        let authorization = self.webhooks.authorization(&self.authorization_mode)?;
        let modes = Some(self.authorization_mode).filter(|modes| !modes.is_empty());
        Ok(Config {
            flags: Vec::new(),
            bind_address: self.bind_address,
            secure_port: self.secure_port,
            advertise_address: self.advertise_address.or_else(|| advertised(self.bind_address)),
            tls_certificate: self.tls_cert_file,
            tls_private_key: self.tls_private_key_file,
            certificate_directory: self.cert_dir,
            client_ca: self.client_ca_file,
            service_cluster_ip_ranges: self.service_cluster_ip_range,
            service_node_ports: self.service_node_port_range,
            service_account_keys: self.service_account_key_file,
            service_account_signing_key: self.service_account_signing_key_file,
            service_account_issuers: self.service_account_issuer,
            api_audiences: self.api_audiences,
            token_auth_file: self.token_auth_file,
            anonymous_auth: self.anonymous_auth,
            authentication: AuthenticationConfig {
                file: self.webhooks.authentication_config.clone(),
                oidc: self.oidc,
                ..AuthenticationConfig::default()
            },
            authorization_modes: modes.unwrap_or_else(|| ["Node", "RBAC"].map(str::to_owned).to_vec()),
            authorization,
            token_webhook: self.webhooks.tokens(),
            admission: self.admission,
            kubelet_client_certificate: self.kubelet_client_certificate,
            kubelet_client_key: self.kubelet_client_key,
            kubelet_certificate_authority: self.kubelet_certificate_authority,
            kubelet_address_types: self.kubelet_preferred_address_types,
            proxy_client_certificate: self.proxy_client_cert_file,
            proxy_client_key: self.proxy_client_key_file,
            aggregator_routing: self.enable_aggregator_routing,
            aggregator_rejects_redirects: self.aggregator_reject_forwarding_redirect,
            aggregator_reaches_loopback: false,
            front_proxies: self.front_proxy.into_config(),
            bootstrap_tokens: self.enable_bootstrap_token_auth,
            service_account_max_token_expiration: Some(self.tokens.service_account_max_token_expiration)
                .filter(|longest| !longest.is_zero()),
            service_account_extend_token_expiration: self.tokens.service_account_extend_token_expiration,
            service_account_jwks_uri: self.tokens.service_account_jwks_uri,
            limits: self.serving.limits(),
            external_hostname: self.serving.external_hostname,
            shares_store: !self.store.etcd_servers.is_empty(),
            identity: host::name(),
            is_whole_control_plane: false,
            publish_endpoints: self.serving.endpoint_reconciler_type != "none",
            runtime_config: self.runtime_config,
            toleration_seconds: self.toleration_seconds,
            tls: self.serving.tls,
            named_certificates: self.serving.tls_sni_cert_key,
            http2: !self.serving.disable_http2_serving,
            http2_streams: Some(self.serving.http2_max_streams_per_connection).filter(|streams| *streams > 0),
            goaway_chance: self.serving.goaway_chance,
            event_ttl: self.event_ttl,
            request_timeout: self.request_timeout,
            min_request_timeout: Duration::from_secs(self.min_request_timeout),
            enable_garbage_collector: self.enable_garbage_collector,
            audit: self.audit.into_config()?,
            encryption: self.encryption.into_config()?,
        })
    }
}

impl FrontProxyArgs {
    fn into_config(self) -> Option<FrontProxies> {
        let headers = Headers {
            username: self.requestheader_username_headers,
            uid: self.requestheader_uid_headers,
            group: self.requestheader_group_headers,
            extra_prefix: self.requestheader_extra_headers_prefix.iter().map(|text| text.to_lowercase()).collect(),
        };
        let ca = self.requestheader_client_ca_file?;
        Some(FrontProxies { ca, allowed_names: self.requestheader_allowed_names, headers })
    }
}

impl TokenArgs {
    fn check(&self) -> Result<(), Error> {
        let seconds = self.service_account_max_token_expiration.as_secs();
        if seconds != 0 && !(3600..=1 << 32).contains(&seconds) {
            let why = "must be between 1 hour and 2^32 seconds".to_owned();
            return Err(Error::Flag { flag: "service-account-max-token-expiration", why });
        }
        if self.service_account_jwks_uri.as_ref().is_some_and(|uri| !uri.starts_with("https://")) {
            return Err(Error::Flag { flag: "service-account-jwks-uri", why: "must begin with https://".into() });
        }
        Ok(())
    }
}

impl ServingArgs {
    fn check(&self) -> Result<(), Error> {
        if !(0.0..=0.02).contains(&self.goaway_chance) {
            return Err(Error::Flag { flag: "goaway-chance", why: "must be between 0 and 0.02".into() });
        }
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits {
            max_requests_inflight: self.max_requests_inflight,
            max_mutating_requests_inflight: self.max_mutating_requests_inflight,
            fair: self.enable_priority_and_fairness,
        }
    }
}

/// The address that others are told when they are told none: that which is listened on, or if it is of no use to them, that
/// of the default route.
fn advertised(bound: IpAddr) -> Option<IpAddr> {
    if bound.is_loopback() || bound.is_unspecified() { host::of_default_route() } else { Some(bound) }
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let bad = || format!("{text:?} is not a range of ports such as 30000-32767");
    let (first, last) = text.split_once('-').ok_or_else(bad)?;
    let (first, last): (u16, u16) = (first.trim().parse().map_err(|_| bad())?, last.trim().parse().map_err(|_| bad())?);
    if first == 0 || first > last { Err(bad()) } else { Ok(first..=last) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_told_an_address_that_is_of_use_to_them() {
        let of = |text: &str| advertised(text.parse().unwrap());
        assert_eq!(of("192.0.2.7"), "192.0.2.7".parse().ok());
        for useless in ["0.0.0.0", "127.0.0.1", "::", "::1"] {
            assert_eq!(of(useless), host::of_default_route(), "{useless}");
        }
    }

    #[test]
    fn ranges_of_ports_are_read() {
        assert_eq!(parse_ports("30000-32767"), Ok(30_000..=32_767));
        assert!(parse_ports("5-1").is_err());
    }
}
