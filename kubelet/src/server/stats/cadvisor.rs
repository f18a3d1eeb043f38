//! `/metrics/cadvisor`: the families that rules and dashboards of Prometheus are made of (upstream: cadvisor's
//! metrics/prometheus.go, with the labels that pkg/kubelet/server gives them).
//!
//! A container has all labels; a pod as a whole has an empty `container`, `image` and `name`; the machine has the id `/`.
use axum::extract::State;
use jiff::Timestamp;
use runtime::{Resources, Stats, Traffic};

use super::super::Shared;
use super::sample::{self, Sample};
use super::text::{Text, Type};
use crate::node::machine;
use crate::{pod, resources};

/// One thing that is measured, with its labels.
struct Subject<'a> {
    container: &'a str,
    id: String,
    image: &'a str,
    name: &'a str,
    namespace: &'a str,
    pod: &'a str,
    at: Option<Timestamp>,
    started: Option<Timestamp>,
    stats: Stats,
    limits: Option<Resources>,
    /// What its writable layer takes; of containers only.
    layer: Option<u64>,
}

/// `GET /metrics/cadvisor`.
pub(in crate::server) async fn cadvisor_metrics(State(shared): State<Shared>) -> Text {
    let sample = sample::take(&shared).await;
    let mut subjects = vec![machine_itself()];
    for one in &sample.pods {
        for container in &one.containers {
            let spec = pod::container(&one.pod, &container.status.name).map(|(_, spec)| spec);
            subjects.push(Subject {
                container: &container.status.name,
                id: format!("/{}", container.stats.cgroup),
                image: &container.status.image,
                name: &container.status.id,
                namespace: one.namespace(),
                pod: one.name(),
                at: Some(container.at),
                started: Some(container.started),
                stats: container.stats.clone(),
                limits: spec.map(|spec| resources::container_resources(&one.pod, &spec, shared.context.memory)),
                layer: shared.context.runtime.layer_usage(&container.status.id).await.ok(),
            });
        }
    }
    subjects.extend(pods(&sample, shared.context.pids_limit));
    let mut text = Text::default();
    usage(&mut text, &subjects);
    limits(&mut text, &subjects);
    network(&mut text, &subjects);
    machine_facts(&mut text, shared.context.memory);
    text
}

fn machine_itself() -> Subject<'static> {
    let memory = machine::memory_in_use();
    let stats = Stats {
        cpu_nanos: machine::cpu_time().unwrap_or_default(),
        memory_usage: memory.usage,
        memory_working_set: memory.working_set,
        memory_rss: memory.rss,
        swap: memory.swap.map(|(used, _)| used),
        ..Stats::default()
    };
    let started = machine::boot_time().and_then(|at| Timestamp::from_second(at).ok());
    let (id, at) = ("/".to_owned(), Some(client::clock::now()));
    let (container, image, name, namespace, pod) = ("", "", "", "", "");
    Subject { container, id, image, name, namespace, pod, at, started, stats, limits: None, layer: None }
}

fn pods(sample: &Sample, pids_limit: i64) -> impl Iterator<Item = Subject<'_>> {
    sample.pods.iter().filter_map(move |one| {
        let stats = one.stats.clone()?;
        Some(Subject {
            container: "",
            id: format!("/{}", stats.cgroup),
            image: "",
            name: "",
            namespace: one.namespace(),
            pod: one.name(),
            at: Some(one.at),
            started: Some(one.started()),
            limits: Some(resources::pod_resources(&one.pod, pids_limit)),
            stats,
            layer: None,
        })
    })
}

/// Writes a family with a line for each subject that has the figure.
fn family(
    text: &mut Text,
    subjects: &[Subject<'_>],
    (name, kind, help): (&str, Type, &str),
    value: impl Fn(&Subject<'_>) -> Option<f64>,
) {
    let figures: Vec<_> = subjects.iter().filter_map(|one| Some((one, value(one)?))).collect();
    if figures.is_empty() {
        return;
    }
    text.family(name, kind, help);
    for (one, value) in figures {
        text.line(&one.labels(None), value, one.at);
    }
}

impl Subject<'_> {
    /// By name; of traffic with its interface.
    fn labels<'a>(&'a self, interface: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
        let mut labels = vec![("container", self.container), ("id", &self.id), ("image", self.image)];
        labels.extend(interface.map(|interface| ("interface", interface)));
        labels.extend([("name", self.name), ("namespace", self.namespace), ("pod", self.pod)]);
        labels
    }

    fn is_throttled(&self) -> bool {
        self.limits.as_ref().is_some_and(|limits| limits.cpu_quota > 0)
    }
}

