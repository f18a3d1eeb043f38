//! TokenRequest: a token for a ServiceAccount, bound to a Pod, Secret or Node if asked for. Upstream: `TokenREST`.

use std::sync::Arc;

use api::apply::{Writer, track_update};
use api::codec::Target as Kind;
use api::field::{FieldError, Path};
use api::status::Qualified;
use api::{ApiError, Object};
use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::admission::Operation;
use crate::authn::tokens::{Audiences, Claims, PREFIX, Private, Reference, Tokens};
use crate::call::Routed;
use crate::config::Config;
use crate::request::decode;
use crate::request::options::Write;
use crate::response::{self, Answer};
use crate::stamps::timestamp;
use crate::watch_cache::ResourceCache;

const KIND: (&str, &str, &str) = ("authentication.k8s.io", "v1", "TokenRequest");
const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
/// Kubelets ask for pods' tokens with this lifetime (an hour and seven seconds): they then live for a year, so that
/// clients which never read a new one keep working, and say after an hour that they ought to have been replaced.
const EXTENDED_REQUEST: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

/// `POST serviceaccounts/{name}/token`.
pub(super) async fn create(routed: &Routed<'_>, bytes: Bytes, warnings: &mut Vec<String>) -> Result<Answer, ApiError> {
    let call = routed.call;
    let unsupported = || ApiError::not_implemented("this server does not issue ServiceAccount tokens");
    let tokens = call.core.tokens.clone().ok_or_else(unsupported)?;
    let options = call.write_options(Write::Create)?;
    let mut request = decode::builtin(KIND, call.headers(), &bytes, options.field_validation, warnings)?;
    if request.integer(&["spec", "expirationSeconds"]).is_none() {
        request.set(&["spec", "expirationSeconds"], DEFAULT_SECONDS);
    }
    own_fields(&mut request, &options.field_manager);
    check_metadata(routed, &request)?;
    let account = account(routed).await?;
    admit(routed, &mut request, &options.to_value(Write::Create), options.dry_run, warnings).await?;
    complete(&mut request, &account, &tokens)?;
    shorten(&mut request, &call.core.config, warnings);
    let (claims, expires) = claims(routed, &request, &account, &tokens)?;
    let token = if options.dry_run { String::new() } else { tokens.sign(&claims).map_err(ApiError::internal)? };
    request.set(&["status"], json!({"token": token, "expirationTimestamp": timestamp(expires)}));
    Ok(response::value(StatusCode::CREATED, routed.accept, &request.into_value()))
}

/// No token lives longer than the configuration allows.
fn shorten(request: &mut Object, config: &Config, warnings: &mut Vec<String>) {
    let Some(longest) = config.service_account_max_token_expiration else { return };
    let longest = i64::try_from(longest.as_secs()).unwrap_or(MAX_SECONDS);
    let wanted = request.integer(&["spec", "expirationSeconds"]).unwrap_or(DEFAULT_SECONDS);
    if wanted > longest {
        warnings.push(format!("requested expiration of {wanted} seconds shortened to {longest} seconds"));
        request.set(&["spec", "expirationSeconds"], longest);
    }
}

fn own_fields(request: &mut Object, manager: &str) {
    let Some(kind) = Kind::builtin(KIND.0, KIND.1, KIND.2) else { return };
    let writer = Writer {
        manager,
        api_version: "authentication.k8s.io/v1",
        kind: KIND.2,
        subresource: "token",
        status_apart: true,
        spec_apart: false,
        now: Timestamp::now(),
    };
    track_update(None, request, kind.schema, &writer);
}

/// A request that names an account names the one of its path.
fn check_metadata(routed: &Routed<'_>, request: &Object) -> Result<(), ApiError> {
    let target = routed.target();
    let named = [("name", request.name(), target.name), ("namespace", request.namespace(), target.namespace)];
    for (field, given, wanted) in named {
        if !given.is_empty() && given != wanted {
            let why = format!("must match the service account {field} if specified");
            let error = FieldError::invalid(&Path::new("metadata").child(field), given, &why);
            let what = Qualified { group: KIND.0, resource: KIND.2 };
            return Err(ApiError::invalid(what, target.name, &[error]));
        }
    }
    Ok(())
}

/// The account; what it and the objects that a token is bound to were before this request, the cache then knows.
async fn account(routed: &Routed<'_>) -> Result<Object, ApiError> {
    routed.registry().freshen().await?;
    let target = routed.target();
    let cached = routed.cache.get(&routed.cache.key(target.namespace, target.name));
    cached.map(|cached| cached.object()).ok_or_else(|| ApiError::not_found(routed.client_row.qualified(), target.name))
}

async fn admit(
    routed: &Routed<'_>,
    request: &mut Object,
    options: &Value,
    dry_run: bool,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    let target = routed.target();
    let catalog = routed.registry().catalog();
    let attributes = target.attributes(Operation::Create, &catalog, (dry_run, options));
    let admission = routed.registry().admission();
    admission.admit(&attributes, request, warnings).await
}

