//! Kubeconfig files in which webhooks are described that this server asks: the current context's cluster is the
//! webhook, its user this server.

use std::path::{Path, PathBuf};

use api::codec::yaml;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

/// A webhook, and how this server shows who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// `https://...`
    pub(crate) url: String,
    /// PEM; without it the system's roots count.
    pub(crate) ca: Option<Vec<u8>>,
    /// The name that the certificate must have, if not that of the URL.
    pub(crate) server_name: Option<String>,
    /// Client certificate and key, in PEM.
    pub(crate) identity: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    /// The value of the header `Authorization`.
    pub(crate) authorization: Option<Zeroizing<String>>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path}: {why}")]
    Content { path: PathBuf, why: String },
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct File {
    clusters: Vec<Named<Cluster>>,
    users: Vec<Named<User>>,
    contexts: Vec<Named<Context>>,
    current_context: String,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "user", alias = "context")]
    value: T,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: String,
    certificate_authority_data: String,
    tls_server_name: String,
    insecure_skip_tls_verify: bool,
    proxy_url: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct User {
    client_certificate: String,
    client_certificate_data: String,
    client_key: String,
    client_key_data: String,
    token: String,
    #[serde(rename = "tokenFile")]
    token_file: String,
    username: String,
    password: String,
    exec: Option<Value>,
    auth_provider: Option<Value>,
    #[serde(rename = "as")]
    impersonate: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
}

impl Remote {
    /// Reads a file, and the files that it names, which are relative to it.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let bad = |why: String| Error::Content { path: path.to_owned(), why };
        let (tree, _twice) = yaml::parse(text.as_bytes()).map_err(|err| bad(err.to_string()))?;
        let file: File = serde_json::from_value(tree.into_value()).map_err(|err| bad(err.to_string()))?;
        file.remote(path.parent().unwrap_or(Path::new(""))).map_err(bad)
    }
}

impl File {
    fn remote(self, beside: &Path) -> Result<Remote, String> {
        let (cluster, user) = self.current()?;
        if cluster.insecure_skip_tls_verify {
            return Err("insecure-skip-tls-verify is not supported: give certificate-authority".into());
        }
        if !cluster.proxy_url.is_empty() {
            return Err("proxy-url is not supported".into());
        }
        if user.exec.is_some() || user.auth_provider.is_some() || !user.impersonate.is_empty() {
            return Err("exec, auth-provider and as are not supported for webhooks".into());
        }
        if !cluster.server.starts_with("https://") {
            return Err(format!("server {:?} must use https", cluster.server));
        }
        let certificate = material(&user.client_certificate_data, &user.client_certificate, beside)?;
        let key = material(&user.client_key_data, &user.client_key, beside)?.map(Zeroizing::new);
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("client-certificate and client-key go together".into()),
        };
        let authorization = user.authorization(beside)?;
        Ok(Remote {
            ca: material(&cluster.certificate_authority_data, &cluster.certificate_authority, beside)?,
            url: cluster.server,
            server_name: Some(cluster.tls_server_name).filter(|name| !name.is_empty()),
            identity,
            authorization,
        })
    }

    fn current(self) -> Result<(Cluster, User), String> {
        let missing = |what: &str, name: &str| format!("there is no {what} {name:?}");
        let named = &self.current_context;
        let context = self.contexts.into_iter().find(|context| context.name == *named);
        let context = context.ok_or_else(|| missing("context", named))?.value;
        let cluster = self.clusters.into_iter().find(|cluster| cluster.name == context.cluster);
        let cluster = cluster.ok_or_else(|| missing("cluster", &context.cluster))?.value;
        let user = match self.users.into_iter().find(|user| user.name == context.user) {
            Some(user) => user.value,
            None if context.user.is_empty() => User::default(),
            None => return Err(missing("user", &context.user)),
        };
        Ok((cluster, user))
    }
}

impl User {
    fn authorization(&self, beside: &Path) -> Result<Option<Zeroizing<String>>, String> {
        let token = if self.token_file.is_empty() {
            Zeroizing::new(self.token.clone())
        } else {
            let path = beside.join(&self.token_file);
            let read = std::fs::read_to_string(&path).map_err(|err| format!("read {}: {err}", path.display()))?;
            Zeroizing::new(read.trim().to_owned())
        };
        Ok(match (token.is_empty(), self.username.is_empty()) {
            (false, _) => Some(Zeroizing::new(format!("Bearer {}", *token))),
            (true, false) => {
                let both = STANDARD.encode(format!("{}:{}", self.username, self.password));
                Some(Zeroizing::new(format!("Basic {both}")))
            }
            (true, true) => None,
        })
    }
}

/// What is given inline, or lies in a file; inline counts.
fn material(inline: &str, file: &str, beside: &Path) -> Result<Option<Vec<u8>>, String> {
    if !inline.is_empty() {
        return STANDARD.decode(inline).map(Some).map_err(|err| format!("data is no base64: {err}"));
    }
    if file.is_empty() {
        return Ok(None);
    }
    let path = beside.join(file);
    std::fs::read(&path).map(Some).map_err(|err| format!("read {}: {err}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cluster: &str, user: &str) -> Result<Remote, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hook.kubeconfig");
        std::fs::write(directory.path().join("ca.pem"), "CA").unwrap();
        std::fs::write(directory.path().join("token"), "t\n").unwrap();
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: h, user: u}}}}]\n\
             clusters: [{{name: h, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
        );
        std::fs::write(&path, text).unwrap();
        Remote::read(&path).map_err(|err| err.to_string())
    }

    #[test]
    fn the_current_context_names_the_webhook_and_its_credentials() {
        let cluster = "server: 'https://a/b', certificate-authority: ca.pem, tls-server-name: x";
        let remote = read(cluster, "tokenFile: token").unwrap();
        assert_eq!((remote.url.as_str(), remote.ca.as_deref()), ("https://a/b", Some(b"CA".as_slice())));
        assert_eq!(remote.server_name.as_deref(), Some("x"));
        assert_eq!(remote.authorization.unwrap().as_str(), "Bearer t");
        let basic = read("server: 'https://a'", "username: a, password: b").unwrap();
        assert_eq!((basic.authorization.unwrap().as_str(), basic.ca), ("Basic YTpi", None));
        let identity = read("server: 'https://a'", "client-certificate-data: Yw==, client-key-data: aw==").unwrap();
        assert_eq!(identity.identity.unwrap().0, b"c");
    }

    #[test]
    fn what_is_not_done_is_refused() {
        for (cluster, user, wanted) in [
            ("server: 'http://a'", "", "must use https"),
            ("server: 'https://a', insecure-skip-tls-verify: true", "", "insecure-skip-tls-verify"),
            ("server: 'https://a', proxy-url: 'http://p'", "", "proxy-url"),
            ("server: 'https://a'", "exec: {command: x}", "exec"),
            ("server: 'https://a'", "client-certificate: ca.pem", "go together"),
            ("server: 'https://a', certificate-authority: nowhere.pem", "", "nowhere.pem"),
        ] {
            let err = read(cluster, user).unwrap_err();
            assert!(err.contains(wanted), "{cluster} {user}: {err}");
        }
    }
}
