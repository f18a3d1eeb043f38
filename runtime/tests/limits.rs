//! Pods that take what they can get: processes, log space, files without names, and other pods' secrets. Needs root, a
//! static busybox and nft; skips loudly without them.
#![allow(clippy::unwrap_used)]

mod node;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use faults::Attack;
use node::{Node, PATIENCE, on_a_node, shell, sleeper};
use runtime::{ContainerConfig, ContainerState, LogLimits, Mount, Resources, Runtime as _, SandboxConfig};

/// Forks until nothing goes any more, and then goes on.
const BOMB: &str = "bomb() { bomb | bomb & }; bomb; while :; do sleep 1; done";

/// The largest number of processes that a cgroup had while the node was at work for a while, and how often the node could
/// not start a program.
async fn under_fire(cgroup: &str) -> (u64, u64) {
    let file = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(|root| Path::new(root).join(cgroup).join("pids.current"));
    let current = move || {
        let text = file.iter().find_map(|file| std::fs::read_to_string(file).ok());
        text.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let (mut peak, mut failed) = (0, 0);
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        peak = peak.max(current());
        let started = tokio::process::Command::new("/bin/true").status().await;
        failed += u64::from(!started.is_ok_and(|status| status.success()));
    }
    (peak, failed)
}

#[tokio::test]
async fn a_fork_bomb_stays_within_its_pod_and_the_node_goes_on() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let limited = |limit| Resources { pids_limit: limit, ..Resources::default() };
        let mut tried = Vec::new();
        for (name, pod, all) in [("alone", 200, 0), ("together", 0, 300)] {
            let config =
                SandboxConfig { resources: limited(pod), node_limits: limited(all), ..node.sandbox_config(name) };
            let sandbox = node.runtime.run_sandbox(&config).await.unwrap().id;
            let bomb = ContainerConfig { resources: Resources::default(), ..shell(&image, BOMB) };
            node.start(&sandbox, bomb).await;
            let (peak, failed) = under_fire(&config.cgroup_parent).await;
            let limit = u64::try_from(pod.max(all)).unwrap();
            assert!(peak > limit / 2, "the bomb goes off: {peak} processes");
            // The kernel counts a process before it refuses it, on each processor.
            let processors = std::thread::available_parallelism().unwrap().get() as u64;
            tried.push((peak > limit + processors, failed, peak));
            let begun = Instant::now();
            node.runtime.remove_sandbox(&sandbox).await.unwrap();
            assert!(begun.elapsed() < PATIENCE);
        }
        Attack::new("runtime: fork bombs in a pod with a limit, and in one without below the node's")
            .tried(2, tried.iter().filter(|(over, failed, _)| *over || *failed > 0).count() as u64)
            .figure("most processes", format!("{} of 200, {} of 300", tried[0].2, tried[1].2))
            .figure("programs that the node could not start meanwhile", tried.iter().map(|one| one.1).sum::<u64>())
            .record();
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_output_never_takes_more_than_the_log_may() {
    on_a_node(|node| async move {
        let limits = LogLimits { max_bytes: 1 << 20, max_files: 3 };
        let image = node.busybox().await;
        let sandbox = node.sandbox("flood").await;
        let line = "x".repeat(200);
        let flood = format!("busybox yes {line} | head -c 50000000; echo; echo the end");
        let id = node.start(&sandbox, ContainerConfig { log_limits: limits, ..shell(&image, &flood) }).await;
        let directory = node.status(&id).await.log_path.parent().unwrap().to_owned();
        let (mut peak, end) = (0, Instant::now() + PATIENCE);
        while !has_ended(&node, &id).await && Instant::now() < end {
            // A look while files change their names may see one twice; two of them in a row do not.
            let look = || runtime::tree::usage(&directory).unwrap();
            peak = peak.max(look().min(look()));
        }
        let output = node.output(&id).await;
        assert!(output.ends_with("the end\n"), "the last words are there");
        // Blocks and the directory's own are rounded up.
        let most = limits.max_bytes * u64::from(limits.max_files) + (64 << 10);
        Attack::new("runtime: a container that writes output as fast as it can")
            .tried(1, u64::from(peak > most))
            .figure("written", "50 MB")
            .figure("most on disk", format!("{} KiB of {}", peak >> 10, most >> 10))
            .record();
    })
    .await;
}

async fn has_ended(node: &Node, id: &str) -> bool {
    matches!(node.status(id).await.state, ContainerState::Exited(_))
}

