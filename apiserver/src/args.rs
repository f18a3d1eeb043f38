//! The command line, with upstream's flag names: where the objects lie, and the configuration.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use store::etcd::{Options, Tls};

use crate::audit::AuditArgs;
use crate::config::Config;
use crate::encryption::EncryptionConfig;
use crate::error::Error;

/// Flags of the API server.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub audit: AuditArgs,
    #[command(flatten)]
    pub encryption: EncryptionConfig,
}

/// Where the objects lie.
#[derive(Clone, Debug, clap::Args)]
pub struct StoreArgs {
    /// Directory of the embedded store, used when no --etcd-servers are given.
    #[arg(long, default_value = "/var/lib/coracle/apiserver")]
    pub data_dir: PathBuf,
    #[command(flatten)]
    pub etcd: EtcdArgs,
    /// Prefix of all keys in etcd.
    #[arg(long, default_value = "/registry")]
    pub etcd_prefix: String,
}

/// How etcd is reached.
#[derive(Clone, Debug, clap::Args)]
pub struct EtcdArgs {
    /// etcd endpoints, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub etcd_servers: Vec<String>,
    /// CA of the etcd endpoints.
    #[arg(long, requires = "etcd_servers")]
    pub etcd_cafile: Option<PathBuf>,
    /// Client certificate for etcd.
    #[arg(long, requires = "etcd_servers")]
    pub etcd_certfile: Option<PathBuf>,
    /// Key of the client certificate for etcd.
    #[arg(long, requires = "etcd_servers")]
    pub etcd_keyfile: Option<PathBuf>,
}

impl EtcdArgs {
    /// Options for a client. Fails when a file cannot be read, or one of those that go together is missing.
    pub fn options(&self) -> anyhow::Result<Options> {
        Ok(Options { tls: self.tls()?, ..Options::new(self.etcd_servers.clone()) })
    }

    fn tls(&self) -> anyhow::Result<Option<Tls>> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
        let identity = match (&self.etcd_certfile, &self.etcd_keyfile) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            (None, None) => None,
            _ => bail!("--etcd-certfile and --etcd-keyfile go together"),
        };
        match &self.etcd_cafile {
            Some(ca) => Ok(Some(Tls { ca: read(ca)?, identity })),
            None => {
                ensure!(identity.is_none(), "--etcd-certfile needs --etcd-cafile");
                Ok(None)
            }
        }
    }
}

impl Args {
    /// The configuration that the flags say, if they go together.
    pub fn into_config(self) -> Result<Config, Error> {
        let Self { store, config, audit, encryption } = self;
        check(&config)?;
        config.authorization.check(&config.authorization_modes)?;
        let audit = audit.into_config()?;
        encryption.check()?;
        let modes = Some(config.authorization_modes).filter(|modes| !modes.is_empty());
        Ok(Config {
            advertise_address: config.advertise_address.or_else(|| advertised(config.bind_address)),
            authorization_modes: modes.unwrap_or_else(|| ["Node", "RBAC"].map(str::to_owned).to_vec()),
            shares_store: !store.etcd.etcd_servers.is_empty(),
            identity: host::name(),
            audit,
            encryption,
            ..config
        })
    }
}

fn check(config: &Config) -> Result<(), Error> {
    let refuse = |flag, why: &str| Err(Error::Flag { flag, why: why.to_owned() });
    if !(1..=2).contains(&config.service_cluster_ip_ranges.len()) {
        return refuse("service-cluster-ip-range", "give one range, or one per address family");
    }
    if config.request_timeout.is_zero() {
        return refuse("request-timeout", "must not be zero");
    }
    let longest = config.service_account_max_token_expiration.map(|longest| longest.as_secs());
    if longest.is_some_and(|seconds| seconds != 0 && !(3600..=1 << 32).contains(&seconds)) {
        return refuse("service-account-max-token-expiration", "must be between 1 hour and 2^32 seconds");
    }
    if config.service_account_jwks_uri.as_ref().is_some_and(|uri| !uri.starts_with("https://")) {
        return refuse("service-account-jwks-uri", "must begin with https://");
    }
    if !(0.0..=0.02).contains(&config.goaway_chance) {
        return refuse("goaway-chance", "must be between 0 and 0.02");
    }
    Ok(())
}

/// The address that others are told when they are told none: that which is listened on, or if it is of no use to them, that
/// of the default route.
fn advertised(bound: IpAddr) -> Option<IpAddr> {
    if bound.is_loopback() || bound.is_unspecified() { host::of_default_route() } else { Some(bound) }
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
}
