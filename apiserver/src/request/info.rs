//! What a request does, read once from its method, path and query: the first stage. Authorisation decides on it, and
//! what follows (flow control, metrics, the audit log, dispatch) acts on it alone, never again on the method or path: what
//! was authorised is what is done.
//!
//! Parsed as upstream's `RequestInfo`:
//!
//! ```text
//! /api/v1/namespaces/{namespace}/{resource}/{name}/{subresource}
//! /apis/{group}/{version}/{resource}/{name}
//! /api/v1/watch/namespaces/{namespace}/{resource}/{name}          GET only, and nothing below
//! ```

use api::selector::FieldSelector;
use http::Method;
use percent_encoding::percent_decode_str;

use crate::request::query::Query;

/// What a request does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Reads the object or subresource that the path names.
    Get,
    List,
    /// Follows a selection, or one object.
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
    /// Goes on to a node or pod (`exec`, `proxy`, ...) by this method, which is also its verb.
    Connect(Method),
    /// Visits a path that is no resource. Its verb is the method in lower case.
    Visit(Method),
    /// Nothing: no resource takes the method. Whoever may not do what it looks like is told that first, so it has a verb.
    Nothing(&'static str),
}

/// A parsed request line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    /// What is done to what the other fields name.
    pub deed: Deed,
    /// The decoded path.
    pub path: String,
    /// Whether the path names a resource of the API.
    pub is_resource: bool,
    /// `""` for the core group.
    pub group: String,
    pub version: String,
    /// `""` for cluster-scoped requests and lists across namespaces.
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// The name stands in the path, rather than in a field selector.
    pub is_item: bool,
    /// What follows the subresource (`pods/x/proxy/{tail}`), decoded, with its leading `/`.
    pub tail: String,
    /// The same as the client encoded it.
    pub raw_tail: String,
    /// The path begins with `/namespaces/{namespace}/`.
    pub in_namespace: bool,
    /// The path begins with `/namespaces//`, and so means all namespaces.
    pub in_any_namespace: bool,
    /// There is nothing between two slashes, elsewhere than there and in the tail: no such path leads anywhere.
    pub has_gaps: bool,
    /// The path begins with `/watch/`, below the version.
    pub by_prefix: bool,
    verb: String,
}

/// Resources that are children of a namespace's name rather than of the namespace.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];
/// The streams into pods, which clients open with either method.
const STREAMS: [&str; 3] = ["attach", "exec", "portforward"];

impl RequestInfo {
    /// Reads method, path and query.
    pub fn parse(method: &Method, uri_path: &str, query: &Query) -> Self {
        let mut info = Self::visit(method, uri_path);
        // Split before decoding, so that an encoded slash stays within its part.
        let parts: Vec<Part> = Part::all(uri_path);
        let mut rest: &[Part] = &parts;
        match rest {
            [prefix, version, tail @ ..] if prefix.text == "api" && !tail.is_empty() => {
                info.version.clone_from(&version.text);
                rest = tail;
            }
            [prefix, group, version, tail @ ..] if prefix.text == "apis" && !tail.is_empty() => {
                info.group.clone_from(&group.text);
                info.version.clone_from(&version.text);
                rest = tail;
            }
            _ => return info,
        }
        info.is_resource = true;
        if let [watch, tail @ ..] = rest
            && watch.text == "watch"
            && !tail.is_empty()
        {
            info.by_prefix = true;
            rest = tail;
        }
        info.read_resource(rest, uri_path);
        info.is_item = !info.name.is_empty();
        info.deed = info.deed_of(method, query);
        // A list or watch of one name is authorised as that name.
        if matches!(info.deed, Deed::List | Deed::Watch) && !info.is_item && !info.by_prefix {
            info.name = query.get("fieldSelector").and_then(single_name).unwrap_or_default();
        }
        info.verb = verb_of(&info.deed);
        info
    }

    fn visit(method: &Method, uri_path: &str) -> Self {
        let deed = Deed::Visit(method.clone());
        Self {
            verb: verb_of(&deed),
            deed,
            path: percent_decode_str(uri_path).decode_utf8_lossy().into_owned(),
            is_resource: false,
            group: String::new(),
            version: String::new(),
            namespace: String::new(),
            resource: String::new(),
            subresource: String::new(),
            name: String::new(),
            is_item: false,
            tail: String::new(),
            raw_tail: String::new(),
            in_namespace: false,
            in_any_namespace: false,
            has_gaps: false,
            by_prefix: false,
        }
    }

