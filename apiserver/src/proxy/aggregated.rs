//! Requests for the versions of other servers, sent on in the name of their user (upstream's `proxyHandler`).

use api::ApiError;
use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue, LOCATION, UPGRADE};
use http::{Request, Response, StatusCode, Uri};

use super::join;
use crate::aggregator::backend::{Check, SendError};
use crate::aggregator::identity::speak_for;
use crate::aggregator::table::Claim;
use crate::call::{Call, Incoming};
use crate::http::{PeerAddress, PeerCertificate};
use crate::outbound::dial::DialError;
use crate::request::headers as header;
use crate::response::{self, Answer};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const NOSNIFF: (&str, &str) = ("x-content-type-options", "nosniff");

/// Answers a request with what the server of a version answers.
pub(crate) async fn answer(call: &Call<'_>, claim: &Claim, incoming: Incoming) -> Result<Answer, ApiError> {
    let (backend, line) = (&claim.backend, call.line());
    let own = call.extension::<PeerCertificate>().is_some_and(|peer| backend.dialer().is_own(peer.der()));
    if own || !claim.is_available {
        // What this server sends to itself would go round for ever.
        return Ok(refused(StatusCode::SERVICE_UNAVAILABLE, "service unavailable"));
    }
    if let Some(why) = backend.is_unusable() {
        return Ok(refused(StatusCode::INTERNAL_SERVER_ERROR, why));
    }
    if !is_plain(line.path, &call.info.raw_tail) {
        return Err(ApiError::unknown_resource());
    }
    let address = match backend.address() {
        Ok(address) => address,
        Err(why) => {
            tracing::debug!(%why, "the Service of an aggregated server leads nowhere");
            return Ok(refused(StatusCode::SERVICE_UNAVAILABLE, "service unavailable"));
        }
    };
    if call.info.is_long_running() {
        // Others may begin while this one lasts.
        drop(call.take_seat());
    }
    let request = outgoing(call, incoming)?;
    let is_upgrade = request.headers().contains_key(UPGRADE);
    match backend.send(&address, request, Check::Certificate).await {
        Ok(response) => returned(call, response, is_upgrade),
        Err(err) => Ok(failed(&err)),
    }
}

/// Whether a path means the same to whoever reads it: what was authorised is what the next server does. Below a
/// subresource that takes a path of its own, that is the affair of whoever answers there.
fn is_plain(path: &str, tail: &str) -> bool {
    let strict = path.strip_suffix(tail).unwrap_or(path);
    let is_dots = |part: &str| {
        let decoded = percent_encoding::percent_decode_str(part).decode_utf8_lossy();
        matches!(&*decoded, "." | "..")
    };
    let hides = |part: &str| part.to_ascii_lowercase().contains("%2f");
    !strict.contains("//") && !strict.split('/').any(hides) && !path.split('/').any(is_dots)
}

fn outgoing(call: &Call<'_>, incoming: Incoming) -> Result<Request<Body>, ApiError> {
    let line = call.line();
    let mut request = Request::new(match incoming {
        Incoming::Read(bytes) => Body::from(bytes),
        Incoming::Stream(body) => body,
    });
    *request.method_mut() = line.method.clone();
    let query = line.query.map(|query| format!("?{query}")).unwrap_or_default();
    let uri = format!("{}{query}", line.path);
    *request.uri_mut() = uri.parse::<Uri>().map_err(|err| ApiError::bad_request(format!("bad path {uri:?}: {err}")))?;
    *request.headers_mut() = headers(call, line.path)?;
    Ok(request)
}

/// The client's headers without its credentials, with its user's name, and with where the request came from.
fn headers(call: &Call<'_>, path: &str) -> Result<HeaderMap, ApiError> {
    let mut headers = call.headers().clone();
    header::end_to_end(&mut headers);
    for name in [AUTHORIZATION, EXPECT, CONTENT_LENGTH] {
        headers.remove(name);
    }
    let proxies = &call.core.config.front_proxies;
    let known = proxies.ca.as_ref().map(|_| &proxies.headers);
    speak_for(&mut headers, call.user, known)
        .map_err(|_| ApiError::internal("the user has a name that no header can have"))?;
    if let Some(peer) = call.extension::<PeerAddress>() {
        let before = headers.get_all(&FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let all: Vec<String> = before.map(str::to_owned).chain([peer.0.to_string()]).collect();
        headers.insert(FORWARDED_FOR, HeaderValue::try_from(all.join(", ")).map_err(ApiError::internal)?);
    }
    headers.insert(FORWARDED_URI, HeaderValue::try_from(path).map_err(ApiError::internal)?);
    Ok(headers)
}

/// The answer as the client gets it; an upgraded connection is joined with the client's.
fn returned(
    call: &Call<'_>,
    mut response: Response<hyper::body::Incoming>,
    is_upgrade: bool,
) -> Result<Answer, ApiError> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if !is_upgrade {
            return Ok(refused(StatusCode::BAD_GATEWAY, "the backend switched protocols without being asked to"));
        }
        let theirs = hyper::upgrade::on(&mut response);
        let ours = call.upgrade();
        let ours = ours.ok_or_else(|| ApiError::bad_request("this connection cannot be upgraded (use HTTP/1.1)"))?;
        join(call.core, ours, theirs);
        return Ok(response.map(Body::new));
    }
    let redirects = response.status().is_redirection() && response.headers().contains_key(LOCATION);
    if redirects && call.core.config.aggregator_rejects_redirects {
        let why = "the backend attempted to redirect this request, which is not permitted";
        return Ok(refused(StatusCode::BAD_GATEWAY, why));
    }
    header::end_to_end(response.headers_mut());
    response.headers_mut().remove(UPGRADE);
    Ok(response.map(Body::new))
}

fn failed(err: &SendError) -> Answer {
    let why = match err {
        SendError::Dial { why: DialError::NotAllowed, .. } => "service unavailable".to_owned(),
        err => format!("error trying to reach service: {err}"),
    };
    refused(StatusCode::SERVICE_UNAVAILABLE, &why)
}

/// An error in plain text, as Go's `http.Error` writes it.
fn refused(status: StatusCode, why: &str) -> Answer {
    let mut answer = response::text(status, format!("{why}\n"));
    let (name, value) = NOSNIFF;
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer.headers_mut().remove(http::header::CACHE_CONTROL);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_means_something_else_to_others_goes_nowhere() {
        for (path, tail) in [
            ("/apis/g/v1/namespaces/a/things/b", ""),
            ("/apis/g/v1/things/a%20b", ""),
            ("/apis/g/v1/things/a/proxy/x%2Fy//z", "/x%2Fy//z"),
        ] {
            assert!(is_plain(path, tail), "{path}");
        }
        for (path, tail) in [
            ("/apis/g/v1//things", ""),
            ("/apis/g/v1/things/a%2Fstatus", ""),
            ("/apis/g/v1/things/a%2fstatus", ""),
            ("/apis/g/v1/../v2/things", ""),
            ("/apis/g/v1/%2e%2E/things", ""),
            ("/apis/g/v1/things/a/proxy/../../b", "/../../b"),
        ] {
            assert!(!is_plain(path, tail), "{path}");
        }
    }
}
