//! Headers as text. The bytes of a header may be anything above the control characters; as upstream, which takes them as
//! they are, UTF-8 is text like any other. What is not is never taken for a header that is not there.

use std::borrow::Cow;

use api::ApiError;
use http::header::{AsHeaderName, CONNECTION, HeaderValue, UPGRADE};
use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;

/// The first header of a name, for what decides who somebody is; 400 when it is no text.
pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, ApiError> {
    headers.get(name).map(|value| read(name, value)).transpose()
}

/// All headers of a name, for what decides who somebody is; 400 when one is no text.
pub(crate) fn texts<'h>(headers: &'h HeaderMap, name: &str) -> Result<Vec<&'h str>, ApiError> {
    headers.get_all(name).iter().map(|value| read(name, value)).collect()
}

/// The first header of a name, for what says how something is sent; `""` when there is none. What is no text becomes
/// something that nobody knows, and is refused as that.
pub(crate) fn shown(headers: &HeaderMap, name: impl AsHeaderName) -> Cow<'_, str> {
    headers.get(name).map_or(Cow::Borrowed(""), |value| String::from_utf8_lossy(value.as_bytes()))
}

/// The key of a header such as `Impersonate-Extra-KEY`. One that is not rightly encoded stands for itself, as upstream; 400
/// when what is encoded is no text.
pub(crate) fn key(name: &HeaderName, encoded: &str) -> Result<String, ApiError> {
    let is_escape = |part: &str| part.len() >= 2 && part.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !encoded.split('%').skip(1).all(is_escape) {
        return Ok(encoded.to_owned());
    }
    let decoded = percent_decode_str(encoded).decode_utf8().map_err(|_| unreadable(name.as_str()))?;
    Ok(decoded.into_owned())
}

/// Removes what concerns one connection only (RFC 9110, 7.6.1), but for an upgrade, which goes on.
pub(crate) fn end_to_end(headers: &mut HeaderMap) {
    const HOPS: [&str; 9] = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let values = headers.get_all(CONNECTION).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let all = values.map(|value| value.to_ascii_lowercase()).collect::<Vec<_>>().join(",");
    let options: Vec<&str> = all.split(',').map(str::trim).collect();
    let upgrade = headers.get(UPGRADE).filter(|_| options.contains(&"upgrade")).cloned();
    for name in HOPS.into_iter().chain(options) {
        headers.remove(name);
    }
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

fn read<'h>(name: &str, value: &'h HeaderValue) -> Result<&'h str, ApiError> {
    std::str::from_utf8(value.as_bytes()).map_err(|_| unreadable(name))
}

fn unreadable(name: &str) -> ApiError {
    ApiError::bad_request(format!("the header {name:?} is not valid UTF-8"))
}

/// Whether a request asks for a WebSocket.
pub(crate) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let names = |header, wanted: &str| {
        let values = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|name| name.trim().eq_ignore_ascii_case(wanted))
    };
    names(CONNECTION, "upgrade") && names(UPGRADE, "websocket")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_utf_8_and_what_is_not_is_an_error() {
        let mut headers = HeaderMap::new();
        headers.insert("a", HeaderValue::from_bytes("josé".as_bytes()).unwrap());
        headers.insert("b", HeaderValue::from_bytes(b"jos\xe9").unwrap());
        assert_eq!(text(&headers, "a").unwrap(), Some("josé"));
        assert_eq!(text(&headers, "c").unwrap(), None);
        assert_eq!(text(&headers, "b").unwrap_err().code(), 400);
        assert_eq!(texts(&headers, "b").unwrap_err().code(), 400);
        assert_eq!(shown(&headers, "b"), "jos\u{fffd}");
    }

    #[test]
    fn what_concerns_one_connection_goes_no_further() {
        let left = |pairs: &[(&'static str, &'static str)]| {
            let pairs =
                pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            let mut headers: HeaderMap = pairs.collect();
            end_to_end(&mut headers);
            let mut left: Vec<String> = headers.keys().map(|name| name.as_str().to_owned()).collect();
            left.sort();
            left
        };
        let listed = [("connection", "close, X-Hop"), ("x-hop", "1"), ("te", "trailers"), ("accept", "a")];
        assert_eq!(left(&listed), ["accept"]);
        assert_eq!(left(&[("connection", "upgrade"), ("upgrade", "websocket")]), ["connection", "upgrade"]);
        assert_eq!(left(&[("upgrade", "h2c"), ("accept", "a")]), ["accept"], "who does not ask is not upgraded");
    }

    #[test]
    fn keys_are_decoded_whole_or_not_at_all() {
        let name = HeaderName::from_static("x-extra");
        let of = |encoded: &str| key(&name, encoded).map_err(|err| err.code());
        assert_eq!(of("example.com%2fscope"), Ok("example.com/scope".to_owned()));
        assert_eq!(of("50%%2f"), Ok("50%%2f".to_owned()));
        assert_eq!(of("%e9"), Err(400));
    }

    #[test]
    fn a_request_for_a_websocket_says_so_in_two_headers() {
        let check = |connection: &'static str, upgrade: &'static str, want: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, HeaderValue::from_static(connection));
            headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
            assert_eq!(asks_for_websocket(&headers), want, "{connection} {upgrade}");
        };
        check("Upgrade", "websocket", true);
        check("keep-alive, upgrade", "WebSocket", true);
        check("keep-alive", "websocket", false);
        check("upgrade", "SPDY/3.1", false);
        assert!(!asks_for_websocket(&HeaderMap::new()));
    }
}
