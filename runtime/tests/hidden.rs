//! What a container can get hold of that is the node's: nothing, not even for a moment.
#![allow(clippy::unwrap_used)]

mod node;

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use faults::Attack;
use node::{Node, on_a_node, shell, sleeper};
use runtime::local::LocalRuntime;
use runtime::{ContainerConfig, ContainerState, NamespaceOptions, Runtime as _};

const EXECS: u64 = 200;

/// Looks at every process again and again, and tells what it gets of one that is still the node's.
const HUNT: &str = r#"
own=$(busybox grep CapPrm /proc/self/status)
look() {
  prm=$(busybox grep CapPrm $1/status 2>/dev/null)
  case $prm in ''|"$own") ;; *) echo "GOT rights $prm" ;; esac
  text=$(busybox tr '\0' ' ' < $1/environ)
  # It may have become its program meanwhile.
  case $text in *FROM_IMAGE*|'') ;; *) echo "GOT environment $text" ;; esac
  case $(busybox readlink $1/exe) in ''|*/bin/busybox) ;; *) echo "GOT program" ;; esac
  { true >> $1/exe; } && echo "GOT program to write"
  [ -e $1/root/@NODE@ ] && echo "GOT root"
  for f in $1/fd/*; do
    link=$(busybox readlink $f) || continue
    # The pidfd is its own, which it sends to the shim.
    case $link in pipe:*|/dev/null|socket:*|*pidfd*|'') ;; *) echo "GOT descriptor $link" ;; esac
  done
}
echo up
while :; do
  for p in /proc/[0-9]*; do
    c=
    { read -r c < $p/comm; } 2>/dev/null
    case $c in coracle*) echo "SEEN $c"; look $p 2>/dev/null ;; esac
  done
done"#;

fn hunter(node: &Node, image: &runtime::Image) -> ContainerConfig {
    // What only the node's own root has.
    let marker = node.config.root.to_str().unwrap().trim_start_matches('/').to_owned();
    shell(image, &HUNT.replace("@NODE@", &marker))
}

/// Executes commands in a container that hunts for them; returns how often it saw one and what it got.
async fn hunt(node: &Node, config: ContainerConfig, options: NamespaceOptions) -> (u64, Vec<String>) {
    let sandbox = node.sandbox_with(&format!("hunt{}", rand::random::<u32>()), options).await;
    let id = node.start(&sandbox, config).await;
    node.until_output(&id, "up").await;
    for _ in 0..EXECS {
        let output = node.runtime.exec_sync(&id, &["true".to_owned()], node::PATIENCE).await.unwrap();
        assert_eq!(output.exit_code, 0);
    }
    node.runtime.stop_container(&id, std::time::Duration::ZERO).await.unwrap();
    let output = node.output(&id).await;
    let seen = output.lines().filter(|line| line.starts_with("SEEN")).count() as u64;
    (seen, output.lines().filter(|line| line.starts_with("GOT")).map(str::to_owned).collect())
}

#[tokio::test]
async fn a_container_gets_nothing_of_the_processes_that_exec_starts_in_it() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let (seen, got) = hunt(&node, hunter(&node, &image), NamespaceOptions::default()).await;
        eprintln!("seen {seen}, got {got:?}");
        Attack::new("runtime: a container opens what it finds of exec's processes in /proc")
            .tried(EXECS, got.len() as u64)
            .figure("glimpses of a process", seen)
            .record();
    })
    .await;
}

#[tokio::test]
async fn one_that_may_trace_finds_no_rights_root_or_descriptors_of_the_node() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let mut config = hunter(&node, &image);
        config.security.add_capabilities = vec!["SYS_PTRACE".into()];
        let (seen, mut got) = hunt(&node, config, NamespaceOptions::default()).await;
        // Who may trace may read the program, which is the same everywhere.
        got.retain(|what| what != "GOT program");
        eprintln!("seen {seen}, got {got:?}");
        Attack::new("runtime: a container with CAP_SYS_PTRACE does the same")
            .tried(EXECS, got.len() as u64)
            .figure("glimpses of a process", seen)
            .record();
    })
    .await;
}

/// A node whose shim is a copy that nobody else runs, so that only its mount protects it.
async fn with_own_shim(node: &Node) -> (LocalRuntime, PathBuf) {
    let program = node.path("shim");
    std::fs::copy(env!("CARGO_BIN_EXE_coracle-shim"), &program).unwrap();
    let mut config = node.config.clone();
    config.shim = vec![program.to_str().unwrap().to_owned()];
    (LocalRuntime::open(config).await.unwrap(), program)
}

#[tokio::test]
async fn a_descriptor_of_the_nodes_program_never_becomes_one_to_write() {
    on_a_node(|node| async move {
        let (runtime, program) = with_own_shim(&node).await;
        let before = std::fs::read(&program).unwrap();
        let sandbox = runtime.run_sandbox(&node.sandbox_config("busy")).await.unwrap();
        let held = File::open(format!("/proc/{}/exe", node.shim(&sandbox.id))).unwrap();
        // A program that runs cannot be written anyway; the attack waits until nobody runs it.
        runtime.stop_sandbox(&sandbox.id).await.unwrap();
        let again = format!("/proc/self/fd/{}", held.as_raw_fd());
        let opened = std::fs::OpenOptions::new().write(true).open(&again);
        Attack::new("runtime: the node's program is written through /proc/PID/exe (CVE-2019-5736)")
            .tried(1, u64::from(opened.is_ok()))
            .record();
        assert_eq!(opened.unwrap_err().raw_os_error(), Some(libc::EROFS));
        assert_eq!(std::fs::read(&program).unwrap(), before);
    })
    .await;
}

#[tokio::test]
async fn shims_and_containers_have_only_the_descriptors_meant_for_them() {
    on_a_node(|node| async move {
        // What the starter has open, and forgot to close: shims must not inherit it.
        let leak = rustix::io::fcntl_dupfd_cloexec(File::open("/dev/null").unwrap(), 251).unwrap();
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
        let image = node.busybox().await;
        let sandbox = node.sandbox("counted").await;
        let first = node.start(&sandbox, sleeper(&image)).await;
        let second = node.start(&sandbox, ContainerConfig { log_path: "two.log".into(), ..sleeper(&image) }).await;
        let shim = descriptors(Path::new(&format!("/proc/{}", node.shim(&sandbox))));
        eprintln!("the shim has {shim:?}");
        assert!(shim.iter().all(|(number, _)| *number < 64), "{shim:?}");
        let files: Vec<_> = shim.iter().filter(|(_, link)| link.starts_with('/')).map(|(_, link)| link).collect();
        let known = |link: &str| link == "/dev/null" || link.ends_with("/shim.log") || link.ends_with(".log");
        assert!(files.iter().all(|link| known(link)), "{files:?}");
        for id in [&first, &second] {
            let ContainerState::Running { pid, .. } = node.status(id).await.state else { panic!("not running") };
            let own = descriptors(Path::new(&format!("/proc/{pid}")));
            // The shell keeps a copy of none.
            assert_eq!(own.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2], "{own:?}");
        }
        let (_, executed) = node.exec(&first, "busybox ls -1 /proc/self/fd | busybox grep -v 3").await;
        assert_eq!(executed.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2"]);
        let environment = std::fs::read(format!("/proc/{}/environ", node.shim(&sandbox))).unwrap();
        assert!(environment.is_empty(), "{}", String::from_utf8_lossy(&environment));
    })
    .await;
}

fn descriptors(process: &Path) -> Vec<(u32, String)> {
    let entries = std::fs::read_dir(process.join("fd")).unwrap().flatten();
    let number = |name: std::ffi::OsString| name.to_str().unwrap().parse().unwrap();
    let mut all: Vec<(u32, String)> = entries
        .map(|entry| (number(entry.file_name()), std::fs::read_link(entry.path()).unwrap().display().to_string()))
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn the_first_process_of_a_shared_namespace_has_no_rights_root_or_descriptors() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let options = NamespaceOptions { shared_pid: true, ..NamespaceOptions::default() };
        let sandbox = node.sandbox_with("pause", options).await;
        let mut config = sleeper(&image);
        config.security.add_capabilities = vec!["SYS_PTRACE".into()];
        let id = node.start(&sandbox, config).await;
        let script = "busybox grep -E '^(Cap...:|Uid)' /proc/1/status; ls /proc/1/root/; busybox ls -l /proc/1/fd";
        let (_, output) = node.exec(&id, script).await;
        eprintln!("{output}");
        assert_eq!(output.matches("0000000000000000").count(), 5, "{output}");
        assert!(!output.contains("etc") && !output.contains(".log") && output.contains("65535"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn a_shims_socket_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    on_a_node(|node| async move {
        let sandbox = node.sandbox("socket").await;
        let socket = node.config.run.join(format!("{sandbox}.sock"));
        let mode = std::fs::metadata(socket).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let (_, output) = node.run("umask", |_| {}).await;
        assert_eq!(output, "0022\n");
    })
    .await;
}
