//! The pods of a Job: how they are made, and what can be read off them.

use std::collections::BTreeMap;

use facts::pods;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use super::{completions, is_indexed};
use crate::{meta, podcontrol};

/// The finalizer that keeps a pod until it has been counted.
pub(super) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Names of pods are names of hosts: `<job>-<index>` must leave room for `-` and five random letters.
const LONGEST_PREFIX: usize = 63 - 6;

/// How often an index failed so far: what counts, and what the failure policy says to ignore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Failures {
    pub(super) counted: i32,
    pub(super) ignored: i32,
}

/// A pod of `job`, for this index if the Job is indexed.
pub(super) fn make(job: &Job, completion: Option<i32>, failures: Failures) -> Pod {
    let spec = job.spec.clone().unwrap_or_default();
    let mut pod = podcontrol::pod_from_template(job, &spec.template);
    pod.metadata.finalizers.get_or_insert_default().push(TRACKING.to_owned());
    let Some(completion) = completion else { return pod };
    let text = completion.to_string();
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), text.clone());
    if spec.backoff_limit_per_index.is_some() {
        annotations.insert(FAILURES.to_owned(), failures.counted.to_string());
        if failures.ignored > 0 {
            annotations.insert(IGNORED_FAILURES.to_owned(), failures.ignored.to_string());
        }
    }
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), text.clone());
    let host = format!("{}-{text}", meta::name(&job.metadata));
    pod.metadata.generate_name = Some(format!("{}-", host.get(..LONGEST_PREFIX).unwrap_or(&host)));
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(host);
        let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
        containers.for_each(tell_index);
    }
    pod
}

fn tell_index(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector { api_version: None, field_path: format!("metadata.labels['{INDEX}']") };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    let name = INDEX_VARIABLE.to_owned();
    variables.push(EnvVar { name, value: None, value_from: Some(source) });
}

/// The index that the pod works on, if it is one that the Job has.
pub(super) fn completion_index(job: &Job, pod: &Pod) -> Option<i32> {
    if !is_indexed(job) {
        return None;
    }
    number(pod, INDEX).filter(|index| (0..completions(job).unwrap_or(0)).contains(index))
}

/// How often its index had failed when the pod was made.
pub(super) fn failures_before(pod: &Pod) -> Failures {
    let count = |key| number(pod, key).unwrap_or(0);
    Failures { counted: count(FAILURES), ignored: count(IGNORED_FAILURES) }
}

fn number(pod: &Pod, annotation: &str) -> Option<i32> {
    let annotations: &BTreeMap<String, String> = pod.metadata.annotations.as_ref()?;
    annotations.get(annotation)?.parse().ok().filter(|number| *number >= 0)
}

/// The pod has not been counted yet.
pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == TRACKING)
}

/// When the pod ended, as exactly as it says.
pub(super) fn end(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let ends = statuses.filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    let ready = pods::condition(pod, "Ready").and_then(|ready| ready.last_transition_time.as_ref());
    let deleted = pod.metadata.deletion_timestamp.as_ref();
    let end = ends.max_by_key(|time| time.0).or(deleted).or(ready).or(pod.metadata.creation_timestamp.as_ref());
    end.map(|time| time.0)
}

/// How often its containers were restarted in place.
pub(super) fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    });
    statuses.map(|status| status.restart_count).fold(0, i32::saturating_add)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};

    use super::*;

    #[test]
    fn an_indexed_pod_knows_its_index() {
        let job: Job = from_value(json!({
            "metadata": {"name": "work", "namespace": "n", "uid": "u"},
            "spec": {"completionMode": "Indexed", "completions": 3, "backoffLimitPerIndex": 1, "template": {"spec": {
                "containers": [{"name": "a"}, {"name": "b", "env": [{"name": "JOB_COMPLETION_INDEX", "value": "own"}]}]}}},
        }))
        .unwrap();
        let pod = make(&job, Some(2), Failures { counted: 1, ignored: 0 });
        assert_eq!(completion_index(&job, &pod), Some(2));
        assert_eq!(failures_before(&pod), Failures { counted: 1, ignored: 0 });
        assert_eq!(pod.metadata.generate_name.as_deref(), Some("work-2-"));
        assert!(is_tracked(&pod));
        let spec = pod.spec.unwrap();
        assert_eq!(spec.hostname.as_deref(), Some("work-2"));
        let env = |at: usize| spec.containers[at].env.clone().unwrap();
        assert_eq!(env(0)[0].name, INDEX_VARIABLE);
        let field = env(0)[0].value_from.clone().and_then(|source| source.field_ref).unwrap().field_path;
        assert_eq!(field, "metadata.labels['batch.kubernetes.io/job-completion-index']");
        assert_eq!((env(1).len(), env(1)[0].value.as_deref()), (1, Some("own")));
    }

    #[test]
    fn an_index_that_the_job_does_not_have_is_none() {
        let job: Job =
            from_value(json!({"spec": {"completionMode": "Indexed", "completions": 2, "template": {}}})).unwrap();
        for (text, index) in [("1", Some(1)), ("2", None), ("-1", None), ("x", None)] {
            let pod = from_value(json!({"metadata": {"annotations": {INDEX: text}}})).unwrap();
            assert_eq!(completion_index(&job, &pod), index, "{text}");
        }
    }
}
