//! NamespaceLifecycle: nothing is created in a namespace that is missing or on its way out, and the namespaces that the
//! cluster itself needs are not deleted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::status::{Cause, Qualified};
use api::{ApiError, Object};
use async_trait::async_trait;
use tokio::time::Instant;

use super::{Attributes, MutatingAdmission, Namespaces, Operation, Warnings};
use crate::watch_cache::Cached;

/// Namespaces that may not be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
/// How long after a namespace's deletion the cache is not trusted about it without having caught up.
const DOUBT: Duration = Duration::from_secs(30);

/// The plugin.
pub struct NamespaceLifecycle {
    namespaces: Namespaces,
    /// Namespaces whose deletion passed here, and when: the cache may not show it yet.
    going: Mutex<HashMap<String, Instant>>,
}

impl NamespaceLifecycle {
    /// Keeps watch over these namespaces.
    pub fn new(namespaces: Namespaces) -> Self {
        Self { namespaces, going: Mutex::default() }
    }

    async fn namespace(&self, name: &str) -> Option<Arc<Cached>> {
        if self.is_doubtful(name) { self.namespaces.newest(name).await } else { self.namespaces.get(name).await }
    }

    fn remember_deletion(&self, name: &str) {
        let mut going = self.going.lock().unwrap_or_else(PoisonError::into_inner);
        going.retain(|_, since| since.elapsed() < DOUBT);
        going.insert(name.to_owned(), Instant::now());
    }

    fn is_doubtful(&self, name: &str) -> bool {
        let going = self.going.lock().unwrap_or_else(PoisonError::into_inner);
        going.get(name).is_some_and(|since| since.elapsed() < DOUBT)
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
        if is_namespace && attributes.operation == Operation::Delete {
            self.remember_deletion(attributes.name);
        }
        if is_namespace || !attributes.resource.namespaced || attributes.operation != Operation::Create {
            return Ok(());
        }
        // What somebody may do tells nothing of whether the namespace exists.
        if attributes.is("authorization.k8s.io", "localsubjectaccessreviews") {
            return Ok(());
        }
        let missing = || ApiError::not_found(Qualified { group: "", resource: "namespaces" }, attributes.namespace);
        let namespace = self.namespace(attributes.namespace).await.ok_or_else(missing)?;
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
