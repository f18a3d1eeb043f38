//! Access to devices that are in use by others: only in namespaces which the cluster's owner marked for that.

use api::field::{FieldError, Path};
use api::{ApiError, Object};
use async_trait::async_trait;
use serde_json::Value;

use super::{Phases, Plugin};
use crate::admission::{Attributes, Namespaces, Operation, Outcome, ValidatingAdmission, Warnings};

const MARK: &str = "resource.kubernetes.io/admin-access";

/// Part of the rules for claims, so it cannot be disabled.
pub(super) const PLUGIN: Plugin =
    Plugin::always("DeviceAdminAccess", |server| Phases::validating(AdminAccess(server.namespaces.clone())));

struct AdminAccess(Namespaces);

/// The first request or result that has such access.
fn asked(object: &Object, subresource: &str, kind: &str) -> Option<Path> {
    let spec = ["spec", "devices", "requests"];
    let results = ["status", "allocation", "devices", "results"];
    let (list, flag): (&[&str], &str) = match (subresource, kind) {
        ("", "ResourceClaim") => (&spec, "/exactly/adminAccess"),
        ("", "ResourceClaimTemplate") => (&["spec", "spec", "devices", "requests"], "/exactly/adminAccess"),
        ("status", "ResourceClaim") => (&results, "/adminAccess"),
        _ => return None,
    };
    let entries = object.get(list).and_then(Value::as_array)?;
    let index = entries.iter().position(|entry| entry.pointer(flag) == Some(&Value::Bool(true)))?;
    // Upstream's path is the same for templates.
    let told = if subresource.is_empty() { &spec[..] } else { &results[..] };
    let path = told.iter().fold(Path::default(), |path, field| path.child(field));
    Some(path.index(index).child("adminAccess"))
}

#[async_trait]
impl ValidatingAdmission for AdminAccess {
    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>, _: &mut Warnings) -> Outcome {
        let (kind, subresource) = (attributes.resource.kind.as_ref(), attributes.subresource);
        // The spec of a claim never changes, and a granted access stays.
        let relevant = attributes.resource.group == "resource.k8s.io"
            && match attributes.operation {
                Operation::Create => subresource.is_empty(),
                Operation::Update => attributes.old.is_some_and(|old| asked(old, subresource, kind).is_none()),
                Operation::Delete | Operation::Connect => false,
            };
        let Some(path) = object.filter(|_| relevant).and_then(|object| asked(object, subresource, kind)) else {
            return Ok(());
        };
        let namespace = self.0.get(attributes.namespace).await?;
        if namespace.is_some_and(|namespace| namespace.labels.get(MARK) == Some("true")) {
            return Ok(());
        }
        let why = format!("admin access to devices requires the `{MARK}: true` label on the containing namespace");
        let name = object.map_or("", Object::name);
        Err(ApiError::invalid(attributes.resource.qualified_kind(), name, &[FieldError::forbidden(&path, &why)]))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_request_that_asks_is_named() {
        let requests = json!([{"name": "a", "exactly": {}}, {"name": "b", "exactly": {"adminAccess": true}}]);
        let claim = Object::from_value(json!({"spec": {"devices": {"requests": requests}}})).unwrap();
        let path = asked(&claim, "", "ResourceClaim").unwrap();
        assert_eq!(path.to_string(), "spec.devices.requests[1].adminAccess");
        assert_eq!(asked(&claim, "status", "ResourceClaim"), None);
        assert_eq!(asked(&claim, "", "Pod"), None);
    }
}
