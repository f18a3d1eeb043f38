use serde_json::json;

use super::*;

fn claim(name: &str, prefix: &str) -> Source {
    Source::Claim { name: name.into(), prefix: prefix.into() }
}

fn of_claims(text: &str) -> Expression {
    Expression::of_claims(text).unwrap_or_else(|why| panic!("{text}: {why}"))
}

fn expression(text: &str) -> Source {
    Source::Expression(of_claims(text))
}

fn plain() -> Mapping {
    Mapping {
        username: claim("sub", "oidc:"),
        groups: Some(claim("groups", "oidc:")),
        uid: None,
        extra: Vec::new(),
        required: Vec::new(),
        claim_rules: Vec::new(),
        user_rules: Vec::new(),
    }
}

#[track_caller]
fn refused(mapping: &Mapping, claims: &Value, wanted: &str) {
    let err = mapping.user(claims).expect_err("it is refused");
    assert!(err.contains(wanted), "{claims}: {err}\n  wanted: {wanted}");
}

#[test]
fn claims_become_a_user_with_prefixes() {
    let user = plain().user(&json!({"sub": "jane", "groups": ["dev", "ops"], "jti": "7"})).unwrap();
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("oidc:jane", ""));
    assert_eq!(user.groups, ["oidc:dev", "oidc:ops"]);
    assert_eq!(user.extra, [(CREDENTIAL.to_owned(), vec!["JTI=7".to_owned()])]);
    assert_eq!(plain().user(&json!({"sub": "jane", "groups": "dev"})).unwrap().groups, ["oidc:dev"]);
    for none in [json!({"sub": "jane"}), json!({"sub": "jane", "groups": null, "jti": 7})] {
        let user = plain().user(&none).unwrap();
        assert!(user.groups.is_empty() && user.extra.is_empty(), "{user:?}");
    }
    refused(&plain(), &json!({}), "claim not present");
    refused(&plain(), &json!({"sub": 7}), "it is no string");
    refused(&plain(), &json!({"sub": null}), "it is no string");
    refused(&plain(), &json!({"sub": "jane", "groups": {"dev": true}}), "parse groups claim");
    refused(&plain(), &json!({"sub": "jane", "groups": ["dev", 1]}), "parse groups claim");
    refused(&Mapping { username: claim("sub", ""), ..plain() }, &json!({"sub": ""}), "empty username");
}

#[test]
fn an_address_names_a_user_unless_it_is_not_verified() {
    let mapping = Mapping { username: claim("email", ""), ..plain() };
    for good in [json!({"email": "a@b.c"}), json!({"email": "a@b.c", "email_verified": true})] {
        assert_eq!(mapping.user(&good).unwrap().name, "a@b.c");
    }
    for bad in [json!(false), json!("true"), json!(1), json!(null)] {
        refused(&mapping, &json!({"email": "a@b.c", "email_verified": bad}), "email not verified");
    }
}

#[test]
fn expressions_make_users_too() {
    let mapping = Mapping {
        username: expression("claims.name + '@' + claims.org"),
        groups: Some(expression("claims.roles.split(',') + ['']")),
        uid: Some(expression("string(claims.number)")),
        extra: vec![
            ("example.org/team".into(), of_claims("claims.?team.orValue('')")),
            ("example.org/level".into(), of_claims("['a', 'b'].filter(level, level in claims.levels)")),
        ],
        ..plain()
    };
    let claims = json!({"name": "jane", "org": "x", "roles": "dev,ops", "number": 7, "levels": ["b"]});
    let user = mapping.user(&claims).unwrap();
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane@x", "7"));
    assert_eq!(user.groups, ["dev", "ops"]);
    assert_eq!(user.extra, [("example.org/level".to_owned(), vec!["b".to_owned()])]);
    refused(&mapping, &json!({"name": "jane"}), "no such key: org");
    let odd = |username: &str| Mapping { username: expression(username), groups: None, ..plain() };
    refused(&odd("claims.number"), &claims, "username claim expression must return a string");
    refused(&odd("''"), &claims, "empty username");
    let groups = |groups: &str| Mapping { username: claim("name", ""), groups: Some(expression(groups)), ..plain() };
    refused(&groups("claims.number"), &claims, "must return a string or a list of strings");
    refused(&groups("[claims.number]"), &claims, "must return a string or a list of strings");
    assert!(groups("null").user(&claims).unwrap().groups.is_empty());
    let uid = Mapping { uid: Some(expression("claims.levels")), ..odd("claims.name") };
    refused(&uid, &claims, "uid claim expression must return a string");
    let uid = Mapping { uid: Some(claim("oid", "")), ..odd("claims.name") };
    refused(&uid, &claims, "parse uid claim \"oid\"");
}

