//! Front proxies: servers that authenticate users by themselves and name them in headers. They are known by a client
//! certificate of a CA of their own. Upstream: `authentication/request/headerrequest`.

use api::ApiError;
use api::strategy::User;
use async_trait::async_trait;
use clap::builder::{StringValueParser, TypedValueParser as _};
use http::request::Parts;
use http::{HeaderMap, HeaderName};

use super::{Authenticator, Rejected};
use crate::http::PeerCertificate;
use crate::request::headers as header;

/// Which headers name a user. Of the first list that has one, the first counts; of groups and extras, all.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Headers {
    /// Headers that name the user.
    #[arg(id = "requestheader-username-headers", long, value_delimiter = ',')]
    pub username: Vec<HeaderName>,
    /// Headers that name the user's UID.
    #[arg(id = "requestheader-uid-headers", long, value_delimiter = ',')]
    pub uid: Vec<HeaderName>,
    /// Headers that name the groups.
    #[arg(id = "requestheader-group-headers", long, value_delimiter = ',')]
    pub group: Vec<HeaderName>,
    /// Prefixes of headers with extra facts of the user.
    // In lower case.
    #[arg(id = "requestheader-extra-headers-prefix", long, value_delimiter = ',')]
    #[arg(value_parser = StringValueParser::new().map(|text| text.to_lowercase()))]
    pub extra_prefix: Vec<String>,
}

/// Recognises the users that front proxies name.
#[derive(Debug)]
pub struct FrontProxy {
    /// The common names of front proxies; empty for any that their CA signed.
    allowed: Vec<String>,
    headers: Headers,
}

impl FrontProxy {
    /// Front proxies of these names, which use these headers.
    pub fn new(allowed: Vec<String>, headers: Headers) -> Self {
        Self { allowed, headers }
    }

    fn named(&self, headers: &HeaderMap) -> Result<Option<User>, ApiError> {
        let Some(name) = first(headers, &self.headers.username)? else { return Ok(None) };
        let uid = first(headers, &self.headers.uid)?.unwrap_or_default();
        let mut groups = Vec::new();
        for name in &self.headers.group {
            groups.extend(header::texts(headers, name.as_str())?.into_iter().map(str::to_owned));
        }
        Ok(Some(User { name, uid, groups, extra: self.extra(headers)? }))
    }

    fn extra(&self, headers: &HeaderMap) -> Result<Vec<(String, Vec<String>)>, ApiError> {
        let mut extra = Vec::new();
        for prefix in &self.headers.extra_prefix {
            for name in headers.keys() {
                let Some(key) = name.as_str().strip_prefix(prefix.as_str()) else { continue };
                let values = header::texts(headers, name.as_str())?.into_iter().map(str::to_owned).collect();
                extra.push((header::key(name, key)?, values));
            }
        }
        Ok(extra)
    }
}

/// The first text that is not empty in headers of these names.
fn first(headers: &HeaderMap, names: &[HeaderName]) -> Result<Option<String>, ApiError> {
    for name in names {
        if let Some(text) = header::text(headers, name.as_str())?.filter(|text| !text.is_empty()) {
            return Ok(Some(text.to_owned()));
        }
    }
    Ok(None)
}

#[async_trait]
impl Authenticator for FrontProxy {
    async fn authenticate(&self, request: &Parts) -> Result<Option<User>, Rejected> {
        let peer = request.extensions.get::<PeerCertificate>().filter(|peer| peer.vouched().front_proxy);
        let Some(peer) = peer else { return Ok(None) };
        let proxy = peer.user().map_err(Rejected::because)?.name;
        if !self.allowed.is_empty() && !self.allowed.contains(&proxy) {
            return Err(Rejected::because(format!("{proxy:?} is not the name of a front proxy")));
        }
        self.named(&request.headers).map_err(Rejected::unreadable)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::authn::{Chain, X509};
    use crate::http::Vouched;

    fn certificate(name: &str) -> Bytes {
        let pair = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Bytes::copy_from_slice(params.self_signed(&pair).unwrap().der())
    }

    /// Who a request with these headers is from, over a connection of `proxy` that was vouched for so.
    async fn user(proxy: &str, vouched: Vouched, headers: &[(&str, &str)]) -> Option<User> {
        let name = |name| vec![HeaderName::from_static(name)];
        let known = Headers {
            username: name("x-remote-user"),
            uid: name("x-remote-uid"),
            group: name("x-remote-group"),
            extra_prefix: vec!["x-remote-extra-".to_owned()],
        };
        let front_proxy = FrontProxy::new(vec!["front-proxy-client".to_owned()], known);
        let chain = Chain::new(vec![std::sync::Arc::new(front_proxy), std::sync::Arc::new(X509)], true);
        let mut request = http::Request::get("/").extension(PeerCertificate::new(certificate(proxy), vouched));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        chain.authenticate(&request.body(()).unwrap().into_parts().0).await.unwrap()
    }

    const FOR_PROXY: Vouched = Vouched { user: false, front_proxy: true };

    #[tokio::test]
    async fn a_front_proxy_names_its_users() {
        let headers = [
            ("X-Remote-User", "jane"),
            ("X-Remote-Group", "dev"),
            ("X-Remote-Group", "ops"),
            ("X-Remote-Extra-Example.com%2Fscope", "a"),
        ];
        let user = user("front-proxy-client", FOR_PROXY, &headers).await.unwrap();
        assert_eq!(user.name, "jane");
        assert_eq!(user.groups, ["dev", "ops", "system:authenticated"]);
        assert_eq!(user.extra, [("example.com/scope".to_owned(), vec!["a".to_owned()])]);
    }

    #[tokio::test]
    async fn what_a_front_proxy_says_is_never_overlooked() {
        let known = Headers {
            username: vec![HeaderName::from_static("x-remote-user")],
            group: vec![HeaderName::from_static("x-remote-group")],
            extra_prefix: vec!["x-remote-extra-".to_owned()],
            ..Headers::default()
        };
        let front_proxy = FrontProxy::new(Vec::new(), known);
        let chain = Chain::new(vec![std::sync::Arc::new(front_proxy), std::sync::Arc::new(X509)], true);
        // Both CAs vouch for it: without the headers it would be a user itself.
        let vouched = Vouched { user: true, front_proxy: true };
        for (name, bad) in
            [("x-remote-user", true), ("x-remote-group", true), ("x-remote-extra-a", true), ("x-remote-user", false)]
        {
            let value: &[u8] = if bad { b"jos\xe9" } else { "josé".as_bytes() };
            let mut request = http::Request::get("/").extension(PeerCertificate::new(certificate("proxy"), vouched));
            if name != "x-remote-user" {
                request = request.header("x-remote-user", "jane");
            }
            let request = request.header(name, value).body(()).unwrap().into_parts().0;
            match chain.authenticate(&request).await {
                Err(err) => assert!(bad && err.code() == 400, "{name}"),
                Ok(user) => assert!(!bad && user.is_some_and(|user| user.name == "josé"), "{name}"),
            }
        }
    }

    #[tokio::test]
    async fn headers_of_anybody_else_count_for_nothing() {
        let headers = [("X-Remote-User", "jane")];
        assert_eq!(user("somebody", FOR_PROXY, &headers).await, None, "the name is not allowed");
        let plain = user("front-proxy-client", Vouched::FOR_USER, &headers).await.unwrap();
        assert_eq!(plain.name, "front-proxy-client", "signed by the CA of users, it is a user");
        assert_eq!(user("front-proxy-client", FOR_PROXY, &[]).await, None, "a front proxy itself is nobody");
    }
}