fn usage(text: &mut Text, subjects: &[Subject<'_>]) {
    const COUNTER: Type = Type::Counter;
    const GAUGE: Type = Type::Gauge;
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    type Read = fn(&Subject<'_>) -> Option<u64>;
    let times: [(&str, &str, Read); 3] = [
        ("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", |one| {
            Some(one.stats.cpu_nanos)
        }),
        ("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", |one| {
            (one.id != "/").then_some(one.stats.cpu_user_nanos)
        }),
        ("container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", |one| {
            (one.id != "/").then_some(one.stats.cpu_system_nanos)
        }),
    ];
    for (name, help, read) in times {
        family(text, subjects, (name, COUNTER, help), |one| read(one).map(seconds));
    }
    let throttling = |text: &mut Text, name: &str, help: &str, read: fn(&Stats) -> f64| {
        family(text, subjects, (name, COUNTER, help), |one| one.is_throttled().then(|| read(&one.stats)));
    };
    throttling(text, "container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", |stats| {
        stats.throttling.periods as f64
    });
    throttling(text, "container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", |stats| {
        stats.throttling.throttled as f64
    });
    let help = "Total time duration the container has been throttled.";
    throttling(text, "container_cpu_cfs_throttled_seconds_total", help, |stats| stats.throttling.waited as f64 / 1e9);
    let amounts: [(&str, &str, Read); 8] = [
        (
            "container_memory_usage_bytes",
            "Current memory usage in bytes, including all memory regardless of when it was accessed",
            |one| Some(one.stats.memory_usage),
        ),
        ("container_memory_working_set_bytes", "Current working set in bytes.", |one| {
            Some(one.stats.memory_working_set)
        }),
        ("container_memory_rss", "Size of RSS in bytes.", |one| Some(one.stats.memory_rss)),
        ("container_memory_cache", "Number of bytes of page cache memory.", |one| {
            (one.id != "/").then_some(one.stats.memory_cache)
        }),
        ("container_memory_swap", "Container swap usage in bytes.", |one| one.stats.swap),
        ("container_threads", "Number of threads running inside the container", |one| one.stats.processes),
        ("container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", |one| {
            one.layer
        }),
        ("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", |one| {
            u64::try_from(one.started?.as_second()).ok()
        }),
    ];
    for (name, help, read) in amounts {
        family(text, subjects, (name, GAUGE, help), |one| read(one).map(|amount| amount as f64));
    }
}

/// What was asked for; no limit of memory is 0, no limit of CPU is not told.
fn limits(text: &mut Text, subjects: &[Subject<'_>]) {
    type Read = fn(&Resources) -> Option<u64>;
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let families: [(&str, &str, Read); 3] = [
        ("container_spec_cpu_period", "CPU period of the container.", |limits| {
            Some(if limits.cpu_period > 0 { limits.cpu_period } else { 100_000 })
        }),
        ("container_spec_cpu_shares", "CPU share of the container.", |limits| Some(limits.cpu_shares.max(2))),
        ("container_spec_memory_limit_bytes", "Memory limit for the container.", |limits| {
            Some(u64::try_from(limits.memory_limit).unwrap_or(0))
        }),
    ];
    for (name, help, read) in families {
        let value = |one: &Subject<'_>| one.limits.as_ref().and_then(read).map(|value| value as f64);
        family(text, subjects, (name, Type::Gauge, help), value);
    }
    let quota = ("container_spec_cpu_quota", Type::Gauge, "CPU quota of the container.");
    family(text, subjects, quota, |one| positive(one.limits.as_ref()?.cpu_quota).map(|quota| quota as f64));
}

fn network(text: &mut Text, subjects: &[Subject<'_>]) {
    type Read = fn(&Traffic) -> u64;
    let families: [(&str, &str, Read); 8] = [
        ("container_network_receive_bytes_total", "Cumulative count of bytes received", |it| it.received.bytes),
        ("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", |it| {
            it.received.errors
        }),
        (
            "container_network_receive_packets_dropped_total",
            "Cumulative count of packets dropped while receiving",
            |it| it.received.dropped,
        ),
        ("container_network_receive_packets_total", "Cumulative count of packets received", |it| it.received.packets),
        ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", |it| it.sent.bytes),
        (
            "container_network_transmit_errors_total",
            "Cumulative count of errors encountered while transmitting",
            |it| it.sent.errors,
        ),
        (
            "container_network_transmit_packets_dropped_total",
            "Cumulative count of packets dropped while transmitting",
            |it| it.sent.dropped,
        ),
        ("container_network_transmit_packets_total", "Cumulative count of packets transmitted", |it| it.sent.packets),
    ];
    let of_node = machine::traffic();
    for (name, help, read) in families {
        text.family(name, Type::Counter, help);
        for one in subjects {
            let (interface, traffic) = match (&one.stats.network, &of_node) {
                (Some(traffic), _) => ("eth0", traffic),
                (None, Some((interface, traffic))) if one.id == "/" => (interface.as_str(), traffic),
                _ => continue,
            };
            text.line(&one.labels(Some(interface)), read(traffic) as f64, one.at);
        }
    }
}

fn machine_facts(text: &mut Text, memory: u64) {
    let (boot, machine, system) = (machine::boot_id(), machine::machine_id(), machine::system_uuid());
    let labels = [("boot_id", boot.as_str()), ("machine_id", machine.as_str()), ("system_uuid", system.as_str())];
    let swap = machine::memory_in_use().swap.map_or(0, |(_, size)| size);
    let facts = [
        ("machine_cpu_cores", "Number of logical CPU cores.", machine::cores() as f64),
        ("machine_memory_bytes", "Amount of memory installed on the machine.", memory as f64),
        ("machine_swap_bytes", "Amount of swap memory available on the machine.", swap as f64),
    ];
    for (name, help, value) in facts {
        text.family(name, Type::Gauge, help);
        text.line(&labels, value, None);
    }
}
