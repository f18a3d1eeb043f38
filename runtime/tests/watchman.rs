//! The watchman of system calls, with real containers: what is told, what is refused, and what it costs.
#![allow(clippy::unwrap_used)]

mod node;

use std::path::Path;
use std::time::{Duration, Instant};

use faults::Attack;
use futures::StreamExt as _;
use node::{Node, PATIENCE, on_a_node, shell};
use runtime::local::LocalRuntime;
use runtime::{
    ContainerConfig, ContainerState, Event, Image, Mount, Runtime as _, SYSCALL_POLICY, SandboxConfig, Seccomp,
    SyscallPolicy, SyscallVerdict, UnusualCall, WatchedCalls,
};

/// Short, so that a container is old soon.
const QUIET: Duration = Duration::from_secs(1);

/// The node's runtime with a policy, and little patience for quiet programs.
async fn watchful(node: &Node, policy: SyscallPolicy) -> LocalRuntime {
    let config = runtime::local::Config { syscall_policy: policy, syscall_quiet: QUIET, ..node.config.clone() };
    let runtime = LocalRuntime::open(config).await.unwrap();
    *node.other.lock().unwrap() = Some(runtime.clone());
    runtime
}

/// A container with no filter but the watchman's, and the rights to do what he watches.
fn able(image: &Image, script: &str) -> ContainerConfig {
    let mut config = shell(image, script);
    config.security.seccomp = Seccomp::Unconfined;
    config.security.add_capabilities = vec!["SYS_ADMIN".into()];
    config
}

/// What came of a container: its exit code, its output, and what was told of its calls.
struct Outcome {
    code: i32,
    output: String,
    calls: WatchedCalls,
}

impl Outcome {
    fn count(&self, call: &str, verdict: SyscallVerdict) -> u64 {
        let counts = self.calls.counts.iter().filter(|one| one.call == call && one.verdict == verdict);
        counts.map(|one| one.count).sum()
    }
}

/// Runs a container to its end in a new pod.
async fn run(node: &Node, runtime: &LocalRuntime, policy: Option<&str>, config: ContainerConfig) -> Outcome {
    let mut sandbox = node.sandbox_config(&format!("run{}", rand::random::<u32>()));
    sandbox.annotations.extend(policy.map(|policy| (SYSCALL_POLICY.to_owned(), policy.to_owned())));
    run_in(runtime, &sandbox, config).await
}

async fn run_in(runtime: &LocalRuntime, sandbox: &SandboxConfig, config: ContainerConfig) -> Outcome {
    let mut events = runtime.events();
    let sandbox = runtime.run_sandbox(sandbox).await.unwrap().id;
    let id = runtime.create_container(&sandbox, &config).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    let mut calls = WatchedCalls::default();
    let code = loop {
        match tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap() {
            Event::ContainerExited { container, exit, .. } if container == id => break exit.code,
            Event::WatchedCalls { container, calls: told, .. } if container == id => {
                calls.counts.extend(told.counts);
                calls.unusual.extend(told.unusual);
            }
            _ => {}
        }
    };
    let log = runtime.container_status(&id).await.unwrap().log_path;
    Outcome { code, output: std::fs::read_to_string(log).unwrap(), calls }
}

#[tokio::test]
async fn in_an_audit_a_quiet_programs_call_goes_on_and_is_told_once() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let runtime = watchful(&node, SyscallPolicy::Audit).await;
        let script = "sleep 2; exec unshare -m echo went on";
        let outcome = run(&node, &runtime, None, able(&image, script)).await;
        assert!(outcome.code == 0 && outcome.output.contains("went on"), "{}", outcome.output);
        assert_eq!(outcome.count("unshare", SyscallVerdict::Unusual), 1, "{:?}", outcome.calls);
        // The tool mounts, too; each call is told once.
        let Some(UnusualCall { call, program, reason, refused }) = outcome.calls.unusual.first() else {
            panic!("{:?}", outcome.calls)
        };
        assert_eq!((call.as_str(), program.as_str(), *refused), ("unshare", "unshare (/bin/busybox)", false));
        assert!(reason.starts_with("it has run for 2 s"), "{reason}");
    })
    .await;
}

