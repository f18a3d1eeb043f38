use serde_json::{Value, json};

use super::*;

fn good() -> Value {
    json!({
        "issuer": {"url": "https://issuer.example.com", "audiences": ["us"]},
        "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
    })
}

fn read_all(list: Vec<Value>) -> Result<Vec<Settings>, String> {
    let list: Vec<JwtAuthenticator> = serde_json::from_value(list.into()).unwrap();
    read(&list, &["https://own".to_owned()]).map_err(|errors| crate::strict::together(&errors))
}

/// The good one with one part replaced.
fn with(pointer: &str, value: Value) -> Value {
    let mut tree = good();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    tree.pointer_mut(parent).unwrap()[field] = value;
    tree
}

#[track_caller]
fn refused(pointer: &str, value: Value, wanted: &str) {
    let err = read_all(vec![with(pointer, value)]).expect_err(wanted);
    assert!(err.contains(wanted), "{err}\n  wanted: {wanted}");
}

#[test]
fn an_issuer_is_read() {
    let settings = read_all(vec![good()]).unwrap().remove(0);
    assert_eq!(settings.discovery, "https://issuer.example.com/.well-known/openid-configuration");
    assert_eq!((settings.algorithms.len(), settings.authority), (9, None));
    let elsewhere = with("/issuer/discoveryURL", json!("https://inside:8443/document"));
    assert_eq!(read_all(vec![elsewhere]).unwrap()[0].discovery, "https://inside:8443/document");
    assert!(read_all(Vec::new()).unwrap().is_empty());
    let user = settings.mapping.user(&json!({"sub": "jane"})).unwrap();
    assert_eq!(user.name, "jane");
}

#[test]
fn issuers_are_checked() {
    let url = |url: &str, wanted: &str| refused("/issuer/url", json!(url), &format!("jwt[0].issuer.url: {wanted}"));
    url("", "Required value");
    url("https://own", "Invalid value: \"https://own\": URL must not overlap with disallowed issuers: [https://own]");
    url("http://a", "Invalid value: \"http://a\": URL scheme must be https");
    url("issuer", "Invalid value: \"issuer\": URL scheme must be https");
    url(
        "https://jane:secret@a",
        "Invalid value: \"https://jane:secret@a\": URL must not contain a username or password",
    );
    url("https://a?b=c", "Invalid value: \"https://a?b=c\": URL must not contain a query");
    url("https://a#b", "Invalid value: \"https://a#b\": URL must not contain a fragment");
    url("https://", "Invalid value: \"https://\": URL must name a host");
    url("https://a b", "Invalid value: \"https://a b\": URL must name a host");
    let discovery = "/issuer/discoveryURL";
    refused(discovery, json!("https://issuer.example.com/"), "discoveryURL must be different from URL");
    refused(discovery, json!("http://a"), "jwt[0].issuer.discoveryURL: Invalid value: \"http://a\": URL scheme");
    let audiences = "/issuer/audiences";
    refused(audiences, json!([]), "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is");
    refused(audiences, json!([""]), "jwt[0].issuer.audiences[0]: Required value");
    refused(audiences, json!(["a", "a"]), "jwt[0].issuer.audiences[1]: Duplicate value: \"a\"");
    refused(audiences, json!(["a", "b"]), "audienceMatchPolicy must be MatchAny for multiple audiences");
    let policy = "/issuer/audienceMatchPolicy";
    refused(policy, json!("MatchAll"), "jwt[0].issuer.audienceMatchPolicy: Invalid value: \"MatchAll\"");
    assert!(read_all(vec![with(policy, json!("MatchAny"))]).is_ok());
    let authority = "/issuer/certificateAuthority";
    refused(authority, json!("no PEM"), "jwt[0].issuer.certificateAuthority: Invalid value: \"<omitted>\"");
    let egress = "/issuer/egressSelectorType";
    refused(egress, json!("cluster"), "jwt[0].issuer.egressSelectorType: Forbidden");
    refused(egress, json!("etcd"), "egress selector must be either controlplane or cluster");
    let err = read_all(vec![good(), good()]).unwrap_err();
    assert_eq!(err, "jwt[1].issuer.url: Duplicate value: \"https://issuer.example.com\"");
    let mut two = [good(), good()];
    two[1]["issuer"]["url"] = "https://other".into();
    two.iter_mut().for_each(|one| one["issuer"]["discoveryURL"] = "https://d".into());
    let err = read_all(two.to_vec()).unwrap_err();
    assert_eq!(err, "jwt[1].issuer.discoveryURL: Duplicate value: \"https://d\"");
    assert_eq!(read_all(vec![good(); 65]).unwrap_err(), "jwt: Too many: 65: must have at most 64 items");
}

