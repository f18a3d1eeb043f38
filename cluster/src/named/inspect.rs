//! `coracle ls` and `coracle stop`.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use tokio::time::{Instant, sleep};

use super::name::ClusterName;
use super::record::{OWN, Record, Records};
use crate::control;

/// How long a cluster may take to hear that it is to end, and to be gone once its process has ended.
const END: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(200);

/// How a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    Stopped,
    /// Its directory is gone, or another's.
    Lost,
}

/// A cluster of this machine.
#[derive(Clone, Debug)]
pub struct Listed {
    pub name: ClusterName,
    /// What is known of it; the error says why that cannot be read.
    pub about: Result<About, String>,
}

/// What is known of a cluster.
#[derive(Clone, Debug)]
pub struct About {
    pub state: State,
    /// Of its API server, for this machine.
    pub server: String,
    /// Of its first node.
    pub node_address: String,
    pub data_directory: PathBuf,
    pub age: Duration,
}

/// All clusters of this machine that have a record.
pub fn list(records: &Path) -> anyhow::Result<Vec<Listed>> {
    let records = Records::at(records);
    let names = records.names()?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let comparing = records.compare()?;
    let listed = names.into_iter().filter_map(|name| {
        let record = records.read(&name).transpose()?;
        let about = record.and_then(|record| {
            let state = match records.is_held(&comparing, &name)? {
                true => State::Running,
                false if is_there(&record, &name) => State::Stopped,
                false => State::Lost,
            };
            Ok(about(record, state))
        });
        Some(Listed { name, about: about.map_err(|err| format!("{err:#}")) })
    });
    Ok(listed.collect())
}

/// Where a cluster keeps everything.
pub fn data_dir_of(records: &Path, name: &ClusterName) -> anyhow::Result<PathBuf> {
    Ok(known(&Records::at(records), name)?.data_directory)
}

/// Asks a cluster to end, and waits until it has.
pub async fn stop(records: &Path, name: &ClusterName) -> anyhow::Result<()> {
    let records = Records::at(records);
    let record = known(&records, name)?;
    ensure!(is_running(&records, name)?, "cluster {name} does not run");
    end(&records, name, &record.data_directory).await
}

/// Asks again and again: one that is just starting hears it as soon as it can.
pub(crate) async fn end(records: &Records, name: &ClusterName, data_directory: &Path) -> anyhow::Result<()> {
    let mut late = Instant::now() + END;
    let mut has_ended = false;
    while is_running(records, name)? {
        ensure!(Instant::now() < late, "cluster {name} has not ended within {} s", END.as_secs());
        let asked = control::end(data_directory).await.with_context(|| format!("end cluster {name}"))?;
        if asked && !has_ended {
            // Its pods may have taken long.
            (has_ended, late) = (true, Instant::now() + END);
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// The record of a cluster that there must be.
pub(crate) fn known(records: &Records, name: &ClusterName) -> anyhow::Result<Record> {
    records.read(name)?.with_context(|| format!("there is no cluster {name}: `coracle ls` shows those that there are"))
}

pub(crate) fn is_running(records: &Records, name: &ClusterName) -> anyhow::Result<bool> {
    records.is_held(&records.compare()?, name)
}

fn is_there(record: &Record, name: &ClusterName) -> bool {
    let own = super::record::read(&record.data_directory.join(OWN), name);
    own.is_ok_and(|own| own.is_some_and(|own| own.id == record.id))
}

fn about(record: Record, state: State) -> About {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    About {
        state,
        server: format!("https://127.0.0.1:{}", record.secure_port),
        node_address: record.node_addresses.first().map(ToString::to_string).unwrap_or_default(),
        data_directory: record.data_directory,
        age: now.saturating_sub(Duration::from_secs(record.created)),
    }
}
