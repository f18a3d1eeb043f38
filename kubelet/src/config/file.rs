//! The configuration file: a `KubeletConfiguration` of kubelet.config.k8s.io/v1beta1, with drop-ins over it.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use daemon::{CipherSuite, ConfigFile, LogArgs, LogFormat, MinVersion};
use k8s_openapi::api::core::v1::Taint;
use serde::{Deserialize, Deserializer};

const VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";
/// The fields that mean nothing to this kubelet, or that ask for what it does not have.
const OTHERS: &str = include_str!("config_fields.txt");

/// The fields of a `KubeletConfiguration` that this kubelet obeys; any other that it does not know is refused.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct File {
    #[serde(deserialize_with = "given")]
    pub(crate) address: Option<IpAddr>,
    #[serde(deserialize_with = "given")]
    pub(crate) port: Option<u16>,
    pub(crate) enable_server: Option<bool>,
    #[serde(deserialize_with = "given")]
    pub(crate) healthz_bind_address: Option<IpAddr>,
    pub(crate) healthz_port: Option<u16>,
    authentication: Authentication,
    authorization: Authorization,
    #[serde(rename = "clusterDNS")]
    pub(crate) cluster_dns: Option<Vec<IpAddr>>,
    #[serde(deserialize_with = "given")]
    pub(crate) cluster_domain: Option<String>,
    pub(crate) kube_reserved: BTreeMap<String, String>,
    pub(crate) system_reserved: BTreeMap<String, String>,
    pub(crate) eviction_hard: BTreeMap<String, String>,
    pub(crate) feature_gates: BTreeMap<String, bool>,
    memory_swap: MemorySwap,
    logging: Logging,
    pub(crate) max_pods: Option<usize>,
    #[serde(rename = "podCIDR", deserialize_with = "given")]
    pub(crate) pod_cidr: Option<String>,
    pub(crate) pod_pids_limit: Option<i64>,
    pub(crate) allowed_unsafe_sysctls: Vec<String>,
    #[serde(deserialize_with = "given")]
    pub(crate) pod_logs_dir: Option<PathBuf>,
    #[serde(rename = "providerID", deserialize_with = "given")]
    pub(crate) provider_id: Option<String>,
    pub(crate) register_node: Option<bool>,
    pub(crate) register_with_taints: Vec<Taint>,
    pub(crate) resolv_conf: Option<PathBuf>,
    pub(crate) serialize_image_pulls: Option<bool>,
    pub(crate) max_parallel_image_pulls: Option<usize>,
    #[serde(deserialize_with = "given")]
    pub(crate) static_pod_path: Option<PathBuf>,
    #[serde(deserialize_with = "given")]
    pub(crate) tls_cert_file: Option<PathBuf>,
    #[serde(deserialize_with = "given")]
    pub(crate) tls_private_key_file: Option<PathBuf>,
    #[serde(deserialize_with = "parsed")]
    pub(crate) tls_min_version: Option<MinVersion>,
    tls_cipher_suites: Vec<String>,
    #[serde(deserialize_with = "time")]
    pub(crate) node_status_update_frequency: Option<Duration>,
    #[serde(deserialize_with = "time")]
    pub(crate) node_status_report_frequency: Option<Duration>,
    pub(crate) node_lease_duration_seconds: Option<i32>,
    pub(crate) node_status_max_images: Option<i32>,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub(crate) image_gc_high_threshold_percent: Option<u64>,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub(crate) image_gc_low_threshold_percent: Option<u64>,
    #[serde(deserialize_with = "given")]
    pub(crate) container_log_max_size: Option<String>,
    pub(crate) container_log_max_files: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Authentication {
    x509: X509,
    anonymous: Anonymous,
    webhook: AuthenticationWebhook,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct X509 {
    #[serde(rename = "clientCAFile", deserialize_with = "given")]
    client_ca_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Anonymous {
    enabled: Option<bool>,
}

/// The times of caches are upstream's defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct AuthenticationWebhook {
    enabled: Option<bool>,
    #[serde(rename = "cacheTTL", deserialize_with = "time")]
    _cache_ttl: Option<Duration>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Authorization {
    #[serde(deserialize_with = "given")]
    mode: Option<String>,
    #[serde(rename = "webhook")]
    _webhook: AuthorizationWebhook,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AuthorizationWebhook {
    #[serde(rename = "cacheAuthorizedTTL", deserialize_with = "time")]
    _authorized: Option<Duration>,
    #[serde(rename = "cacheUnauthorizedTTL", deserialize_with = "time")]
    _unauthorized: Option<Duration>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct MemorySwap {
    #[serde(deserialize_with = "given")]
    swap_behavior: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Logging {
    #[serde(deserialize_with = "given")]
    format: Option<String>,
    verbosity: u8,
    // Nothing is buffered, and all goes to standard error.
    #[serde(rename = "flushFrequency")]
    _flush_frequency: serde_json::Value,
    #[serde(rename = "options")]
    _options: serde_json::Value,
    #[serde(rename = "vmodule")]
    _vmodule: serde_json::Value,
}

impl File {
    /// Reads the file, and the `*.conf` of a directory over it, in the order of their names.
    pub(crate) fn read(path: Option<&Path>, directory: Option<&Path>) -> anyhow::Result<Self> {
        let mut all = path.map(Path::to_owned).into_iter().collect::<Vec<_>>();
        if let Some(directory) = directory {
            all.extend(drop_ins(directory).with_context(|| format!("read --config-dir {}", directory.display()))?);
        }
        let mut joined: Option<ConfigFile> = None;
        for path in all {
            let file = ConfigFile::read(&path, VERSION, KIND)?;
            match &mut joined {
                Some(joined) => joined.overlay(file),
                None => joined = Some(file),
            }
        }
        let Some(mut joined) = joined else { return Ok(Self::default()) };
        joined.ignore(OTHERS)?;
        let about = joined.clone();
        let file: Self = joined.decode()?;
        file.check().map_err(|(field, why)| about.refused(field, why))?;
        Ok(file)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        let refuse = |field, why: &str| Err((field, why.to_owned()));
        if self.authentication.anonymous.enabled == Some(true) {
            return refuse("authentication.anonymous.enabled", "nobody may ask without saying who it is");
        }
        if self.authentication.webhook.enabled == Some(false) {
            return refuse("authentication.webhook.enabled", "the API server is always asked whose a token is");
        }
        if self.authorization.mode.as_ref().is_some_and(|mode| mode != "Webhook") {
            return refuse("authorization.mode", "the API server is always asked who may: Webhook");
        }
        if self.memory_swap.swap_behavior.as_ref().is_some_and(|behavior| behavior != "NoSwap") {
            return refuse("memorySwap.swapBehavior", "containers never swap: NoSwap");
        }
        if self.logging.format.as_ref().is_some_and(|format| !matches!(format.as_str(), "text" | "json")) {
            return refuse("logging.format", "must be text or json");
        }
        for (name, on) in &self.feature_gates {
            daemon::check_feature(name, *on).map_err(|err| ("featureGates", err.to_string()))?;
        }
        self.cipher_suites().map(|_| ())
    }

    /// Signs client certificates.
    pub(crate) fn client_ca(&self) -> Option<&PathBuf> {
        self.authentication.x509.client_ca_file.as_ref()
    }

    pub(crate) fn cipher_suites(&self) -> Result<Vec<CipherSuite>, (&'static str, String)> {
        let parse = |name: &String| name.parse().map_err(|why| ("tlsCipherSuites", format!("{name:?} {why}")));
        self.tls_cipher_suites.iter().map(parse).collect()
    }

    /// Flags of logging win over the file.
    pub(crate) fn set_logs(&self, logs: &mut LogArgs) {
        if logs.verbosity == 0 {
            logs.verbosity = self.logging.verbosity;
        }
        if self.logging.format.as_deref() == Some("json") {
            logs.format = LogFormat::Json;
        }
    }
}

fn drop_ins(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let paths = std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf") && path.is_file());
    paths.sort();
    Ok(paths)
}

/// Empty texts and zeros are as nothing, as Go's are.
fn given<'de, T: serde::de::DeserializeOwned, D: Deserializer<'de>>(input: D) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(input)?;
    if value.is_null() || value == "" || value == 0 {
        return Ok(None);
    }
    serde_json::from_value(value).map(Some).map_err(serde::de::Error::custom)
}

fn parsed<'de, T: std::str::FromStr<Err = String>, D: Deserializer<'de>>(input: D) -> Result<Option<T>, D::Error> {
    let text: Option<String> = given(input)?;
    text.map(|text| text.parse().map_err(|why| serde::de::Error::custom(format!("{text:?} {why}")))).transpose()
}

/// A length of time; none at all is the default.
fn time<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
    let text: Option<String> = given(input)?;
    let time = text.map(|text| daemon::pflag::duration(&text)).transpose().map_err(serde::de::Error::custom)?;
    Ok(time.filter(|time| !time.is_zero()))
}
