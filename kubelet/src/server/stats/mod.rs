//! Figures of the node and its pods: `/stats/summary`, `/metrics/resource`, `/metrics/cadvisor`, `/metrics/probes` and the
//! kubelet's own metrics (upstream: pkg/kubelet/server/stats, pkg/kubelet/metrics and cadvisor).
//!
//! Everything is read when somebody asks: counters of the kernel, with the moment at which they were read.
mod cadvisor;
mod resource;
mod sample;
mod summary;
mod text;
mod volumes;

use axum::extract::State;

use super::Shared;
use crate::pod;

pub(super) use cadvisor::cadvisor_metrics;
pub(super) use resource::resource_metrics;
pub(super) use summary::summary;
use text::{Text, Type};

/// `GET /metrics`.
pub(super) async fn metrics(State(shared): State<Shared>) -> Text {
    let pods = shared.pods.list();
    let running = pods.iter().filter(|known| !known.report.ended).count();
    let containers: usize = pods.iter().map(|known| known.report.seen.running().count()).sum();
    let mut text = Text::default();
    text.family("kubelet_running_pods", Type::Gauge, "Number of pods that have a running pod sandbox");
    text.line(&[], running as f64, None);
    text.family("kubelet_running_containers", Type::Gauge, "Number of containers currently running");
    text.line(&[("container_state", "running")], containers as f64, None);
    text.append(&shared.context.exits.encode());
    text.append(&shared.context.watched.encode());
    text
}

/// `GET /metrics/probes`.
pub(super) async fn probe_metrics(State(shared): State<Shared>) -> Text {
    let mut text = Text::default();
    let help = "Cumulative number of a liveness, readiness or startup probe for a container by result.";
    text.family("prober_probe_total", Type::Counter, help);
    for known in shared.pods.list() {
        let (namespace, name, uid) = (pod::namespace(&known.pod), pod::name(&known.pod), pod::uid(&known.pod));
        for (of, number) in shared.context.probed.of(uid) {
            let labels = [
                ("container", of.container.as_str()),
                ("namespace", namespace),
                ("pod", name),
                ("pod_uid", uid),
                ("probe_type", of.probe),
                ("result", of.result),
            ];
            text.line(&labels, number as f64, None);
        }
    }
    text
}
