//! AdmissionReview: what a webhook is asked, and what it answers.

use std::collections::BTreeMap;

use api::resource::GroupVersionKind;
use api::status::Status;
use api::{ApiError, Object, Resource};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::text;
use crate::admission::Attributes;
use crate::admission::versions::kind_of;
use crate::authn::user_value;

const GROUP: &str = "admission.k8s.io";

/// A version of AdmissionReview.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReviewVersion {
    V1,
    V1beta1,
}

impl ReviewVersion {
    /// The version of that name, if it is known.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::V1, Self::V1beta1].into_iter().find(|version| version.as_str() == name)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1beta1 => "v1beta1",
        }
    }
}

/// The question about a request, whose objects are shown in the version of `row`.
pub(super) fn request(
    version: ReviewVersion,
    uid: &str,
    attributes: &Attributes<'_>,
    row: &Resource,
    (shown, old): (Option<&Object>, Option<&Object>),
) -> Value {
    let mut request = json!({
        "uid": uid,
        "kind": kind(row, attributes.subresource),
        "resource": resource(row),
        "requestKind": kind(attributes.requested, attributes.subresource),
        "requestResource": resource(attributes.requested),
        "operation": attributes.operation.as_str(),
        "userInfo": user_value(attributes.user),
        "object": shown.map(Object::root),
        "oldObject": old.map(Object::root),
        "dryRun": attributes.dry_run,
        "options": attributes.options.map(options),
    });
    let subresource = attributes.subresource;
    let named = [
        ("subResource", subresource),
        ("requestSubResource", subresource),
        ("name", attributes.name),
        ("namespace", attributes.namespace_name()),
    ];
    for (field, value) in named.into_iter().filter(|(_, value)| !value.is_empty()) {
        request[field] = value.into();
    }
    json!({
        "kind": "AdmissionReview",
        "apiVersion": format!("{GROUP}/{}", version.as_str()),
        "request": request,
    })
}

fn kind(row: &Resource, subresource: &str) -> Value {
    let GroupVersionKind { group, version, kind } = kind_of(row, subresource);
    json!({"group": group, "version": version, "kind": kind})
}

fn resource(row: &Resource) -> Value {
    json!({"group": row.group, "version": row.version, "resource": row.plural})
}

/// The options of a delete need not say what they are.
fn options(options: &Value) -> Value {
    let mut options = options.clone();
    if let Some(fields) = options.as_object_mut().filter(|fields| !fields.contains_key("kind")) {
        fields.insert("kind".into(), "DeleteOptions".into());
        fields.insert("apiVersion".into(), "meta.k8s.io/v1".into());
    }
    options
}

/// What a webhook answered.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    /// JSON, empty for none.
    pub(super) patch: Vec<u8>,
    pub(super) warnings: Vec<String>,
    /// For the audit log.
    pub(super) annotations: BTreeMap<String, String>,
    /// Its reasons, if it refused.
    pub(super) status: Option<Reasons>,
}

/// The `response` of a review.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: Option<String>,
    allowed: Option<bool>,
    patch: Option<String>,
    patch_type: Option<String>,
    warnings: Option<Vec<String>>,
    audit_annotations: Option<BTreeMap<String, String>>,
    status: Option<Reasons>,
}

/// The `Status` of a refusal, of which everything may be missing.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Reasons {
    code: Option<u16>,
    reason: Option<String>,
    message: Option<String>,
    details: Option<api::status::Details>,
}

/// Reads and checks an answer; the error is what a caller is told.
pub(super) fn verdict(version: ReviewVersion, uid: &str, body: &[u8], mutating: bool) -> Result<Verdict, String> {
    let tree: Value = serde_json::from_slice(body).map_err(|err| format!("failed to call webhook: {err}"))?;
    check(version, uid, &tree, mutating).map_err(|why| format!("received invalid webhook response: {why}"))
}

fn check(version: ReviewVersion, uid: &str, tree: &Value, mutating: bool) -> Result<Verdict, String> {
    let Some(response) = tree.get("response").filter(|response| !response.is_null()) else {
        return Err("webhook response was absent".into());
    };
    let response: Response = serde_json::from_value(response.clone()).map_err(|err| err.to_string())?;
    let mut kind = response.patch_type.as_deref();
    let patch = STANDARD.decode(response.patch.as_deref().unwrap_or("")).map_err(|err| format!("patch: {err}"))?;
    match version {
        ReviewVersion::V1 => {
            let answered = response.uid.as_deref().unwrap_or("");
            if answered != uid {
                return Err(format!("expected response.uid={uid:?}, got {answered:?}"));
            }
            check_kind(tree)?;
            check_patch(&patch, kind, mutating)?;
        }
        // The first version left all of that open.
        ReviewVersion::V1beta1 => kind = kind.or(Some("JSONPatch")),
    }
    if !patch.is_empty() && mutating && kind != Some("JSONPatch") {
        return Err(format!("unsupported patch type {:?}", kind.unwrap_or("")));
    }
    Ok(Verdict {
        allowed: response.allowed.unwrap_or(false),
        patch: if mutating { patch } else { Vec::new() },
        warnings: response.warnings.unwrap_or_default(),
        annotations: response.audit_annotations.unwrap_or_default(),
        status: response.status,
    })
}

