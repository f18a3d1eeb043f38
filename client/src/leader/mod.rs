//! Leader election on a `Lease`: of several processes with one name, one works and the others stand by.
//!
//! ```text
//!  standing by --the lease is free, expired, or its holder is dead--> leading --renew fails for renew_deadline--> Lost
//!                                                                       |
//!                                                                       +--shutdown--> the work ends, the lease is released
//! ```
//! The work writes through a client that refuses to when the lease may have ended ([`Refused`]). That a holder is dead others
//! on its machine see at their next look ([`host::presence`]); of one that is elsewhere the lease has to end first.

mod fence;

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::PathBuf;
use std::time::Duration;

use daemon::LeaderElectionArgs;
use futures::FutureExt as _;
use host::{Presence, presence};
use jiff::SignedDuration;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use self::fence::{Fence, Moment};
use crate::{clock, write};
use facts::held_lease::HeldLease;

pub(crate) use self::fence::Gate;
pub use self::fence::Refused;

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
    /// Where competitors on one machine show each other that they live ([`presence::DIRECTORY`]). Where nothing can be shown,
    /// only the lease counts.
    pub presence: PathBuf,
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
            presence: presence::DIRECTORY.into(),
        }
    }

    /// With what flags say.
    #[must_use]
    pub fn with_flags(self, flags: &LeaderElectionArgs) -> Self {
        Self {
            namespace: flags.leader_elect_resource_namespace.clone().unwrap_or(self.namespace),
            name: flags.leader_elect_resource_name.clone().unwrap_or(self.name),
            lease_duration: flags.leader_elect_lease_duration.unwrap_or(self.lease_duration),
            renew_deadline: flags.leader_elect_renew_deadline.unwrap_or(self.renew_deadline),
            retry_period: flags.leader_elect_retry_period.unwrap_or(self.retry_period),
            ..self
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

    /// Stands as a candidate, and shows so to the others on this machine.
    pub fn stand(self, client: kube::Client) -> Candidate {
        let presence = Presence::show(&self.presence, &self.sign(&self.identity));
        let presence = presence.inspect_err(|err| {
            let (lease, error) = (&self.name, err as &dyn std::error::Error);
            debug!(lease, error, "if this process is killed, others have to wait for its lease to end");
        });
        let api = Api::namespaced(client.clone(), &self.namespace);
        let fence = Fence::default();
        Candidate { election: self, api, client, seen: None, presence: presence.ok(), fence }
    }

    /// The name under which a competitor shows that it lives. Identities are anybody's text.
    fn sign(&self, identity: &str) -> String {
        format!("{}{}", self.signs(), short_hash(identity))
    }

    /// How the names of all competitors begin.
    fn signs(&self) -> String {
        format!("{}-", short_hash(&format!("{}/{}", self.namespace, self.name)))
    }
}

fn short_hash(text: &str) -> String {
    Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// A process that competes for a lease.
pub struct Candidate {
    election: LeaderElection,
    api: Api<Lease>,
    client: kube::Client,
    /// What the lease said when it last changed, and when this process saw that: other clocks are not trusted.
    seen: Option<(LeaseSpec, Instant)>,
    /// `None` where it cannot be shown.
    presence: Option<Presence>,
    fence: Fence,
}

impl Candidate {
    /// A client for the work: it refuses to write while this process does not lead. It is a task's to drive: call it where
    /// tokio runs.
    pub fn client(&self) -> kube::Client {
        let LeaderElection { namespace, name, identity, .. } = self.election.clone();
        self.fence.around(self.client.clone(), &HeldLease { namespace, name, holder: identity })
    }

    /// Waits to become the leader, then runs `work` with a token that is cancelled on shutdown or when the lease is lost,
    /// and waits for it to end. `Ok(None)` when shutdown came before the lead. Work that panics gives the lease back, too.
    pub async fn run<T, Fut>(
        mut self,
        shutdown: CancellationToken,
        work: impl FnOnce(CancellationToken) -> Fut,
    ) -> Result<Option<T>, Lost>
    where
        Fut: Future<Output = T>,
    {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(None),
            () = self.acquire() => {}
        }
        let lease = self.election.clone();
        info!(lease = lease.name, identity = lease.identity, "leading");
        let stop = shutdown.child_token();
        let mut working = std::pin::pin!(AssertUnwindSafe(work(stop.clone())).catch_unwind());
        tokio::select! {
            biased;
            result = &mut working => {
                self.fence.close();
                self.release().await;
                return Ok(Some(result.unwrap_or_else(|panic| resume_unwind(panic))));
            }
            () = self.renew_until_lost() => {}
        }
        self.fence.close();
        stop.cancel();
        if let Err(panic) = working.await {
            resume_unwind(panic);
        }
        Err(Lost { namespace: lease.namespace, name: lease.name })
    }

    async fn acquire(&mut self) {
        loop {
            let asked = Moment::now();
            match self.try_hold().await {
                Ok(true) => {
                    self.fence.open(asked, self.election.renew_deadline);
                    return self.presence.iter().for_each(|presence| presence.bury(&self.election.signs()));
                }
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
            // Others count from when it was written, which is later.
            let (now, asked) = (Instant::now(), Moment::now());
            match tokio::time::timeout(left, self.try_hold()).await {
                Ok(Ok(true)) => {
                    self.fence.open(asked, self.election.renew_deadline);
                    renewed = now;
                }
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
        holder.is_empty() || holder == self.election.identity || expired || self.has_died(holder)
    }

    /// A holder that was on this machine and is no more.
    fn has_died(&self, holder: &str) -> bool {
        let has_died = self.presence.as_ref().is_some_and(|presence| presence.has_died(&self.election.sign(holder)));
        if has_died {
            info!(lease = self.election.name, holder, "the holder of the lease has died");
        }
        has_died
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
