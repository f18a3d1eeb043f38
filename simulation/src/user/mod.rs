//! A model user: does what users do, at seeded times, and cleans up at the end what would keep the cluster from coming to
//! rest.

mod batch;
mod cluster;
mod services;
mod workloads;

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::dice::Dice;
use crate::history::History;
use crate::network::Network;
use crate::plan::{Plan, Work};

/// Namespaces that the user works in.
const NAMESPACES: [&str; 3] = ["default", "alpha", "beta"];
/// The user gives up after so long.
const PATIENCE: Duration = Duration::from_secs(20);
const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json";

/// The user.
pub(crate) struct User {
    client: kube::Client,
    dice: Dice,
    history: History,
    work: Vec<Work>,
    nodes: usize,
    /// Counts what has a name of its own.
    made: u64,
}

impl User {
    pub(crate) fn new(plan: &Plan, network: &Network, history: &History) -> Self {
        Self {
            client: network.client("user"),
            dice: Dice::new(plan.seed, "user"),
            history: history.clone(),
            work: plan.work.clone(),
            nodes: plan.nodes,
            made: 0,
        }
    }

    /// Works until then.
    pub(crate) async fn work(&mut self, end: Instant) {
        for name in ["alpha", "beta"] {
            self.create("/api/v1/namespaces", json!({ "metadata": { "name": name } })).await;
        }
        while Instant::now() < end {
            let work = *self.dice.pick(&self.work);
            match work {
                Work::Deployments => self.deployments().await,
                Work::StatefulSets => self.stateful_sets().await,
                Work::DaemonSets => self.daemon_sets().await,
                Work::Jobs => self.jobs().await,
                Work::CronJobs => self.cron_jobs().await,
                Work::Services => self.services().await,
                Work::Budgets => self.budgets().await,
                Work::Namespaces => self.namespaces().await,
                Work::Nodes => self.nodes().await,
                Work::Gangs => self.gangs().await,
                Work::Claims => self.claims().await,
                Work::Quotas => self.quotas().await,
            }
            let pause = if self.dice.chance(0.5) { 20..1_000 } else { 1_000..10_000 };
            sleep(self.dice.millis(pause)).await;
        }
    }

    /// Undoes what would keep the cluster busy, or pods from running: whatever else was asked for can be had.
    pub(crate) async fn tidy(&mut self) {
        for number in 0..self.nodes {
            self.merge(&cluster::node(number), json!({ "spec": { "unschedulable": null } })).await;
        }
        for namespace in NAMESPACES {
            for number in 0..workloads::DEPLOYMENTS {
                let path = format!("{}/d{number}", workloads::deployments(namespace));
                self.merge(&path, json!({ "spec": { "paused": false } })).await;
            }
            for name in batch::CRON_JOBS {
                let path = format!("/apis/batch/v1/namespaces/{namespace}/cronjobs/{name}");
                self.merge(&path, json!({ "spec": { "suspend": true } })).await;
            }
            for name in batch::JOBS {
                let path = format!("/apis/batch/v1/namespaces/{namespace}/jobs/{name}");
                self.merge(&path, json!({ "spec": { "suspend": false } })).await;
            }
            self.delete(&format!("/api/v1/namespaces/{namespace}/resourcequotas/q"), json!({})).await;
        }
    }

    fn namespace(&mut self) -> &'static str {
        NAMESPACES[self.dice.index(NAMESPACES.len())]
    }

    async fn create(&mut self, path: &str, object: Value) -> Option<Value> {
        self.ask("POST", path, JSON, Some(object)).await
    }

    async fn merge(&mut self, path: &str, patch: Value) -> Option<Value> {
        self.ask("PATCH", path, MERGE, Some(patch)).await
    }

    async fn get(&mut self, path: &str) -> Option<Value> {
        self.ask("GET", path, JSON, None).await
    }

    async fn delete(&mut self, path: &str, options: Value) -> Option<Value> {
        self.ask("DELETE", path, JSON, Some(options)).await
    }

    /// Asks the API server, again if it does not answer; what it refuses is refused.
    async fn ask(&mut self, method: &str, path: &str, kind: &str, body: Option<Value>) -> Option<Value> {
        for _ in 0..5 {
            let bytes = body.as_ref().map(|body| body.to_string().into_bytes()).unwrap_or_default();
            let request = Request::builder().method(method).uri(path).header("content-type", kind);
            let request = request.body(bytes).expect("paths are valid");
            let answer = timeout(PATIENCE, self.client.request::<Value>(request)).await;
            let what = match &answer {
                Ok(Ok(_)) => "done".to_owned(),
                Ok(Err(err)) => err.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            if method != "GET" {
                let body = body.as_ref().map(|body| body.to_string()).unwrap_or_default();
                self.history.note(|| format!("user: {method} {path} {body}: {what}"));
            }
            match answer {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) && status.code != 429 => {
                    return None;
                }
                _ => sleep(Duration::from_secs(1)).await,
            }
        }
        None
    }

    /// How the dependents of what is deleted go.
    fn propagation(&mut self) -> Value {
        json!({ "propagationPolicy": self.dice.pick(&["Background", "Foreground", "Orphan"]) })
    }

    /// A container that asks for so many thousandths of a processor.
    fn container(&mut self, millis: u64) -> Value {
        let image = format!("image:{}", self.dice.number(1..4));
        let requests = json!({ "cpu": format!("{millis}m"), "memory": "32Mi" });
        json!({ "name": "c", "image": image, "resources": { "requests": requests } })
    }
}
