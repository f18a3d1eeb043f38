//! Leader election on a `Lease`: of several processes with one name, one works and the others stand by.
//!
//! ```text
//!  standing by --the lease is free or expired--> leading --renew fails for renew_deadline--> Lost
//!                                                   |
//!                                                   +--shutdown--> the work ends, the lease is released
//! ```

use std::time::Duration;

use daemon::LeaderElectionArgs;
use jiff::SignedDuration;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{clock, write};

/// Who competes for what, with upstream's defaults for the times.
#[derive(Clone, Debug)]
pub struct LeaderElection {
    /// Where the lease lives, usually `kube-system`.
    pub namespace: String,
    /// The name of the lease, usually the component's.
    pub name: String,
    /// This process: unique among the competitors.
    pub identity: String,
    /// Others wait this long after the last renewal before they take over (15 s).
    pub lease_duration: Duration,
    /// The leader gives up when it could not renew for this long (10 s).
    pub renew_deadline: Duration,
    /// The time between attempts to acquire or renew (2 s).
    pub retry_period: Duration,
}

/// Attempts may be so many times further apart than configured.
const JITTER: f64 = 1.2;

/// Times with which there could be two leaders, or none for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("leader election: the lease duration must be longer than the renew deadline, and that than 1.2 retry periods")]
pub struct InvalidTimes;

/// The process must not go on working: somebody else may lead.
#[derive(Debug, thiserror::Error)]
#[error("lost the lease {namespace}/{name}")]
pub struct Lost {
    namespace: String,
    name: String,
}

impl LeaderElection {
    /// Competes for `kube-system/<component>`; `host` makes the identity unique together with a random suffix.
    pub fn new(component: &str, host: &str) -> Self {
        Self {
            namespace: "kube-system".to_owned(),
            name: component.to_owned(),
            identity: format!("{host}_{:016x}", rand::random::<u64>()),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    /// With what flags say.
    #[must_use]
    pub fn with_flags(self, flags: &LeaderElectionArgs) -> Self {
        Self {
            namespace: flags.leader_elect_resource_namespace.clone().unwrap_or(self.namespace),
            name: flags.leader_elect_resource_name.clone().unwrap_or(self.name),
            identity: self.identity,
            lease_duration: flags.leader_elect_lease_duration.unwrap_or(self.lease_duration),
            renew_deadline: flags.leader_elect_renew_deadline.unwrap_or(self.renew_deadline),
            retry_period: flags.leader_elect_retry_period.unwrap_or(self.retry_period),
        }
    }

    /// Checks that a leader gives up before others take over, and tries more than once before.
    pub fn check(&self) -> Result<(), InvalidTimes> {
        let retries = self.retry_period.mul_f64(JITTER);
        if self.lease_duration > self.renew_deadline && self.renew_deadline > retries && !self.retry_period.is_zero() {
            return Ok(());
        }
        Err(InvalidTimes)
    }

    /// Waits to become the leader, then runs `work` with a token that is cancelled on shutdown or when the lease is lost,
    /// and waits for it to end. `Ok(None)` when shutdown came before the lead.
    pub async fn run<T, Fut>(
        self,
        client: kube::Client,
        shutdown: CancellationToken,
        work: impl FnOnce(CancellationToken) -> Fut,
    ) -> Result<Option<T>, Lost>
    where
        Fut: Future<Output = T>,
    {
        let mut candidate = Candidate::new(self, client);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(None),
            () = candidate.acquire() => {}
        }
        let lease = candidate.election.clone();
        info!(lease = lease.name, identity = lease.identity, "leading");
        let stop = shutdown.child_token();
        let mut working = std::pin::pin!(work(stop.clone()));
        tokio::select! {
            biased;
            result = &mut working => {
                candidate.release().await;
                return Ok(Some(result));
            }
            () = candidate.renew_until_lost() => {}
        }
        stop.cancel();
        working.await;
        Err(Lost { namespace: lease.namespace, name: lease.name })
    }
}

struct Candidate {
    election: LeaderElection,
    api: Api<Lease>,
    /// What the lease said when it last changed, and when this process saw that: other clocks are not trusted.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Candidate {
    fn new(election: LeaderElection, client: kube::Client) -> Self {
        let api = Api::namespaced(client, &election.namespace);
        Self { election, api, seen: None }
    }

