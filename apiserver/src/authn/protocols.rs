//! Bearer tokens of browsers, which can set no header of a WebSocket but its protocols: one of them may be a token
//! (upstream's `authentication/request/websocket`). It is for this server alone, so nobody else is shown it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue};

use super::Rejected;
use crate::request::headers as header;

/// What the token follows.
const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// The token among the protocols of a request for a WebSocket. There must be another protocol, which can be answered.
pub(super) fn token(headers: &HeaderMap) -> Result<Option<String>, Rejected> {
    if !header::asks_for_websocket(headers) {
        return Ok(None);
    }
    let mut token = None;
    for encoded in all(headers).iter().filter_map(|name| name.strip_prefix(PREFIX)) {
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Rejected::because("invalid base64.bearer token"))?;
        let text = String::from_utf8(bytes).map_err(|_| Rejected::because("invalid base64.bearer token"))?;
        if token.replace(text).is_some() {
            return Err(Rejected::because("multiple base64.bearer.authorization tokens specified"));
        }
    }
    if token.is_some() && offered(headers).is_empty() {
        return Err(Rejected::because("missing additional subprotocol"));
    }
    Ok(token.filter(|token| !token.is_empty()))
}

/// The protocols that are none of ours.
pub(crate) fn offered(headers: &HeaderMap) -> Vec<String> {
    let mut others = all(headers);
    others.retain(|name| !name.starts_with(PREFIX));
    others
}

/// Leaves out the token, for whoever the request goes on to.
pub(crate) fn hide(headers: &mut HeaderMap) {
    let all = all(headers);
    if !all.iter().any(|name| name.starts_with(PREFIX)) {
        return;
    }
    let others = offered(headers).join(", ");
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Ok(value) = HeaderValue::from_str(&others)
        && !others.is_empty()
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
}

/// What cannot be read is no protocol.
fn all(headers: &HeaderMap) -> Vec<String> {
    let values = header::texts(headers, SEC_WEBSOCKET_PROTOCOL.as_str()).unwrap_or_default();
    values.iter().flat_map(|value| value.split(',')).map(|name| name.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use http::header::{CONNECTION, UPGRADE};

    use super::*;

    fn request(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        for value in values {
            headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_token_stands_beside_a_protocol() {
        let read = |values: &[&str]| token(&request(values)).map_err(|err| err.to_string());
        // "secret"
        let secret = format!("{PREFIX}c2VjcmV0");
        let some = Ok(Some("secret".to_owned()));
        assert_eq!(read(&[&format!("{secret}, binary.k8s.io")]), some);
        assert_eq!(read(&["binary.k8s.io", &secret]), some);
        assert_eq!(read(&["binary.k8s.io"]), Ok(None));
        assert_eq!(read(&[&secret]), Err("missing additional subprotocol".into()));
        assert!(read(&[&format!("{secret}, {secret}, a")]).unwrap_err().contains("multiple"));
        for wrong in ["c2VjcmV0=", "/+", "_w"] {
            assert!(read(&[&format!("a, {PREFIX}{wrong}")]).is_err(), "{wrong}");
        }
        let mut plain = request(&[&format!("{secret}, a")]);
        plain.remove(UPGRADE);
        assert_eq!(token(&plain).unwrap(), None);
    }

    #[test]
    fn nobody_else_is_shown_the_token() {
        let mut headers = request(&[&format!("{PREFIX}c2VjcmV0, a"), "b"]);
        hide(&mut headers);
        let left: Vec<_> = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().collect();
        assert_eq!(left, ["a, b"]);
        let mut only = request(&[&format!("{PREFIX}c2VjcmV0")]);
        hide(&mut only);
        assert!(!only.contains_key(SEC_WEBSOCKET_PROTOCOL));
    }
}
