//! Gives back what drivers have mounted: what a pod had when it ends, and what no pod has any more (upstream: TearDown and
//! UnmountDevice of pkg/volume/csi).
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Csi;
use super::node::NodeService;
use super::records::Record;
use crate::rpc::CallError;

/// First and longest pause after a failure, as upstream's.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(122));
/// Volumes that are given back at a time.
const AT_A_TIME: usize = 16;

/// Why a volume is not given back yet.
#[derive(Debug, thiserror::Error)]
#[error("unmounting volume {volume:?} failed")]
pub(crate) struct ReleaseError {
    volume: String,
    #[source]
    why: Why,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("driver name {0} not found in the list of registered CSI drivers")]
    NoDriver(String),
    #[error(transparent)]
    Driver(#[from] CallError),
    #[error(transparent)]
    Files(#[from] std::io::Error),
}

impl Csi {
    /// Unpublishes everything that a pod has, as far as that goes; the error is the first one.
    pub(crate) async fn release(&self, uid: &str) -> Result<(), ReleaseError> {
        let mut outcome = Ok(());
        for record in self.mounts.of_pod(uid) {
            let done = self.unpublish(uid, &record).await;
            outcome = outcome.and(done.map_err(|why| ReleaseError { volume: record.name, why }));
        }
        if outcome.is_ok() {
            self.mounts.want_nothing(uid);
        }
        outcome
    }

    async fn unpublish(&self, uid: &str, record: &Record) -> Result<(), Why> {
        let _turn = self.mounts.turn(&record.id).await?;
        if self.mounts.published(uid, &record.name).is_none() {
            return Ok(());
        }
        let target = self.mounts.target_path(uid, record);
        self.service(record)?.unpublish(&record.id.handle, &target).await?;
        Ok(self.mounts.unpublished(uid, record).await?)
    }

    async fn unstage(&self, record: &Record) -> Result<(), Why> {
        let _turn = self.mounts.turn(&record.id).await?;
        if !self.mounts.unused().contains(record) {
            return Ok(());
        }
        let (service, staging) = (self.service(record)?, self.mounts.staging_path(record));
        if service.capabilities().await?.stages {
            service.unstage(&record.id.handle, &staging).await?;
        }
        Ok(self.mounts.unstaged(record).await?)
    }

    fn service(&self, record: &Record) -> Result<NodeService, Why> {
        self.driver(&record.id.driver).ok_or_else(|| Why::NoDriver(record.id.driver.clone()))
    }

    /// Takes the volumes of pods that are not among these for left behind.
    pub(crate) fn abandon_all_but(&self, pods: &BTreeSet<String>) {
        let mut abandoned = self.mounts.pods();
        abandoned.retain(|uid| !pods.contains(uid));
        self.mounts.abandon(abandoned);
    }

    /// Gives back what no pod has, until `shutdown`.
    pub(crate) async fn keep_tidy(self: Arc<Self>, shutdown: CancellationToken) {
        let mut pause = RETRY.0;
        loop {
            let is_tidy = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                is_tidy = self.tidy() => is_tidy,
            };
            pause = if is_tidy { RETRY.0 } else { (pause * 2).min(RETRY.1) };
            let again = async {
                match is_tidy {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(pause).await,
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.mounts.left() => {}
                () = again => {}
            }
        }
    }

    /// One pass; says whether nothing is left.
    async fn tidy(&self) -> bool {
        let pods = futures::stream::iter(self.mounts.abandoned());
        let released = pods.map(async |uid| (self.release(&uid).await, uid)).buffer_unordered(AT_A_TIME);
        let released: Vec<_> = released.collect().await;
        let mut is_tidy = true;
        for (outcome, uid) in released {
            is_tidy &= report(outcome);
            if !self.mounts.holds(&uid) {
                self.mounts.no_longer_abandoned(&uid);
            }
        }
        let unused = futures::stream::iter(self.mounts.unused());
        let unstaged = unused
            .map(async |record| self.unstage(&record).await.map_err(|why| ReleaseError { volume: record.name, why }));
        let unstaged: Vec<_> = unstaged.buffer_unordered(AT_A_TIME).collect().await;
        unstaged.into_iter().fold(is_tidy, |is_tidy, outcome| report(outcome) && is_tidy)
    }
}

fn report(outcome: Result<(), ReleaseError>) -> bool {
    if let Err(err) = &outcome {
        warn!(error = err as &dyn std::error::Error, "cannot give back a volume that no pod has");
    }
    outcome.is_ok()
}
