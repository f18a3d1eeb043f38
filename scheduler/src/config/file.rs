//! The configuration file: a `KubeSchedulerConfiguration` of kubescheduler.config.k8s.io/v1.

use std::path::{Path, PathBuf};
use std::time::Duration;

use client::LeaderElection;
use daemon::{ConfigFile, ConfigFileError};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::profile::ProfileConfig;

const VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";
/// The fields that mean nothing to this scheduler, or that ask for what it does not have.
const OTHERS: &str = "delayCacheUntilActive
enableContentionProfiling
enableProfiling
extenders ! no extender is asked
healthzBindAddress
metricsBindAddress
parallelism";

/// The fields that this scheduler obeys; any other that it does not know is refused.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct File {
    pub(crate) profiles: Vec<ProfileConfig>,
    pub(crate) percentage_of_nodes_to_score: Option<u32>,
    pub(crate) pod_initial_backoff_seconds: Option<u64>,
    pub(crate) pod_max_backoff_seconds: Option<u64>,
    pub(crate) leader_election: Leading,
    pub(crate) client_connection: Connection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Leading {
    leader_elect: Option<bool>,
    #[serde(deserialize_with = "time")]
    lease_duration: Option<Duration>,
    #[serde(deserialize_with = "time")]
    renew_deadline: Option<Duration>,
    #[serde(deserialize_with = "time")]
    retry_period: Option<Duration>,
    resource_lock: String,
    resource_name: String,
    resource_namespace: String,
}

/// There is no limit on requests, and one encoding.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Connection {
    kubeconfig: String,
    #[serde(rename = "acceptContentTypes")]
    _accept_content_types: Value,
    #[serde(rename = "contentType")]
    _content_type: Value,
    #[serde(rename = "qps")]
    _qps: Value,
    #[serde(rename = "burst")]
    _burst: Value,
}

impl File {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigFileError> {
        let mut file = ConfigFile::read(path, VERSION, KIND)?;
        file.ignore(OTHERS)?;
        let about = file.clone();
        let file: Self = file.decode()?;
        if !matches!(file.leader_election.resource_lock.as_str(), "" | "leases") {
            return Err(about.refused("leaderElection.resourceLock", "must be leases"));
        }
        let (first, last) = file.backoff();
        if first.is_zero() || last < first {
            let why = "must be above zero and at most podMaxBackoffSeconds";
            return Err(about.refused("podInitialBackoffSeconds", why));
        }
        Ok(file)
    }

    /// How to reach the API server.
    pub(crate) fn kubeconfig(&self) -> Option<PathBuf> {
        let path = &self.client_connection.kubeconfig;
        (!path.is_empty()).then(|| path.into())
    }

    /// How long a pod waits after its first failed attempt, and at most.
    pub(crate) fn backoff(&self) -> (Duration, Duration) {
        let seconds = |given: Option<u64>, default| Duration::from_secs(given.unwrap_or(default));
        (seconds(self.pod_initial_backoff_seconds, 1), seconds(self.pod_max_backoff_seconds, 10))
    }

    /// What the file makes of the default election; `None` when it wants none.
    pub(crate) fn election(&self, default: LeaderElection) -> Option<LeaderElection> {
        let own = &self.leader_election;
        let named = |name: &str, default: String| if name.is_empty() { default } else { name.to_owned() };
        own.leader_elect.unwrap_or(true).then(|| LeaderElection {
            namespace: named(&own.resource_namespace, default.namespace),
            name: named(&own.resource_name, default.name),
            lease_duration: own.lease_duration.unwrap_or(default.lease_duration),
            renew_deadline: own.renew_deadline.unwrap_or(default.renew_deadline),
            retry_period: own.retry_period.unwrap_or(default.retry_period),
            ..default
        })
    }
}

/// A length of time; none at all is the default.
fn time<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(input)?.filter(|text| !text.is_empty());
    let time = text.map(|text| daemon::pflag::duration(&text)).transpose().map_err(serde::de::Error::custom)?;
    Ok(time.filter(|time| !time.is_zero()))
}
