//! What requests are counted by: the labels of upstream's stable metrics (`endpoints/metrics`).

use api::Resource;
use api::resource::Text;
use http::{HeaderMap, Method};
use prometheus_client::encoding::EncodeLabelSet;

use crate::request::info::{Deed, RequestInfo};
use crate::request::query::Query;

const NONE: Text = Text::Borrowed("");
/// Health checks are known by their paths.
const HEALTH: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// Where a request goes. Names are those of resources that there are: nobody makes new series by asking for others.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Place {
    verb: &'static str,
    group: Text,
    version: Text,
    resource: Text,
    subresource: Text,
    scope: &'static str,
    component: &'static str,
}

/// The same, and whether it was a dry run.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Asked {
    #[prometheus(flatten)]
    pub(super) place: Place,
    pub(super) dry_run: &'static str,
}

/// The same, and what came of it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Answered {
    #[prometheus(flatten)]
    pub(super) asked: Asked,
    pub(super) code: u16,
}

impl Place {
    /// Of a request for a resource that is in the catalog, or for something else.
    pub(crate) fn of(info: &RequestInfo, row: Option<&Resource>, method: &Method, headers: &HeaderMap) -> Self {
        let verb = verb(info, method, headers);
        let Some(row) = row else {
            let health = HEALTH.into_iter().find(|path| *path == info.path && !info.is_resource);
            let subresource = Text::Borrowed(health.unwrap_or(""));
            let (scope, component) = ("", if info.is_resource { "apiserver" } else { "" });
            return Self { verb, group: NONE, version: NONE, resource: NONE, subresource, scope, component };
        };
        let subresource = row.subresources.iter().find(|part| part.name == info.subresource);
        Self {
            verb,
            group: row.group.clone(),
            version: row.version.clone(),
            resource: row.plural.clone(),
            subresource: subresource.map_or(NONE, |part| part.name.clone()),
            scope: scope(info),
            component: "apiserver",
        }
    }

    /// Whether the size of the answer is of interest.
    pub(super) fn is_sized(&self) -> bool {
        matches!(self.verb, "GET" | "LIST")
    }
}

/// By the method, but for what it does not tell.
fn verb(info: &RequestInfo, method: &Method, headers: &HeaderMap) -> &'static str {
    match info.deed {
        Deed::Watch => "WATCH",
        Deed::Connect(_) => "CONNECT",
        Deed::Get if info.subresource == "log" => "CONNECT",
        Deed::List => "LIST",
        _ => match *method {
            Method::GET | Method::HEAD => "GET",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH if is_apply(headers) => "APPLY",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => "other",
        },
    }
}

fn is_apply(headers: &HeaderMap) -> bool {
    headers.get(http::header::CONTENT_TYPE).is_some_and(|kind| kind == "application/apply-patch+yaml")
}

fn scope(info: &RequestInfo) -> &'static str {
    if info.is_item || info.deed == Deed::Create {
        "resource"
    } else if info.namespace.is_empty() {
        "cluster"
    } else {
        "namespace"
    }
}

/// `All`, or nothing.
pub(super) fn dry_run(query: &Query) -> &'static str {
    match query.get("dryRun") {
        None => "",
        Some(_) if query.all("dryRun").all(|value| value == "All") => "All",
        Some(_) => "invalid",
    }
}

#[cfg(test)]
mod tests {
    use api::catalog::Catalog;

    use super::*;

    fn place(method: Method, uri: &str, kind: &str) -> Place {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let info = RequestInfo::parse(&method, path, &Query::parse(query));
        let catalog = Catalog::builtin();
        let row = catalog.resource(&info.group, &info.version, &info.resource);
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, kind.parse().unwrap());
        Place::of(&info, row.map(AsRef::as_ref), &method, &headers)
    }

    #[test]
    fn verbs_and_scopes_are_those_of_upstream() {
        let apply = "application/apply-patch+yaml";
        let pod = "/api/v1/namespaces/a/pods/p";
        for (method, uri, kind, verb, scope) in [
            (Method::GET, pod, "", "GET", "resource"),
            (Method::HEAD, pod, "", "GET", "resource"),
            (Method::GET, "/api/v1/pods", "", "LIST", "cluster"),
            (Method::GET, "/api/v1/namespaces/a/pods?fieldSelector=metadata.name=p", "", "LIST", "namespace"),
            (Method::GET, "/api/v1/pods?watch=1", "", "WATCH", "cluster"),
            (Method::GET, "/api/v1/watch/namespaces/a/pods", "", "WATCH", "namespace"),
            (Method::POST, "/api/v1/namespaces/a/pods", "", "POST", "resource"),
            (Method::PUT, pod, "", "PUT", "resource"),
            (Method::PATCH, pod, "application/merge-patch+json", "PATCH", "resource"),
            (Method::PATCH, pod, apply, "APPLY", "resource"),
            (Method::DELETE, pod, "", "DELETE", "resource"),
            (Method::DELETE, "/api/v1/namespaces/a/pods", "", "DELETE", "namespace"),
            (Method::GET, "/api/v1/namespaces/a/pods/p/log", "", "CONNECT", "resource"),
            (Method::POST, "/api/v1/namespaces/a/pods/p/exec", "", "CONNECT", "resource"),
            (Method::OPTIONS, pod, "", "other", "resource"),
        ] {
            let place = place(method.clone(), uri, kind);
            assert_eq!((place.verb, place.scope), (verb, scope), "{method} {uri}");
            assert_eq!((&*place.group, &*place.version, &*place.resource), ("", "v1", "pods"), "{uri}");
        }
    }

    #[test]
    fn what_there_is_not_has_no_series_of_its_own() {
        let unknown = place(Method::GET, "/apis/made.up/v1/things", "");
        assert_eq!(unknown, place(Method::GET, "/apis/made.up/v2/others", ""));
        assert_eq!((&*unknown.resource, unknown.component), ("", "apiserver"));
        assert_eq!(place(Method::GET, "/api/v1/namespaces/a/pods/p/made-up", "").subresource, "");
        assert_eq!(place(Method::GET, "/made/up", ""), place(Method::GET, "/version", ""));
        assert_eq!(place(Method::GET, "/livez", "").subresource, "/livez");
    }

    #[test]
    fn a_dry_run_is_told_from_a_wrong_one() {
        for (query, want) in
            [("", ""), ("dryRun=All", "All"), ("dryRun=All&dryRun=All", "All"), ("dryRun=x", "invalid")]
        {
            assert_eq!(dry_run(&Query::parse(query)), want, "{query}");
        }
    }
}
