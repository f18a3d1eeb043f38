//! Reviews: questions about who somebody is and what they may do, answered at once and never stored.

use std::sync::Arc;

use api::field::{FieldError, Path};
use api::status::Qualified;
use api::strategy::User;
use api::{ApiError, Object, Resource};
use axum::body::Body;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::authn::user_value;
use crate::authz::{Attributes, Decision};
use crate::decode;
use crate::handler::{Call, read_body};
use crate::managed::{self, Versions};
use crate::negotiate::Shape;
use crate::options::Write;
use crate::registry::timestamp;
use crate::response::{self, Answer};

const GROUP: &str = "authorization.k8s.io";

/// Answers a `POST` of a review.
pub(super) async fn create(call: &Call<'_>, row: &Arc<Resource>, body: Body) -> Result<Answer, ApiError> {
    let accept = call.accept(row)?;
    if accept.shape != Shape::Object {
        let media = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
        return Err(ApiError::not_acceptable(format!("only the following media types are accepted: {media}")));
    }
    let options = call.write_options(Write::Create)?;
    let bytes = read_body(body).await?;
    let mut warnings = Vec::new();
    let mut review = decode::body(row, call.headers(), &bytes, options.field_validation, &mut warnings)?;
    row.strategy.default(&mut review);
    match row.plural.as_ref() {
        "selfsubjectreviews" => {
            review.set(&["metadata", "creationTimestamp"], timestamp(Timestamp::now()));
            review.set(&["status"], json!({"userInfo": user_value(call.user)}));
        }
        "selfsubjectrulesreviews" => rules(call, &mut review)?,
        plural => {
            let catalog = call.core.registry.catalog();
            let versions = Versions { catalog: &catalog, requested: row, stored: row };
            managed::track(versions, "", None, &mut review, &options.field_manager, Timestamp::now())?;
            let status = if plural == "tokenreviews" {
                token(call, &review).await?
            } else {
                access(call, row, &mut review).await?
            };
            review.set(&["status"], status);
        }
    }
    review.root_mut().entry("metadata").or_insert_with(|| json!({}));
    let mut answer = response::value(StatusCode::CREATED, accept, &review.into_value());
    response::add_warnings(answer.headers_mut(), &warnings);
    Ok(answer)
}

async fn token(call: &Call<'_>, review: &Object) -> Result<Value, ApiError> {
    let token = review.text(&["spec", "token"]);
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let asked = texts(review.get(&["spec", "audiences"]));
    let own = call.core.tokens.as_ref().map_or(&[][..], |tokens| tokens.audiences());
    let audiences = if asked.is_empty() { own } else { &asked };
    Ok(match call.core.authn.review(token, audiences).await {
        Ok(reviewed) => {
            json!({"authenticated": true, "user": user_value(&reviewed.user), "audiences": reviewed.audiences})
        }
        Err(why) => json!({"user": {}, "error": why.to_string()}),
    })
}

/// SubjectAccessReview and its relatives.
async fn access(call: &Call<'_>, row: &Resource, review: &mut Object) -> Result<Value, ApiError> {
    let local = row.plural == "localsubjectaccessreviews";
    if local {
        place(call, review)?;
    }
    let spec = review.get(&["spec"]).cloned().unwrap_or_else(|| json!({}));
    let about_self = row.plural == "selfsubjectaccessreviews";
    let errors = check(&spec, about_self, local.then_some(call.info.namespace.as_str()));
    if !errors.is_empty() {
        return Err(ApiError::invalid(Qualified { group: GROUP, resource: "" }, "", &errors));
    }
    let user = if about_self { call.user.clone() } else { user_of(&spec) };
    let decision = call.core.authz.decide(&attributes(user, &spec)).await;
    let mut status = json!({"allowed": matches!(decision, Decision::Allow(_))});
    if matches!(decision, Decision::Deny(_)) {
        status["denied"] = true.into();
    }
    let (Decision::Allow(reason) | Decision::Deny(reason) | Decision::NoOpinion(reason)) = decision;
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    Ok(status)
}

/// A local review is in the namespace of its path.
fn place(call: &Call<'_>, review: &mut Object) -> Result<(), ApiError> {
    let namespace = call.info.namespace.as_str();
    if !review.namespace().is_empty() && review.namespace() != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    review.set_metadata("namespace", namespace);
    Ok(())
}

