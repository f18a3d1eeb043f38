//! What a backend says of its own places, changed so that it leads through the proxy again (upstream's
//! `util/proxy.Transport`).

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What would end a value in HTML.
const SPECIAL: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'\'').add(b'<').add(b'>').add(b'&').add(b'`');

/// Where a backend is for a client.
#[derive(Clone, Debug)]
pub(super) struct Moved {
    /// The path of its root.
    prefix: String,
    /// Its own host and port.
    backend: String,
    /// The host that the client asked.
    asked: String,
}

impl Moved {
    /// `prefix` is the path of the proxy, as the client encoded it.
    pub(super) fn new(prefix: &str, backend: String, asked: &str) -> Self {
        Self { prefix: utf8_percent_encode(prefix, SPECIAL).to_string(), backend, asked: asked.to_owned() }
    }

    /// Where a URL of the backend is; `None` if it is elsewhere, or relative and so right already.
    pub(super) fn url(&self, target: &str) -> Option<String> {
        let (scheme, host, path) = split(target);
        let is_elsewhere = !host.is_empty() && host != self.backend && host != self.asked;
        if is_elsewhere || !path.starts_with('/') {
            return None;
        }
        let origin = if host == self.asked { &target[..scheme.len() + host.len()] } else { "" };
        let is_below =
            path.strip_prefix(&self.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
        let prefix = if is_below { "" } else { self.prefix.as_str() };
        Some(format!("{origin}{prefix}{path}"))
    }
}

/// The scheme with its slashes, the host, and what follows.
fn split(url: &str) -> (&str, &str, &str) {
    let is_scheme = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    };
    let after = match url.find("//") {
        Some(0) => 2,
        Some(at) if url[..at].strip_suffix(':').is_some_and(is_scheme) => at + 2,
        _ => return ("", "", url),
    };
    let (scheme, rest) = url.split_at(after);
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    (scheme, host, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "/api/v1/namespaces/a/services/s/proxy";

    fn moved() -> Moved {
        Moved::new(PREFIX, "10.0.0.1:80".into(), "localhost:8001")
    }

    #[test]
    fn urls_of_the_backend_lead_through_the_proxy() {
        let check = |target: &str, want: &str| {
            let want = want.replace("PREFIX", PREFIX);
            assert_eq!(moved().url(&target.replace("PREFIX", PREFIX)).as_deref(), Some(want.as_str()), "{target}");
        };
        check("/login?next=/x", "PREFIX/login?next=/x");
        check("/", "PREFIX/");
        check("/x?u=http://elsewhere/", "PREFIX/x?u=http://elsewhere/");
        check("http://10.0.0.1:80/x#y", "PREFIX/x#y");
        check("//10.0.0.1:80/x", "PREFIX/x");
        check("https://localhost:8001/x", "https://localhost:8001PREFIX/x");
        check("PREFIX/x", "PREFIX/x");
        check("http://10.0.0.1:80PREFIX/x", "PREFIX/x");
        check("PREFIX-of-another/x", "PREFIXPREFIX-of-another/x");
    }

    #[test]
    fn urls_that_are_elsewhere_or_relative_stay() {
        for target in
            ["https://example.com/x", "//example.com/", "x/y", "?q", "#top", "", "mailto:a@b", "http://10.0.0.1:80"]
        {
            assert_eq!(moved().url(target), None, "{target}");
        }
    }

    #[test]
    fn a_path_cannot_end_the_value_that_it_is_put_into() {
        let moved = Moved::new("/a\"><script>'", "b".into(), "");
        assert_eq!(moved.url("/x").unwrap(), "/a%22%3E%3Cscript%3E%27/x");
    }
}
