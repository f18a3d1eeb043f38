//! What a request asks for, read from its method, path and query: the first stage, and what authorisation decides on.
//!
//! Parsed as upstream's `RequestInfo`:
//!
//! ```text
//! /api/v1/namespaces/{namespace}/{resource}/{name}/{subresource}
//! /apis/{group}/{version}/{resource}/{name}
//! ```

use http::Method;
use percent_encoding::percent_decode_str;

use crate::query::Query;

/// A parsed request line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// The decoded path.
    pub path: String,
    /// Whether the path names a resource of the API.
    pub is_resource: bool,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for other paths the method in
    /// lower case.
    pub verb: String,
    /// `""` for the core group.
    pub group: String,
    pub version: String,
    /// `""` for cluster-scoped requests and lists across namespaces.
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// What follows the subresource (`pods/x/proxy/{tail}`), with its leading `/`.
    pub tail: String,
    /// The path begins with `/namespaces/{namespace}/`.
    pub in_namespace: bool,
}

/// Resources that are children of a namespace's name rather than of the namespace.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Reads method, path and query.
    pub fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let decoded = percent_decode_str(path).decode_utf8_lossy().into_owned();
        let mut info = Self { verb: method.as_str().to_ascii_lowercase(), path: decoded, ..Self::default() };
        // Split before decoding, so that an encoded slash stays within its part.
        let parts: Vec<String> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
            .collect();
        let mut rest: &[String] = &parts;
        match rest {
            [prefix, version, tail @ ..] if prefix == "api" && !tail.is_empty() => {
                info.version.clone_from(version);
                rest = tail;
            }
            [prefix, group, version, tail @ ..] if prefix == "apis" && !tail.is_empty() => {
                info.group.clone_from(group);
                info.version.clone_from(version);
                rest = tail;
            }
            _ => return info,
        }
        info.is_resource = true;
        info.verb = verb_of_method(method).to_owned();
        if let [watch, tail @ ..] = rest
            && watch == "watch"
            && !tail.is_empty()
        {
            info.verb = "watch".to_owned();
            rest = tail;
        }
        info.read_resource(rest);
        info.refine_verb(query);
        info
    }

    fn read_resource(&mut self, mut parts: &[String]) {
        if let [first, namespace, tail @ ..] = parts
            && first == "namespaces"
        {
            self.namespace.clone_from(namespace);
            let names_a_resource = tail.first().is_some_and(|next| !NAMESPACE_SUBRESOURCES.contains(&next.as_str()));
            if names_a_resource {
                self.in_namespace = true;
                parts = tail;
            }
        }
        let part = |at: usize| parts.get(at).cloned().unwrap_or_default();
        (self.resource, self.name, self.subresource) = (part(0), part(1), part(2));
        if parts.len() > 3 {
            self.tail = format!("/{}", parts[3..].join("/"));
        }
    }

    fn refine_verb(&mut self, query: &Query) {
        if !self.name.is_empty() {
            return;
        }
        match self.verb.as_str() {
            "get" if query.flag("watch") => "watch".clone_into(&mut self.verb),
            "get" => "list".clone_into(&mut self.verb),
            "delete" => "deletecollection".clone_into(&mut self.verb),
            _ => {}
        }
        // A watch or list of one name is authorised as that name.
        if matches!(self.verb.as_str(), "list" | "watch" | "deletecollection")
            && let Some(name) = query.get("fieldSelector").and_then(single_name)
        {
            self.name = name.to_owned();
        }
    }

    /// Whether the request goes on for as long as its client likes.
    pub fn is_long_running(&self) -> bool {
        const STREAMS: [&str; 5] = ["attach", "exec", "log", "portforward", "proxy"];
        self.is_resource && (self.verb == "watch" || STREAMS.contains(&self.subresource.as_str()))
    }

    /// `v1` or `apps/v1`.
    pub fn group_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

fn verb_of_method(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// The name in a field selector that asks for exactly one.
fn single_name(selector: &str) -> Option<&str> {
    selector.split(',').find_map(|term| {
        let value = term.trim().strip_prefix("metadata.name=")?;
        let value = value.strip_prefix('=').unwrap_or(value);
        (!value.is_empty()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: Method, uri: &str) -> RequestInfo {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        RequestInfo::parse(&method, path, &Query::parse(query))
    }

    fn check(method: Method, uri: &str, want: [&str; 7]) {
        let got = parse(method, uri);
        let fields = [&got.verb, &got.group, &got.version, &got.namespace, &got.resource, &got.name, &got.subresource];
        assert_eq!(fields.map(String::as_str), want, "{uri}");
        assert!(got.is_resource);
    }

    #[test]
    fn resource_paths_are_taken_apart() {
        check(Method::GET, "/api/v1/pods", ["list", "", "v1", "", "pods", "", ""]);
        check(Method::GET, "/api/v1/namespaces", ["list", "", "v1", "", "namespaces", "", ""]);
        check(Method::GET, "/api/v1/namespaces/a", ["get", "", "v1", "a", "namespaces", "a", ""]);
        check(Method::PUT, "/api/v1/namespaces/a/finalize", ["update", "", "v1", "a", "namespaces", "a", "finalize"]);
        check(Method::POST, "/api/v1/namespaces/a/pods/p/binding", ["create", "", "v1", "a", "pods", "p", "binding"]);
        check(
            Method::GET,
            "/apis/apps/v1/namespaces/a/deployments?watch=1",
            ["watch", "apps", "v1", "a", "deployments", "", ""],
        );
        check(
            Method::DELETE,
            "/apis/apps/v1/namespaces/a/deployments",
            ["deletecollection", "apps", "v1", "a", "deployments", "", ""],
        );
        check(Method::GET, "/api/v1/watch/pods", ["watch", "", "v1", "", "pods", "", ""]);
        check(Method::GET, "/api/v1/pods?fieldSelector=metadata.name=x", ["list", "", "v1", "", "pods", "x", ""]);
    }

    #[test]
    fn other_paths_are_not_resources() {
        for path in ["/", "/api", "/api/v1", "/apis/apps", "/apis/apps/v1", "/healthz", "/version"] {
            let info = parse(Method::GET, path);
            assert!(!info.is_resource, "{path}");
            assert_eq!(info.verb, "get");
        }
    }

    #[test]
    fn watches_and_streams_go_on() {
        let is_long = |uri: &str| parse(Method::GET, uri).is_long_running();
        for uri in ["/api/v1/pods?watch=1", "/api/v1/watch/pods", "/api/v1/namespaces/a/pods/p/log"] {
            assert!(is_long(uri), "{uri}");
        }
        for uri in ["/api/v1/pods", "/healthz", "/api/v1/namespaces/a/pods/p/status"] {
            assert!(!is_long(uri), "{uri}");
        }
    }

    #[test]
    fn what_follows_a_subresource_is_kept() {
        let info = parse(Method::GET, "/api/v1/namespaces/a/services/s/proxy/x/y");
        assert_eq!((info.subresource.as_str(), info.tail.as_str()), ("proxy", "/x/y"));
    }
}