    async fn acquire(&mut self) {
        loop {
            match self.try_hold().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(err) => {
                    debug!(lease = self.election.name, error = &err as &dyn std::error::Error, "cannot acquire yet")
                }
            }
            sleep(self.election.retry_period.mul_f64(1.0 + rand::random::<f64>() * 0.2)).await;
        }
    }

    async fn renew_until_lost(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < self.election.renew_deadline {
            sleep(self.election.retry_period).await;
            let left = self.election.renew_deadline.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.try_hold()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(err)) => {
                    debug!(lease = self.election.name, error = &err as &dyn std::error::Error, "cannot renew")
                }
                Err(_) => return,
            }
        }
    }

    /// Takes or renews the lease by one conditional write; `false` when another holds it.
    async fn try_hold(&mut self) -> kube::Result<bool> {
        let Some(mut lease) = self.api.get_opt(&self.election.name).await? else {
            return match self.api.create(&PostParams::default(), &self.first_lease()).await {
                Ok(_) => Ok(true),
                Err(err) if write::is_already_exists(&err) => Ok(false),
                Err(err) => Err(err),
            };
        };
        let spec = lease.spec.take().unwrap_or_default();
        self.observe(&spec);
        if !self.may_take(&spec) {
            return Ok(false);
        }
        lease.spec = Some(self.next_spec(&spec));
        match self.api.replace(&self.election.name, &PostParams::default(), &lease).await {
            Ok(_) => Ok(true),
            Err(err) if write::is_conflict(&err) => Ok(false),
            Err(err) => Err(err),
        }
    }

    fn observe(&mut self, spec: &LeaseSpec) {
        if self.seen.as_ref().is_none_or(|(known, _)| known != spec) {
            self.seen = Some((spec.clone(), Instant::now()));
        }
    }

    fn may_take(&self, spec: &LeaseSpec) -> bool {
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let expired = self.seen.as_ref().is_none_or(|(_, at)| at.elapsed() >= self.election.lease_duration);
        holder.is_empty() || holder == self.election.identity || expired
    }

    fn first_lease(&self) -> Lease {
        let metadata = ObjectMeta { name: Some(self.election.name.clone()), ..ObjectMeta::default() };
        Lease {
            metadata,
            spec: Some(self.next_spec(&LeaseSpec { lease_transitions: Some(-1), ..LeaseSpec::default() })),
        }
    }

    fn next_spec(&self, old: &LeaseSpec) -> LeaseSpec {
        let is_mine = old.holder_identity.as_deref() == Some(&self.election.identity);
        let transitions = old.lease_transitions.unwrap_or(0);
        let seconds = SignedDuration::try_from(self.election.lease_duration).map_or(15, |length| length.as_secs());
        LeaseSpec {
            holder_identity: Some(self.election.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            acquire_time: if is_mine { old.acquire_time.clone() } else { Some(clock::micro_time()) },
            renew_time: Some(clock::micro_time()),
            lease_transitions: Some(if is_mine { transitions } else { transitions.saturating_add(1) }),
            ..old.clone()
        }
    }

    /// Best effort: if it fails, the next leader waits for the lease to expire.
    async fn release(&self) {
        let Ok(Some(mut lease)) = self.api.get_opt(&self.election.name).await else { return };
        let Some(spec) = lease.spec.as_mut() else { return };
        if spec.holder_identity.as_deref() != Some(&self.election.identity) {
            return;
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(clock::micro_time());
        if let Err(err) = self.api.replace(&self.election.name, &PostParams::default(), &lease).await {
            debug!(lease = self.election.name, error = &err as &dyn std::error::Error, "lease not released");
        }
    }
}

#[cfg(test)]
mod tests;