#[tokio::test]
async fn where_it_is_enforced_a_quiet_program_gets_nowhere() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let runtime = watchful(&node, SyscallPolicy::Audit).await;
        let escapes = [
            ("unshare", "unshare -m echo through"),
            ("chroot", "busybox chroot / echo through"),
            ("mount", "busybox mount -t tmpfs none /srv"),
            ("setns", "busybox nsenter -m/proc/1/ns/mnt echo through"),
            ("pivot_root", "busybox pivot_root / /srv"),
            ("umount2", "busybox umount /proc"),
        ];
        let tries = escapes.map(|(call, command)| {
            let config = able(&image, &format!("sleep 2; exec {command}"));
            // A pod may be stricter than its node.
            let (node, runtime) = (&node, &runtime);
            async move { (call, run(node, runtime, Some("enforce"), config).await) }
        });
        let mut through = 0;
        for (call, outcome) in futures::future::join_all(tries).await {
            eprintln!("{call}: {} {:?}", outcome.code, outcome.calls);
            let refused = outcome.count(call, SyscallVerdict::Refused) > 0 && outcome.code != 0;
            through += u64::from(!refused || outcome.output.contains("through"));
        }
        Attack::new("runtime: a program that ran quietly changes its root, namespaces or mounts")
            .tried(escapes.len() as u64, through)
            .record();
    })
    .await;
}

#[tokio::test]
async fn what_ordinary_images_do_goes_on_without_a_word() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let runtime = watchful(&node, SyscallPolicy::Enforce).await;
        let script = "set -e
            mkdir() { busybox mkdir $*; }
            work() { busybox mount -t tmpfs none /srv; busybox chroot / /bin/true; busybox umount /srv; \
                     unshare -m true; unshare -p -f true; }
            # At the start, and in an old container again.
            work; sleep 2; work; work; echo all went on";
        let outcome = run(&node, &runtime, None, able(&image, script)).await;
        assert!(outcome.code == 0 && outcome.output.contains("all went on"), "{}", outcome.output);
        assert!(outcome.calls.unusual.is_empty(), "{:?}", outcome.calls);
        for (call, times) in [("mount", 3), ("umount2", 3), ("chroot", 3)] {
            assert!(outcome.count(call, SyscallVerdict::Expected) >= times, "{call}: {:?}", outcome.calls);
        }
        Attack::new("runtime: false alarms on what ordinary images do").tried(15, 0).record();
    })
    .await;
}

#[tokio::test]
async fn who_asks_the_kernel_for_what_it_may_not_have_is_told_of() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let runtime = watchful(&node, SyscallPolicy::Audit).await;
        let script = "sleep 2; busybox insmod /bin/busybox; true";
        let outcome = run(&node, &runtime, None, able(&image, script)).await;
        let told: Vec<&str> = outcome.calls.unusual.iter().map(|one| one.reason.as_str()).collect();
        assert!(!told.is_empty() && told.iter().all(|why| *why == "the container has no right to it"), "{told:?}");
    })
    .await;
}

#[tokio::test]
async fn what_the_profile_refuses_is_refused_without_asking_anybody() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let runtime = watchful(&node, SyscallPolicy::Audit).await;
        let outcome = run(&node, &runtime, None, shell(&image, "sleep 2; exec busybox mount -t tmpfs none /srv")).await;
        assert_ne!(outcome.code, 0);
        assert_eq!(outcome.calls, WatchedCalls::default());
    })
    .await;
}

#[tokio::test]
async fn exec_is_watched_too_and_its_listener_goes_with_it() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let runtime = watchful(&node, SyscallPolicy::Enforce).await;
        let sandbox = runtime.run_sandbox(&node.sandbox_config("exec")).await.unwrap().id;
        let id = runtime.create_container(&sandbox, &able(&image, "exec sleep 1000")).await.unwrap();
        runtime.start_container(&id).await.unwrap();
        let exec = async |script: &str| {
            let command = ["sh", "-c", script].map(str::to_owned);
            runtime.exec_sync(&id, &command, PATIENCE).await.unwrap().exit_code
        };
        assert_eq!(exec("unshare -m true").await, 0);
        assert_ne!(exec("sleep 2; exec busybox chroot / /bin/true").await, 0);
        let listeners = || {
            let entries = std::fs::read_dir(format!("/proc/{}/fd", node.shim(&sandbox))).unwrap().flatten();
            let links = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
            links.filter(|link| link.to_string_lossy().contains("seccomp")).count()
        };
        let only_its_own = async {
            while listeners() != 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, only_its_own).await.expect("one listener");
        assert!(matches!(runtime.container_status(&id).await.unwrap().state, ContainerState::Running { .. }));
    })
    .await;
}