/// Fills in what the request leaves open, and refuses what cannot be.
fn complete(request: &mut Object, account: &Object, tokens: &Tokens) -> Result<(), ApiError> {
    for (field, value) in [("name", account.name()), ("namespace", account.namespace()), ("uid", account.uid())] {
        request.set_metadata(field, value);
    }
    request.set_metadata("creationTimestamp", timestamp(Timestamp::now()));
    let named = request.get(&["spec", "audiences"]).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if !named {
        request.set(&["spec", "audiences"], tokens.audiences().to_vec());
    }
    if request.get(&["spec", "boundObjectRef"]).is_none() {
        request.set(&["spec", "boundObjectRef"], Value::Null);
    }
    let seconds = request.integer(&["spec", "expirationSeconds"]).unwrap_or(DEFAULT_SECONDS);
    let at = Path::new("spec").child("expirationSeconds");
    let refused = match seconds {
        ..MIN_SECONDS => Some("may not specify a duration less than 10 minutes"),
        MIN_SECONDS..=MAX_SECONDS => None,
        _ => Some("may not specify a duration larger than 2^32 seconds"),
    };
    let Some(why) = refused else { return Ok(()) };
    let what = Qualified { group: KIND.0, resource: KIND.2 };
    Err(ApiError::invalid(what, "", &[FieldError::invalid(&at, seconds, why)]))
}

/// What the token says, and when the client should take it for expired.
fn claims(
    routed: &Routed<'_>,
    request: &Object,
    account: &Object,
    tokens: &Tokens,
) -> Result<(Claims, Timestamp), ApiError> {
    let now = Timestamp::now().as_second();
    let seconds = request.integer(&["spec", "expirationSeconds"]).unwrap_or(DEFAULT_SECONDS);
    let audiences = request.get(&["spec", "audiences"]).and_then(Value::as_array).into_iter().flatten();
    let audiences: Vec<String> = audiences.filter_map(Value::as_str).map(str::to_owned).collect();
    let mut private = Private {
        namespace: account.namespace().to_owned(),
        serviceaccount: Reference { name: account.name().to_owned(), uid: account.uid().to_owned() },
        ..Private::default()
    };
    bind(routed, request, account, &mut private)?;
    let told = now + seconds;
    let mut expires = told;
    let for_this_server = audiences.iter().all(|audience| tokens.audiences().contains(audience));
    let extends = routed.call.core.config.service_account_extend_token_expiration;
    if extends && private.pod.is_some() && seconds == EXTENDED_REQUEST && for_this_server {
        private.warnafter = Some(told);
        expires = now + EXTENDED_SECONDS;
    }
    let claims = Claims {
        aud: Audiences::Many(audiences),
        exp: expires,
        iat: now,
        iss: tokens.issuer().to_owned(),
        jti: uuid::Uuid::new_v4().to_string(),
        private,
        nbf: now,
        sub: format!("{PREFIX}{}:{}", account.namespace(), account.name()),
    };
    let told = Timestamp::from_second(told).map_err(ApiError::internal)?;
    Ok((claims, told))
}

/// Binds the token to the object that the request names.
fn bind(routed: &Routed<'_>, request: &Object, account: &Object, private: &mut Private) -> Result<(), ApiError> {
    let Some(bound) = request.get(&["spec", "boundObjectRef"]).filter(|bound| !bound.is_null()) else { return Ok(()) };
    let text = |field: &str| bound.get(field).and_then(Value::as_str).unwrap_or("");
    let (kind, name) = (text("kind"), text("name"));
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    let (plural, namespace) = match (group, kind) {
        ("", "Pod") => ("pods", account.namespace()),
        ("", "Secret") => ("secrets", account.namespace()),
        ("", "Node") => ("nodes", ""),
        _ => {
            let why = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(ApiError::bad_request(why));
        }
    };
    let cache = routed.registry().named("", plural)?;
    let object = find(&cache, namespace, name).ok_or_else(|| ApiError::not_found(cache.row().qualified(), name))?;
    let uid = text("uid");
    if !uid.is_empty() && uid != object.uid() {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. \
             The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict(Qualified { group: "", resource: kind }, name, &why));
    }
    let reference = Some(Reference { name: name.to_owned(), uid: object.uid().to_owned() });
    match kind {
        "Secret" => private.secret = reference,
        "Node" => private.node = reference,
        _ => {
            if object.text(&["spec", "serviceAccountName"]) != account.name() {
                let why = format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    account.name()
                );
                return Err(ApiError::bad_request(why));
            }
            private.pod = reference;
            private.node = node_of(routed, &object)?;
        }
    }
    Ok(())
}

fn node_of(routed: &Routed<'_>, pod: &Object) -> Result<Option<Reference>, ApiError> {
    let name = pod.text(&["spec", "nodeName"]);
    if name.is_empty() {
        return Ok(None);
    }
    let nodes = routed.registry().named("", "nodes")?;
    let uid = find(&nodes, "", name).map(|node| node.uid().to_owned()).unwrap_or_default();
    Ok(Some(Reference { name: name.to_owned(), uid }))
}

fn find(cache: &Arc<ResourceCache>, namespace: &str, name: &str) -> Option<Object> {
    cache.get(&cache.key(namespace, name)).map(|cached| cached.object())
}
