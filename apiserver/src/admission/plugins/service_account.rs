//! ServiceAccount: every pod runs as an account that exists, and finds its token where clients look for it.

use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, Object};
use async_trait::async_trait;
use serde_json::{Value, json};
use store::Store;

use super::pods::{MIRROR, containers_mut};
use super::{Phases, Plugin};
use crate::admission::{Attributes, ConfigMapKey, MutatingAdmission, Outcome, Warnings};
use crate::stamps::generated_name;
use crate::watch_cache::{Cached, Interest, ResourceCache, read};

/// How long a pod waits for the default account of a new namespace.
const LAG: Duration = Duration::from_secs(1);
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub(super) const PLUGIN: Plugin = Plugin::on("ServiceAccount", |server| {
    let accounts = server.cache.resource("serviceaccounts")?;
    let extra = server.config.service_account_extra_ca_config_map.clone();
    Phases::mutating(ServiceAccount { accounts, store: server.store.clone(), extra })
});

struct ServiceAccount {
    accounts: Arc<ResourceCache>,
    /// Knows the accounts that the cache does not know yet.
    store: Arc<dyn Store>,
    /// What pods find beside their token.
    extra: Vec<ConfigMapKey>,
}

impl ServiceAccount {
    async fn account(&self, attributes: &Attributes<'_>, pod: &Object) -> Result<Arc<Cached>, ApiError> {
        let (namespace, name) = (attributes.namespace, pod.text(&["spec", "serviceAccountName"]));
        self.accounts.settle().await?;
        let key = self.accounts.key(namespace, name);
        if let Some(account) = self.accounts.get(&key) {
            return Ok(account);
        }
        // The cache may be a moment behind whoever made the account.
        let entry = self.store.get(&key).await.map_err(|err| crate::store_error::unavailable(&err))?;
        if let Some(entry) = entry {
            return read(&self.accounts, &entry).map(Arc::new).map_err(ApiError::internal);
        }
        // A controller furnishes new namespaces with their default account: it may be about to.
        if name == "default" {
            let (_, mut changes) = self.accounts.watch_from_now(Interest::Key(key.as_str().into()));
            if self.accounts.get(&key).is_none() {
                // Without a change in time the account counts as missing.
                let _late = tokio::time::timeout(LAG, changes.next()).await;
            }
        }
        self.accounts.get(&key).ok_or_else(|| {
            let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
            ApiError::forbidden(attributes.resource.qualified(), pod.name(), &why)
        })
    }
}

#[async_trait]
impl MutatingAdmission for ServiceAccount {
    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Object>, _: &mut Warnings) -> Outcome {
        let Some(pod) = object.filter(|_| attributes.creates("", "pods")) else { return Ok(()) };
        if pod.annotation(MIRROR).is_some() {
            return check_mirror(attributes, pod);
        }
        if pod.text(&["spec", "serviceAccountName"]).is_empty() {
            pod.set(&["spec", "serviceAccountName"], "default");
        }
        let name = pod.text(&["spec", "serviceAccountName"]).to_owned();
        pod.set(&["spec", "serviceAccount"], name);
        let account = self.account(attributes, pod).await?;
        let account = account.tree();
        let wants = |object: &Object, path: &[&str]| object.get(path).and_then(Value::as_bool);
        let mounts =
            wants(pod, &["spec", "automountServiceAccountToken"]).or(wants(account, &["automountServiceAccountToken"]));
        if mounts.unwrap_or(true) {
            mount_token(pod, &self.extra);
        }
        let has_pull_secrets =
            pod.get(&["spec", "imagePullSecrets"]).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        if let Some(secrets) = account.get(&["imagePullSecrets"]).filter(|_| !has_pull_secrets) {
            pod.set(&["spec", "imagePullSecrets"], secrets.clone());
        }
        Ok(())
    }
}

/// A mirror pod shows a static pod, which has no identity in the cluster.
fn check_mirror(attributes: &Attributes<'_>, pod: &Object) -> Result<(), ApiError> {
    let refuse = |why: &str| Err(ApiError::forbidden(attributes.resource.qualified(), pod.name(), why));
    if !pod.text(&["spec", "serviceAccountName"]).is_empty() {
        return refuse("a mirror pod may not reference service accounts");
    }
    let volumes = pod.get(&["spec", "volumes"]).and_then(Value::as_array).into_iter().flatten();
    for source in
        volumes.filter_map(|volume| volume.pointer("/projected/sources")).filter_map(Value::as_array).flatten()
    {
        if source.get("serviceAccountToken").is_some() {
            return refuse("a mirror pod may not use ServiceAccountToken volume projections");
        }
    }
    Ok(())
}

/// Mounts the token into every container that has nothing there yet.
fn mount_token(pod: &mut Object, extra: &[ConfigMapKey]) {
    let volumes = pod.get(&["spec", "volumes"]).and_then(Value::as_array);
    let known = volumes.into_iter().flatten().filter_map(|volume| volume.get("name")?.as_str());
    let known = known.filter(|name| name.starts_with("kube-api-access-")).map(str::to_owned).next();
    let name = known.clone().unwrap_or_else(|| generated_name("kube-api-access-"));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in containers_mut(pod, list) {
            let Some(fields) = container.as_object_mut() else { continue };
            let mounts = fields.entry("volumeMounts").or_insert_with(|| json!([]));
            let Some(mounts) = mounts.as_array_mut() else { continue };
            if mounts.iter().any(|mount| mount.get("mountPath").and_then(Value::as_str) == Some(MOUNT)) {
                continue;
            }
            mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT}));
            mounted = true;
        }
    }
    if mounted && known.is_none() {
        let mut volumes = pod.get(&["spec", "volumes"]).and_then(Value::as_array).cloned().unwrap_or_default();
        volumes.push(token_volume(&name, extra));
        pod.set(&["spec", "volumes"], volumes);
    }
}

fn token_volume(name: &str, extra: &[ConfigMapKey]) -> Value {
    let file = |name: &str, key: &str| json!({"configMap": {"name": name, "items": [{"key": key, "path": key}]}});
    let namespace = json!({"apiVersion": "v1", "fieldPath": "metadata.namespace"});
    let mut sources = vec![
        json!({"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}),
        file("kube-root-ca.crt", "ca.crt"),
        json!({"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}}),
    ];
    sources.extend(extra.iter().map(|extra| file(&extra.name, &extra.key)));
    json!({"name": name, "projected": {"defaultMode": 420, "sources": sources}})
}
