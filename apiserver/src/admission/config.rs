//! The flags of admission (upstream's `kubeapiserver/options/admission.go`).

use std::path::PathBuf;
use std::str::FromStr;

/// Which plugins run, and what they are told.
#[derive(Clone, Debug, clap::Args)]
pub struct AdmissionConfig {
    /// Admission plugins beside the default ones.
    #[arg(long, value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,
    /// Default admission plugins to leave out.
    #[arg(long, value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
    /// Settings of admission plugins: an AdmissionConfiguration.
    #[arg(long)]
    pub admission_control_config_file: Option<PathBuf>,
    /// A ConfigMap's key, as NAME:KEY, that pods find beside their ServiceAccount token, such as the CA of Services'
    /// serving certificates. May be given again. Not a flag of Kubernetes.
    #[arg(long, value_name = "NAME:KEY")]
    pub service_account_extra_ca_config_map: Vec<ConfigMapKey>,
    /// Whether containers may be privileged.
    #[arg(long)]
    pub allow_privileged: bool,
}

impl Default for AdmissionConfig {
    /// What the flags say, but that containers may be privileged.
    fn default() -> Self {
        Self { allow_privileged: true, ..daemon::pflag::defaults() }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_config_map_is_a_name_and_a_key() {
        let read: Result<ConfigMapKey, _> = "service-ca.crt:ca.crt".parse();
        assert_eq!(read, Ok(ConfigMapKey { name: "service-ca.crt".into(), key: "ca.crt".into() }));
        for bad in ["", "name", "name:", ":key", "a/b:key", "name:../key"] {
            assert!(bad.parse::<ConfigMapKey>().is_err(), "{bad:?}");
        }
    }
}
