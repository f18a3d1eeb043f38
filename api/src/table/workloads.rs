//! Rows of workloads: apps, batch, autoscaling, policy.

use super::Printer;
use crate::kinds::apps::{controller_revision, daemon_set, deployment, replica_set, stateful_set};
use crate::kinds::autoscaling::horizontal_pod_autoscaler;
use crate::kinds::batch::{cron_job, job};
use crate::kinds::policy::pod_disruption_budget;

pub(crate) fn printer(plural: &str) -> Option<Printer> {
    Some(match plural {
        "controllerrevisions" => controller_revision::cells,
        "cronjobs" => cron_job::cells,
        "daemonsets" => daemon_set::cells,
        "deployments" => deployment::cells,
        "horizontalpodautoscalers" => horizontal_pod_autoscaler::cells,
        "jobs" => job::cells,
        "poddisruptionbudgets" => pod_disruption_budget::cells,
        "replicasets" => replica_set::cells,
        "statefulsets" => stateful_set::cells,
        _ => return None,
    })
}
