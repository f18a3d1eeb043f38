//! NamespaceLifecycle: nothing is created in a namespace that is missing or on its way out, and the namespaces that the
//! cluster itself needs are not deleted.

use api::status::{Cause, Qualified};
use api::{ApiError, Object};
use async_trait::async_trait;

use crate::admission::{Attributes, MutatingAdmission, Namespaces, Operation, Warnings};

/// Namespaces that may not be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The plugin.
pub struct NamespaceLifecycle {
    namespaces: Namespaces,
}

impl NamespaceLifecycle {
    /// Keeps watch over these namespaces.
    pub fn new(namespaces: Namespaces) -> Self {
        Self { namespaces }
    }
}

#[async_trait]
impl MutatingAdmission for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut Object>,
        _warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        let is_namespace = attributes.is_namespace();
        if is_namespace && attributes.operation == Operation::Delete && IMMORTAL.contains(&attributes.name) {
            return Err(ApiError::forbidden(
                attributes.resource.qualified(),
                attributes.name,
                "this namespace may not be deleted",
            ));
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
