//! Documents of issuers: fetched over HTTPS from a server whose certificate is vouched for, within bounds of time and size.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{ACCEPT, HOST, LOCATION, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::outbound::dial::{self, Reach};
use crate::outbound::webhooks::roots;

/// How long a document may take, with all redirects; as upstream.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
/// Larger documents are not read.
const MOST_BYTES: usize = 1 << 20;
/// Longer chains of redirects are not followed.
const MOST_REDIRECTS: usize = 5;

/// Who drives connections, and until when.
#[derive(Clone)]
pub(crate) struct Connections {
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

/// A client of one issuer.
pub(super) struct Client {
    tls: Arc<ClientConfig>,
    connections: Connections,
}

/// What came of one request.
enum Answer {
    Document(Bytes),
    /// It is said to be there.
    Elsewhere(Uri),
}

impl Client {
    /// Trusts the CAs of a bundle in PEM, or of the system if there is none.
    pub(super) fn new(authority: Option<&str>, connections: Connections) -> Result<Self, String> {
        let roots = roots(authority.map(str::as_bytes)).map_err(|err| err.to_string())?;
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls: Arc::new(tls), connections })
    }

    /// The document at a URL.
    pub(super) async fn get(&self, url: &str) -> Result<Bytes, String> {
        let told = |why: String| format!("Get {url:?}: {why}");
        let follow = async {
            let mut uri: Uri = url.parse().map_err(|err| format!("invalid URL: {err}"))?;
            for _ in 0..=MOST_REDIRECTS {
                match self.request(&uri).await? {
                    Answer::Document(bytes) => return Ok(bytes),
                    Answer::Elsewhere(there) => uri = there,
                }
            }
            Err(format!("stopped after {MOST_REDIRECTS} redirects"))
        };
        let outcome = tokio::time::timeout(TIMEOUT, follow).await;
        outcome.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}"))).map_err(told)
    }

    async fn request(&self, uri: &Uri) -> Result<Answer, String> {
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("https"));
        let authority = authority.ok_or_else(|| format!("{uri} is no URL with https"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host:?} is no name that a certificate can have"))?;
        let Connections { tasks, shutdown } = &self.connections;
        let (port, tls) = (authority.port_u16().unwrap_or(443), Some((self.tls.clone(), name)));
        let dialled = dial::connect(host, port, tls, Reach::Anywhere, tasks, shutdown).await;
        let mut sender = dialled.map_err(|err| err.to_string())?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(HOST, authority.as_str())
            .header(USER_AGENT, "kube-apiserver")
            .header(ACCEPT, "application/json, */*")
            .body(Body::empty())
            .map_err(|err| err.to_string())?;
        let response = sender.send_request(request).await.map_err(|err| err.to_string())?;
        match response.status() {
            StatusCode::OK => {
                let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
                Ok(Answer::Document(body.map_err(|err| format!("read the answer: {err}"))?.to_bytes()))
            }
            status if status.is_redirection() => {
                let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or("");
                let there = redirected(uri, location);
                Ok(Answer::Elsewhere(
                    there.ok_or_else(|| format!("redirected to {location:?}, which is not followed"))?,
                ))
            }
            status => Err(format!("the answer was {status}")),
        }
    }
}

/// Where a redirect leads: to another URL with https, or another path of the same server.
fn redirected(from: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next()?;
    if location.starts_with('/') && !location.starts_with("//") {
        return format!("https://{}{location}", from.authority()?).parse().ok();
    }
    location.parse().ok().filter(|uri: &Uri| uri.scheme_str() == Some("https") && uri.authority().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_https_alone() {
        let from: Uri = "https://a:8443/b/c".parse().unwrap();
        let there = |location: &str| redirected(&from, location).map(|uri| uri.to_string());
        assert_eq!(there("/d?e=f#g").as_deref(), Some("https://a:8443/d?e=f"));
        assert_eq!(there("https://other/d").as_deref(), Some("https://other/d"));
        for none in ["", "http://a/d", "//other/d", "d", "ftp://a", "file:///etc/passwd", "https://"] {
            assert_eq!(there(none), None, "{none}");
        }
    }
}
