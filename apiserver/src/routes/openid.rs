//! The documents that tell others how to check ServiceAccount tokens (upstream's `routes.OpenIDMetadataServer`).

use std::net::{IpAddr, SocketAddr};

use http::StatusCode;
use serde_json::Value;

use crate::config::Config;
use crate::core::Core;
use crate::response::{self, Answer};

/// Answers one of these paths; `None` if it is another.
pub(super) fn answer(core: &Core, path: &str) -> Option<Answer> {
    let tokens = core.tokens.as_ref()?;
    let document = |kind: &'static str, tree: &Value| {
        let bytes = serde_json::to_vec(tree).unwrap_or_default();
        Some(response::with_type(StatusCode::OK, kind, bytes.into()))
    };
    match path.trim_end_matches('/') {
        "/openid/v1/jwks" => document("application/jwk-set+json", &tokens.key_set()),
        "/.well-known/openid-configuration" => {
            let own = || format!("https://{}/openid/v1/jwks", external_authority(&core.config));
            let uri = core.config.service_account_jwks_uri.clone().unwrap_or_else(own);
            document("application/json", &tokens.discovery(&uri))
        }
        _ => None,
    }
}

/// Where others reach this server: its external name, or else the address that it tells members of the cluster.
fn external_authority(config: &Config) -> String {
    match &config.external_hostname {
        Some(name) if name.parse::<IpAddr>().is_err() && name.contains(':') => name.clone(),
        Some(name) => match name.parse() {
            Ok(address) => SocketAddr::new(address, config.secure_port).to_string(),
            Err(_) => format!("{name}:{}", config.secure_port),
        },
        None => {
            let address = config.advertise_address.unwrap_or(config.bind_address);
            SocketAddr::new(address, config.secure_port).to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_external_name_gets_the_port_that_it_lacks() {
        let of = |name: Option<&str>| {
            external_authority(&Config { external_hostname: name.map(str::to_owned), ..Config::default() })
        };
        assert_eq!(of(None), "127.0.0.1:6443");
        assert_eq!(of(Some("api.example.com")), "api.example.com:6443");
        assert_eq!(of(Some("api.example.com:443")), "api.example.com:443");
        assert_eq!(of(Some("::1")), "[::1]:6443");
    }
}
