//! Request lines, for the fuzzer and for tests that send them: every method on every form of path, and what must hold of
//! whatever is read from one.

use api::strategy::User;
use http::Method;
use percent_encoding::percent_decode_str;

use crate::authz::Attributes;
use crate::request::info::{Deed, RequestInfo};
use crate::request::query::Query;

/// Methods that have a meaning, and some that have none.
pub const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "ODD"];
/// Queries that make a difference to what is read and to collections.
pub const QUERIES: [&str; 3] = ["", "watch=true&timeoutSeconds=1", "fieldSelector=metadata.name%3Dm"];

/// Every form of path: plain and by the watch prefix, with and without namespace, name and what lies below.
pub fn paths() -> Vec<String> {
    let mut paths = Vec::new();
    let core = ["configmaps", "pods", "serviceaccounts", "nodes"];
    for (root, resources) in [("/api/v1", &core[..]), ("/apis/apps/v1", &["deployments"][..])] {
        for prefix in ["", "/watch", "/proxy", "/watch/watch"] {
            for resource in resources {
                for scope in ["", "/namespaces/default"] {
                    for tail in ["", "/m", "/missing", "/m/status"] {
                        paths.push(format!("{root}{prefix}{scope}/{resource}{tail}"));
                    }
                }
            }
        }
    }
    for prefix in ["", "/watch"] {
        let pods = format!("/api/v1{prefix}/namespaces/default/pods/m");
        for below in ["binding", "eviction", "proxy/x", "exec?command=x", "log", "ephemeralcontainers", "resize"] {
            paths.push(format!("{pods}/{below}"));
        }
        paths.push(format!("/api/v1{prefix}/nodes/m/proxy/run/default/m/c"));
        paths.push(format!("/api/v1{prefix}/namespaces/default/serviceaccounts/m/token"));
        paths.push(format!("/apis/apps/v1{prefix}/namespaces/default/deployments/m/scale"));
        paths.push(format!("/api/v1{prefix}/namespaces/default"));
        paths.push(format!("/apis/coordination.k8s.io/v1{prefix}/namespaces/default/leases/missing"));
        paths.push(format!("/apis/authorization.k8s.io/v1{prefix}/selfsubjectaccessreviews"));
    }
    let odd = [
        "/api/v1/namespaces/default/watch/pods/m",
        "/api/v1//watch/namespaces/default/pods/m",
        "/api/v1/%77atch/namespaces/default/pods/m",
        "/api/v1/watch%2Fnamespaces/default/pods/m",
        "/api/v1/watch/namespaces/default%2Fpods/m",
        "/api/v1/namespaces/default/pods%2Fm",
        "/api/v1/namespaces/default/pods/m/",
        "//api/v1/namespaces/default/pods/m",
        "/api/v1/watch/../namespaces/default/pods/m",
    ];
    paths.extend(odd.map(str::to_owned));
    paths
}

/// A path with a query.
pub fn with_query(path: &str, query: &str) -> String {
    match (query, path.contains('?')) {
        ("", _) => path.to_owned(),
        (_, true) => format!("{path}&{query}"),
        (_, false) => format!("{path}?{query}"),
    }
}

/// Every form of path with some method and query.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let line = |(at, path): (usize, &String)| {
        // Three queries for each method in turn: the numbers have no common divisor.
        let (method, query) = (METHODS[at % METHODS.len()], QUERIES[at / METHODS.len() % QUERIES.len()]);
        format!("{method} {}", with_query(path, query)).into_bytes()
    };
    let visits = ["GET /healthz", "POST /version", "GET /apis/apps/v1", "HEAD /"].map(|line| line.as_bytes().to_vec());
    paths().iter().enumerate().map(line).chain(visits).collect()
}

/// The first line of a request: `METHOD path?query`.
pub(super) fn line(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (method, target) = text.split_once(' ').unwrap_or(("GET", &text));
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    check(&method, path, &Query::parse(query));
}

/// What is read of a request line is what it says, does what its method says, and is authorised as that.
pub(super) fn check(method: &Method, path: &str, query: &Query) {
    let info = RequestInfo::parse(method, path, query);
    check_deed(method, &info);
    check_duration(&info);
    let attributes = Attributes::new(&User::default(), &info);
    assert_eq!((attributes.verb.as_str(), attributes.is_resource), (info.verb(), info.is_resource), "{info:?}");
    if info.is_resource {
        check_parts(path, &info, &attributes);
        check_name(query, &info, &attributes);
    } else {
        let named = [&attributes.group, &attributes.version, &attributes.namespace, &attributes.resource];
        assert!(named.iter().all(|text| text.is_empty()) && !info.by_prefix, "{info:?}");
        assert_eq!(info.deed, Deed::Visit(method.clone()));
        assert_eq!(attributes.path, percent_decode_str(path).decode_utf8_lossy());
        assert_eq!(attributes.verb, method.as_str().to_ascii_lowercase());
    }
}

