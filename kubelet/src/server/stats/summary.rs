//! `/stats/summary`: everything that is known of the node and its pods, as JSON (upstream: Summary of
//! pkg/kubelet/apis/stats/v1alpha1).
use std::path::Path;

use axum::Json;
use axum::extract::{RawQuery, State};
use jiff::Timestamp;
use runtime::{Flow, Stats, Traffic};
use serde_json::{Value, json};

use super::super::Shared;
use super::super::handlers::{is_set, query};
use super::sample::{self, ContainerUse, PodUse};
use super::volumes;
use crate::node::machine;
use crate::pod;

/// `GET /stats/summary`; with `only_cpu_and_memory` nothing else.
pub(in crate::server) async fn summary(State(shared): State<Shared>, RawQuery(raw): RawQuery) -> Json<Value> {
    let is_short = is_set(&query(raw), "only_cpu_and_memory");
    let mut pods = Vec::new();
    for one in sample::take(&shared).await.pods {
        let mut stats = pod_stats(&shared, &one, is_short).await;
        if !is_short {
            volumes::add(&mut stats, &shared.context.csi, &one.pod).await;
        }
        pods.push(stats);
    }
    Json(json!({"node": node_stats(&shared, is_short), "pods": pods}))
}

fn node_stats(shared: &Shared, is_short: bool) -> Value {
    let now = client::clock::now();
    let (memory, total) = (machine::memory_in_use(), shared.context.memory);
    let working_set = memory.working_set.min(total);
    let mut node = json!({
        "nodeName": shared.context.node_name,
        "startTime": machine::boot_time().and_then(|at| Timestamp::from_second(at).ok()).unwrap_or(now).to_string(),
        "memory": {
            "time": now.to_string(), "availableBytes": total - working_set, "usageBytes": memory.usage,
            "workingSetBytes": working_set, "rssBytes": memory.rss,
        },
    });
    if let Some(nanos) = machine::cpu_time() {
        node["cpu"] = json!({"time": now.to_string(), "usageCoreNanoSeconds": nanos});
    }
    if let Some((used, size)) = memory.swap {
        let time = now.to_string();
        node["swap"] = json!({"time": time, "swapUsageBytes": used, "swapAvailableBytes": size.saturating_sub(used)});
    }
    if is_short {
        return node;
    }
    if let Some((name, traffic)) = machine::traffic() {
        node["network"] = network(&name, &traffic, now);
    }
    if let Some((running, most)) = machine::pids() {
        node["rlimit"] = json!({"time": now.to_string(), "maxpid": most, "curproc": running});
    }
    let disk = file_system(&shared.context.root_dir, now);
    node["runtime"] = json!({"imageFs": disk, "containerFs": disk});
    node["fs"] = disk;
    node
}

/// Room in the file system of a path, and what is used of it.
fn file_system(path: &Path, now: Timestamp) -> Value {
    let (size, free) = machine::disk(path).unwrap_or_default();
    let (inodes, left) = machine::inodes(path).unwrap_or_default();
    json!({
        "time": now.to_string(), "availableBytes": free, "capacityBytes": size, "usedBytes": size.saturating_sub(free),
        "inodes": inodes, "inodesFree": left, "inodesUsed": inodes.saturating_sub(left),
    })
}

async fn pod_stats(shared: &Shared, one: &PodUse, is_short: bool) -> Value {
    let (mut containers, mut on_disk) = (Vec::new(), 0);
    for container in &one.containers {
        let mut stats = container_stats(container);
        if !is_short {
            let layer = shared.context.runtime.layer_usage(&container.status.id).await.unwrap_or(0);
            on_disk += layer;
            stats["rootfs"] = used_of(&shared.context.root_dir, layer, container.at);
        }
        containers.push(stats);
    }
    let mut stats = json!({
        "podRef": {"name": one.name(), "namespace": one.namespace(), "uid": pod::uid(&one.pod)},
        "startTime": one.started().to_string(),
        "containers": containers,
    });
    let Some(all) = &one.stats else { return stats };
    usage(&mut stats, all, one.at);
    if is_short {
        return stats;
    }
    if let Some(traffic) = &all.network {
        stats["network"] = network("eth0", traffic, one.at);
    }
    if let Some(processes) = all.processes {
        stats["process_stats"] = json!({"process_count": processes});
    }
    stats["ephemeral-storage"] = used_of(&shared.context.root_dir, on_disk, one.at);
    stats
}

fn container_stats(container: &ContainerUse) -> Value {
    let mut stats = json!({"name": container.status.name, "startTime": container.started.to_string()});
    usage(&mut stats, &container.stats, container.at);
    stats
}

/// CPU, memory and swap.
fn usage(out: &mut Value, stats: &Stats, at: Timestamp) {
    let time = at.to_string();
    out["cpu"] = json!({"time": time, "usageCoreNanoSeconds": stats.cpu_nanos});
    out["memory"] = json!({
        "time": time, "usageBytes": stats.memory_usage, "workingSetBytes": stats.memory_working_set,
        "rssBytes": stats.memory_rss, "pageFaults": stats.page_faults, "majorPageFaults": stats.major_page_faults,
    });
    if let Some(swap) = stats.swap {
        out["swap"] = json!({"time": time, "swapUsageBytes": swap});
    }
}

/// What something uses of the file system of a path.
fn used_of(path: &Path, bytes: u64, at: Timestamp) -> Value {
    let (size, free) = machine::disk(path).unwrap_or_default();
    json!({"time": at.to_string(), "availableBytes": free, "capacityBytes": size, "usedBytes": bytes})
}

fn network(name: &str, traffic: &Traffic, at: Timestamp) -> Value {
    let Traffic {
        received: Flow { bytes: rx, errors: rx_errors, .. },
        sent: Flow { bytes: tx, errors: tx_errors, .. },
    } = traffic;
    let one = json!({"name": name, "rxBytes": rx, "rxErrors": rx_errors, "txBytes": tx, "txErrors": tx_errors});
    let mut all = one.clone();
    all["time"] = at.to_string().into();
    all["interfaces"] = json!([one]);
    all
}