fn check(spec: &Value, about_self: bool, local: Option<&str>) -> Vec<FieldError> {
    let at = Path::new("spec");
    let (resource, path) = (at.child("resourceAttributes"), at.child("nonResourceAttributes"));
    let mut errors = Vec::new();
    match (spec.get("resourceAttributes"), spec.get("nonResourceAttributes")) {
        (Some(_), Some(other)) => {
            let text = |field: &str| other.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
            let shown = json!({"Path": text("path"), "Verb": text("verb")});
            errors.push(FieldError::invalid(
                &path,
                shown,
                "cannot be specified in combination with resourceAttributes",
            ));
        }
        (None, None) => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(FieldError::invalid(&resource, Value::Null, detail));
        }
        _ => {}
    }
    let is_empty = |field: &str| {
        spec.get(field).is_none_or(|value| value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty))
    };
    if !about_self && is_empty("user") && is_empty("groups") {
        errors.push(FieldError::invalid(&at.child("user"), "", "at least one of user or group must be specified"));
    }
    if let (Some(namespace), Some(asked)) = (local, spec.get("resourceAttributes")) {
        let asked = asked.get("namespace").and_then(Value::as_str).unwrap_or("");
        if asked != namespace {
            errors.push(FieldError::invalid(&resource.child("namespace"), asked, "must match metadata.namespace"));
        }
    }
    if local.is_some() && spec.get("nonResourceAttributes").is_some() {
        let shown = spec.get("nonResourceAttributes").cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&path, shown, "disallowed on this kind of request"));
    }
    errors
}

fn texts(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn user_of(spec: &Value) -> User {
    let text = |field: &str| spec.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
    let extra = spec.get("extra").and_then(Value::as_object).into_iter().flatten();
    User {
        name: text("user"),
        uid: text("uid"),
        groups: texts(spec.get("groups")),
        extra: extra.map(|(key, values)| (key.to_lowercase(), texts(Some(values)))).collect(),
    }
}

fn attributes(user: User, spec: &Value) -> Attributes {
    let asked =
        spec.get("resourceAttributes").or_else(|| spec.get("nonResourceAttributes")).cloned().unwrap_or_default();
    let text = |field: &str| asked.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
    Attributes {
        user,
        verb: text("verb"),
        namespace: text("namespace"),
        group: text("group"),
        version: text("version"),
        resource: text("resource"),
        subresource: text("subresource"),
        name: text("name"),
        path: text("path"),
        is_resource: spec.get("resourceAttributes").is_some(),
        field_selector: selector(asked.get("fieldSelector")),
        label_selector: selector(asked.get("labelSelector")),
    }
}

/// A selector as it is written in a query. Requirements that no query can say ask for more, never for less, so they are
/// left out.
fn selector(tree: Option<&Value>) -> String {
    let Some(tree) = tree else { return String::new() };
    if let Some(raw) = tree.get("rawSelector").and_then(Value::as_str) {
        return raw.to_owned();
    }
    let requirements = tree.get("requirements").and_then(Value::as_array).into_iter().flatten();
    let terms = requirements.filter_map(|requirement| {
        let values = texts(requirement.get("values"));
        let [value] = values.as_slice() else { return None };
        let key = requirement.get("key")?.as_str()?;
        (requirement.get("operator")?.as_str()? == "In").then(|| format!("{key}={value}"))
    });
    terms.collect::<Vec<_>>().join(",")
}

/// SelfSubjectRulesReview: everything that the user may do in a namespace, as far as RBAC decides it.
fn rules(call: &Call<'_>, review: &mut Object) -> Result<(), ApiError> {
    let namespace = review.text(&["spec", "namespace"]).to_owned();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let found = call.core.rbac.rules_of(call.user, &namespace);
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in &found.rules {
        if !rule.resources.is_empty() {
            resources.push(crate::authz::Rule { paths: Vec::new(), ..rule.clone() }.to_value());
        }
        if !rule.paths.is_empty() {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.paths}));
        }
    }
    let mut status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
    if !found.errors.is_empty() {
        status["incomplete"] = true.into();
        status["evaluationError"] = found.errors.join(", ").into();
    }
    review.set(&["metadata"], Map::new());
    review.set(&["spec"], Map::new());
    review.set(&["status"], status);
    Ok(())
}