#[test]
fn an_expression_costs_no_more_than_it_may() {
    let claims = json!({"name": "jane", "list": (0..2_000).collect::<Vec<u32>>()});
    let mapping = Mapping {
        username: expression("claims.list.all(a, claims.list.all(b, a + b >= 0)) ? 'a' : 'b'"),
        groups: None,
        ..plain()
    };
    refused(&mapping, &claims, "cost limit exceeded");
}

#[test]
fn rules_must_hold() {
    let rule = |text: &str| Rule { expression: of_claims(text).condition().unwrap(), message: "because".into() };
    let of_user = |text: &str| Rule { expression: Expression::of_user(text).unwrap(), message: "no".into() };
    let mapping = Mapping {
        required: vec![("hd".into(), "example.com".into())],
        claim_rules: vec![rule("claims.exp - claims.nbf <= 86400")],
        user_rules: vec![
            of_user("!user.username.startsWith('oidc:system:')"),
            of_user("user.groups.all(group, group != 'oidc:admin') && user.uid == '' && size(user.extra) == 0"),
        ],
        ..plain()
    };
    let claims = |changes: &[(&str, Value)]| {
        let mut claims = json!({"sub": "jane", "hd": "example.com", "exp": 10, "nbf": 1});
        changes.iter().for_each(|(name, value)| claims[*name] = value.clone());
        claims
    };
    assert_eq!(mapping.user(&claims(&[])).unwrap().name, "oidc:jane");
    refused(&mapping, &claims(&[("hd", json!("evil.com"))]), "Got = evil.com, want = example.com");
    refused(&mapping, &claims(&[("hd", json!(["example.com"]))]), "it is no string");
    refused(&mapping, &json!({"sub": "jane", "exp": 10, "nbf": 1}), "required claim hd not present");
    refused(&mapping, &claims(&[("exp", json!(100_000))]), "failed: because");
    refused(&mapping, &claims(&[("nbf", json!("x"))]), "resulted in error");
    refused(&mapping, &claims(&[("sub", json!("system:admin"))]), "failed: no");
    refused(&mapping, &claims(&[("groups", json!(["admin"]))]), "failed: no");
}

#[test]
fn groups_that_lie_elsewhere_are_not_left_out() {
    let names = json!({"groups": "src"});
    refused(&plain(), &json!({"sub": "jane", "_claim_names": names}), "could not expand distributed claims");
    refused(&plain(), &json!({"sub": "jane", "_claim_names": []}), "could not expand distributed claims");
    for good in [
        json!({"sub": "jane", "_claim_names": {"address": "src"}}),
        json!({"sub": "jane", "groups": [], "_claim_names": names}),
    ] {
        assert_eq!(plain().user(&good).unwrap().name, "oidc:jane");
    }
    let none = Mapping { groups: None, ..plain() };
    assert_eq!(none.user(&json!({"sub": "jane", "_claim_names": names})).unwrap().name, "oidc:jane");
}

#[test]
fn what_an_expression_looks_at_is_known() {
    for (text, selects) in [
        ("claims.email", true),
        ("has(claims.email) ? 'a' : 'b'", true),
        ("claims.?email.orValue('')", true),
        ("[claims.a].map(x, x + claims.email)", true),
        ("claims.sub.email", false),
        ("claims.email_verified", false),
        ("claims.sub", false),
    ] {
        assert_eq!(of_claims(text).selects("email"), selects, "{text}");
    }
}
