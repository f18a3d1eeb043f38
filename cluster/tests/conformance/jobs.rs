//! Jobs: the test says how each container ends.

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::TestCluster;
use runtime::fake::Behavior;
use serde_json::{Value, json};

use crate::api::{Api, PATIENCE, eventually};

const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const JOB: &str = "/apis/batch/v1/namespaces/default/jobs/j";
const PODS: &str = "/api/v1/namespaces/default/pods";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// A cluster, and a Job `j` in it whose pods run until a test ends them.
struct Stage {
    cluster: TestCluster,
    api: Api,
}

fn job(parallelism: u32, completions: u32, more: Value) -> Value {
    let pod = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "work:1"}]});
    let mut spec = json!({"parallelism": parallelism, "completions": completions,
        "template": {"metadata": {"labels": {"app": "work"}}, "spec": pod}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"name": "j", "labels": {"job": "j"}}, "spec": spec})
}

fn indexed(parallelism: u32, completions: u32, more: Value) -> Value {
    let mut job = job(parallelism, completions, more);
    job["spec"]["completionMode"] = json!("Indexed");
    job
}

fn index(pod: &Value) -> u64 {
    pod["metadata"]["annotations"][INDEX].as_str().unwrap().parse().unwrap()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// The condition of a Job that is true, with its reason.
fn condition<'a>(job: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = job["status"]["conditions"].as_array()?;
    conditions.iter().find(|known| known["type"] == kind && known["status"] == "True")
}

fn reason(job: &Value, kind: &str) -> String {
    let condition = condition(job, kind).unwrap_or_else(|| panic!("no {kind}: {}", job["status"]));
    condition["reason"].as_str().unwrap_or_default().to_owned()
}

impl Stage {
    async fn with(job: Value) -> Self {
        let cluster = TestCluster::start().await.unwrap();
        let api = Api::of(&cluster);
        api.create(JOBS, &job).await;
        Self { cluster, api }
    }

    async fn job(&self) -> Value {
        self.api.get(JOB).await
    }

    async fn pods(&self) -> Vec<Value> {
        self.api.items(&format!("{PODS}?labelSelector=app%3Dwork")).await
    }

    /// Pods that run and shall go on.
    async fn running(&self) -> Vec<Value> {
        let mut pods = self.pods().await;
        pods.retain(|pod| pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null());
        pods
    }

    async fn runs(&self, count: usize) {
        eventually(&format!("{count} pods run"), async || self.running().await.len() == count).await;
    }

    /// Ends a pod's container, unless it has ended or is about to be started again.
    fn end(&self, pod: &Value, code: i32) {
        let status = &pod["status"]["containerStatuses"][0];
        if let Some(id) = status["containerID"].as_str().and_then(|id| id.split_once("://")) {
            // It may have ended since the pod was read.
            let _ = self.cluster.runtime().exit_container(id.1, code);
        }
    }

    /// Ends pods as they run, with the codes that `code` says, until the Job has ended; returns the Job.
    async fn play(&self, code: impl Fn(&Value) -> Option<i32>) -> Value {
        let played = async {
            loop {
                let job = self.job().await;
                if condition(&job, "Complete").or(condition(&job, "Failed")).is_some() {
                    return job;
                }
                for pod in self.running().await {
                    if let Some(code) = code(&pod) {
                        self.end(&pod, code);
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, played).await {
            Ok(job) => job,
            Err(_) => panic!("the job has not ended: {}", self.job().await["status"]),
        }
    }
}

fn odd_ones_fail(pod: &Value) -> Option<i32> {
    Some(i32::from(index(pod) % 2 == 1))
}

/// Conformance: [sig-apps] Job should create pods for an Indexed job with completion indexes and specified hostname [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn pods_of_an_indexed_job_know_their_index() {
    let stage = Stage::with(indexed(2, 4, json!({}))).await;
    let job = stage.play(|_| Some(0)).await;
    assert_eq!((&job["status"]["succeeded"], &job["status"]["completedIndexes"]), (&json!(4), &json!("0-3")));
    let pods = stage.pods().await;
    assert_eq!(pods.iter().map(index).collect::<BTreeSet<_>>(), BTreeSet::from([0, 1, 2, 3]));
    for pod in &pods {
        assert_eq!(pod["status"]["phase"], "Succeeded");
        assert_eq!(pod["spec"]["hostname"], format!("j-{}", index(pod)));
        assert!(name(pod).starts_with(&format!("j-{}-", index(pod))), "{}", name(pod));
        let field = json!({"fieldRef": {"apiVersion": "v1", "fieldPath": format!("metadata.labels['{INDEX}']")}});
        let wanted = json!({"name": "JOB_COMPLETION_INDEX", "valueFrom": field});
        assert_eq!(pod["spec"]["containers"][0]["env"], json!([wanted]));
        assert_eq!(pod["metadata"]["labels"][INDEX], pod["metadata"]["annotations"][INDEX]);
    }
    stage.cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] Job should run a job to completion when tasks sometimes fail and are locally restarted [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn containers_that_fail_once_are_started_again_in_their_pods() {
    let mut job = job(2, 4, json!({}));
    job["spec"]["template"]["spec"]["restartPolicy"] = json!("OnFailure");
    let stage = Stage::with(job).await;
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or(0);
    let job = stage.play(|pod| Some(i32::from(restarts(pod) == 0))).await;
    assert_eq!((&job["status"]["succeeded"], &job["status"]["failed"]), (&json!(4), &Value::Null));
    let pods = stage.pods().await;
    assert_eq!(pods.len(), 4);
    assert!(pods.iter().all(|pod| restarts(pod) == 1), "each was started twice");
    stage.cluster.stop().await.unwrap();
}

fn on_exit_codes(action: &str, codes: &[i32]) -> Value {
    json!({"podFailurePolicy": {"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": codes}}]}})
}

