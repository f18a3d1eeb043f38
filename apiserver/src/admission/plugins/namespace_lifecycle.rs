//! NamespaceLifecycle: nothing is created in a namespace that is missing or on its way out, and the namespaces that the
//! cluster itself needs are not deleted.

use api::status::{Cause, Qualified};
use api::{ApiError, Object};
use async_trait::async_trait;

use super::{Phases, Plugin};
use crate::admission::{Attributes, MutatingAdmission, Namespaces, Operation, Outcome, Warnings};

/// Namespaces that may not be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) const PLUGIN: Plugin = Plugin::on("NamespaceLifecycle", |server| {
    server.cache.resource("namespaces")?;
    Phases::mutating(NamespaceLifecycle { namespaces: server.namespaces.clone() })
});

struct NamespaceLifecycle {
    namespaces: Namespaces,
}

#[async_trait]
impl MutatingAdmission for NamespaceLifecycle {
    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Object>, _: &mut Warnings) -> Outcome {
        let is_namespace = attributes.is_namespace();
        if is_namespace && attributes.operation == Operation::Delete && IMMORTAL.contains(&attributes.name) {
            return Err(attributes.forbidden("this namespace may not be deleted"));
        }
        if is_namespace || !attributes.resource.namespaced || attributes.operation != Operation::Create {
            return Ok(());
        }
        // What somebody may do tells nothing of whether the namespace exists.
        if attributes.is("authorization.k8s.io", "localsubjectaccessreviews") {
            return Ok(());
        }
        let missing = || ApiError::not_found(Qualified { group: "", resource: "namespaces" }, attributes.namespace);
        let namespace = self.namespaces.get(attributes.namespace).await?.ok_or_else(missing)?;
        if !namespace.tree().is_being_deleted() {
            return Ok(());
        }
        let name = object.map_or_else(String::new, |object| object.name().to_owned());
        Err(terminating(attributes, &name))
    }
}

fn terminating(attributes: &Attributes<'_>, name: &str) -> ApiError {
    let namespace = attributes.namespace;
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut err = ApiError::forbidden(attributes.resource.qualified(), name, &why);
    if let Some(details) = &mut err.status_mut().details {
        details.causes.push(Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".into(),
        });
    }
    err
}
