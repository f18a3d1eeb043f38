//! Who this server is to others (its front-proxy certificate), and for whom it speaks (the headers `X-Remote-*`)
//! (upstream: `NewRequestForProxy`).

use std::path::PathBuf;

use api::strategy::User;
use http::header::InvalidHeaderValue;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::service::Trust;
use crate::authn::Headers;
use crate::config::Config;
use crate::http::{TlsError, certificates};
use crate::outbound::webhooks::roots;

const USER: &str = "x-remote-user";
const UID: &str = "x-remote-uid";
const GROUP: &str = "x-remote-group";
const EXTRA: &str = "x-remote-extra-";
/// What asks this server to take a request for that of another user must not be asked of the next one.
const IMPERSONATE: &str = "impersonate-";

/// Why aggregated servers cannot be shown a certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("--proxy-client-cert-file")]
    Certificate(#[from] TlsError),
    #[error("read {path} (--proxy-client-key-file)")]
    Key {
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("--proxy-client-cert-file needs --proxy-client-key-file, and the reverse")]
    Half,
    #[error("use the front-proxy client certificate")]
    Pair(#[source] rustls::Error),
}

/// The client certificate of this server, if it has one.
pub(super) struct Identity(Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>);

impl Identity {
    pub(super) fn read(config: &Config) -> Result<Self, Error> {
        let (certificate, path) = match (&config.proxy_client_certificate, &config.proxy_client_key) {
            (None, None) => return Ok(Self(None)),
            (Some(certificate), Some(key)) => (certificate, key),
            _ => return Err(Error::Half),
        };
        let key = PrivateKeyDer::from_pem_file(path).map_err(|source| Error::Key { path: path.clone(), source })?;
        Ok(Self(Some((certificates(certificate)?, key))))
    }

    /// The certificate itself.
    pub(super) fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.0.as_ref().and_then(|(chain, _)| chain.first())
    }

    /// The client side of TLS that shows the certificate; the error says what is wrong with whom to trust.
    pub(super) fn tls(&self, trust: &Trust) -> Result<ClientConfig, String> {
        let bundle = match trust {
            Trust::Anybody => return self.unverified().map_err(|err| err.to_string()),
            Trust::Nobody(why) => return Err(format!("unable to load root certificates: {why}")),
            Trust::System => None,
            Trust::Bundle(pem) => Some(pem.as_slice()),
        };
        let builder = ClientConfig::builder().with_root_certificates(roots(bundle).map_err(|err| err.to_string())?);
        match &self.0 {
            None => Ok(builder.with_no_client_auth()),
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(|err| err.to_string())
            }
        }
    }

    /// The same, to a server that may show any certificate.
    pub(super) fn unverified(&self) -> Result<ClientConfig, rustls::Error> {
        match &self.0 {
            None => Ok((*daemon::unverified_tls()).clone()),
            Some((chain, key)) => daemon::unverified_tls_as(chain.clone(), key.clone_key()),
        }
    }
}

/// Names the user of a request (upstream's `SetAuthProxyHeaders`), whatever its client has said about that.
pub(crate) fn speak_for(
    headers: &mut HeaderMap,
    user: &User,
    known: Option<&Headers>,
) -> Result<(), InvalidHeaderValue> {
    forget(headers, known);
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes());
    headers.insert(USER, value(&user.name)?);
    if !user.uid.is_empty() {
        headers.insert(UID, value(&user.uid)?);
    }
    for group in &user.groups {
        headers.append(GROUP, value(group)?);
    }
    for (key, values) in &user.extra {
        // Whatever is in a key, it is escaped.
        let Ok(name) = HeaderName::try_from(format!("{EXTRA}{}", escaped(key))) else { continue };
        for text in values {
            headers.append(name.clone(), value(text)?);
        }
    }
    Ok(())
}

/// Removes all headers that say who somebody is: the usual ones, and those in which front proxies of this server do.
fn forget(headers: &mut HeaderMap, known: Option<&Headers>) {
    let configured = |name: &str| {
        let Some(known) = known else { return false };
        let lists = [&known.username, &known.uid, &known.group];
        lists.into_iter().flatten().any(|one| one == name)
            || known.extra_prefix.iter().any(|prefix| name.starts_with(prefix.as_str()))
    };
    let usual = |name: &str| matches!(name, USER | UID | GROUP) || name.starts_with(EXTRA);
    let tells = |name: &&HeaderName| {
        let name = name.as_str();
        usual(name) || name.starts_with(IMPERSONATE) || configured(name)
    };
    let told: Vec<HeaderName> = headers.keys().filter(tells).cloned().collect();
    for name in told {
        headers.remove(name);
    }
}

/// A key of extra facts as part of the name of a header: all but the characters of a token (RFC 9110, 5.6.2) is encoded.
fn escaped(key: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
    let letter = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    key.bytes().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_server_says_who_somebody_is() {
        let mut headers = HeaderMap::new();
        for (name, text) in [
            ("X-Remote-User", "root"),
            ("X-Remote-Group", "system:masters"),
            ("X-Remote-Uid", "0"),
            ("X-Remote-Extra-Scopes", "all"),
            ("Impersonate-User", "root"),
            ("X-Forwarded-User", "root"),
            ("X-Facts-A", "b"),
            ("Accept", "application/json"),
        ] {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static(text));
        }
        let known = Headers {
            username: vec![HeaderName::from_static("x-forwarded-user")],
            extra_prefix: vec!["x-facts-".to_owned()],
            ..Headers::default()
        };
        let user = User {
            name: "josé".to_owned(),
            groups: vec!["dev".to_owned(), "ops".to_owned()],
            extra: vec![("example.com/scope%".to_owned(), vec!["a".to_owned(), "b".to_owned()])],
            ..User::default()
        };
        speak_for(&mut headers, &user, Some(&known)).unwrap();
        let all: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), std::str::from_utf8(value.as_bytes()).unwrap()))
            .collect();
        let mut expected = vec![
            ("accept", "application/json"),
            ("x-remote-extra-example.com%2fscope%25", "a"),
            ("x-remote-extra-example.com%2fscope%25", "b"),
            ("x-remote-group", "dev"),
            ("x-remote-group", "ops"),
            ("x-remote-user", "josé"),
        ];
        let mut all = all;
        all.sort_unstable();
        expected.sort_unstable();
        assert_eq!(all, expected);
    }

    #[test]
    fn who_cannot_be_named_is_not_spoken_for() {
        let user = User { name: "a\nX-Remote-Group: system:masters".to_owned(), ..User::default() };
        assert!(speak_for(&mut HeaderMap::new(), &user, None).is_err());
    }
}
