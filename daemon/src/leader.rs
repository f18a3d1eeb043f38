//! The flags of leader election. What is not given is left to the component or its configuration file.

use std::time::Duration;

use crate::pflag::duration;

/// Flags for competing for a lease.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct LeaderElectionArgs {
    /// Run only while holding a lease; on unless told otherwise.
    #[arg(long)]
    pub leader_elect: Option<bool>,
    /// Others wait this long after the last renewal before they take over.
    #[arg(long, value_parser = duration)]
    pub leader_elect_lease_duration: Option<Duration>,
    /// The leader gives up when it could not renew for this long.
    #[arg(long, value_parser = duration)]
    pub leader_elect_renew_deadline: Option<Duration>,
    /// The time between attempts to acquire or renew.
    #[arg(long, value_parser = duration)]
    pub leader_elect_retry_period: Option<Duration>,
    /// What is competed for: always a Lease.
    #[arg(long, value_parser = ["leases"])]
    pub leader_elect_resource_lock: Option<String>,
    /// The name of the lease.
    #[arg(long)]
    pub leader_elect_resource_name: Option<String>,
    /// The namespace of the lease.
    #[arg(long)]
    pub leader_elect_resource_namespace: Option<String>,
}
