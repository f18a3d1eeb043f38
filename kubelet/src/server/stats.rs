//! Usage of the node and its pods: `/stats/summary`, `/metrics/resource` and the kubelet's own metrics (upstream:
//! pkg/kubelet/server/stats and pkg/kubelet/metrics).
use std::fmt::Write as _;

use axum::Json;
use axum::extract::State;
use runtime::Stats;
use serde_json::{Value, json};

use super::Shared;
use crate::node::machine;
use crate::pod;
use crate::pods::observed;

struct Usage {
    namespace: String,
    pod: String,
    uid: String,
    container: String,
    started_at: jiff::Timestamp,
    stats: Stats,
}

async fn usage(shared: &Shared) -> Vec<Usage> {
    let mut all = Vec::new();
    for known in shared.pods.list() {
        for container in known.report.seen.running() {
            let runtime::ContainerState::Running { started_at, .. } = container.state else { continue };
            // A container that ended a moment ago has no usage.
            let Ok(stats) = shared.context.runtime.container_stats(&container.id).await else { continue };
            all.push(Usage {
                namespace: pod::namespace(&known.pod).to_owned(),
                pod: pod::name(&known.pod).to_owned(),
                uid: pod::uid(&known.pod).to_owned(),
                container: container.name.clone(),
                started_at: observed::timestamp(started_at),
                stats,
            });
        }
    }
    all
}

/// `GET /stats/summary`.
pub(super) async fn summary(State(shared): State<Shared>) -> Json<Value> {
    let now = client::clock::now().to_string();
    let mut pods: Vec<Value> = Vec::new();
    for usage in usage(&shared).await {
        let container = json!({
            "name": usage.container,
            "startTime": usage.started_at.to_string(),
            "cpu": { "time": now, "usageCoreNanoSeconds": usage.stats.cpu_nanos },
            "memory": {
                "time": now,
                "usageBytes": usage.stats.memory_usage,
                "workingSetBytes": usage.stats.memory_working_set,
                "rssBytes": usage.stats.memory_rss,
            },
            "rootfs": { "time": now, "usedBytes": usage.stats.rootfs_bytes },
        });
        match pods.iter_mut().find(|pod| pod["podRef"]["uid"] == usage.uid.as_str()) {
            Some(pod) => {
                if let Some(containers) = pod["containers"].as_array_mut() {
                    containers.push(container);
                }
            }
            None => pods.push(json!({
                "podRef": { "name": usage.pod, "namespace": usage.namespace, "uid": usage.uid },
                "startTime": usage.started_at.to_string(),
                "containers": [container],
                "network": {
                    "time": now,
                    "rxBytes": usage.stats.network_rx_bytes,
                    "txBytes": usage.stats.network_tx_bytes,
                },
            })),
        }
    }
    let total = shared.context.memory;
    let available = machine::available_memory().min(total);
    let (size, free) = machine::disk(&shared.context.root_dir).unwrap_or_default();
    Json(json!({
        "node": {
            "nodeName": shared.context.node_name,
            "memory": { "time": now, "availableBytes": available, "workingSetBytes": total - available },
            "fs": { "time": now, "availableBytes": free, "capacityBytes": size, "usedBytes": size.saturating_sub(free) },
        },
        "pods": pods,
    }))
}

/// `GET /metrics/resource`.
pub(super) async fn resource_metrics(State(shared): State<Shared>) -> String {
    let usage = usage(&shared).await;
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, value: fn(&Usage) -> f64| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for one in &usage {
            let labels = format!("container={:?},namespace={:?},pod={:?}", one.container, one.namespace, one.pod);
            let _ = writeln!(text, "{name}{{{labels}}} {}", value(one));
        }
    };
    family(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
        |one| one.stats.cpu_nanos as f64 / 1e9,
    );
    family("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes", |one| {
        one.stats.memory_working_set as f64
    });
    family("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds", |one| {
        one.started_at.as_second() as f64
    });
    text
}

/// `GET /metrics`.
pub(super) async fn metrics(State(shared): State<Shared>) -> String {
    let pods = shared.pods.list();
    let running = pods.iter().filter(|known| !known.report.ended).count();
    let containers: usize = pods.iter().map(|known| known.report.seen.running().count()).sum();
    format!(
        "# HELP kubelet_running_pods Number of pods that have a running pod sandbox\n\
         # TYPE kubelet_running_pods gauge\nkubelet_running_pods {running}\n\
         # HELP kubelet_running_containers Number of containers currently running\n\
         # TYPE kubelet_running_containers gauge\n\
         kubelet_running_containers{{container_state=\"running\"}} {containers}\n{}",
        shared.context.watched.encode()
    )
}