#[test]
fn rules_are_checked() {
    let rules = |rules: Value, wanted: &str| refused("/claimValidationRules", rules, wanted);
    rules(json!([{}]), "jwt[0].claimValidationRules[0]: Required value: claim or expression is required");
    rules(json!([{"claim": "a", "expression": "true"}]), "claim and expression can't both be set");
    rules(json!([{"claim": "a", "message": "m"}]), "claimValidationRules[0].message: Invalid value: \"m\"");
    rules(json!([{"claim": "a"}, {"claim": "a"}]), "claimValidationRules[1].claim: Duplicate value: \"a\"");
    rules(
        json!([{"expression": "true", "requiredValue": "v"}]),
        "claimValidationRules[0].requiredValue: Invalid value",
    );
    rules(
        json!([{"expression": "true"}, {"expression": "true"}]),
        "claimValidationRules[1].expression: Duplicate value",
    );
    rules(json!([{"expression": "1"}]), "expression: Invalid value: \"1\": must evaluate to bool");
    rules(json!([{"expression": "claims.verified"}]), "must evaluate to bool");
    rules(json!([{"expression": "user.username == ''"}]), "compilation failed");
    let rules = |rules: Value, wanted: &str| refused("/userValidationRules", rules, wanted);
    rules(json!([{}]), "jwt[0].userValidationRules[0].expression: Required value");
    rules(
        json!([{"expression": "true"}, {"expression": "true"}]),
        "userValidationRules[1].expression: Duplicate value",
    );
    rules(json!([{"expression": "user.nope == ''"}]), "userValidationRules[0].expression: Invalid value");
    rules(json!([{"expression": "claims.sub == ''"}]), "compilation failed");
    rules(json!([{"expression": "user.username"}]), "must evaluate to bool");
}

#[test]
fn mappings_are_checked() {
    let mappings = |field: &str, value: Value, wanted: &str| refused(&format!("/claimMappings/{field}"), value, wanted);
    mappings("username", json!({}), "jwt[0].claimMappings.username: Required value: claim or expression is required");
    mappings("username", json!({"claim": "sub"}), "claimMappings.username.prefix: Required value: prefix is required");
    mappings(
        "username",
        json!({"claim": "a", "expression": "'b'"}),
        "username: Invalid value: \"\": claim and expression",
    );
    mappings("username", json!({"expression": "'a'", "prefix": "p"}), "username.prefix: Invalid value: \"p\"");
    mappings(
        "username",
        json!({"expression": "nope"}),
        "username.expression: Invalid value: \"nope\": compilation failed",
    );
    mappings("groups", json!({"claim": "groups"}), "claimMappings.groups.prefix: Required value");
    mappings("uid", json!({"claim": "a", "expression": "'b'"}), "claimMappings.uid: Invalid value: \"\"");
    mappings("uid", json!({"expression": "("}), "claimMappings.uid.expression: Invalid value: \"(\"");
    let key = |key: &str, wanted: &str| {
        mappings("extra", json!([{"key": key, "valueExpression": "'v'"}]), &format!("extra[0].key: {wanted}"));
    };
    key("", "Required value");
    key("foo", "Invalid value: \"foo\": must be a domain-prefixed path");
    key("/foo", "Invalid value: \"/foo\": must be a domain-prefixed path");
    key("a_b/foo", "Invalid value: \"a_b\"");
    key("a.b/f o", "Invalid value: \"f o\": Invalid path");
    key("a.b/Foo", "Invalid value: \"a.b/Foo\": must be lowercase");
    for reserved in ["kubernetes.io/a", "authentication.kubernetes.io/credential-id", "k8s.io/a", "x.k8s.io/a"] {
        key(reserved, &format!("Invalid value: {reserved:?}: k8s.io, kubernetes.io and their subdomains are reserved"));
    }
    mappings("extra", json!([{"key": "a.b/c"}]), "extra[0].valueExpression: Required value");
    let twice = json!([{"key": "a.b/c", "valueExpression": "'v'"}, {"key": "a.b/c", "valueExpression": "'v'"}]);
    mappings("extra", twice, "extra[1].key: Duplicate value: \"a.b/c\"");
    mappings("extra", json!([{"key": "a.b/c", "valueExpression": "nope"}]), "extra[0].valueExpression: Invalid value");
    let mut uid = good();
    uid["claimMappings"]["uid"] = json!({"claim": "oid"});
    uid["claimMappings"]["extra"] = json!([{"key": "notk8s.io/a", "valueExpression": "'v'"}]);
    assert!(read_all(vec![uid]).is_ok());
}

#[test]
fn an_address_counts_only_with_a_look_at_whether_it_was_verified() {
    let by_email = json!({"expression": "claims.email"});
    let pointer = "/claimMappings/username";
    refused(
        pointer,
        by_email.clone(),
        "username.expression: Invalid value: \"claims.email\": claims.email_verified must be",
    );
    refused(pointer, json!({"expression": "claims.?email.orValue('a')"}), "claims.email_verified must be used");
    let verified = "claims.?email_verified.orValue(true) ? claims.email : claims.sub";
    assert!(read_all(vec![with(pointer, json!({"expression": verified}))]).is_ok());
    let mut elsewhere = with(pointer, by_email.clone());
    elsewhere["claimValidationRules"] = json!([{"expression": "claims.email_verified == true"}]);
    assert!(read_all(vec![elsewhere]).is_ok());
    let mut elsewhere = with(pointer, by_email);
    let expression = "string(claims.email_verified)";
    elsewhere["claimMappings"]["extra"] = json!([{"key": "a.b/c", "valueExpression": expression}]);
    assert!(read_all(vec![elsewhere]).is_ok());
}

#[test]
fn all_that_is_wrong_is_told_together() {
    let err = read_all(vec![json!({})]).unwrap_err();
    assert_eq!(
        err,
        "[jwt[0].issuer.url: Required value, jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences \
         is required, jwt[0].claimMappings.username: Required value: claim or expression is required]"
    );
}
