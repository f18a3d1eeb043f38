//! `metav1.Status` errors: one constructor per reason, worded as apimachinery's `errors` package words them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::field::FieldError;

/// An error that the API answers with: a `metav1.Status` of status `Failure`.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError(Box<Status>);

/// The fields of a failing `metav1.Status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason; empty for errors that have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
    /// `metadata.continue`: where a list whose history is gone can go on.
    #[serde(skip)]
    pub continuation: String,
}

/// `metav1.StatusDetails`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

/// `metav1.StatusCause`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A group and a resource (plural) or kind, as error texts name them: `pods`, `deployments.apps`.
#[derive(Clone, Copy, Debug)]
pub struct Qualified<'a> {
    pub group: &'a str,
    /// The plural, or the kind for [`ApiError::invalid`].
    pub resource: &'a str,
}

impl fmt::Display for Qualified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(self.resource) } else { write!(f, "{}.{}", self.resource, self.group) }
    }
}

impl ApiError {
    /// An error with any code and reason; `details` may be added with [`Self::with_details`].
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self(Box::new(Status { code, reason: reason.to_owned(), message: message.into(), ..Status::default() }))
    }

    /// Takes over a status that another server answered.
    pub fn from_status(status: Status) -> Self {
        Self(Box::new(status))
    }

    /// Sets the details.
    #[must_use]
    pub fn with_details(mut self, details: Details) -> Self {
        self.0.details = Some(details);
        self
    }

    /// Adds a cause that programs tell by its reason (`metav1.CauseType`).
    #[must_use]
    pub fn with_cause(mut self, reason: &str) -> Self {
        let cause = Cause { reason: reason.to_owned(), ..Cause::default() };
        self.0.details.get_or_insert_default().causes.push(cause);
        self
    }

    fn about(self, what: Qualified<'_>, name: &str) -> Self {
        self.with_details(Details {
            name: name.to_owned(),
            group: what.group.to_owned(),
            kind: what.resource.to_owned(),
            ..Details::default()
        })
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403; an empty `name` is left out of the text.
    pub fn forbidden(what: Qualified<'_>, name: &str, why: &str) -> Self {
        let message = match (what.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (_, true) => format!("{what} is forbidden: {why}"),
            (..) => format!("{what} {name:?} is forbidden: {why}"),
        };
        Self::new(403, "Forbidden", message).about(what, name)
    }

    /// 404 for one object.
    pub fn not_found(what: Qualified<'_>, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{what} {name:?} not found")).about(what, name)
    }

    /// 404 for a path that no resource serves.
    pub fn unknown_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").with_details(Details::default())
    }

    /// 405.
    pub fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(405, "MethodNotAllowed", message).with_details(Details::default())
    }

    /// 406.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(406, "NotAcceptable", message)
    }

    /// 409 on create.
    pub fn already_exists(what: Qualified<'_>, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{what} {name:?} already exists")).about(what, name)
    }

    /// 409 on update, patch or delete.
    pub fn conflict(what: Qualified<'_>, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {what} {name:?}: {why}");
        Self::new(409, "Conflict", message).about(what, name)
    }

    /// 410 for history that is gone.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 422: `what.resource` is the kind here. One error prints as `Kind "name" is invalid: e`, several as
    /// `Kind "name" is invalid: [e1, e2]`.
    pub fn invalid(what: Qualified<'_>, name: &str, errors: &[FieldError]) -> Self {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let joined = match texts.as_slice() {
            [] => String::new(),
            [one] => format!(": {one}"),
            many => format!(": [{}]", many.join(", ")),
        };
        let causes = errors.iter().map(|error| Cause {
            reason: error.kind.reason().to_owned(),
            message: error.message.clone(),
            field: error.path.to_string(),
        });
        let details = Details {
            name: name.to_owned(),
            group: what.group.to_owned(),
            kind: what.resource.to_owned(),
            causes: causes.collect(),
            ..Details::default()
        };
        Self::new(422, "Invalid", format!("{what} {name:?} is invalid{joined}")).with_details(details)
    }

    /// 429 with a time to wait.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, "TooManyRequests", message).with_details(Details { retry_after_seconds, ..Details::default() })
    }

    /// 500 with reason `InternalError`.
    pub fn internal(why: impl fmt::Display) -> Self {
        let cause = Cause { message: why.to_string(), ..Cause::default() };
        Self::new(500, "InternalError", format!("Internal error occurred: {why}"))
            .with_details(Details { causes: vec![cause], ..Details::default() })
    }

    /// 500 without a reason, for errors that the reference server does not classify.
    pub fn unclassified(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// 501 for what this server does not support (D14).
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(501, "NotImplemented", message)
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504.
    pub fn timeout(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(504, "Timeout", message).with_details(Details { retry_after_seconds, ..Details::default() })
    }

    /// The status.
    pub fn status(&self) -> &Status {
        &self.0
    }

    /// The status, to change.
    pub fn status_mut(&mut self) -> &mut Status {
        &mut self.0
    }

    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        self.0.code
    }

    /// Whether this is a 404 `NotFound`.
    pub fn is_not_found(&self) -> bool {
        self.0.reason == "NotFound"
    }

    /// Whether this is a 409 `Conflict`.
    pub fn is_conflict(&self) -> bool {
        self.0.reason == "Conflict"
    }

    /// The body: `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",...}`.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert("kind".into(), "Status".into());
        map.insert("apiVersion".into(), "v1".into());
        let mut metadata = Map::new();
        if !self.0.continuation.is_empty() {
            metadata.insert("continue".into(), self.0.continuation.as_str().into());
        }
        map.insert("metadata".into(), metadata.into());
        map.insert("status".into(), "Failure".into());
        if let Ok(Value::Object(fields)) = serde_json::to_value(&*self.0) {
            map.extend(fields);
        }
        Value::Object(map)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Path;

    #[test]
    fn one_field_error_is_bare_and_several_are_bracketed() {
        let what = Qualified { group: "apps", resource: "Deployment" };
        let first = FieldError::required(&Path::new("spec").child("selector"), "");
        let one = ApiError::invalid(what, "x", std::slice::from_ref(&first));
        assert_eq!(one.to_string(), r#"Deployment.apps "x" is invalid: spec.selector: Required value"#);
        let two = ApiError::invalid(what, "x", &[first.clone(), first]);
        assert_eq!(
            two.to_string(),
            r#"Deployment.apps "x" is invalid: [spec.selector: Required value, spec.selector: Required value]"#
        );
    }
}
