//! What the API server has.

use std::time::Duration;

use tracing::debug;

use crate::write;

/// How long an API server that does not answer is left alone.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether the API server has a resource (`podgroups`) in a group's version (`scheduling.k8s.io/v1alpha2`); asks until it
/// answers.
pub async fn is_served(client: &kube::Client, version: &str, plural: &str) -> bool {
    loop {
        match client.list_api_group_resources(version).await {
            Ok(resources) => return resources.resources.iter().any(|resource| resource.name == plural),
            Err(err) if write::is_not_found(&err) => return false,
            Err(err) => debug!(error = &err as &dyn std::error::Error, "the API server does not tell what it serves"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
