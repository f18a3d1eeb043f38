//! The ConfigMap from which extension API servers learn whom to trust: the CAs of clients and of the front proxy, and the
//! headers in which that names users (`kube-system/extension-apiserver-authentication`).
//!
//! Several servers may have CAs of their own, so each adds what it knows, as upstream's
//! `cluster_authentication_trust_controller` does; certificates that have expired are left out.

use std::collections::HashSet;
use std::path::Path;

use api::Object;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::Config;
use crate::error::Error;

const CLIENT_CA: &str = "client-ca-file";
const PROXY_CA: &str = "requestheader-client-ca-file";
const LISTS: [&str; 5] = [
    "requestheader-username-headers",
    "requestheader-uid-headers",
    "requestheader-group-headers",
    "requestheader-extra-headers-prefix",
    "requestheader-allowed-names",
];
/// Clocks differ: a certificate counts for so long after its end, in seconds.
const SLACK: i64 = 5 * 60;

/// The ConfigMap of what this server is configured with; `None` if it knows nobody by certificates.
pub(super) fn object(config: &Config) -> Result<Option<Value>, Error> {
    let mut data = Map::new();
    let mut add = |key: &str, path: &Path| -> Result<(), Error> {
        let text =
            std::fs::read_to_string(path).map_err(|err| Error::Bootstrap(format!("read {}: {err}", path.display())))?;
        let authorities = bundle(&[&text], now());
        if !authorities.is_empty() {
            data.insert(key.to_owned(), authorities.into());
        }
        Ok(())
    };
    if let Some(path) = &config.client_ca {
        add(CLIENT_CA, path)?;
    }
    let proxies = &config.front_proxies;
    if let Some(path) = &proxies.ca {
        add(PROXY_CA, path)?;
    }
    if data.contains_key(PROXY_CA) {
        let names = |headers: &[http::HeaderName]| headers.iter().map(|name| canonical(name.as_str())).collect();
        let headers = &proxies.headers;
        let prefixes = headers.extra_prefix.iter().map(|prefix| canonical(prefix)).collect();
        let lists: [Vec<String>; 5] = [
            names(&headers.username),
            names(&headers.uid),
            names(&headers.group),
            prefixes,
            proxies.allowed_names.clone(),
        ];
        data.extend(LISTS.iter().zip(lists).map(|(key, list)| ((*key).to_owned(), json!(list).to_string().into())));
    }
    let metadata = json!({"name": "extension-apiserver-authentication", "namespace": "kube-system"});
    let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
    Ok((!data.is_empty()).then_some(tree))
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// `X-Remote-User`, as people write the name of a header.
fn canonical(name: &str) -> String {
    let part = |part: &str| {
        let mut letters = part.chars();
        letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
    };
    name.split('-').map(part).collect::<Vec<_>>().join("-")
}

/// Adds what this server knows to what others wrote. All else in the ConfigMap goes, and what cannot be read.
pub(super) fn complete(stored: &mut Object, wanted: &Object) {
    let text = |object: &Object, key: &str| object.text(&["data", key]).to_owned();
    let mut data = Map::new();
    let authorities = |key: &str| bundle(&[&text(stored, key), &text(wanted, key)], now());
    let clients = authorities(CLIENT_CA);
    if !clients.is_empty() {
        data.insert(CLIENT_CA.to_owned(), clients.into());
    }
    let proxies = authorities(PROXY_CA);
    if !proxies.is_empty() {
        data.insert(PROXY_CA.to_owned(), proxies.into());
        for key in LISTS {
            data.insert(key.to_owned(), union(&text(stored, key), &text(wanted, key)).into());
        }
    }
    if stored.get(&["data"]) != Some(&Value::Object(data.clone())) {
        stored.set(&["data"], data);
    }
}

/// Two lists in JSON as one.
fn union(known: &str, ours: &str) -> String {
    let read = |text: &str| serde_json::from_str::<Vec<String>>(text).unwrap_or_default();
    let mut seen = HashSet::new();
    let all: Vec<String> = read(known).into_iter().chain(read(ours)).filter(|name| seen.insert(name.clone())).collect();
    json!(all).to_string()
}

/// The certificates in these texts, each once and without those that have expired.
fn bundle(texts: &[&str], now: i64) -> String {
    let mut seen = HashSet::new();
    let mut bundle = String::new();
    for text in texts {
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()).flatten() {
            let lasts = X509Certificate::from_der(&certificate)
                .is_ok_and(|(_, parsed)| parsed.validity().not_after.timestamp() > now.saturating_sub(SLACK));
            if lasts && seen.insert(certificate.to_vec()) {
                bundle.push_str(&pem(&certificate));
            }
        }
    }
    bundle
}

fn pem(der: &[u8]) -> String {
    /// RFC 7468.
    const WIDTH: usize = 64;
    let text = STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(WIDTH));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::Headers;
    use crate::config::FrontProxies;

    fn authority(name: &str, last_year: i32) -> String {
        let pair = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        params.self_signed(&pair).unwrap().pem().replace('\r', "")
    }

    fn config(directory: &Path, client: &str, proxy: Option<&str>) -> Config {
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let headers = Headers {
            username: vec!["x-remote-user".parse().unwrap()],
            uid: Vec::new(),
            group: vec!["x-remote-group".parse().unwrap()],
            extra_prefix: vec!["x-remote-extra-".to_owned()],
        };
        Config {
            client_ca: Some(write("ca.crt", client)),
            front_proxies: FrontProxies {
                ca: proxy.map(|proxy| write("proxy.crt", proxy)),
                allowed_names: vec!["front-proxy-client".to_owned()],
                headers,
            },
            ..Config::default()
        }
    }

    fn trusted(config: &Config) -> Object {
        Object::from_value(object(config).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn extension_servers_learn_cas_and_headers() {
        let directory = tempfile::tempdir().unwrap();
        let (client, proxy) = (authority("client", 2040), authority("proxy", 2040));
        let trusted = trusted(&config(directory.path(), &client, Some(&proxy)));
        let expected = json!({
            "client-ca-file": client, "requestheader-client-ca-file": proxy,
            "requestheader-username-headers": "[\"X-Remote-User\"]", "requestheader-uid-headers": "[]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
        });
        assert_eq!(trusted.get(&["data"]), Some(&expected));
        let mut again = trusted.clone();
        complete(&mut again, &trusted);
        assert_eq!(again, trusted, "nothing to do");
        assert_eq!(object(&Config::default()).unwrap(), None);
    }

    #[test]
    fn what_is_missing_comes_back_and_what_other_servers_know_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (ours, theirs, old) = (authority("ours", 2040), authority("theirs", 2040), authority("old", 2001));
        let wanted = trusted(&config(directory.path(), &ours, None));
        let check = |data: Value, expected: String| {
            let mut stored = wanted.clone();
            stored.set(&["data"], data);
            complete(&mut stored, &wanted);
            assert_eq!(stored.get(&["data"]), Some(&json!({"client-ca-file": expected})));
        };
        check(json!({}), ours.clone());
        check(json!({"client-ca-file": "nonsense", "more": "x"}), ours.clone());
        check(json!({"client-ca-file": format!("{old}{theirs}")}), format!("{theirs}{ours}"));
        check(json!({"requestheader-allowed-names": "nonsense"}), ours.clone());
    }

    #[test]
    fn a_ca_that_cannot_be_read_is_named() {
        let config = Config { client_ca: Some("/nowhere/ca.crt".into()), ..Config::default() };
        assert!(object(&config).unwrap_err().to_string().contains("/nowhere/ca.crt"));
    }
}
