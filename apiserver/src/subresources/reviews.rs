//! Reviews: questions about who somebody is and what they may do, answered at once and never stored. Upstream:
//! `registry/authentication`, `registry/authorization`.

use std::sync::Arc;

use api::field::{FieldError, Path};
use api::selector::FieldSelector;
use api::status::Qualified;
use api::strategy::User;
use api::{ApiError, Object, Resource, names};
use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::admission::{self, Operation};
use crate::authn::user_value;
use crate::authz::{Attributes, Decision};
use crate::call::Call;
use crate::field_managers::{self, Versions};
use crate::request::decode;
use crate::request::negotiate::Shape;
use crate::request::options::Write;
use crate::response::{self, Answer};
use crate::stamps::timestamp;

const GROUP: &str = "authorization.k8s.io";

/// Answers a `POST` of a review.
pub(super) async fn create(call: &Call<'_>, row: &Arc<Resource>, bytes: Bytes) -> Result<Answer, ApiError> {
    let accept = call.accept(row)?;
    if accept.shape != Shape::Object {
        let media = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
        return Err(ApiError::not_acceptable(format!("only the following media types are accepted: {media}")));
    }
    let options = call.write_options(Write::Create)?;
    let mut warnings = Vec::new();
    let mut review = decode::body(row, call.headers(), &bytes, options.field_validation, &mut warnings)?;
    row.strategy.default(&mut review);
    let catalog = call.core.registry.catalog();
    if !matches!(row.plural.as_ref(), "selfsubjectreviews" | "selfsubjectrulesreviews") {
        let versions = Versions { catalog: &catalog, client_row: row, working_row: row };
        field_managers::track(versions, "", None, &mut review, &options.field_manager, Timestamp::now())?;
    }
    let raw = options.to_value(Write::Create);
    let name = review.name().to_owned();
    let attributes = admission::Attributes {
        operation: Operation::Create,
        resource: row,
        requested: row,
        catalog: &catalog,
        subresource: "",
        namespace: if row.namespaced { &call.info.namespace } else { "" },
        name: &name,
        user: call.user,
        dry_run: options.dry_run,
        old: None,
        options: Some(&raw),
        reinvocation: None,
    };
    let admission = call.core.registry.admission();
    admission.mutate(&attributes, Some(&mut review), &mut warnings).await?;
    check(call, row, &mut review)?;
    admission.validate(&attributes, Some(&review), &mut warnings).await?;
    match row.plural.as_ref() {
        "selfsubjectreviews" => {
            review.set(&["metadata", "creationTimestamp"], timestamp(Timestamp::now()));
            review.set(&["status"], json!({"userInfo": user_value(call.user)}));
        }
        "selfsubjectrulesreviews" => rules(call, &mut review).await?,
        "tokenreviews" => review.set(&["status"], token(call, &review).await),
        _ => review.set(&["status"], access(call, row, &review).await),
    }
    review.root_mut().entry("metadata").or_insert_with(|| json!({}));
    let mut answer = response::value(StatusCode::CREATED, accept, &review.into_value());
    response::add_warnings(answer.headers_mut(), &warnings);
    Ok(answer)
}

/// Refuses reviews that ask nothing, or too much.
fn check(call: &Call<'_>, row: &Resource, review: &mut Object) -> Result<(), ApiError> {
    match row.plural.as_ref() {
        "selfsubjectreviews" => Ok(()),
        "selfsubjectrulesreviews" if review.text(&["spec", "namespace"]).is_empty() => {
            Err(ApiError::bad_request("no namespace on request"))
        }
        "selfsubjectrulesreviews" => Ok(()),
        "tokenreviews" if review.text(&["spec", "token"]).is_empty() => {
            Err(ApiError::bad_request("token is required for TokenReview in authentication"))
        }
        "tokenreviews" => Ok(()),
        _ => check_access(call, row, review),
    }
}

