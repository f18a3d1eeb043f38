//! Many pods, one after another and at once. Prints how long they took; asserts only that they run.
#![allow(clippy::unwrap_used)]

mod node;

use std::time::{Duration, Instant};

use futures::future::join_all;
use node::{on_a_node, sleeper};
use runtime::{ContainerConfig, ContainerState, Runtime as _};

const PODS: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn pods_start_one_after_another_and_fifty_at_once() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let config = ContainerConfig { command: vec!["sleep".into(), "1000".into()], ..sleeper(&image) };
        let pod = |name: String| {
            let (node, config) = (node.clone(), config.clone());
            async move {
                let begin = Instant::now();
                let sandbox = node.sandbox(&name).await;
                let sandbox_ready = begin.elapsed();
                let id = node.runtime.create_container(&sandbox, &config).await.unwrap();
                let created = begin.elapsed();
                node.runtime.start_container(&id).await.unwrap();
                (sandbox, id, [sandbox_ready, created, begin.elapsed()])
            }
        };
        let mut times = Vec::new();
        for number in 0..10 {
            let (sandbox, _, time) = pod(format!("single{number}")).await;
            times.push(time);
            node.runtime.remove_sandbox(&sandbox).await.unwrap();
        }
        for (step, name) in ["sandbox", "created", "started"].iter().enumerate() {
            let mut all: Vec<Duration> = times.iter().map(|time| time[step]).collect();
            all.sort();
            eprintln!("one after another, {name}: p50 {:?}, max {:?}", all[all.len() / 2], all[all.len() - 1]);
        }
        let begin = Instant::now();
        let pods = join_all((0..PODS).map(|number| pod(format!("pod{number}")))).await;
        eprintln!("{PODS} at once: {:?}", begin.elapsed());
        for (_, id, _) in &pods {
            assert!(matches!(node.status(id).await.state, ContainerState::Running { .. }));
        }
        print_memory();
        let begin = Instant::now();
        join_all(pods.iter().map(|(sandbox, ..)| node.runtime.remove_sandbox(sandbox))).await;
        eprintln!("{PODS} removed: {:?}", begin.elapsed());
        assert!(node.runtime.sandboxes().await.unwrap().is_empty());
    })
    .await;
}

/// Prints what one shim takes.
fn print_memory() {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let is_ours = |path: &std::path::PathBuf| {
        let command = std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        command.starts_with("coracle-shim") && command.contains("test/pod1")
    };
    let Some(shim) = processes.into_iter().find(is_ours) else { return };
    let text = std::fs::read_to_string(shim.join("smaps_rollup")).unwrap_or_default();
    let wanted = |line: &&str| ["Rss", "Pss:", "Private"].iter().any(|name| line.starts_with(name));
    for line in text.lines().filter(wanted) {
        eprintln!("a shim: {line}");
    }
}