    fn read_resource(&mut self, mut parts: &[Part], uri_path: &str) {
        let is_left_out = |after: usize| uri_path[after..].starts_with("//") && !uri_path[after..].starts_with("///");
        if let [first, tail @ ..] = parts
            && first.text == "namespaces"
            && !tail.is_empty()
            && is_left_out(first.end)
        {
            self.in_any_namespace = true;
            parts = tail;
        } else if let [first, namespace, tail @ ..] = parts
            && first.text == "namespaces"
        {
            self.namespace.clone_from(&namespace.text);
            let names_a_resource =
                tail.first().is_some_and(|next| !NAMESPACE_SUBRESOURCES.contains(&next.text.as_str()));
            if names_a_resource {
                self.in_namespace = true;
                parts = tail;
            }
        }
        let part = |at: usize| parts.get(at).map(|part| part.text.clone()).unwrap_or_default();
        (self.resource, self.name, self.subresource) = (part(0), part(1), part(2));
        if let Some(subresource) = parts.get(2) {
            uri_path[subresource.end..].clone_into(&mut self.raw_tail);
        }
        let gaps = uri_path[..uri_path.len() - self.raw_tail.len()].matches("//").count();
        self.has_gaps = gaps > usize::from(self.in_any_namespace) || uri_path.starts_with("//");
        if parts.len() > 3 {
            let tail: Vec<&str> = parts[3..].iter().map(|part| part.text.as_str()).collect();
            self.tail = format!("/{}", tail.join("/"));
        }
    }

    fn deed_of(&self, method: &Method, query: &Query) -> Deed {
        if self.by_prefix {
            let follows = *method == Method::GET && self.subresource.is_empty();
            return if follows { Deed::Watch } else { Deed::Nothing("watch") };
        }
        if takes(&self.subresource, method) {
            return Deed::Connect(method.clone());
        }
        let selects = || if query.flag("watch") { Deed::Watch } else { Deed::List };
        match *method {
            Method::GET if self.is_item => Deed::Get,
            Method::GET => selects(),
            Method::POST => Deed::Create,
            Method::PUT => Deed::Update,
            Method::PATCH => Deed::Patch,
            Method::DELETE if self.is_item => Deed::Delete,
            Method::DELETE => Deed::DeleteCollection,
            Method::HEAD if self.is_item => Deed::Nothing("get"),
            Method::HEAD if selects() == Deed::Watch => Deed::Nothing("watch"),
            Method::HEAD => Deed::Nothing("list"),
            _ => Deed::Nothing(""),
        }
    }

    /// What is authorised: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for other
    /// paths the method in lower case.
    pub fn verb(&self) -> &str {
        &self.verb
    }

    /// Whether the request goes on for as long as its client likes.
    pub fn is_long_running(&self) -> bool {
        match self.deed {
            Deed::Watch | Deed::Connect(_) => true,
            Deed::Get => self.subresource == "log",
            _ => false,
        }
    }

    /// Whether it changes nothing in the store.
    pub fn is_read(&self) -> bool {
        matches!(self.deed, Deed::Get | Deed::List | Deed::Watch)
            || matches!(&self.deed, Deed::Visit(method) if matches!(*method, Method::GET | Method::HEAD))
    }

    /// `v1` or `apps/v1`.
    pub fn group_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// A part of a path.
struct Part {
    /// Decoded.
    text: String,
    /// Where it ends in the path.
    end: usize,
}

impl Part {
    fn all(path: &str) -> Vec<Self> {
        let mut start = 0;
        let mut parts = Vec::new();
        for raw in path.split('/') {
            let end = start + raw.len();
            if !raw.is_empty() {
                parts.push(Self { text: percent_decode_str(raw).decode_utf8_lossy().into_owned(), end });
            }
            start = end + 1;
        }
        parts
    }
}

/// Whether a subresource leads on to a node or pod by this method (upstream's ConnectMethods).
fn takes(subresource: &str, method: &Method) -> bool {
    match subresource {
        "proxy" => matches!(
            *method,
            Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS
        ),
        stream => STREAMS.contains(&stream) && matches!(*method, Method::GET | Method::POST),
    }
}

fn verb_of(deed: &Deed) -> String {
    let of_resource = |method: &Method| match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    };
    let verb = match deed {
        Deed::Get => "get",
        Deed::List => "list",
        Deed::Watch => "watch",
        Deed::Create => "create",
        Deed::Update => "update",
        Deed::Patch => "patch",
        Deed::Delete => "delete",
        Deed::DeleteCollection => "deletecollection",
        Deed::Connect(method) => of_resource(method),
        Deed::Visit(method) => return method.as_str().to_ascii_lowercase(),
        Deed::Nothing(verb) => verb,
    };
    verb.to_owned()
}