async fn token(call: &Call<'_>, review: &Object) -> Value {
    let token = review.text(&["spec", "token"]);
    let asked = texts(review.get(&["spec", "audiences"]));
    let own = call.core.tokens.as_ref().map_or(&[][..], |tokens| tokens.audiences());
    let audiences = if asked.is_empty() { own } else { &asked };
    match call.core.authn.review(token, audiences).await {
        Ok(reviewed) => {
            json!({"authenticated": true, "user": user_value(&reviewed.user), "audiences": reviewed.audiences})
        }
        Err(why) => json!({"user": {}, "error": why.to_string()}),
    }
}

fn check_access(call: &Call<'_>, row: &Resource, review: &mut Object) -> Result<(), ApiError> {
    let local = row.plural == "localsubjectaccessreviews";
    if local {
        place(call, review)?;
    }
    let spec = review.get(&["spec"]).cloned().unwrap_or_else(|| json!({}));
    let mut errors = check_spec(&spec, is_about_self(row), local.then_some(call.info.namespace.as_str()));
    errors.extend(check_metadata(review, local));
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(Qualified { group: GROUP, resource: "" }, "", &errors))
    }
}

fn is_about_self(row: &Resource) -> bool {
    row.plural == "selfsubjectaccessreviews"
}

/// SubjectAccessReview and its relatives.
async fn access(call: &Call<'_>, row: &Resource, review: &Object) -> Value {
    let spec = review.get(&["spec"]).cloned().unwrap_or_else(|| json!({}));
    let about_self = is_about_self(row);
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
    status
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

/// A review is stored nowhere, so nothing can be said of it.
fn check_metadata(review: &Object, local: bool) -> Option<FieldError> {
    let metadata = review.get(&["metadata"]).and_then(Value::as_object)?;
    let mut said = metadata.iter().filter(|(name, value)| match name.as_str() {
        "managedFields" => false,
        "namespace" => !local,
        _ => !value.is_null() && value.as_str() != Some(""),
    });
    said.next()?;
    let why = if local { "must be empty except for namespace" } else { "must be empty" };
    Some(FieldError::invalid(&Path::new("metadata"), metadata.clone(), why))
}

/// A selector is written as text or as requirements, whose operators this server need not know.
fn check_selector(at: &Path, tree: Option<&Value>, is_labels: bool, errors: &mut Vec<FieldError>) {
    let Some(tree) = tree else { return };
    let raw = tree.get("rawSelector").and_then(Value::as_str).unwrap_or("");
    let requirements = tree.get("requirements").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    match (raw.is_empty(), requirements.is_empty()) {
        (false, false) => {
            let why = "may not specified at the same time as requirements";
            errors.push(FieldError::invalid(&at.child("rawSelector"), raw, why));
        }
        (true, true) => {
            let why = format!("when {at} is specified, requirements or rawSelector is required");
            errors.push(FieldError::required(&at.child("requirements"), &why));
        }
        _ => {}
    }
    for (index, requirement) in requirements.iter().enumerate() {
        check_requirement(&at.child("requirements").index(index), requirement, is_labels, errors);
    }
}

fn check_requirement(at: &Path, requirement: &Value, is_labels: bool, errors: &mut Vec<FieldError>) {
    let text = |field: &str| requirement.get(field).and_then(Value::as_str).unwrap_or("");
    let values = texts(requirement.get("values"));
    let key = text("key");
    if !is_labels && key.is_empty() {
        errors.push(FieldError::required(&at.child("key"), "must be specified"));
    }
    match text("operator") {
        "In" | "NotIn" if values.is_empty() => {
            let why = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(&at.child("values"), why));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&at.child("values"), why));
        }
        _ => {}
    }
    if is_labels {
        let wrong = names::qualified_name(key);
        errors.extend(wrong.into_iter().map(|why| FieldError::invalid(&at.child("key"), key, &why)));
        for (index, value) in values.iter().enumerate() {
            let path = at.child("values").index(index);
            let wrong = names::label_value(value);
            errors.extend(wrong.into_iter().map(|why| FieldError::invalid(&path, value.as_str(), &why)));
        }
    }
}