/// Conformance: [sig-apps] Job should allow to use the pod failure policy on exit code to fail the job early [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn an_exit_code_fails_the_job_at_once() {
    let stage = Stage::with(job(2, 4, on_exit_codes("FailJob", &[1]))).await;
    stage.runs(2).await;
    stage.end(&stage.running().await[0], 1);
    let job = stage.play(|_| None).await;
    assert_eq!(reason(&job, "FailureTarget"), "PodFailurePolicy");
    assert_eq!(reason(&job, "Failed"), "PodFailurePolicy");
    assert!(stage.running().await.is_empty(), "the others are ended, too");
    stage.cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] Job should allow to use a pod failure policy to ignore failure matching on DisruptionTarget condition [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn pods_that_are_evicted_do_not_count_as_failed() {
    let rule = json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]});
    let mut job = indexed(2, 2, json!({"backoffLimit": 0, "podFailurePolicy": {"rules": [rule]}}));
    job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(1);
    let cluster = TestCluster::start().await.unwrap();
    cluster.runtime().behave("c", [Behavior::IgnoreStop]);
    let stage = Stage { api: Api::of(&cluster), cluster };
    stage.api.create(JOBS, &job).await;
    stage.runs(2).await;
    let first = stage.running().await;
    for pod in &first {
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name(pod)}});
        stage.api.create(&format!("{PODS}/{}/eviction", name(pod)), &body).await;
    }
    for pod in &first {
        stage.api.gone(&format!("{PODS}/{}", name(pod))).await;
    }
    let job = stage.play(|_| Some(0)).await;
    assert_eq!(reason(&job, "SuccessCriteriaMet"), "CompletionsReached");
    assert_eq!((&job["status"]["succeeded"], &job["status"]["completedIndexes"]), (&json!(2), &json!("0,1")));
    assert_eq!(job["status"]["failed"], Value::Null);
    stage.cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] Job should execute all indexes despite some failing when using backoffLimitPerIndex [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn each_index_has_its_own_tries() {
    let stage = Stage::with(indexed(2, 4, json!({"backoffLimitPerIndex": 1}))).await;
    let job = stage.play(odd_ones_fail).await;
    assert_eq!(reason(&job, "FailureTarget"), "FailedIndexes");
    assert_eq!(reason(&job, "Failed"), "FailedIndexes");
    let status = &job["status"];
    assert_eq!((&status["failedIndexes"], &status["completedIndexes"]), (&json!("1,3"), &json!("0,2")));
    assert_eq!((&status["failed"], &status["succeeded"]), (&json!(4), &json!(2)));
    stage.cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] Job should terminate job execution when the number of failed indexes exceeds maxFailedIndexes [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_ends_when_too_many_indexes_have_failed() {
    let stage = Stage::with(indexed(1, 4, json!({"backoffLimitPerIndex": 0, "maxFailedIndexes": 0}))).await;
    let job = stage.play(|_| Some(1)).await;
    assert_eq!(reason(&job, "FailureTarget"), "MaxFailedIndexesExceeded");
    assert_eq!(reason(&job, "Failed"), "MaxFailedIndexesExceeded");
    assert_eq!((&job["status"]["failedIndexes"], &job["status"]["failed"]), (&json!("0"), &json!(1)));
    assert_eq!(stage.pods().await.len(), 1);
    stage.cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] Job should mark indexes as failed when the FailIndex action is matched in podFailurePolicy [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn an_exit_code_fails_its_index_at_once() {
    let mut more = on_exit_codes("FailIndex", &[1]);
    more["backoffLimitPerIndex"] = json!(1);
    let stage = Stage::with(indexed(2, 2, more)).await;
    let job = stage.play(odd_ones_fail).await;
    assert_eq!(reason(&job, "FailureTarget"), "FailedIndexes");
    let status = &job["status"];
    assert_eq!((&status["failedIndexes"], &status["completedIndexes"]), (&json!("1"), &json!("0")));
    assert_eq!((&status["failed"], &status["succeeded"]), (&json!(1), &json!(1)));
    stage.cluster.stop().await.unwrap();
}

/// Plays a Job of which enough has succeeded when these indexes have.
async fn succeeds_by(rule: Value, winners: &[u64], completed: &str) {
    let stage = Stage::with(indexed(2, 2, json!({"successPolicy": {"rules": [rule]}}))).await;
    stage.runs(2).await;
    let job = stage.play(|pod| winners.contains(&index(pod)).then_some(0)).await;
    assert_eq!(reason(&job, "SuccessCriteriaMet"), "SuccessPolicy");
    assert_eq!(reason(&job, "Complete"), "SuccessPolicy");
    let status = &job["status"];
    assert_eq!((&status["completedIndexes"], &status["succeeded"]), (&json!(completed), &json!(winners.len())));
    eventually("nothing runs any more", async || stage.running().await.is_empty()).await;
    stage.cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] Job with successPolicy should succeeded when all indexes succeeded [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_succeeds_when_all_indexes_have() {
    succeeds_by(json!({"succeededIndexes": "0-1"}), &[0, 1], "0,1").await;
}

/// Conformance: [sig-apps] Job with successPolicy succeededIndexes rule should succeeded even when some indexes remain pending [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_succeeds_when_the_index_that_matters_has() {
    succeeds_by(json!({"succeededIndexes": "0"}), &[0], "0").await;
}

/// Conformance: [sig-apps] Job with successPolicy succeededCount rule should succeeded even when some indexes remain pending [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_succeeds_when_enough_indexes_have() {
    succeeds_by(json!({"succeededCount": 1}), &[1], "1").await;
}

/// Conformance: [sig-apps] Job should adopt matching orphans and release non-matching pods [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_takes_its_orphans_back_and_lets_go_what_does_not_match() {
    let stage = Stage::with(job(2, 4, json!({}))).await;
    stage.runs(2).await;
    let uid = stage.job().await["metadata"]["uid"].clone();
    let pod = format!("{PODS}/{}", name(&stage.running().await[0]));
    stage.api.update(&pod, |pod| pod["metadata"]["ownerReferences"] = json!([])).await;
    let owner = async || stage.api.get(&pod).await["metadata"]["ownerReferences"][0].clone();
    eventually("the pod is adopted", async || owner().await["uid"] == uid).await;
    stage.api.update(&pod, |pod| pod["metadata"]["labels"] = json!({})).await;
    eventually("the pod is let go", async || owner().await.is_null()).await;
    eventually("nothing holds it back", async || {
        stage.api.get(&pod).await["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)
    })
    .await;
    stage.runs(2).await;
    stage.cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] Job should delete a job [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_deleted_with_its_pods() {
    for policy in ["Background", "Foreground"] {
        let stage = Stage::with(job(2, 4, json!({}))).await;
        stage.runs(2).await;
        stage.api.delete(JOB, policy).await;
        stage.api.gone(JOB).await;
        eventually("the pods go, too", async || stage.pods().await.is_empty()).await;
        stage.cluster.stop().await.unwrap();
    }
}

/// Conformance: [sig-apps] Job should manage the lifecycle of a job [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_lives_and_dies() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let selected = "labelSelector=job%3Dj";
    let mut events = api.watch(&format!("{JOBS}?{selected}")).await;
    let stage = Stage { cluster, api };
    stage.api.create(JOBS, &job(2, 4, json!({"suspend": true}))).await;
    events.until("MODIFIED", |job| condition(job, "Suspended").is_some()).await;
    assert!(stage.pods().await.is_empty());
    let patched = stage.api.strategic(JOB, &json!({"metadata": {"labels": {"j": "patched"}}})).await;
    assert_eq!(patched["metadata"]["labels"]["j"], "patched");
    events.until("MODIFIED", |job| job["metadata"]["labels"]["j"] == "patched").await;
    let resume = |job: &mut Value| {
        job["spec"]["suspend"] = json!(false);
        job["metadata"]["annotations"] = json!({"updated": "true"});
    };
    stage.api.update(JOB, resume).await;
    events.until("MODIFIED", |job| job["metadata"]["annotations"]["updated"] == "true").await;
    let everywhere = format!("/apis/batch/v1/jobs?{selected}");
    assert_eq!(stage.api.items(&everywhere).await.len(), 1);
    let ended = stage.play(|_| Some(0)).await;
    assert_eq!(ended["status"]["succeeded"], 4);
    stage.api.delete_collection(&format!("{JOBS}?{selected}&propagationPolicy=Background")).await;
    events.until("DELETED", |job| job["metadata"]["labels"]["job"] == "j").await;
    assert!(stage.api.items(&everywhere).await.is_empty());
    stage.cluster.stop().await.unwrap();
}
