//! Impersonation: a request in the name of another user, by who may do that. Upstream:
//! `endpoints/filters/impersonation`; KEP-5284.
//!
//! Two ways to be allowed: the verb `impersonate` on the user, its groups and so on; or, narrower, the verb
//! `impersonate:MODE` on them together with `impersonate-on:MODE:VERB` on what the request does.

use api::ApiError;
use api::strategy::User;
use http::HeaderMap;

use crate::authn::tokens::{account_of, groups_of};
use crate::authn::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED};
use crate::authz::{Attributes, Chain};
use crate::request::headers as header;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const GROUP_OF_PARTS: &str = "authentication.k8s.io";

/// The user that a request wants to act as; `None` when it does not impersonate. A request that tries to, but cannot be
/// understood, is refused: it must not run as who sends it.
pub(crate) fn wanted(headers: &HeaderMap) -> Result<Option<User>, ApiError> {
    let one = |name: &'static str| header::text(headers, name).map(|text| text.unwrap_or("").to_owned());
    let groups = header::texts(headers, GROUP)?.into_iter().map(str::to_owned).collect();
    let user = User { name: one(USER)?, uid: one(UID)?, groups, extra: extra(headers)? };
    if !user.name.is_empty() {
        return Ok(Some(user));
    }
    let named = headers.contains_key(USER);
    if !named && user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty() {
        return Ok(None);
    }
    Err(ApiError::bad_request(format!("requested {} without impersonating a user name", in_go(&user))))
}

fn extra(headers: &HeaderMap) -> Result<Vec<(String, Vec<String>)>, ApiError> {
    let mut extra: Vec<(String, Vec<String>)> = Vec::new();
    for name in headers.keys() {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else { continue };
        let values = header::texts(headers, name.as_str())?.into_iter().map(str::to_owned).collect();
        extra.push((header::key(name, key)?, values));
    }
    extra.sort();
    Ok(extra)
}

/// A user as Go prints it with `%#v`.
fn in_go(user: &User) -> String {
    let list = |items: &[String]| items.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ");
    let groups =
        if user.groups.is_empty() { "[]string(nil)".to_owned() } else { format!("[]string{{{}}}", list(&user.groups)) };
    let pairs: Vec<String> =
        user.extra.iter().map(|(key, values)| format!("{key:?}:[]string{{{}}}", list(values))).collect();
    let extra = if pairs.is_empty() {
        "map[string][]string(nil)".to_owned()
    } else {
        format!("map[string][]string{{{}}}", pairs.join(", "))
    };
    format!("&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{groups}, Extra:{extra}}}", user.name, user.uid)
}

/// Lets the requestor act as the wanted user, or says why not. `request` is what it wants to do as that user.
pub(crate) async fn permit(authz: &Chain, request: &Attributes, wanted: User) -> Result<User, ApiError> {
    let checks = checks(&request.user, &wanted);
    let mut whole = true;
    for check in &checks {
        if authz.authorize(check).await.is_err() {
            whole = false;
            break;
        }
    }
    if !whole {
        permit_narrowly(authz, request, &wanted, &checks).await?;
    }
    Ok(complete(wanted))
}

async fn permit_narrowly(
    authz: &Chain,
    request: &Attributes,
    wanted: &User,
    checks: &[Attributes],
) -> Result<(), ApiError> {
    let is_node = wanted.name.starts_with("system:node:");
    let mode = match (account_of(&wanted.name), is_node) {
        (Some(_), _) => "serviceaccount",
        (None, true) => "arbitrary-node",
        (None, false) => "user-info",
    };
    let on = Attributes { verb: format!("impersonate-on:{mode}:{}", request.verb), ..request.clone() };
    authz.require(&on).await?;
    for check in checks {
        let mut check = Attributes { verb: format!("impersonate:{mode}"), ..check.clone() };
        if let ("users", Some(node)) = (check.resource.as_str(), wanted.name.strip_prefix("system:node:")) {
            "nodes".clone_into(&mut check.resource);
            node.clone_into(&mut check.name);
        } else if check.resource != "serviceaccounts" {
            GROUP_OF_PARTS.clone_into(&mut check.group);
        }
        authz.require(&check).await?;
    }
    Ok(())
}