fn check_spec(spec: &Value, about_self: bool, local: Option<&str>) -> Vec<FieldError> {
    let at = Path::new("spec");
    let (resource, path) = (at.child("resourceAttributes"), at.child("nonResourceAttributes"));
    let mut errors = Vec::new();
    // As Go shows the type that it works with.
    let shown = |asked: &Value| {
        let text = |field: &str| asked.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
        json!({"Path": text("path"), "Verb": text("verb")})
    };
    match (spec.get("resourceAttributes"), spec.get("nonResourceAttributes")) {
        (Some(_), Some(other)) => {
            errors.push(FieldError::invalid(
                &path,
                shown(other),
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
    if let Some(asked) = spec.get("resourceAttributes") {
        check_selector(&resource.child("fieldSelector"), asked.get("fieldSelector"), false, &mut errors);
        check_selector(&resource.child("labelSelector"), asked.get("labelSelector"), true, &mut errors);
    }
    if let (Some(namespace), Some(asked)) = (local, spec.get("resourceAttributes")) {
        let asked = asked.get("namespace").and_then(Value::as_str).unwrap_or("");
        if asked != namespace {
            errors.push(FieldError::invalid(&resource.child("namespace"), asked, "must match metadata.namespace"));
        }
    }
    if let (true, Some(asked)) = (local.is_some(), spec.get("nonResourceAttributes")) {
        errors.push(FieldError::invalid(&path, shown(asked), "disallowed on this kind of request"));
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
        (requirement.get("operator")?.as_str()? == "In").then(|| format!("{key}={}", FieldSelector::escaped(value)))
    });
    terms.collect::<Vec<_>>().join(",")
}

/// SelfSubjectRulesReview: everything that the user may do in a namespace, as far as RBAC decides it.
async fn rules(call: &Call<'_>, review: &mut Object) -> Result<(), ApiError> {
    call.core.rbac.settle().await?;
    let namespace = review.text(&["spec", "namespace"]).to_owned();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn texts_of(errors: impl IntoIterator<Item = FieldError>) -> Vec<String> {
        errors.into_iter().map(|error| error.to_string()).collect()
    }

    #[test]
    fn nothing_is_said_of_a_review() {
        let review = |metadata: Value| Object::from_value(json!({"metadata": metadata})).unwrap();
        assert_eq!(check_metadata(&review(json!({"managedFields": [], "namespace": "n"})), true), None);
        let wrong = texts_of(check_metadata(&review(json!({"name": "x"})), false));
        assert_eq!(wrong, [r#"metadata: Invalid value: {"name":"x"}: must be empty"#]);
        let wrong = texts_of(check_metadata(&review(json!({"name": "x"})), true));
        assert_eq!(wrong, [r#"metadata: Invalid value: {"name":"x"}: must be empty except for namespace"#]);
    }

    #[test]
    fn a_selector_is_text_or_requirements() {
        let spec = |selector: Value| json!({"user": "u", "resourceAttributes": {"fieldSelector": selector}});
        let at = "spec.resourceAttributes.fieldSelector";
        let wrong = |selector: Value| texts_of(check_spec(&spec(selector), false, None));
        assert!(wrong(json!({"rawSelector": "a=b"})).is_empty());
        let want = format!(
            "{at}.requirements: Required value: when {at} is specified, requirements or rawSelector is required"
        );
        assert_eq!(wrong(json!({})), [want]);
        let requirement = json!({"operator": "In", "key": "a"});
        let want = format!(
            "{at}.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
        );
        assert_eq!(wrong(json!({"requirements": [requirement]})), [want]);
        let both = wrong(json!({"rawSelector": "a", "requirements": [{"operator": "Odd", "key": "a"}]}));
        assert_eq!(
            both,
            [format!("{at}.rawSelector: Invalid value: \"a\": may not specified at the same time as requirements")]
        );
    }
}
