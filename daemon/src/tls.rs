//! `--tls-min-version` and `--tls-cipher-suites`: how a server speaks TLS.

use std::str::FromStr;
use std::sync::Arc;

use rustls::{ConfigBuilder, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, WantsVerifier, version};

/// Suites that Kubernetes can be told to offer and that are never offered here, since they are weak.
const WEAK: [&str; 12] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
];

/// The lowest version of TLS that a server speaks. Versions before 1.2 are never spoken, so they ask for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    #[default]
    Tls12,
    Tls13,
}

impl FromStr for MinVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" | "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => Ok(Self::Tls12),
            "VersionTLS13" => Ok(Self::Tls13),
            _ => Err("must be VersionTLS10, VersionTLS11, VersionTLS12 or VersionTLS13".to_owned()),
        }
    }
}

/// A cipher suite by its IANA name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CipherSuite(String);

impl FromStr for CipherSuite {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Go's older names of two suites lack the hash.
        let name = if text.ends_with("_CHACHA20_POLY1305") { format!("{text}_SHA256") } else { text.to_owned() };
        let known = WEAK.contains(&text) || suites().iter().any(|suite| name_of(suite) == name);
        if known { Ok(Self(name)) } else { Err("is not a cipher suite of this server".to_owned()) }
    }
}

/// How a server speaks TLS; the default is what is safe.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct TlsOptions {
    /// Lowest version of TLS: VersionTLS12 or VersionTLS13; versions before 1.2 are never spoken.
    #[arg(id = "tls-min-version", long, value_name = "MIN_VERSION", default_value = "VersionTLS12")]
    pub min_version: MinVersion,
    /// Cipher suites of TLS 1.2, by their IANA names; all good ones when none is given. Those of TLS 1.3 are fixed.
    #[arg(id = "tls-cipher-suites", long, value_name = "CIPHER_SUITES", value_delimiter = ',')]
    pub cipher_suites: Vec<CipherSuite>,
}

impl TlsOptions {
    /// The beginning of a server's configuration.
    pub fn builder(&self) -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, rustls::Error> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        if !self.cipher_suites.is_empty() {
            let wanted = |suite: &SupportedCipherSuite| self.cipher_suites.iter().any(|name| name.0 == name_of(suite));
            provider.cipher_suites.retain(|suite| suite.tls13().is_some() || wanted(suite));
        }
        let has_tls12 = provider.cipher_suites.iter().any(|suite| suite.tls13().is_none());
        let versions: &[&SupportedProtocolVersion] = match self.min_version {
            MinVersion::Tls12 if has_tls12 => &[&version::TLS12, &version::TLS13],
            _ => &[&version::TLS13],
        };
        ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions)
    }
}

fn suites() -> Vec<SupportedCipherSuite> {
    rustls::crypto::aws_lc_rs::default_provider().cipher_suites
}

/// The IANA name: those of TLS 1.3 have no version in it.
fn name_of(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_known_by_the_names_that_go_gives_them() {
        for name in [
            "TLS_AES_128_GCM_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
            "TLS_RSA_WITH_AES_128_CBC_SHA",
        ] {
            assert!(name.parse::<CipherSuite>().is_ok(), "{name}");
        }
        assert!("TLS_NULL".parse::<CipherSuite>().is_err());
        assert!("VersionTLS14".parse::<MinVersion>().is_err());
    }

    #[test]
    fn only_what_was_named_is_offered_beside_tls_1_3() {
        let options = TlsOptions {
            cipher_suites: vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".parse().unwrap()],
            ..TlsOptions::default()
        };
        let config = options.builder().unwrap().with_no_client_auth();
        let config = config.with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
        let offered: Vec<String> = config.crypto_provider().cipher_suites.iter().map(name_of).collect();
        assert_eq!(offered.iter().filter(|name| name.contains("_WITH_")).count(), 1, "{offered:?}");
        assert!(offered.contains(&"TLS_AES_128_GCM_SHA256".to_owned()));
        let weak = TlsOptions { cipher_suites: vec!["TLS_RSA_WITH_AES_128_CBC_SHA".parse().unwrap()], ..options };
        assert!(weak.builder().is_ok(), "then TLS 1.3 is spoken alone");
    }
}
