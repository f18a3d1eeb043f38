//! `/metrics/resource`: CPU and memory of the node, its pods and containers, for those who scale and show them
//! (upstream: pkg/kubelet/metrics/collectors/resource_metrics.go).
use axum::extract::State;
use jiff::Timestamp;
use runtime::Stats;

use super::super::Shared;
use super::sample::{self, ContainerUse, PodUse, Sample};
use super::text::{Text, Type};
use crate::node::machine;

/// `GET /metrics/resource`.
pub(in crate::server) async fn resource_metrics(State(shared): State<Shared>) -> Text {
    let sample = sample::take(&shared).await;
    let mut text = Text::default();
    containers(&mut text, &sample);
    node(&mut text, client::clock::now());
    pods(&mut text, &sample);
    for name in ["resource_scrape_error", "scrape_error"] {
        text.family(name, Type::Gauge, "1 if there was an error while getting container metrics, 0 otherwise");
        text.line(&[], f64::from(u8::from(sample.failed)), None);
    }
    text
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// A figure of a container, and when it was measured.
type Figure = fn(&ContainerUse) -> Option<(f64, Option<Timestamp>)>;

fn containers(text: &mut Text, sample: &Sample) {
    let mut each = |name: &str, kind: Type, help: &str, value: Figure| {
        let known = |pod: &PodUse| pod.containers.iter().any(|container| value(container).is_some());
        if !sample.pods.iter().any(known) {
            return;
        }
        text.family(name, kind, help);
        for pod in &sample.pods {
            for container in &pod.containers {
                let Some((value, at)) = value(container) else { continue };
                let labels = [
                    ("container", container.status.name.as_str()),
                    ("namespace", pod.namespace()),
                    ("pod", pod.name()),
                ];
                text.line(&labels, value, at);
            }
        }
    };
    each(
        "container_cpu_usage_seconds_total",
        Type::Counter,
        "Cumulative cpu time consumed by the container in core-seconds",
        |one| Some((seconds(one.stats.cpu_nanos), Some(one.at))),
    );
    each("container_memory_working_set_bytes", Type::Gauge, "Current working set of the container in bytes", |one| {
        Some((one.stats.memory_working_set as f64, Some(one.at)))
    });
    each(
        "container_start_time_seconds",
        Type::Gauge,
        "Start time of the container since unix epoch in seconds",
        |one| Some((one.started.as_microsecond() as f64 / 1e6, None)),
    );
    each(
        "container_swap_usage_bytes",
        Type::Gauge,
        "Current amount of the container swap usage in bytes. Reported only on non-windows systems",
        |one| Some((one.stats.swap? as f64, Some(one.at))),
    );
}

fn node(text: &mut Text, now: Timestamp) {
    if let Some(nanos) = machine::cpu_time() {
        let help = "Cumulative cpu time consumed by the node in core-seconds";
        text.family("node_cpu_usage_seconds_total", Type::Counter, help);
        text.line(&[], seconds(nanos), Some(now));
    }
    let memory = machine::memory_in_use();
    text.family("node_memory_working_set_bytes", Type::Gauge, "Current working set of the node in bytes");
    text.line(&[], memory.working_set as f64, Some(now));
    if let Some((used, _)) = memory.swap {
        let help = "Current swap usage of the node in bytes. Reported only on non-windows systems";
        text.family("node_swap_usage_bytes", Type::Gauge, help);
        text.line(&[], used as f64, Some(now));
    }
}

fn pods(text: &mut Text, sample: &Sample) {
    let mut each = |name: &str, kind: Type, help: &str, value: fn(&Stats) -> Option<f64>| {
        let figures = sample.pods.iter().filter_map(|pod| Some((pod, value(pod.stats.as_ref()?)?)));
        let figures: Vec<_> = figures.collect();
        if figures.is_empty() {
            return;
        }
        text.family(name, kind, help);
        for (pod, value) in figures {
            text.line(&[("namespace", pod.namespace()), ("pod", pod.name())], value, Some(pod.at));
        }
    };
    each(
        "pod_cpu_usage_seconds_total",
        Type::Counter,
        "Cumulative cpu time consumed by the pod in core-seconds",
        |stats| Some(seconds(stats.cpu_nanos)),
    );
    each("pod_memory_working_set_bytes", Type::Gauge, "Current working set of the pod in bytes", |stats| {
        Some(stats.memory_working_set as f64)
    });
    each(
        "pod_swap_usage_bytes",
        Type::Gauge,
        "Current amount of the pod swap usage in bytes. Reported only on non-windows systems",
        |stats| stats.swap.map(|swap| swap as f64),
    );
}
