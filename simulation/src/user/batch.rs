//! Jobs, CronJobs, gangs, and pods that declare what they may come to want.

use serde_json::{Value, json};

use super::User;
use crate::rules::gangs;

pub(super) const JOBS: [&str; 2] = ["j0", "j1"];
pub(super) const CRON_JOBS: [&str; 1] = ["c"];

impl User {
    pub(super) async fn jobs(&mut self) {
        let namespace = self.namespace();
        let (all, name) = (format!("/apis/batch/v1/namespaces/{namespace}/jobs"), *self.dice.pick(&JOBS));
        let one = format!("{all}/{name}");
        match self.dice.number(0..8) {
            0..4 => {
                let object = self.job(name);
                self.create(&all, object).await;
            }
            4 | 5 => {
                let suspend = self.dice.chance(0.5);
                self.merge(&one, json!({ "spec": { "suspend": suspend } })).await;
            }
            6 => {
                let parallelism = self.dice.number(0..4);
                self.merge(&one, json!({ "spec": { "parallelism": parallelism.max(1) } })).await;
            }
            _ => {
                let options = self.propagation();
                self.delete(&one, options).await;
            }
        }
    }

    fn job(&mut self, name: &str) -> Value {
        let template = self.runs_once(100, json!({}), json!({}));
        let mut spec = json!({
            "parallelism": self.dice.number(1..4), "completions": self.dice.number(1..5), "backoffLimit": 3,
            "completionMode": self.dice.pick(&["NonIndexed", "Indexed"]), "template": template,
            "podReplacementPolicy": self.dice.pick(&["TerminatingOrFailed", "Failed"]),
        });
        if self.dice.chance(0.4) {
            spec["ttlSecondsAfterFinished"] = json!(self.dice.number(0..30));
        }
        json!({ "metadata": { "name": name }, "spec": spec })
    }

    /// A template of pods that end by themselves.
    fn runs_once(&mut self, millis: u64, labels: Value, annotations: Value) -> Value {
        let spec = json!({ "restartPolicy": "Never", "containers": [self.container(millis)] });
        json!({ "metadata": { "labels": labels, "annotations": annotations }, "spec": spec })
    }

    pub(super) async fn cron_jobs(&mut self) {
        let namespace = self.namespace();
        let (all, name) = (format!("/apis/batch/v1/namespaces/{namespace}/cronjobs"), CRON_JOBS[0]);
        match self.dice.number(0..4) {
            0..3 => {
                let job = json!({ "spec": { "template": self.runs_once(100, json!({}), json!({})) } });
                let spec = json!({
                    "schedule": "* * * * *", "jobTemplate": job, "successfulJobsHistoryLimit": self.dice.number(0..3),
                    "concurrencyPolicy": self.dice.pick(&["Allow", "Forbid", "Replace"]),
                });
                self.create(&all, json!({ "metadata": { "name": name }, "spec": spec })).await;
            }
            _ => {
                let options = self.propagation();
                self.delete(&format!("{all}/{name}"), options).await;
            }
        }
    }

    /// A Job whose pods get their places together or not at all. One that fails ends it: another would wait for company.
    pub(super) async fn gangs(&mut self) {
        let (namespace, size) = (self.namespace(), self.dice.number(2..5));
        self.made += 1;
        let name = format!("g{}", self.made);
        let labels = json!({ gangs::GROUP: name, gangs::LEAST: size.to_string() });
        let millis = *self.dice.pick(&[200, 1_000]);
        let template = self.runs_once(millis, labels, json!({}));
        let spec = json!({
            "parallelism": size, "completions": size, "backoffLimit": 0, "ttlSecondsAfterFinished": 5, "template": template,
        });
        self.create(
            &format!("/apis/batch/v1/namespaces/{namespace}/jobs"),
            json!({ "metadata": { "name": name }, "spec": spec }),
        )
        .await;
    }

    /// A Job whose pods may come to want more than they request.
    pub(super) async fn claims(&mut self) {
        let namespace = self.namespace();
        self.made += 1;
        let most = self.dice.number(1..4);
        let annotations = json!({ "coracle.dev/claim": format!("{{\"cpu\":\"{most}\"}}") });
        let template = self.runs_once(500, json!({}), annotations);
        let parallelism = self.dice.number(1..5);
        let spec = json!({
            "parallelism": parallelism, "completions": parallelism, "backoffLimit": 20, "ttlSecondsAfterFinished": 5,
            "template": template,
        });
        let name = format!("b{}", self.made);
        self.create(
            &format!("/apis/batch/v1/namespaces/{namespace}/jobs"),
            json!({ "metadata": { "name": name }, "spec": spec }),
        )
        .await;
    }
}