/// A request does what its method says, and nothing that its verb does not.
fn check_deed(method: &Method, info: &RequestInfo) {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    assert!(reads || !info.is_read(), "{method} {info:?}");
    let said = match &info.deed {
        Deed::Get => Some((Method::GET, "get")),
        Deed::List => Some((Method::GET, "list")),
        Deed::Watch => Some((Method::GET, "watch")),
        Deed::Create => Some((Method::POST, "create")),
        Deed::Update => Some((Method::PUT, "update")),
        Deed::Patch => Some((Method::PATCH, "patch")),
        Deed::Delete => Some((Method::DELETE, "delete")),
        Deed::DeleteCollection => Some((Method::DELETE, "deletecollection")),
        Deed::Connect(by) => {
            // A connection by a method that may change something is never had for a right to read.
            let has_verb_of_reading = matches!(info.verb(), "get" | "list" | "watch");
            assert!(by == method && (reads || !has_verb_of_reading), "{method} {info:?}");
            None
        }
        Deed::Visit(by) => {
            assert_eq!(by, method);
            None
        }
        Deed::Nothing(verb) => {
            assert_eq!(*verb, info.verb());
            None
        }
    };
    if let Some((wanted, verb)) = said {
        assert_eq!((method, info.verb()), (&wanted, verb), "{info:?}");
    }
    assert!(!info.by_prefix || matches!(info.deed, Deed::Watch | Deed::Nothing("watch")), "{method} {info:?}");
}

/// Only watches, logs and connections go on for as long as a client likes.
fn check_duration(info: &RequestInfo) {
    let goes_on = match &info.deed {
        Deed::Watch | Deed::Connect(_) => true,
        Deed::Get => info.subresource == "log",
        _ => false,
    };
    assert_eq!(info.is_long_running(), goes_on, "{info:?}");
}

/// Put together again, what is authorised is the path: no part of it is lost, doubled or moved.
fn check_parts(path: &str, info: &RequestInfo, attributes: &Attributes) {
    let parts = parts(path);
    let mut said: Vec<&str> = match attributes.group.as_str() {
        "" => vec!["api"],
        group => vec!["apis", group],
    };
    said.push(&attributes.version);
    if info.by_prefix {
        said.push("watch");
    }
    if info.in_any_namespace {
        said.push("namespaces");
    }
    if info.in_namespace {
        said.extend(["namespaces", &attributes.namespace]);
    }
    let name = if info.is_item { &attributes.name } else { "" };
    said.extend([&attributes.resource, name, &attributes.subresource].into_iter().filter(|text| !text.is_empty()));
    let (said_of, rest) = parts.split_at_checked(said.len()).unwrap_or_else(|| panic!("{path:?}: {info:?}"));
    assert_eq!(said_of, said, "{path:?}");
    // Without a resource of its own, a namespace is the object.
    let below = &parts[if attributes.group.is_empty() { 2 } else { 3 } + usize::from(info.by_prefix)..];
    let namespace = match below {
        [first, namespace, ..] if first == "namespaces" && !info.in_any_namespace => namespace,
        _ => "",
    };
    assert_eq!(attributes.namespace, namespace, "{path:?}");
    let tail = if rest.is_empty() { String::new() } else { format!("/{}", rest.join("/")) };
    assert_eq!(info.tail, tail, "{path:?}");
    // A tail goes on to a node or pod as the client encoded it.
    assert!(path.ends_with(&info.raw_tail) && self::parts(&info.raw_tail) == rest, "{path:?}: {info:?}");
}

/// A name that is not in the path comes from the selector of a list or watch, and narrows nothing else.
fn check_name(query: &Query, info: &RequestInfo, attributes: &Attributes) {
    if info.is_item || attributes.name.is_empty() {
        assert!(info.is_item || !matches!(info.deed, Deed::Get | Deed::Delete), "{info:?}");
        return;
    }
    assert!(matches!(info.deed, Deed::List | Deed::Watch) && !info.by_prefix, "{info:?}");
    let plain = |text: &str| text.replace('\\', "");
    let selector = query.get("fieldSelector").map(plain).unwrap_or_default();
    assert!(selector.contains(&plain(&attributes.name)), "{selector:?}: {info:?}");
}

fn parts(path: &str) -> Vec<String> {
    let raw = path.split('/').filter(|part| !part.is_empty());
    raw.map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect()
}
