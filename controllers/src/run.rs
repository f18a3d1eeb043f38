//! Which controllers there are, and how they run together.

use client::{Informers, Recorder};
use daemon::{Process, Supervisor};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::{
    Config, Error, admission_policy_status, aggregation, certificates, cronjob, daemonset, deployment, disruption,
    endpoints, garbage, in_use_protection, job, namespace, node, notices, per_namespace, podgc, quota, replicaset,
    statefulset, ttl_after_finished, volumes,
};

/// Every controller, by upstream's name.
pub const NAMES: &[&str] = &[
    "replicaset-controller",
    "replicationcontroller-controller",
    "deployment-controller",
    "daemonset-controller",
    "statefulset-controller",
    "endpointslice-controller",
    "endpointslice-mirroring-controller",
    "endpoints-controller",
    "namespace-controller",
    "garbage-collector-controller",
    "serviceaccount-controller",
    "root-ca-certificate-publisher-controller",
    "node-lifecycle-controller",
    "taint-eviction-controller",
    "node-ipam-controller",
    "pod-garbage-collector-controller",
    "job-controller",
    "cronjob-controller",
    "ttl-after-finished-controller",
    "certificatesigningrequest-approving-controller",
    "certificatesigningrequest-signing-controller",
    "certificatesigningrequest-cleaner-controller",
    "persistentvolumeclaim-protection-controller",
    "persistentvolume-protection-controller",
    "volumeattributesclass-protection-controller",
    "clusterrole-aggregation-controller",
    "validatingadmissionpolicy-status-controller",
    "resourcequota-controller",
    "disruption-controller",
    "ttl-controller",
    "stored-only-notice-controller",
    "persistentvolume-binder-controller",
    "ephemeral-volume-controller",
];

/// Runs the enabled controllers until shutdown; with leader election, only while this process leads.
pub async fn run(config: Config, client: kube::Client, process: Process) -> Result<(), Error> {
    for name in config.check_controllers()? {
        tracing::warn!("--controllers names {name:?}, which is not there");
    }
    let shutdown = process.shutdown.clone();
    match config.leader_election.clone() {
        None => lead(config, client, process, shutdown).await,
        Some(election) => {
            // A process that stands by does its job: it is ready.
            process.ready.set();
            let work = |stop| lead(config, client.clone(), process, stop);
            election.run(client.clone(), shutdown, work).await?.unwrap_or(Ok(()))
        }
    }
}

async fn lead(config: Config, client: kube::Client, process: Process, stop: CancellationToken) -> Result<(), Error> {
    let informers = Informers::new(client.clone());
    let recorder = Recorder::new(client.clone(), "controller-manager");
    let context = Context { client, informers: informers.clone(), recorder: recorder.clone() };
    let mut tasks = Supervisor::new(stop);
    start_all(&config, &context, &mut tasks)?;
    let driven = informers.clone();
    tasks.add("informers", move |shutdown| async move { driven.run(shutdown).await });
    tasks.add("events", move |shutdown| async move {
        recorder.run(shutdown).await;
        Ok::<(), Error>(())
    });
    let ready = process.ready.clone();
    tasks.add("readiness", move |shutdown| async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = informers.synced() => {
                ready.set();
                shutdown.cancelled().await;
            }
        }
        Ok::<(), Error>(())
    });
    tasks.run().await.map_err(|err| Error::Stopped(err.into()))
}

fn start_all(config: &Config, context: &Context, tasks: &mut Supervisor) -> Result<(), Error> {
    let mut start = |name: &str, workers: usize, start: fn(&Context, usize, &mut Supervisor)| {
        if config.is_enabled(name) {
            start(context, workers, tasks);
        }
    };
    start("replicaset-controller", config.concurrent_replicaset_syncs, replicaset::start::<ReplicaSet>);
    start("replicationcontroller-controller", config.concurrent_rc_syncs, replicaset::start::<ReplicationController>);
    start("deployment-controller", config.concurrent_deployment_syncs, deployment::start);
    start("daemonset-controller", config.concurrent_daemonset_syncs, daemonset::start);
    start("statefulset-controller", config.concurrent_statefulset_syncs, statefulset::start);
    start("endpointslice-controller", config.concurrent_endpoint_syncs, endpoints::start_slices);
    start("endpoints-controller", config.concurrent_endpoint_syncs, endpoints::start_legacy);
    start("namespace-controller", config.concurrent_namespace_syncs, namespace::start);
    start("garbage-collector-controller", config.concurrent_gc_syncs, garbage::start);
    start("serviceaccount-controller", config.concurrent_syncs, per_namespace::start_accounts);
    start("job-controller", config.concurrent_job_syncs, job::start);
    start("cronjob-controller", config.concurrent_syncs, cronjob::start);
    start("taint-eviction-controller", config.concurrent_syncs, node::eviction::start);
    start("ttl-after-finished-controller", config.concurrent_syncs, ttl_after_finished::start);
    start("certificatesigningrequest-approving-controller", config.concurrent_syncs, certificates::start_approver);
    start("certificatesigningrequest-cleaner-controller", config.concurrent_syncs, certificates::start_cleaner);
    let workers = config.concurrent_syncs;
    start("persistentvolumeclaim-protection-controller", workers, in_use_protection::start_claims);
    start("persistentvolume-protection-controller", workers, in_use_protection::start_volumes);
    start("volumeattributesclass-protection-controller", workers, in_use_protection::start_classes);
    start("clusterrole-aggregation-controller", workers, aggregation::start);
    start("validatingadmissionpolicy-status-controller", workers, admission_policy_status::start);
    start("disruption-controller", workers, disruption::start);
    start("ttl-controller", workers, node::ttl::start);
    start("persistentvolume-binder-controller", workers, volumes::start_binder);
    start("ephemeral-volume-controller", workers, volumes::start_ephemeral);
    start_configured(config, context, tasks)
}

/// The controllers that need more than a number of workers.
fn start_configured(config: &Config, context: &Context, tasks: &mut Supervisor) -> Result<(), Error> {
    let workers = config.concurrent_syncs;
    if let Some(certificates) = &config.root_ca
        && config.is_enabled("root-ca-certificate-publisher-controller")
    {
        per_namespace::start_root_ca(context, certificates.clone(), workers, tasks);
    }
    if let Some(signing) = &config.signing
        && config.is_enabled("certificatesigningrequest-signing-controller")
    {
        certificates::start_signer(context, signing, config, tasks)?;
    }
    if config.is_enabled("stored-only-notice-controller") {
        notices::start(context, config.notice_patience, tasks);
    }
    if config.is_enabled("endpointslice-mirroring-controller") {
        endpoints::start_mirroring(context, config.mirroring, tasks);
    }
    if config.is_enabled("node-lifecycle-controller") {
        let grace = node::health::Grace {
            startup: config.node_startup_grace_period.max(config.node_monitor_grace_period),
            later: config.node_monitor_grace_period,
        };
        node::health::start(context, grace, workers, tasks);
    }
    if config.allocate_node_cidrs && config.is_enabled("node-ipam-controller") {
        node::ipam::start(context, config, tasks)?;
    }
    if config.is_enabled("resourcequota-controller") {
        quota::start(context, config.resource_quota_sync_period, config.concurrent_resource_quota_syncs, tasks);
    }
    if config.is_enabled("pod-garbage-collector-controller") {
        podgc::start(context, config.terminated_pod_gc_threshold, workers, tasks);
    }
    Ok(())
}