#[tokio::test]
async fn an_annotation_that_is_no_policy_is_an_error_and_a_laxer_one_changes_nothing() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let runtime = watchful(&node, SyscallPolicy::Enforce).await;
        let mut config = node.sandbox_config("wrong");
        config.annotations.insert(SYSCALL_POLICY.to_owned(), "loose".to_owned());
        let sandbox = runtime.run_sandbox(&config).await.unwrap().id;
        let err = runtime.create_container(&sandbox, &able(&image, "true")).await.unwrap_err();
        assert!(err.to_string().contains("\"loose\" is no syscall policy"), "{err}");
        let outcome = run(&node, &runtime, Some("off"), able(&image, "sleep 2; exec unshare -m true")).await;
        assert_ne!(outcome.code, 0);
    })
    .await;
}

#[tokio::test]
async fn a_java_machine_raises_no_alarm() {
    const PROGRAM: &str = "public class Main { public static void main(String[] a) throws Exception {
        for (int i = 0; i < 200; i++) { Thread t = new Thread(() -> new byte[1 << 20].clone()); t.start(); t.join(); }
        Thread.sleep(2000);
        new ProcessBuilder(\"/bin/true\").start().waitFor();
        System.gc(); System.out.println(\"java went on\"); } }";
    if !Path::new("/usr/bin/java").exists() {
        eprintln!("SKIP: this test needs java");
        return;
    }
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let runtime = watchful(&node, SyscallPolicy::Enforce).await;
        std::fs::create_dir(node.path("java")).unwrap();
        std::fs::write(node.path("java").join("Main.java"), PROGRAM).unwrap();
        let mount = |path: &str, host: &Path| Mount {
            container_path: path.into(),
            host_path: host.to_owned(),
            read_only: true,
            ..Mount::default()
        };
        let mut config = able(&image, "exec /usr/bin/java -XX:-UsePerfData /java/Main.java");
        config.resources.pids_limit = 0;
        config.mounts = ["/usr", "/lib", "/lib64", "/etc/java-17-openjdk", "/etc/ssl", "/etc/alternatives"]
            .into_iter()
            .filter(|path| Path::new(path).exists())
            .map(|path| mount(path, Path::new(path)))
            .collect();
        config.mounts.push(mount("/java", &node.path("java")));
        let outcome = run(&node, &runtime, None, config).await;
        assert!(outcome.code == 0 && outcome.output.contains("java went on"), "{}", outcome.output);
        assert!(outcome.calls.unusual.is_empty(), "{:?}", outcome.calls);
    })
    .await;
}

/// Prints what watching costs; asserts only that both run.
#[tokio::test]
async fn the_cost_of_watching() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        for policy in [SyscallPolicy::Off, SyscallPolicy::Audit] {
            let runtime = watchful(&node, policy).await;
            let sandbox = runtime.run_sandbox(&node.sandbox_config(&format!("cost{policy}"))).await.unwrap().id;
            let start = async |number: usize| {
                let log_path = format!("{number}.log").into();
                let config = ContainerConfig { log_path, ..able(&image, "exec sleep 1000") };
                let id = runtime.create_container(&sandbox, &config).await.unwrap();
                runtime.start_container(&id).await.unwrap();
                id
            };
            let mut starts = Vec::new();
            for number in 0..10 {
                let begin = Instant::now();
                let id = start(number).await;
                starts.push(begin.elapsed());
                runtime.stop_container(&id, Duration::ZERO).await.unwrap();
            }
            let id = start(10).await;
            let exec = async |command: &[&str]| {
                let begin = Instant::now();
                let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
                runtime.exec_sync(&id, &command, PATIENCE).await.unwrap();
                begin.elapsed()
            };
            let mut execs = Vec::new();
            for _ in 0..30 {
                execs.push(exec(&["true"]).await);
            }
            let copy = ["busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=500000"];
            let call = exec(&copy).await / 1_000_000;
            let loops = "i=0; while [ $i -lt 100 ]; do busybox chroot / true; i=$((i+1)); done";
            let watched = exec(&["sh", "-c", loops]).await / 100;
            starts.sort();
            execs.sort();
            let (start, exec) = (starts[5], execs[15]);
            eprintln!("{policy}: p50 of a start {start:?}, of an exec {exec:?}; a call {call:?}, a chroot {watched:?}");
        }
    })
    .await;
}