#[tokio::test]
async fn files_without_names_are_found_where_they_were() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.sandbox("nameless").await;
        let volume = node.path("pods/uid/volumes/kubernetes.io~empty-dir/v");
        std::fs::create_dir_all(&volume).unwrap();
        let mount = Mount { container_path: "/data".into(), host_path: volume.clone(), ..Mount::default() };
        let script = "exec 3> /data/a; head -c 3000000 /dev/zero >&3; busybox rm /data/a; \
             exec 4> /srv/b; head -c 2000000 /dev/zero >&4; busybox rm /srv/b; \
             exec 5> /dev/shm/c; head -c 1000000 /dev/zero >&5; busybox rm /dev/shm/c; echo ready; while :; do sleep 1; done";
        let config = ContainerConfig { mounts: vec![mount], ..shell(&image, script) };
        let id = node.start(&sandbox, config).await;
        while !node.output(&id).await.contains("ready") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut found = node.runtime.unlinked_files(&id).await.unwrap();
        found.sort_by_key(|file| file.bytes);
        let seen: Vec<bool> = found.iter().map(|file| file.volume.is_some()).collect();
        assert_eq!(seen, [false, true], "{found:?}");
        assert!(found[0].bytes >= 2_000_000 && found[1].bytes >= 3_000_000, "{found:?}");
        assert!(found[1].volume.as_ref().unwrap().ends_with("uid/volumes/kubernetes.io~empty-dir/v"), "{found:?}");
        Attack::new("runtime: files that are deleted but open, in a volume and in the writable layer")
            .tried(2, 2 - found.len() as u64)
            .record();
    })
    .await;
}

#[tokio::test]
async fn a_container_with_folders_too_deep_for_a_path_is_measured_and_removed() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.sandbox("deep").await;
        let script = "cd /srv; i=0; while [ $i -lt 2000 ]; do busybox mkdir d; cd d; i=$((i+1)); done; \
             head -c 3000000 /dev/zero > file; echo ready; while :; do sleep 1; done";
        let id = node.start(&sandbox, shell(&image, script)).await;
        while !node.output(&id).await.contains("ready") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let bytes = node.runtime.layer_usage(&id).await.unwrap();
        node.runtime.remove_sandbox(&sandbox).await.unwrap();
        let left = node.config.root.join("sandboxes").join(&sandbox);
        Attack::new("runtime: 2,000 folders in one another in a container's writable layer")
            .tried(2, u64::from(bytes < 3_000_000) + u64::from(left.exists()))
            .record();
    })
    .await;
}

/// Every file below a directory that holds `needle`, and whether others than root can get at it.
fn holding(directory: &Path, needle: &[u8]) -> BTreeMap<PathBuf, bool> {
    let (mut found, mut left) = (BTreeMap::new(), vec![(directory.to_owned(), true)]);
    while let Some((path, open)) = left.pop() {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let mode = metadata.permissions().mode();
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| (entry.path(), open && mode & 0o001 != 0)));
        } else if metadata.is_file()
            && std::fs::read(&path).is_ok_and(|text| text.windows(needle.len()).any(|part| part == needle))
        {
            found.insert(path, open && mode & 0o004 != 0);
        }
    }
    found
}

#[tokio::test]
async fn a_secret_in_the_environment_reaches_the_container_and_no_disk() {
    on_a_node(|node| async move {
        let secret = format!("secret-{:032x}", rand::random::<u128>());
        let image = node.busybox().await;
        let sandbox = node.sandbox("secretive").await;
        let env = vec![("PASSWORD".to_owned(), secret.clone())];
        let id = node.start(&sandbox, ContainerConfig { env, ..sleeper(&image) }).await;
        assert_eq!(node.exec(&id, "echo $PASSWORD").await, (0, format!("{secret}\n")));
        // A restart of the runtime needs it no more either.
        let again = runtime::local::LocalRuntime::open(node.config.clone()).await.unwrap();
        let command = ["sh", "-c", "echo $PASSWORD"].map(str::to_owned);
        let output = again.exec_sync(&id, &command, PATIENCE).await.unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{secret}\n"));
        let mut found = holding(&node.config.root, secret.as_bytes());
        found.extend(holding(&node.config.run, secret.as_bytes()));
        let marker = node.config.root.join("sandboxes").join(&sandbox).join("marker");
        std::fs::write(&marker, &secret).unwrap();
        let private = holding(&node.config.root, secret.as_bytes());
        assert_eq!(private.get(&marker), Some(&false), "the search finds it, and nobody else does");
        Attack::new("runtime: a search of the disk for a secret of a container's environment")
            .tried(1, found.len() as u64)
            .record();
    })
    .await;
}
