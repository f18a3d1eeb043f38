//! The server under load, and what the run made in it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::Error;
use crate::client::{Call, Client};
use crate::drive::{Limits, drive};
use crate::objects::RUN;

/// How often a state is looked at that cannot be watched.
const LOOK: Duration = Duration::from_millis(20);
/// A namespace that nobody has begun to empty by then has no controller.
const NO_CONTROLLER: Duration = Duration::from_secs(3);
/// Pods that are listed to be deleted.
const PAGE: usize = 1000;
/// What has not gone by then is left.
const GONE: Duration = Duration::from_secs(60);

/// A server, and what must be removed from it.
#[derive(Debug)]
pub struct Cluster {
    pub client: Client,
    /// What the names of everything made begin with, after `load-`.
    pub id: String,
    made: Mutex<Made>,
}

#[derive(Debug, Default)]
struct Made {
    namespaces: Vec<String>,
    nodes: bool,
    definitions: bool,
}

impl Cluster {
    /// The cluster behind `client`.
    pub fn new(client: Client) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let id = format!("{:x}", now.as_millis() as u64 & 0xfff_ffff);
        Self { client, id, made: Mutex::default() }
    }

    /// Makes a namespace that can hold pods, whether or not controllers run.
    pub async fn namespace(&self, part: &str) -> Result<String, Error> {
        let name = format!("load-{}-{part}", self.id);
        let body =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {RUN: self.id}}});
        self.made().namespaces.push(name.clone());
        let made = self.client.call(&Call::post("/api/v1/namespaces", bytes(&body))).await;
        if let Err(Error::Refused { .. }) = &made {
            // Then one of that name is somebody else's: it must not be removed at the end.
            self.made().namespaces.retain(|known| *known != name);
        }
        made?;
        // Admission refuses pods without it, and its controller may be late or not run.
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let made =
            self.client.call(&Call::post(format!("/api/v1/namespaces/{name}/serviceaccounts"), bytes(&account))).await;
        match made {
            Err(Error::Refused { status: StatusCode::CONFLICT, .. }) | Ok(_) => Ok(name),
            Err(err) => Err(err),
        }
    }

    /// Remembers that nodes were made.
    pub fn expect_nodes(&self) {
        self.made().nodes = true;
    }

    /// Remembers that CustomResourceDefinitions were made.
    pub fn expect_definitions(&self) {
        self.made().definitions = true;
    }

    /// The server's version.
    pub async fn version(&self) -> Result<String, Error> {
        let version = self.client.json(&Call::get("/version")).await?;
        Ok(version["gitVersion"].as_str().unwrap_or("unknown version").to_owned())
    }

    /// Deletes a namespace as a user would and waits until it is gone.
    pub async fn delete_namespace(&self, name: &str) -> Result<Duration, Error> {
        let start = Instant::now();
        self.begin_delete(name).await?;
        while self.get_namespace(name).await?.is_some() {
            if start.elapsed() > GONE {
                return Err(Error::TimedOut {
                    what: format!("the deletion of namespace {name}"),
                    seconds: GONE.as_secs(),
                });
            }
            tokio::time::sleep(LOOK).await;
        }
        self.made().namespaces.retain(|known| known != name);
        Ok(start.elapsed())
    }

    /// Removes everything that the run made, and says what it could not remove.
    pub async fn clean_up(&self) -> Vec<String> {
        let Made { namespaces, nodes, definitions } = std::mem::take(&mut *self.made());
        let mut left = Vec::new();
        for namespace in &namespaces {
            if let Err(err) = self.empty(namespace).await {
                left.push(format!("pods of namespace {namespace} may be left: {err}"));
            }
        }
        if nodes
            && let Err(err) =
                self.client.call(&Call::delete(format!("/api/v1/nodes?labelSelector={RUN}%3D{}", self.id))).await
        {
            left.push(format!("nodes labelled {RUN}={} may be left: {err}", self.id));
        }
        let all = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        if definitions
            && let Err(err) = self.client.call(&Call::delete(format!("{all}?labelSelector={RUN}%3D{}", self.id))).await
        {
            left.push(format!("definitions labelled {RUN}={} may be left: {err}", self.id));
        }
        for namespace in &namespaces {
            if let Err(err) = self.remove(namespace).await {
                left.push(format!("namespace {namespace} is left: {err}"));
            }
        }
        left
    }

    /// Deletes all pods without grace, a page at a time: one request for all of them could take too long.
    async fn empty(&self, namespace: &str) -> Result<(), Error> {
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        let start = Instant::now();
        while start.elapsed() < GONE {
            let page = self.client.json(&Call::get(format!("{pods}?limit={PAGE}"))).await?;
            let items = page["items"].as_array().into_iter().flatten();
            let names: Vec<String> =
                items.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect();
            if names.is_empty() {
                return Ok(());
            }
            let path = pods.clone();
            drive(&self.client, Limits::exactly(64, names.len()), move |at| {
                Call::delete(format!("{path}/{}", names[at]))
            })
            .await?;
        }
        Err(Error::TimedOut { what: format!("the deletion of pods in {namespace}"), seconds: GONE.as_secs() })
    }

    /// Deletes an emptied namespace. Where no controller takes its finalizer off, this does.
    async fn remove(&self, name: &str) -> Result<(), Error> {
        let start = Instant::now();
        self.begin_delete(name).await?;
        while let Some(mut namespace) = self.get_namespace(name).await? {
            let touched = namespace["status"]["conditions"].as_array().is_some_and(|conditions| !conditions.is_empty());
            if !touched && start.elapsed() > NO_CONTROLLER {
                namespace["spec"]["finalizers"] = json!([]);
                let put = Call {
                    method: Method::PUT,
                    ..Call::post(format!("/api/v1/namespaces/{name}/finalize"), bytes(&namespace))
                };
                return self.client.call(&Call { may_be_absent: true, ..put }).await.map(drop);
            }
            if start.elapsed() > GONE {
                return Err(Error::TimedOut { what: "its deletion".to_owned(), seconds: GONE.as_secs() });
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn begin_delete(&self, name: &str) -> Result<(), Error> {
        let call = Call { body: Bytes::new(), ..Call::delete(format!("/api/v1/namespaces/{name}")) };
        self.client.call(&call).await.map(drop)
    }

    async fn get_namespace(&self, name: &str) -> Result<Option<Value>, Error> {
        let call = Call { may_be_absent: true, ..Call::get(format!("/api/v1/namespaces/{name}")) };
        let answer = self.client.json(&call).await?;
        Ok((answer["kind"] == "Namespace").then_some(answer))
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An object as it is sent.
pub fn bytes(object: &Value) -> Bytes {
    object.to_string().into()
}
