//! CronJobs. A schedule of one minute of the day, which has passed, and a time of the last Job before that make one due.

use cluster::TestCluster;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, UtcOffset};

use crate::api::{Api, eventually};

const CRONS: &str = "/apis/batch/v1/namespaces/default/cronjobs";
const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const EVENTS: &str = "/api/v1/namespaces/default/events";

/// A minute of the past.
struct Minute(OffsetDateTime);

fn ago(minutes: i64) -> Minute {
    Minute(OffsetDateTime::now_utc().to_offset(UtcOffset::UTC) - Duration::minutes(minutes))
}

impl Minute {
    /// Every day at this minute.
    fn schedule(&self) -> String {
        format!("{} {} * * *", self.0.minute(), self.0.hour())
    }

    /// What a Job of this minute is called.
    fn job(&self, cron: &str) -> String {
        format!("{cron}-{}", self.0.unix_timestamp() / 60)
    }

    fn timestamp(&self) -> String {
        let (date, time) = (self.0.date(), self.0.time());
        let (hour, minute, second) = time.as_hms();
        format!("{date}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Creates a CronJob whose Jobs run until they are deleted, and which is due at a minute that has passed.
async fn create(api: &Api, name: &str, due: &Minute, more: Value) {
    let pod = json!({"restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "work:1"}]});
    let mut spec = json!({"schedule": due.schedule(), "jobTemplate": {"spec": {"template": {"spec": pod}}}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    api.create(CRONS, &json!({"metadata": {"name": name}, "spec": spec})).await;
    let last = json!({"status": {"lastScheduleTime": ago(20).timestamp()}});
    api.merge(&format!("{CRONS}/{name}/status"), &last).await;
}

async fn jobs(api: &Api) -> Vec<String> {
    api.items(JOBS).await.iter().map(|job| job["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

async fn active(api: &Api, name: &str) -> usize {
    api.get(&format!("{CRONS}/{name}")).await["status"]["active"].as_array().map_or(0, Vec::len)
}

/// A CronJob with this policy that has an active Job and is due again; returns what the Jobs of both times are called.
async fn due_twice(api: &Api, policy: &str) -> [String; 2] {
    let (first, second) = (ago(10), ago(5));
    create(api, "tick", &first, json!({"concurrencyPolicy": policy})).await;
    eventually("the first job is active", async || active(api, "tick").await == 1).await;
    assert_eq!(jobs(api).await, [first.job("tick")]);
    let again = json!({"spec": {"schedule": second.schedule()}});
    api.merge(&format!("{CRONS}/tick"), &again).await;
    [first.job("tick"), second.job("tick")]
}

/// Conformance: [sig-apps] CronJob should schedule multiple jobs concurrently [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_beside_each_other_where_they_may() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let both = due_twice(&api, "Allow").await;
    eventually("both are active", async || active(&api, "tick").await == 2).await;
    assert_eq!(jobs(&api).await, both);
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] CronJob should not schedule new jobs when ForbidConcurrent [Slow] [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_runs_keeps_others_away() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let [first, second] = due_twice(&api, "Forbid").await;
    eventually("an event says so", async || {
        api.items(EVENTS).await.iter().any(|event| event["reason"] == "JobAlreadyActive")
    })
    .await;
    assert_eq!((jobs(&api).await, active(&api, "tick").await), (vec![first.clone()], 1));
    // What was due runs once the other has gone.
    api.delete(&format!("{JOBS}/{first}"), "Background").await;
    eventually("the second job is there", async || jobs(&api).await == [second.clone()]).await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] CronJob should replace jobs when ReplaceConcurrent [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_takes_the_place_of_the_one_before() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let [_, second] = due_twice(&api, "Replace").await;
    eventually("only the second job is there", async || {
        let status = api.get(&format!("{CRONS}/tick")).await["status"].clone();
        jobs(&api).await == [second.clone()] && status["active"][0]["name"] == second && status["active"][1].is_null()
    })
    .await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] CronJob should not schedule jobs when suspended [Slow] [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_cron_job_makes_nothing() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let due = ago(5);
    create(&api, "quiet", &due, json!({"suspend": true})).await;
    // Another one, made later, shows that whoever looks has looked.
    create(&api, "tick", &due, json!({})).await;
    eventually("the other makes a job", async || active(&api, "tick").await == 1).await;
    assert_eq!((jobs(&api).await, active(&api, "quiet").await), (vec![due.job("tick")], 0));
    api.merge(&format!("{CRONS}/quiet"), &json!({"spec": {"suspend": false}})).await;
    eventually("it was due all the time", async || active(&api, "quiet").await == 1).await;
    assert!(jobs(&api).await.contains(&due.job("quiet")));
    cluster.stop().await.unwrap();
}
