//! The ReplicaSets of a Deployment: which is the new one, their revisions, and what they are annotated with (upstream:
//! `deployment/util`).

use std::collections::BTreeMap;

use facts::int_or_percent::portion;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::context::Failure;
use crate::{hash, meta};

pub(super) const HASH: &str = "pod-template-hash";
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of a Deployment that are not its ReplicaSets' (upstream's `annotationsToSkip`).
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
];

/// The numbers of a Deployment that planning needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) replicas: i32,
    pub(super) max_surge: i32,
    pub(super) max_unavailable: i32,
    pub(super) is_recreate: bool,
}

impl Limits {
    pub(super) fn of(spec: &DeploymentSpec) -> Self {
        let replicas = spec.replicas.unwrap_or(1);
        let strategy = spec.strategy.clone().unwrap_or_default();
        let is_recreate = strategy.type_.as_deref() == Some("Recreate");
        let rolling = strategy.rolling_update.unwrap_or_default();
        if is_recreate {
            return Self { replicas, max_surge: 0, max_unavailable: 0, is_recreate };
        }
        // Upstream's default of both limits.
        let quarter = || IntOrString::String("25%".to_owned());
        let max_surge = portion(&rolling.max_surge.unwrap_or_else(quarter), replicas, true);
        let mut max_unavailable = portion(&rolling.max_unavailable.unwrap_or_else(quarter), replicas, false);
        // Validation forbids 0 and 0, but percentages can round down to it; something has to move.
        if max_surge == 0 && max_unavailable == 0 {
            max_unavailable = 1;
        }
        Self { replicas, max_surge, max_unavailable: max_unavailable.min(replicas), is_recreate }
    }

    pub(super) fn max_replicas(self) -> i32 {
        self.replicas.saturating_add(self.max_surge)
    }

    pub(super) fn min_available(self) -> i32 {
        self.replicas - self.max_unavailable
    }
}

pub(super) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub(super) fn set_replicas(set: &mut ReplicaSet, replicas: i32) {
    set.spec.get_or_insert_default().replicas = Some(replicas);
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

pub(super) fn created(set: &ReplicaSet) -> (Option<Timestamp>, String) {
    let at = set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (at, meta::name(&set.metadata).to_owned())
}

pub(super) fn revision(meta: &ObjectMeta) -> i64 {
    annotation(meta, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

pub(super) fn desired(set: &ReplicaSet) -> Option<i32> {
    annotation(&set.metadata, DESIRED)?.parse().ok()
}

pub(super) fn maximum(set: &ReplicaSet) -> Option<i32> {
    annotation(&set.metadata, MAXIMUM)?.parse().ok()
}

/// Whether the set makes the pods that the Deployment wants now.
pub(super) fn is_same_template(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let Some(own) = set.spec.as_ref().and_then(|spec| spec.template.as_ref()) else { return false };
    own.spec == template.spec && plain_meta(own) == plain_meta(template)
}

/// The metadata of a template that makes a difference, without the label that tells the sets apart.
fn plain_meta(template: &PodTemplateSpec) -> ObjectMeta {
    let mut meta = template.metadata.clone().unwrap_or_default();
    meta.creation_timestamp = None;
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH);
    }
    meta.labels = meta.labels.filter(|labels| !labels.is_empty());
    meta.annotations = meta.annotations.filter(|annotations| !annotations.is_empty());
    meta
}

/// The ReplicaSet to create for the Deployment's template.
pub(super) fn new_set(deployment: &Deployment, revision: i64, limits: Limits) -> Result<ReplicaSet, Failure> {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = hash::of_template(&spec.template, collisions)?;
    let mut template = spec.template;
    template.metadata.get_or_insert_default().labels.get_or_insert_default().insert(HASH.to_owned(), hash.clone());
    let mut selector: LabelSelector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH.to_owned(), hash.clone());
    let metadata = ObjectMeta {
        name: Some(format!("{}-{hash}", meta::name(&deployment.metadata))),
        namespace: deployment.metadata.namespace.clone(),
        labels: template.metadata.as_ref().and_then(|meta| meta.labels.clone()),
        owner_references: Some(vec![meta::controller_reference(deployment)]),
        ..ObjectMeta::default()
    };
    let spec = ReplicaSetSpec {
        replicas: Some(0),
        min_ready_seconds: spec.min_ready_seconds,
        selector,
        template: Some(template),
    };
    let mut set = ReplicaSet { metadata, spec: Some(spec), status: None };
    annotate_new(&mut set, deployment, revision, limits, false);
    Ok(set)
}

/// Brings the annotations of the new set up to date; a set that becomes new again remembers its former revisions.
pub(super) fn annotate_new(set: &mut ReplicaSet, deployment: &Deployment, revision: i64, limits: Limits, exists: bool) {
    let old = self::revision(&set.metadata);
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    if old < revision
        && let Some(former) = annotations.insert(REVISION.to_owned(), revision.to_string())
    {
        remember(annotations, &former);
    }
    // The sizes of an existing set change together with its replicas: they tell a scaling from a rollout.
    if !exists {
        annotate_sizes(set, limits);
    }
}

fn remember(annotations: &mut BTreeMap<String, String>, former: &str) {
    let history = annotations.entry(HISTORY.to_owned()).or_default();
    if !history.is_empty() {
        history.push(',');
    }
    history.push_str(former);
}

/// Notes for which size of the Deployment the set was scaled.
pub(super) fn annotate_sizes(set: &mut ReplicaSet, limits: Limits) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED.to_owned(), limits.replicas.to_string());
    annotations.insert(MAXIMUM.to_owned(), limits.max_replicas().to_string());
}
