//! Where the server is and who the run is there, from a kubeconfig.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use hyper::header::HeaderValue;
use kube::client::ConfigExt as _;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret as _;

use crate::Error;

/// A server and the credentials for it.
#[derive(Clone, Debug)]
pub struct Target {
    pub host: String,
    pub port: u16,
    /// `None` for plain HTTP.
    pub tls: Option<Tls>,
    /// The path below which the API is, without a slash at its end.
    pub base: String,
    pub authorization: Option<HeaderValue>,
}

/// How to speak TLS with a server.
#[derive(Clone, Debug)]
pub struct Tls {
    pub config: ClientConfig,
    pub name: ServerName<'static>,
}

impl Target {
    /// Reads a kubeconfig; `context` as in kubectl. Does not contact the server.
    pub async fn from_kubeconfig(path: &Path, context: Option<&str>) -> Result<Self, Error> {
        let source = |source| Error::Kubeconfig { path: path.to_owned(), source };
        let file = Kubeconfig::read_from(path).map_err(source)?;
        let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
        let config = kube::Config::from_custom_kubeconfig(file, &options).await.map_err(source)?;
        let invalid = |what: &str| Error::Credentials { path: path.to_owned(), what: what.to_owned() };
        let (host, port) = endpoint(&config.cluster_url).ok_or_else(|| invalid("the server has no host"))?;
        let tls = if config.cluster_url.scheme_str() == Some("https") {
            let name = config.tls_server_name.clone().unwrap_or_else(|| host.clone());
            let name = ServerName::try_from(name).map_err(|_| invalid("the server's name is not valid"))?;
            let config = config.rustls_client_config();
            let config =
                config.map_err(|source| Error::TlsMaterial { path: path.to_owned(), source: Box::new(source) })?;
            Some(Tls { config, name })
        } else {
            None
        };
        let base = config.cluster_url.path().trim_end_matches('/').to_owned();
        let authorization = authorization(&config.auth_info).map_err(|what| invalid(&what))?;
        Ok(Self { host, port, tls, base, authorization })
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether the server is on this machine.
    pub fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The same target with the protocol that is to be agreed on in the handshake.
    pub fn speaking(mut self, protocol: &[u8]) -> Self {
        if let Some(tls) = &mut self.tls {
            tls.config.alpn_protocols = vec![protocol.to_vec()];
        }
        self
    }

    /// A server at a URL whose certificate nobody checks: for a readiness probe of a process that was just started.
    pub fn unverified(url: &hyper::Uri) -> Result<Self, Error> {
        let unusable = |why: &str| Error::ColdStart(format!("{url}: {why}"));
        let (host, port) = endpoint(url).ok_or_else(|| unusable("no host"))?;
        let tls = if url.scheme_str() == Some("https") {
            let mut config = kube::Config::new(url.clone());
            config.accept_invalid_certs = true;
            let config = config.rustls_client_config().map_err(|err| unusable(&err.to_string()))?;
            Some(Tls {
                config,
                name: ServerName::try_from(host.clone()).map_err(|_| unusable("the host's name is not valid"))?,
            })
        } else {
            None
        };
        Ok(Self { host, port, tls, base: String::new(), authorization: None })
    }

    pub(crate) fn connector(&self) -> Option<(tokio_rustls::TlsConnector, ServerName<'static>)> {
        self.tls.as_ref().map(|tls| (Arc::new(tls.config.clone()).into(), tls.name.clone()))
    }
}

fn endpoint(url: &hyper::Uri) -> Option<(String, u16)> {
    let host = url.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let default = if url.scheme_str() == Some("https") { 443 } else { 80 };
    Some((host, url.port_u16().unwrap_or(default)))
}

fn authorization(auth: &AuthInfo) -> Result<Option<HeaderValue>, String> {
    let secret = |text: String| {
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| "the token or password is not valid in a header".to_owned())?;
        value.set_sensitive(true);
        Ok(Some(value))
    };
    if auth.exec.is_some() || auth.auth_provider.is_some() {
        return Err("credential plugins are not supported: use a token or a client certificate".to_owned());
    }
    if auth.impersonate.is_some() {
        return Err("impersonation is not supported".to_owned());
    }
    if let Some(token) = &auth.token {
        return secret(format!("Bearer {}", token.expose_secret()));
    }
    if let Some(path) = &auth.token_file {
        let token = std::fs::read_to_string(path).map_err(|err| format!("read the token file {path}: {err}"))?;
        return secret(format!("Bearer {}", token.trim()));
    }
    if let (Some(user), Some(password)) = (&auth.username, &auth.password) {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{}", password.expose_secret()));
        return secret(format!("Basic {pair}"));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(user: &str, server: &str) -> Result<Target, Error> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: '{server}'}}}}]\nusers: [{{name: u, user: {user}}}]\n"
        );
        std::fs::write(&path, text).unwrap();
        Target::from_kubeconfig(&path, None).await
    }

    #[tokio::test]
    async fn a_token_and_a_base_path_are_taken_from_the_kubeconfig() {
        let target = read("{token: abc}", "http://[::1]:81/k8s/").await.unwrap();
        assert_eq!((target.address().as_str(), target.base.as_str(), target.is_local()), ("[::1]:81", "/k8s", true));
        assert_eq!(target.authorization.unwrap(), "Bearer abc");
        let basic = read("{username: u, password: p}", "http://example.com").await.unwrap();
        assert_eq!(
            (basic.authorization.clone().unwrap().to_str().unwrap(), basic.is_local(), basic.port),
            ("Basic dTpw", false, 80)
        );
    }

    #[tokio::test]
    async fn credential_plugins_are_refused() {
        let refused = read(
            "{exec: {apiVersion: client.authentication.k8s.io/v1, command: 'false', interactiveMode: Never}}",
            "http://127.0.0.1",
        )
        .await;
        let text = refused.expect_err("refused").to_string();
        assert!(text.contains("config"), "{text}");
    }

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named() {
        let refused = Target::from_kubeconfig(Path::new("/nonexistent/config"), None).await;
        assert!(refused.expect_err("refused").to_string().contains("/nonexistent/config"));
    }
}