/// What the requestor must be allowed to impersonate: every part of the wanted user.
fn checks(requestor: &User, wanted: &User) -> Vec<Attributes> {
    let base = Attributes {
        user: requestor.clone(),
        verb: "impersonate".into(),
        version: "v1".into(),
        is_resource: true,
        ..Attributes::default()
    };
    let of = |group: &str, resource: &str, name: &str| Attributes {
        group: group.into(),
        resource: resource.into(),
        name: name.into(),
        ..base.clone()
    };
    let mut checks = vec![match account_of(&wanted.name) {
        Some((namespace, name)) => Attributes { namespace: namespace.into(), ..of("", "serviceaccounts", name) },
        None => of("", "users", &wanted.name),
    }];
    checks.extend(wanted.groups.iter().map(|group| of("", "groups", group)));
    for (key, values) in &wanted.extra {
        checks.extend(
            values
                .iter()
                .map(|value| Attributes { subresource: key.clone(), ..of(GROUP_OF_PARTS, "userextras", value) }),
        );
    }
    if !wanted.uid.is_empty() {
        checks.push(of(GROUP_OF_PARTS, "uids", &wanted.uid));
    }
    checks
}

/// Adds the groups that the user would have.
fn complete(mut user: User) -> User {
    if user.groups.is_empty()
        && let Some((namespace, _)) = account_of(&user.name)
    {
        user.groups = groups_of(namespace);
    }
    let has = |user: &User, group: &str| user.groups.iter().any(|known| known == group);
    if user.name == ANONYMOUS {
        if !has(&user, UNAUTHENTICATED) {
            user.groups.push(UNAUTHENTICATED.to_owned());
        }
    } else if !has(&user, AUTHENTICATED) && !has(&user, UNAUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn all_parts_of_a_user_are_read() {
        let user = wanted(&headers(&[
            ("impersonate-user", "u"),
            ("impersonate-group", "a"),
            ("impersonate-group", "b"),
            ("impersonate-extra-example.com%2fkey", "v"),
        ]));
        let user = user.unwrap().unwrap();
        assert_eq!((user.name.as_str(), user.groups), ("u", vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(user.extra, [("example.com/key".to_owned(), vec!["v".to_owned()])]);
        assert_eq!(wanted(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn names_are_utf_8_and_nothing_else_is_overlooked() {
        assert_eq!(wanted(&headers(&[("impersonate-user", "josé")])).unwrap().unwrap().name, "josé");
        for name in ["impersonate-user", "impersonate-group", "impersonate-uid", "impersonate-extra-a"] {
            let mut headers = headers(&[("impersonate-user", "jane")]);
            headers.insert(name, http::HeaderValue::from_bytes(b"jos\xe9").unwrap());
            assert_eq!(wanted(&headers).unwrap_err().code(), 400, "{name}");
        }
        assert_eq!(
            wanted(&headers(&[("impersonate-user", "j"), ("impersonate-extra-%ff", "v")])).unwrap_err().code(),
            400
        );
        assert_eq!(wanted(&headers(&[("impersonate-user", "")])).unwrap_err().code(), 400, "it is there");
    }

    #[test]
    fn a_group_without_a_user_is_refused() {
        let err = wanted(&headers(&[("impersonate-group", "g")])).unwrap_err();
        let go = r#"&user.DefaultInfo{Name:"", UID:"", Groups:[]string{"g"}, Extra:map[string][]string(nil)}"#;
        assert_eq!(err.status().message, format!("requested {go} without impersonating a user name"));
    }

    #[test]
    fn an_impersonated_account_gets_its_groups() {
        let user = complete(User { name: "system:serviceaccount:a:b".into(), ..User::default() });
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]);
    }
}
