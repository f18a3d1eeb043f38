//! Policies and what they decide.

use http::Method;

use super::policy::{Level, Policy, Stage};
use super::*;
use crate::request::query::Query;

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  users: [system:kube-proxy]
  verbs: [watch]
  resources:
  - group: ""
    resources: [endpoints, services]
- level: None
  nonResourceURLs: ["/healthz*", "/version"]
- level: Request
  resources:
  - group: ""
    resources: ["pods/log", "*/scale", "configmaps/*"]
- level: RequestResponse
  userGroups: [admins]
  namespaces: [shop]
  omitStages: [ResponseStarted]
  omitManagedFields: false
  resources:
  - group: apps
    resources: [deployments]
    resourceNames: [web]
- level: Metadata
  resources:
  - group: apps
"#;

/// The level at which `user` of `group` is recorded.
fn level(user: &str, group: &str, method: &Method, path: &str) -> Level {
    let user = User { name: user.into(), groups: vec![group.into()], ..User::default() };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let info = RequestInfo::parse(method, path, &Query::parse(query));
    Policy::parse(POLICY.as_bytes()).unwrap().decide(&user, &info).level
}

#[test]
fn the_first_rule_about_a_request_decides() {
    let get = |path: &str| level("u", "g", &Method::GET, path);
    assert_eq!(level("system:kube-proxy", "g", &Method::GET, "/api/v1/services?watch=1"), Level::None);
    assert_eq!((get("/healthz/ping"), get("/version"), get("/versions")), (Level::None, Level::None, Level::None));
    assert_eq!(get("/api/v1/namespaces/a/pods/b/log"), Level::Request);
    assert_eq!(get("/api/v1/namespaces/a/pods/b"), Level::None);
    assert_eq!(get("/api/v1/namespaces/a/replicationcontrollers/b/scale"), Level::Request);
    assert_eq!(get("/api/v1/namespaces/a/configmaps/b"), Level::Request);
    let web = "/apis/apps/v1/namespaces/shop/deployments/web";
    assert_eq!(level("u", "admins", &Method::PUT, web), Level::RequestResponse);
    assert_eq!((get(web), get("/apis/apps/v1/deployments")), (Level::Metadata, Level::Metadata));
}

#[test]
fn a_rule_adds_to_what_all_leave_out() {
    let policy = Policy::parse(POLICY.as_bytes()).unwrap();
    let user = User { groups: vec!["admins".into()], ..User::default() };
    let path = "/apis/apps/v1/namespaces/shop/deployments/web";
    let recorded = policy.decide(&user, &RequestInfo::parse(&Method::GET, path, &Query::parse("")));
    assert_eq!(recorded.omit_stages, [Stage::RequestReceived, Stage::ResponseStarted]);
    assert!(!recorded.omit_managed_fields);
}

#[test]
fn what_is_no_policy_is_refused_with_the_place() {
    let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:";
    for (rules, why) in [
        (" []", "there are no rules"),
        ("\n- users: [a]", "rules[0].level: Required value"),
        ("\n- level: Some", "unknown variant `Some`"),
        ("\n- level: None\n  user: a", "unknown field `user`"),
        (
            "\n- level: None\n  nonResourceURLs: [healthz]",
            "rules[0].nonResourceURLs[0]: \"healthz\": non-resource URL rules must",
        ),
        ("\n- level: None\n  nonResourceURLs: ['/a*b']", "must be the final character"),
        ("\n- level: None\n  namespaces: [a]\n  nonResourceURLs: ['/a']", "cannot apply to both"),
        ("\n- level: None\n  resources: [{group: a_b}]", "rules[0].resources[0].group: \"a_b\""),
        ("\n- level: None\n  resources: [{resourceNames: [a]}]", "requires at least one resource"),
    ] {
        let refused = Policy::parse(format!("{head}{rules}").as_bytes()).unwrap_err();
        assert!(refused.contains(why), "{rules}: {refused}");
    }
    assert!(Policy::parse(b"apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]").is_err());
}
