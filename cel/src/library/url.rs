//! URLs, as Go reads those of requests: absolute, or an absolute path.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Error;
use crate::function::Library;
use crate::types::Type;
use crate::value::{Entries, Map, Opaque, Value};

const NAME: &str = "kubernetes.URL";

/// A URL in parts.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl Opaque for Url {
    fn type_name(&self) -> &str {
        NAME
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        other.downcast::<Self>() == Some(self)
    }
}

pub(super) fn library() -> Library {
    let mut library = Library::new()
        .type_(NAME, Type::opaque(NAME))
        .function("string_to_url: url(string): kubernetes.URL", |args| match args {
            [Value::String(text)] => parse(text).map(Value::opaque).ok_or_else(|| {
                Error::new(format!(
                    "URL parse error during conversion from string: parse {:?}: invalid URI for request",
                    &**text
                ))
            }),
            _ => Err(Error::no_overload()),
        })
        .function("is_url_string: isURL(string): bool", |args| match args {
            [Value::String(text)] => Ok(Value::Bool(parse(text).is_some())),
            _ => Err(Error::no_overload()),
        });
    type Part = fn(&Url) -> String;
    let parts: [(&str, Part); 5] = [
        ("getScheme", |url| url.scheme.clone()),
        ("getHost", |url| url.host.clone()),
        ("getHostname", |url| hostname(&url.host).to_owned()),
        ("getPort", |url| port(&url.host).to_owned()),
        ("getEscapedPath", |url| url.path.clone()),
    ];
    for (name, part) in parts {
        library = library.function(&format!("url_{name}: kubernetes.URL.{name}(): string"), move |args| {
            url_of(args).map(|url| Value::text(part(url)))
        });
    }
    library.function("url_get_query: kubernetes.URL.getQuery(): map(string, list(string))", |args| {
        let mut entries = Entries::default();
        for (key, values) in query(&url_of(args)?.query) {
            entries.insert(Value::text(key), Value::list(values.into_iter().map(Value::text).collect()))?;
        }
        Ok(Value::Map(Map::Own(Arc::new(entries))))
    })
}

fn url_of<'v>(args: &'v [Value<'_>]) -> Result<&'v Url, Error> {
    match args {
        [Value::Opaque(value)] => value.downcast().ok_or_else(Error::no_overload),
        _ => Err(Error::no_overload()),
    }
}

/// Whether the text is a URL.
pub(super) fn is_url(text: &str) -> bool {
    parse(text).is_some()
}

fn parse(text: &str) -> Option<Url> {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ') {
        return None;
    }
    // A request has no fragment; a `#` belongs to the path.
    let (scheme, rest) = scheme(text)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if scheme.is_empty() && !rest.starts_with('/') {
        return None;
    }
    let with_host = !scheme.is_empty() && rest.starts_with("//");
    let (host, path) = if with_host {
        let rest = &rest[2..];
        rest.split_at(rest.find('/').unwrap_or(rest.len()))
    } else if rest.starts_with('/') || !scheme.is_empty() {
        ("", rest)
    } else {
        return None;
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let sound = valid_host(host) && valid_escapes(path);
    sound.then(|| Url { scheme, host: host.to_owned(), path: escaped(path), query: query.to_owned() })
}

/// The scheme in lower case, if there is one, and the rest; `None` for a colon without a scheme.
fn scheme(text: &str) -> Option<(String, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')));
    match end {
        Some(end) if text[end..].starts_with(':') => {
            let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
            starts.then(|| (text[..end].to_ascii_lowercase(), &text[end + 1..]))
        }
        _ => Some((String::new(), text)),
    }
}

fn valid_host(host: &str) -> bool {
    let port = match host.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((address, port))
                if address.split('%').next().is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()) =>
            {
                port
            }
            _ => return false,
        },
        None => match host.rfind(':') {
            Some(at) => &host[at..],
            None => "",
        },
    };
    let port =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    port && valid_escapes(host) && !host.contains(['"', '<', '>', '\\', '^', '`', '{', '|', '}'])
}

/// Whether every percent sign is followed by two digits.
fn valid_escapes(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|rest| rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)))
}

/// The path with everything escaped that must be.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@/%[]".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn hostname(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(inner) => inner.split(']').next().unwrap_or(inner),
        None => host.split(':').next().unwrap_or(host),
    }
}

fn port(host: &str) -> &str {
    let rest = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    rest.rsplit_once(':').map_or("", |(_, port)| port)
}

fn query(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(key), Some(value)) = (unescape(key), unescape(value)) {
            out.entry(key).or_default().push(value);
        }
    }
    out
}

fn unescape(text: &str) -> Option<String> {
    if !valid_escapes(text) {
        return None;
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let two = [bytes.next()?, bytes.next()?];
                out.push(u8::from_str_radix(std::str::from_utf8(&two).ok()?, 16).ok()?);
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}