fn check_kind(tree: &Value) -> Result<(), String> {
    let (api_version, kind) = (text(tree, "apiVersion"), text(tree, "kind"));
    if (api_version, kind) == ("admission.k8s.io/v1", "AdmissionReview") {
        return Ok(());
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Err(format!("expected webhook response of {GROUP}/v1, Kind=AdmissionReview, got {group}/{version}, Kind={kind}"))
}

fn check_patch(patch: &[u8], kind: Option<&str>, mutating: bool) -> Result<(), String> {
    let why = match (mutating, patch.is_empty(), kind) {
        (true, false, None) => "webhook returned response.patch but not response.patchType",
        (true, true, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, false, Some("")) => "webhook returned invalid response.patchType of \"\"",
        (false, false, _) => "validating webhook may not return response.patch",
        (false, true, Some(_)) => "validating webhook may not return response.patchType",
        _ => return Ok(()),
    };
    Err(why.to_owned())
}

/// The error that a client gets when a webhook refuses.
pub(super) fn denied(name: &str, reasons: Option<Reasons>) -> ApiError {
    let Reasons { code, reason, message, details } = reasons.unwrap_or_default();
    let (reason, message) = (reason.unwrap_or_default(), message.unwrap_or_default());
    let denied = format!("admission webhook {name:?} denied the request");
    let message = match (message.as_str(), reason.as_str()) {
        ("", "") => format!("{denied} without explanation"),
        ("", why) | (why, _) => format!("{denied}: {why}"),
    };
    let code = code.filter(|code| (400..600).contains(code)).unwrap_or(400);
    ApiError::from_status(Status { code, reason, message, details, ..Status::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Vec<u8> {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
            .to_string()
            .into_bytes()
    }

    fn refused(body: &[u8], mutating: bool) -> String {
        verdict(ReviewVersion::V1, "u", body, mutating).unwrap_err()
    }

    #[test]
    fn an_answer_must_be_to_the_question() {
        assert!(refused(b"{", true).starts_with("failed to call webhook: "));
        let invalid = |why: &str| format!("received invalid webhook response: {why}");
        assert_eq!(refused(b"{}", true), invalid("webhook response was absent"));
        let other = answer(json!({"uid": "v", "allowed": true}));
        assert_eq!(refused(&other, true), invalid("expected response.uid=\"u\", got \"v\""));
        let kindless = json!({"response": {"uid": "u"}}).to_string();
        let expected = "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=";
        assert_eq!(refused(kindless.as_bytes(), true), invalid(expected));
        assert!(refused(&answer(json!({"uid": "u", "allowed": "yes"})), true).contains("invalid type"));
    }

    #[test]
    fn patches_come_with_their_type_and_only_from_mutating_webhooks() {
        let patch = STANDARD.encode("[]");
        let typed = answer(json!({"uid": "u", "allowed": true, "patch": patch, "patchType": "JSONPatch"}));
        assert_eq!(verdict(ReviewVersion::V1, "u", &typed, true).unwrap().patch, b"[]");
        assert!(refused(&typed, false).ends_with("validating webhook may not return response.patch"));
        let untyped = answer(json!({"uid": "u", "allowed": true, "patch": patch}));
        assert!(refused(&untyped, true).ends_with("webhook returned response.patch but not response.patchType"));
        assert_eq!(verdict(ReviewVersion::V1beta1, "u", &untyped, true).unwrap().patch, b"[]");
        let merge = answer(json!({"uid": "u", "allowed": true, "patch": patch, "patchType": "Merge"}));
        assert!(refused(&merge, true).ends_with("unsupported patch type \"Merge\""));
    }

    #[test]
    fn refusals_say_who_refused_and_are_never_successes() {
        let status = |tree: Value| denied("w.example.com", serde_json::from_value(tree).unwrap()).status().clone();
        let plain = status(Value::Null);
        let text = "admission webhook \"w.example.com\" denied the request";
        assert_eq!((plain.code, plain.message), (400, format!("{text} without explanation")));
        let full = status(json!({"code": 418, "message": "no", "reason": "Teapot"}));
        assert_eq!((full.code, full.reason.as_str(), full.message), (418, "Teapot", format!("{text}: no")));
        let success = status(json!({"code": 200, "reason": "Odd"}));
        assert_eq!((success.code, success.message), (400, format!("{text}: Odd")));
    }
}
