//! URLs, read as Go reads them, as far as rules look at them.

/// The parts of a URL.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    pub(crate) scheme: &'a str,
    pub(crate) user: Option<&'a str>,
    /// With the port.
    pub(crate) host: &'a str,
    pub(crate) query: &'a str,
    pub(crate) fragment: &'a str,
}

impl<'a> Url<'a> {
    /// Reads a URL, or says why it is none.
    pub(crate) fn parse(text: &'a str) -> Result<Self, String> {
        if text.chars().any(|c| c < ' ' || c == '\x7f') {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (scheme, rest) = scheme(text)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut url = Self { scheme, query, fragment, ..Self::default() };
        let Some(authority) = rest.strip_prefix("//") else {
            let first = rest.split('/').next().unwrap_or("");
            if scheme.is_empty() && !rest.starts_with('/') && first.contains(':') {
                return Err("first path segment in URL cannot contain colon".to_owned());
            }
            return escapes(rest).map(|()| url);
        };
        let (authority, path) = authority.find('/').map_or((authority, ""), |at| authority.split_at(at));
        escapes(path)?;
        url.host = authority;
        if let Some((user, host)) = authority.rsplit_once('@') {
            (url.user, url.host) = (Some(user), host);
        }
        check_host(url.host).map(|()| url)
    }
}

fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn check_host(host: &str) -> Result<(), String> {
    let bad = |c: &char| matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}');
    if let Some(c) = host.chars().find(bad) {
        return Err(format!("invalid character {:?} in host name", c.to_string()));
    }
    let port = match host.strip_prefix('[') {
        Some(rest) => match rest.find(']') {
            Some(end) => &rest[end + 1..],
            None => return Err("missing ']' in host".to_owned()),
        },
        None => host.rfind(':').map_or("", |at| &host[at..]),
    };
    let digits = port.strip_prefix(':').unwrap_or("");
    let right = port.is_empty() || (port.starts_with(':') && digits.bytes().all(|byte| byte.is_ascii_digit()));
    if right { Ok(()) } else { Err(format!("invalid port {port:?} after host")) }
}

fn escapes(path: &str) -> Result<(), String> {
    for (at, _) in path.match_indices('%') {
        let code: String = path[at..].chars().take(3).collect();
        if code.len() != 3 || !code[1..].bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("invalid URL escape {code:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        let url = Url::parse("https://u:p@example.com:8443/a/b?c=d#e").unwrap();
        let want = Url { scheme: "https", user: Some("u:p"), host: "example.com:8443", query: "c=d", fragment: "e" };
        assert_eq!(url, want);
        assert_eq!(Url::parse("example.com/x").unwrap(), Url::default());
        assert_eq!(Url::parse("https:///x").unwrap(), Url { scheme: "https", ..Url::default() });
        assert_eq!(Url::parse("https://[::1]:443").unwrap().host, "[::1]:443");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for (text, why) in [
            ("https://a b/", "invalid character \" \" in host name"),
            ("https://a:b/", "invalid port \":b\" after host"),
            ("https://[::1", "missing ']' in host"),
            ("https://a/%zz", "invalid URL escape \"%zz\""),
            ("https://a/%é", "invalid URL escape \"%é\""),
            (":a", "missing protocol scheme"),
            ("1:2", "first path segment in URL cannot contain colon"),
            ("a\u{7f}", "net/url: invalid control character in URL"),
        ] {
            assert_eq!(Url::parse(text), Err(why.to_owned()), "{text}");
        }
    }
}
