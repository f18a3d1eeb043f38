//! Front proxies: servers that authenticate users by themselves and name them in headers. They are known by a client
//! certificate of a CA of their own.

use api::strategy::User;
use async_trait::async_trait;
use http::HeaderName;
use http::request::Parts;
use percent_encoding::percent_decode_str;

use super::{Authenticator, PeerCertificate, Rejected};

/// Which headers name a user. Of the first list that has one, the first counts; of groups and extras, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    pub username: Vec<HeaderName>,
    pub uid: Vec<HeaderName>,
    pub group: Vec<HeaderName>,
    /// In lower case.
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

    fn named(&self, request: &Parts) -> Option<User> {
        let text = |name: &HeaderName| request.headers.get(name)?.to_str().ok().filter(|text| !text.is_empty());
        let first = |names: &[HeaderName]| names.iter().find_map(text).map(str::to_owned);
        let groups = self.headers.group.iter().flat_map(|name| request.headers.get_all(name));
        Some(User {
            name: first(&self.headers.username)?,
            uid: first(&self.headers.uid).unwrap_or_default(),
            groups: groups.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect(),
            extra: self.extra(request),
        })
    }

    fn extra(&self, request: &Parts) -> Vec<(String, Vec<String>)> {
        let mut extra = Vec::new();
        for prefix in &self.headers.extra_prefix {
            for name in request.headers.keys() {
                let Some(key) = name.as_str().strip_prefix(prefix.as_str()) else { continue };
                // What is not encoded rightly stays as it is.
                let key = percent_decode_str(key).decode_utf8().map_or_else(|_| key.to_owned(), |key| key.into_owned());
                let values = request.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
                extra.push((key, values.map(str::to_owned).collect()));
            }
        }
        extra
    }
}

#[async_trait]
impl Authenticator for FrontProxy {
    async fn authenticate(&self, request: &Parts) -> Result<Option<User>, Rejected> {
        let peer = request.extensions.get::<PeerCertificate>();
        let Some(proxy) = peer.map(PeerCertificate::front_proxy).transpose()?.flatten() else { return Ok(None) };
        if !self.allowed.is_empty() && !self.allowed.contains(&proxy) {
            return Err(Rejected { reason: format!("{proxy:?} is not the name of a front proxy") });
        }
        Ok(self.named(request))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::authn::{Chain, Vouched, X509};

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
        chain.authenticate(&request.body(()).unwrap().into_parts().0).await
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
    async fn headers_of_anybody_else_count_for_nothing() {
        let headers = [("X-Remote-User", "jane")];
        assert_eq!(user("somebody", FOR_PROXY, &headers).await, None, "the name is not allowed");
        let plain = user("front-proxy-client", Vouched::FOR_USER, &headers).await.unwrap();
        assert_eq!(plain.name, "front-proxy-client", "signed by the CA of users, it is a user");
        assert_eq!(user("front-proxy-client", FOR_PROXY, &[]).await, None, "a front proxy itself is nobody");
    }
}