/// The name in a field selector that asks for exactly one, if an object can have it.
fn single_name(selector: &str) -> Option<String> {
    let name = FieldSelector::demanded(selector, "metadata.name")?;
    let possible = !matches!(name.as_str(), "." | "..") && !name.contains(['/', '%']);
    possible.then_some(name)
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
            assert_eq!(info.verb(), "get");
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
    fn a_namespace_that_is_left_out_means_all() {
        let info = parse(Method::GET, "/api/v1/namespaces//pods/p");
        let fields = [&info.namespace, &info.resource, &info.name].map(String::as_str);
        assert_eq!((fields, info.in_any_namespace, info.has_gaps), (["", "pods", "p"], true, false));
        for path in ["//api/v1/pods", "/api/v1/namespaces///pods", "/api/v1/namespaces//", "/api//v1/namespaces//pods"]
        {
            assert!(parse(Method::GET, path).has_gaps, "{path}");
        }
        assert!(!parse(Method::GET, "/api/v1/namespaces/a/pods/p/proxy//x").has_gaps);
    }

    #[test]
    fn what_follows_a_subresource_is_kept() {
        let check = |path: &str, place: [&str; 4], raw_tail: &str| {
            let info = parse(Method::GET, path);
            let fields = [&info.namespace, &info.resource, &info.name, &info.subresource].map(String::as_str);
            assert_eq!((fields, info.raw_tail.as_str()), (place, raw_tail), "{path}");
        };
        check(
            "/api/v1/namespaces/proxy/services/proxy/proxy/x%2Fy/",
            ["proxy", "services", "proxy", "proxy"],
            "/x%2Fy/",
        );
        check(
            "/api/v1/namespaces/proxy-2150/pods/https:a-proxy:443/proxy/proxy//z",
            ["proxy-2150", "pods", "https:a-proxy:443", "proxy"],
            "/proxy//z",
        );
        check("/api/v1/nodes/proxy:10250/proxy", ["", "nodes", "proxy:10250", "proxy"], "");
        let tail = parse(Method::GET, "/api/v1/namespaces/a/services/s/proxy/x%2Fy/").tail;
        assert_eq!(tail, "/x/y");
    }

    #[test]
    fn the_watch_prefix_is_for_reading_and_has_nothing_below() {
        let deed = |method, line: &str| parse(method, line).deed;
        let (one, logs) = ("/api/v1/watch/namespaces/a/pods/p", "/api/v1/watch/namespaces/a/pods/p/log");
        assert_eq!(deed(Method::GET, one), Deed::Watch);
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS] {
            assert_eq!(deed(method.clone(), one), Deed::Nothing("watch"), "{method}");
            assert!(!parse(method, "/apis/apps/v1/watch/deployments").is_long_running());
        }
        assert_eq!(deed(Method::GET, logs), Deed::Nothing("watch"));
        assert_eq!(deed(Method::GET, "/api/v1/watch/nodes/n/proxy/run"), Deed::Nothing("watch"));
    }

    #[test]
    fn no_parameter_makes_a_write_a_watch() {
        for (method, want) in [
            (Method::POST, Deed::Create),
            (Method::PUT, Deed::Update),
            (Method::PATCH, Deed::Patch),
            (Method::DELETE, Deed::DeleteCollection),
        ] {
            let info = parse(method, "/api/v1/namespaces/a/pods?watch=1&fieldSelector=metadata.name=x");
            assert_eq!((info.deed.clone(), info.name.as_str()), (want, ""));
            assert!(!info.is_long_running());
        }
        assert_eq!(parse(Method::GET, "/api/v1/namespaces/a/pods/p?watch=1").deed, Deed::Get);
    }

    #[test]
    fn a_connection_has_the_verb_of_its_method() {
        let verb = |method, what: &str| {
            let info = parse(method, &format!("/api/v1/namespaces/a/pods/p/{what}"));
            (matches!(info.deed, Deed::Connect(_)), info.verb().to_owned())
        };
        assert_eq!(verb(Method::DELETE, "proxy/x"), (true, "delete".into()));
        assert_eq!(verb(Method::HEAD, "proxy"), (true, "get".into()));
        assert_eq!(verb(Method::GET, "exec"), (true, "get".into()));
        assert_eq!(verb(Method::PUT, "exec"), (false, "update".into()));
        assert_eq!(verb(Method::TRACE, "proxy"), (false, String::new()));
    }

    #[test]
    fn a_name_is_read_from_a_selector_as_the_selection_reads_it() {
        let name = |selector: &str| parse(Method::GET, &format!("/api/v1/pods?fieldSelector={selector}")).name;
        assert_eq!(name("metadata.name%3D%3Dx"), "x");
        for other in ["metadata.name!%3Dx", "metadata.name!%3Da\\,metadata.name%3Dx", "metadata.name%3D..", "nonsense"]
        {
            assert_eq!(name(other), "", "{other}");
        }
    }
}
