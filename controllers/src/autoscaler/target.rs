//! What an autoscaler scales: any kind with the subresource `scale`, found by group and kind (upstream: `RESTMapper` and
//! `ScalesGetter`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::write;
use http::Request;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroup, APIResourceList};
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use kube::core::ApiResource;

use crate::context::Context;
use crate::discovery;

/// Kinds that are remembered; beyond that all are asked for again.
const MOST_KINDS: usize = 1000;

/// Finds kinds, and remembers them until others may be served. Clones share what is known.
#[derive(Clone)]
pub(super) struct Targets {
    client: kube::Client,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    kinds: HashMap<(String, String), ApiResource>,
    /// Raised when what was asked for before may be outdated.
    epoch: u64,
}

/// A kind that is served.
#[derive(Clone, Debug)]
pub(super) struct Served(ApiResource);

impl Served {
    /// `deployments.apps`, or `pods` in the core group.
    pub(super) fn name(&self) -> String {
        let dot = if self.0.group.is_empty() { "" } else { "." };
        format!("{}{dot}{}", self.0.plural, self.0.group)
    }
}

/// Something that can be scaled.
pub(super) struct Target {
    api: Api<DynamicObject>,
    name: String,
    /// As it was read.
    scale: Scale,
}

impl Targets {
    pub(super) fn new(context: &Context) -> Self {
        let known: Arc<Mutex<Known>> = Arc::default();
        let outdated = Arc::clone(&known);
        discovery::on_change(context, move || lock(&outdated).forget());
        Self { client: context.client.clone(), known }
    }

    /// Reads the scale of a target. Fails with the words for the user.
    pub(super) async fn scale(&self, namespace: &str, target: &CrossVersionObjectReference) -> Result<Target, String> {
        let version = target.api_version.as_deref().unwrap_or_default();
        let group = match version.split_once('/') {
            Some((_, rest)) if rest.contains('/') => return Err(format!("unexpected GroupVersion string: {version}")),
            Some((group, _)) => group,
            None => "",
        };
        let Served(resource) = self.resource(group, &target.kind).await?;
        if !is_plain(&target.name) {
            return Err(format!("{} {:?} not found", Served(resource).name(), target.name));
        }
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        match api.get_scale(&target.name).await {
            Ok(scale) => Ok(Target { api, name: target.name.clone(), scale }),
            Err(err) => {
                if is_absent(&err) {
                    lock(&self.known).kinds.remove(&(group.to_owned(), target.kind.clone()));
                }
                Err(write::status_message(&err))
            }
        }
    }

    /// The kind of this group in the version that the group prefers. Fails with the words for the user.
    pub(super) async fn resource(&self, group: &str, kind: &str) -> Result<Served, String> {
        let key = (group.to_owned(), kind.to_owned());
        let epoch = {
            let known = lock(&self.known);
            if let Some(found) = known.kinds.get(&key) {
                return Ok(Served(found.clone()));
            }
            known.epoch
        };
        let found = self.find(group, kind).await?;
        let found = found.ok_or_else(|| format!("no matches for kind {kind:?} in group {group:?}"))?;
        lock(&self.known).remember(key, &found, epoch);
        Ok(Served(found))
    }

    async fn find(&self, group: &str, kind: &str) -> Result<Option<ApiResource>, String> {
        let mut failed = None;
        for version in self.versions(group).await? {
            match self.resources(group, &version).await {
                Ok(list) => {
                    let found = list.resources.into_iter().find(|it| it.kind == kind && !it.name.contains('/'));
                    if let Some(found) = found {
                        return Ok(Some(resource(group, &version, kind, found.name)));
                    }
                }
                // Another version may have it.
                Err(err) => failed = Some(write::status_message(&err)),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    async fn resources(&self, group: &str, version: &str) -> kube::Result<APIResourceList> {
        if group.is_empty() {
            return self.client.list_core_api_resources(version).await;
        }
        self.client.list_api_group_resources(&format!("{group}/{version}")).await
    }

    /// The versions of a group, the preferred one first; none of a group that is not served.
    pub(super) async fn versions(&self, group: &str) -> Result<Vec<String>, String> {
        if group.is_empty() {
            return Ok(vec!["v1".to_owned()]);
        }
        if !is_plain(group) {
            return Ok(Vec::new());
        }
        let request = Request::get(format!("/apis/{group}")).body(Vec::new()).map_err(|err| err.to_string())?;
        let found = match self.client.request::<APIGroup>(request).await {
            Ok(found) => found,
            Err(err) if is_absent(&err) => return Ok(Vec::new()),
            Err(err) => return Err(write::status_message(&err)),
        };
        let preferred = found.preferred_version.map(|version| version.version);
        let others = found.versions.into_iter().map(|version| version.version);
        let others = others.filter(|version| Some(version) != preferred.as_ref());
        Ok(preferred.iter().cloned().chain(others).collect())
    }
}

impl Known {
    fn forget(&mut self) {
        self.kinds.clear();
        self.epoch += 1;
    }

    fn remember(&mut self, key: (String, String), found: &ApiResource, epoch: u64) {
        if self.epoch != epoch {
            return;
        }
        if self.kinds.len() >= MOST_KINDS {
            self.kinds.clear();
        }
        self.kinds.insert(key, found.clone());
    }
}

impl Target {
    /// How many replicas it should have.
    pub(super) fn replicas(&self) -> i32 {
        self.scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
    }

    /// How many it has.
    pub(super) fn there(&self) -> i32 {
        self.scale.status.as_ref().map_or(0, |status| status.replicas)
    }

    /// Which pods are its, as text.
    pub(super) fn selector(&self) -> Option<&str> {
        self.scale.status.as_ref()?.selector.as_deref().filter(|selector| !selector.is_empty())
    }

    /// Writes another number, over whatever others wrote meanwhile.
    pub(super) async fn set(self, replicas: i32) -> kube::Result<()> {
        let mut known = Some(self.scale);
        write::retry_on_conflict(|| {
            let (known, api, name) = (known.take(), &self.api, &self.name);
            async move {
                let mut scale = match known {
                    Some(scale) => scale,
                    None => api.get_scale(name).await?,
                };
                scale.spec.get_or_insert_default().replicas = Some(replicas);
                api.replace_scale(name, &PostParams::default(), &scale).await.map(drop)
            }
        })
        .await
    }
}

fn resource(group: &str, version: &str, kind: &str, plural: String) -> ApiResource {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource { group: group.to_owned(), version: version.to_owned(), api_version, kind: kind.to_owned(), plural }
}

/// The server says 404, in a `Status` or, of paths that nobody serves, in plain text.
fn is_absent(err: &kube::Error) -> bool {
    matches!(err, kube::Error::Api(status) if status.code == 404)
}

/// Whether a user's word is one step of a path as it stands, as the names of all groups and of all that can be scaled are.
fn is_plain(word: &str) -> bool {
    !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':'))
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
