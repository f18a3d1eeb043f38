//! Follows the objects that configure flow control, and says in the status of each schema whether its level is there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::patch::PatchType;
use api::strategy::User;
use api::{ApiError, Object};
use futures::future::join_all;
use jiff::Timestamp;
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::FlowControl;
use super::config::{LevelSpec, Schema};
use super::fair::Fair;
use crate::authz::MASTERS;
use crate::registry::{Patch, Registry, Target};
use crate::request::options::WriteOptions;
use crate::watch_cache::{Interest, ResourceCache, Subscription};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";
const DANGLING: &str = "Dangling";
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";
/// The status of one schema is written so often in a minute at most: another server may think otherwise.
const WRITES: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);

/// Follows what is configured.
pub(crate) struct Follower {
    fair: Arc<Fair>,
    registry: Arc<Registry>,
    schemas: Arc<ResourceCache>,
    levels: Arc<ResourceCache>,
    /// When the status of each schema was written of late.
    written: HashMap<String, Vec<Instant>>,
}

impl Follower {
    /// `None` if nothing is configured by objects: without priority and fairness, or if their kinds are not served.
    pub(crate) fn new(control: &FlowControl, registry: &Arc<Registry>) -> Option<Self> {
        let fair = control.fair()?.clone();
        let named = |plural: &str| registry.named(GROUP, plural);
        let (Ok(schemas), Ok(levels)) = (named("flowschemas"), named("prioritylevelconfigurations")) else {
            tracing::warn!("the kinds of flow control are not served: only the mandatory levels are used");
            return None;
        };
        Some(Self { fair, registry: registry.clone(), schemas, levels, written: HashMap::new() })
    }

    /// Obeys what is configured, and divides the seats, until shutdown.
    pub(crate) async fn follow(mut self, shutdown: CancellationToken) {
        let fair = self.fair.clone();
        tokio::join!(self.run(&shutdown), fair.adjust_under_load(&shutdown));
    }

    async fn run(&mut self, shutdown: &CancellationToken) {
        loop {
            let (_, mut schemas) = self.schemas.watch_from_now(Interest::Everything);
            let (_, mut levels) = self.levels.watch_from_now(Interest::Everything);
            loop {
                let again = self.obey_and_tell().await;
                let later = async {
                    match again {
                        Some(after) => tokio::time::sleep(after).await,
                        None => std::future::pending().await,
                    }
                };
                let is_open = tokio::select! {
                    () = shutdown.cancelled() => return,
                    event = schemas.next() => event.is_some(),
                    event = levels.next() => event.is_some(),
                    () = later => true,
                };
                if !is_open || !skip(&mut schemas) || !skip(&mut levels) {
                    break;
                }
            }
        }
    }

    /// Obeys the objects as they are. Returns the schemas, and the names of the levels that are there.
    pub(crate) fn obey(&self) -> (Vec<Object>, Vec<String>) {
        let read = |cache: &ResourceCache| -> Vec<Object> {
            cache.snapshot().objects.values().map(|cached| cached.object()).collect()
        };
        let (schemas, levels) = (read(&self.schemas), read(&self.levels));
        let specs: Vec<LevelSpec> = levels.iter().filter_map(LevelSpec::read).collect();
        let there = specs.iter().map(|spec| spec.name.clone()).collect();
        self.fair.configure(schemas.iter().filter_map(Schema::read).collect(), specs);
        (schemas, there)
    }

    /// Obeys the objects as they are and writes statuses that are not true. Returns after what time one that could not be
    /// written is tried again.
    async fn obey_and_tell(&mut self) -> Option<Duration> {
        let (schemas, there) = self.obey();
        self.written.retain(|name, _| schemas.iter().any(|schema| schema.name() == name));
        let mut again = false;
        let mut writes = Vec::new();
        for schema in &schemas {
            let level = schema.text(&["spec", "priorityLevelConfiguration", "name"]);
            let Some(condition) = condition(schema, level, there.iter().any(|name| name == level)) else { continue };
            let may_write = self.may_write(schema.name());
            again |= !may_write;
            writes.extend(may_write.then(|| (schema.name(), condition)));
        }
        let writes = writes.iter().map(|(schema, condition)| self.write(schema, condition));
        let done = join_all(writes).await;
        again |= done.contains(&false);
        if !done.is_empty() {
            // What was written must be seen, or it is written again.
            again |= self.registry.freshen().await.is_err();
        }
        again.then(|| Duration::from_secs(rand::rng().random_range(30..75)))
    }

    fn may_write(&mut self, schema: &str) -> bool {
        let written = self.written.entry(schema.to_owned()).or_default();
        written.retain(|when| when.elapsed() < MINUTE);
        let may = written.len() < WRITES;
        written.extend(may.then(Instant::now));
        may
    }

    /// Writes a condition; `false` if that has to be tried again.
    async fn write(&self, schema: &str, condition: &Value) -> bool {
        match self.apply(schema, condition).await {
            Ok(()) => true,
            Err(err) if err.is_not_found() => true,
            Err(err) => {
                tracing::warn!(%schema, error = &err as &dyn std::error::Error, "the status cannot be written");
                false
            }
        }
    }

    async fn apply(&self, schema: &str, condition: &Value) -> Result<(), ApiError> {
        let user = User { name: "system:apiserver".into(), groups: vec![MASTERS.into()], ..User::default() };
        let target = Target { subresource: "status", ..Target::stored(&self.schemas, "", schema, &user) };
        let tree = json!({
            "apiVersion": VERSION, "kind": "FlowSchema", "metadata": {"name": schema},
            "status": {"conditions": [condition]},
        });
        let patch = Patch { kind: PatchType::Apply, body: tree.to_string().into() };
        let options = WriteOptions { field_manager: MANAGER.into(), force: true, ..WriteOptions::default() };
        self.registry.patch(&target, &patch, &options, &mut Vec::new()).await.map(|_| ())
    }
}

/// Goes on to what is now; `false` if the subscription has ended.
fn skip(subscription: &mut Subscription) -> bool {
    loop {
        match subscription.try_next() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_closed) => return false,
        }
    }
}

/// The condition that the status of a schema should have and has not.
fn condition(schema: &Object, level: &str, is_there: bool) -> Option<Value> {
    let about = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    let (status, reason, message) = if is_there {
        ("False", "Found", format!("{about} and it exists"))
    } else {
        ("True", "NotFound", format!("{about} but there is no such object"))
    };
    let now = schema.condition(DANGLING);
    let is_so = now.is_some_and(|now| now["status"] == status && now["reason"] == reason && now["message"] == *message);
    (!is_so).then(|| {
        let since = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        json!({
            "type": DANGLING, "status": status, "reason": reason, "message": message, "lastTransitionTime": since,
        })
    })
}
