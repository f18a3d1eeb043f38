//! The runtime on real kernels: needs root, a static busybox and nft; skips loudly without them.
#![allow(clippy::unwrap_used)]

mod node;

use std::path::Path;
use std::time::Duration;

use node::{Node, PATIENCE, files, on_a_node, shell, sleeper};
use runtime::local::LocalRuntime;
use runtime::{
    ContainerConfig, ContainerState, DnsConfig, Error, Event, ExecRequest, IdMap, Mount, NamespaceOptions, PortMapping,
    Propagation, Resources, Runtime as _, SandboxConfig, TerminalSize, testsuite,
};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn a_container_runs_and_leaves_its_exit_code_and_log() {
    on_a_node(|node| async move {
        let (exit, output) = node
            .run("echo out; echo err >&2; echo $FROM_IMAGE $FROM_POD; pwd; exit 7", |config| {
                config.env = vec![("FROM_POD".into(), "too".into())];
            })
            .await;
        assert_eq!((exit.code, exit.reason.as_str()), (7, "Error"));
        for line in ["out", "err", "yes too", "/srv"] {
            assert!(output.lines().any(|found| found == line), "{line} in {output}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_container_sees_only_itself() {
    on_a_node(|node| async move {
        let script = "echo pid $$; hostname; ls /proc | grep -c '^[0-9]'; cat /etc/hostname; \
             ls /dev; ls / ; mount | grep -c /sys/fs/cgroup; touch /sys/x || echo sysfs ro; \
             echo 1 > /proc/sys/kernel/panic || echo sysctl ro; cat /proc/kcore | head -c 1 | wc -c";
        let (exit, output) = node.run(script, |_| {}).await;
        assert_eq!(exit.code, 0, "{output}");
        assert!(output.contains("pid 1\n"), "{output}");
        assert!(output.contains("sysfs ro") && output.contains("sysctl ro"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn capabilities_seccomp_and_no_new_privs_are_what_was_asked() {
    on_a_node(|node| async move {
        let status =
            "grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; unshare -m true && echo unshared; true";
        let (_, output) = node.run(status, |config| config.security.drop_capabilities = vec!["ALL".into()]).await;
        assert!(output.contains("CapEff:\t0000000000000000"), "{output}");
        assert!(output.contains("CapBnd:\t0000000000000000"), "{output}");
        assert!(output.contains("NoNewPrivs:\t1"), "{output}");
        assert!(output.contains("Seccomp:\t2"), "{output}");
        assert!(!output.contains("unshared"), "{output}");
        let (_, output) = node.run(status, |_| {}).await;
        assert!(output.contains("CapEff:\t00000000a80425fb"), "{output}");
        let (_, output) = node.run(status, |config| config.security.privileged = true).await;
        // The watchman's filter is there, and refuses nothing.
        assert!(output.contains("Seccomp:\t2") && output.contains("unshared"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn users_groups_and_a_read_only_root_hold() {
    on_a_node(|node| async move {
        let script = "id; touch /x && echo wrote; touch /dev/shm/x && echo shm; cat /etc/secret || echo denied; \
                      echo x > /dev/null && echo swallowed";
        let (exit, output) = node
            .run(script, |config| {
                config.security.user = Some(101);
                config.security.supplemental_groups = vec![2000];
                config.security.read_only_root = true;
            })
            .await;
        assert_eq!(exit.code, 0, "{output}");
        assert!(output.contains("uid=101(web) gid=102(web)"), "{output}");
        assert!(output.contains("7(logs)") && output.contains("2000"), "{output}");
        assert!(!output.contains("wrote") && output.contains("shm") && output.contains("denied"), "{output}");
        assert!(output.contains("swallowed"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn a_container_that_takes_too_much_memory_is_oom_killed() {
    on_a_node(|node| async move {
        let (exit, output) = node.run("exec tail /dev/zero", |config| config.resources.memory_limit = 32 << 20).await;
        assert_eq!((exit.code, exit.signal, exit.reason.as_str()), (137, Some(9), "OOMKilled"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_start_error_in_known_words() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.sandbox("bad").await;
        let config = ContainerConfig { command: vec!["foo".into()], ..shell(&image, "") };
        let id = node.runtime.create_container(&sandbox, &config).await.unwrap();
        let err = node.runtime.start_container(&id).await.unwrap_err();
        assert_eq!(err.to_string(), "exec: \"foo\": executable file not found in $PATH");
        let exit = node.wait(&id).await;
        assert_eq!((exit.code, exit.reason.as_str()), (128, "StartError"));
        let config = ContainerConfig { command: vec!["/no/foo".into()], ..shell(&image, "") };
        let id = node.runtime.create_container(&sandbox, &config).await.unwrap();
        let err = node.runtime.start_container(&id).await.unwrap_err();
        assert_eq!(err.to_string(), "exec: \"/no/foo\": stat /no/foo: no such file or directory");
    })
    .await;
}

#[tokio::test]
async fn mounts_show_the_nodes_files_read_only_where_asked() {
    on_a_node(|node| async move {
        let volume = node.path("volume");
        std::fs::create_dir(&volume).unwrap();
        std::fs::write(volume.join("file"), "hello\n").unwrap();
        let mount = |path: &str, read_only| Mount {
            container_path: path.into(),
            host_path: volume.clone(),
            read_only,
            ..Mount::default()
        };
        let file = Mount { host_path: volume.join("file"), ..mount("/etc/deep/er/file", true) };
        let mounts = vec![mount("/rw", false), mount("/ro", true), file];
        let script = "cat /ro/file /etc/deep/er/file; echo bye > /rw/new; touch /ro/x || echo refused";
        let (_, output) = node.run(script, |config| config.mounts = mounts).await;
        assert!(output.matches("hello\n").count() == 2 && output.contains("refused"), "{output}");
        assert_eq!(std::fs::read_to_string(volume.join("new")).unwrap(), "bye\n");
    })
    .await;
}

#[tokio::test]
async fn what_is_mounted_is_seen_across_the_border_of_a_container_only_where_that_is_asked() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.sandbox("propagation").await;
        let cases = [
            (Propagation::Private, false, false),
            (Propagation::HostToContainer, true, false),
            (Propagation::Bidirectional, true, true),
        ];
        for (index, (propagation, comes_in, goes_out)) in cases.into_iter().enumerate() {
            let place = node.path(&format!("place-{index}"));
            std::fs::create_dir(&place).unwrap();
            let memory = |path: &Path| rustix::mount::mount("x", path, "tmpfs", MountFlags::empty(), c"").unwrap();
            memory(&place);
            rustix::mount::mount_change(&place, MountPropagationFlags::SHARED).unwrap();
            let (container_path, host_path) = ("/place".into(), place.clone());
            let mount = Mount { container_path, host_path, propagation, ..Mount::default() };
            let name = format!("c{index}");
            let security = runtime::Security { privileged: true, ..runtime::Security::default() };
            let config = ContainerConfig { name, mounts: vec![mount], security, ..sleeper(&image) };
            let id = node.start(&sandbox, config).await;
            std::fs::create_dir(place.join("in")).unwrap();
            memory(&place.join("in"));
            std::fs::write(place.join("in/file"), "").unwrap();
            assert_eq!(node.exec(&id, "test -e /place/in/file").await.0 == 0, comes_in, "{propagation:?}");
            let made = node.exec(&id, "mkdir /place/out && mount -t tmpfs x /place/out && touch /place/out/file").await;
            assert_eq!(made, (0, String::new()));
            assert_eq!(place.join("out/file").exists(), goes_out, "{propagation:?}");
            rustix::mount::unmount(&place, UnmountFlags::DETACH).unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_mount_that_gives_nothing_on_is_refused_to_whom_that_is_asked() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.sandbox("refused").await;
        let place = node.path("place");
        std::fs::create_dir_all(&place).unwrap();
        rustix::mount::mount("x", &place, "tmpfs", MountFlags::empty(), c"").unwrap();
        std::fs::create_dir(place.join("below")).unwrap();
        let start = async |name: &str, propagation| {
            let (container_path, sub_path) = ("/place".into(), Some("below".into()));
            let mount = Mount { container_path, host_path: place.clone(), sub_path, propagation, ..Mount::default() };
            let config = ContainerConfig { name: name.into(), mounts: vec![mount], ..sleeper(&image) };
            let id = node.runtime.create_container(&sandbox, &config).await.map_err(|err| err.to_string())?;
            node.runtime.start_container(&id).await.map_err(|err| err.to_string())
        };
        let refusal = |words: &str| {
            let (path, point) = (place.join("below"), &place);
            Err(format!("path {path:?} is mounted on {point:?} but it is not a {words} mount"))
        };
        rustix::mount::mount_change(&place, MountPropagationFlags::PRIVATE).unwrap();
        assert_eq!(start("a", Propagation::Bidirectional).await, refusal("shared"));
        assert_eq!(start("b", Propagation::HostToContainer).await, refusal("shared or slave"));
        assert_eq!(start("c", Propagation::Private).await, Ok(()));
        rustix::mount::mount_change(&place, MountPropagationFlags::SHARED).unwrap();
        let peer = node.path("peer");
        std::fs::create_dir(&peer).unwrap();
        rustix::mount::mount_bind(&place, &peer).unwrap();
        rustix::mount::mount_change(&place, MountPropagationFlags::DOWNSTREAM).unwrap();
        assert_eq!(start("d", Propagation::Bidirectional).await, refusal("shared"));
        assert_eq!(start("e", Propagation::HostToContainer).await, Ok(()));
        for mounted in [&peer, &place] {
            rustix::mount::unmount(mounted, UnmountFlags::DETACH).unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn exec_runs_inside_with_streams_codes_and_time_limits() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.sandbox("exec").await;
        let id = node.start(&sandbox, sleeper(&image)).await;
        assert_eq!(node.exec(&id, "echo $FROM_IMAGE; pwd; exit 5").await, (5, "yes\n/srv\n".to_owned()));
        assert!(node.exec(&id, "grep NoNewPrivs /proc/self/status").await.1.contains('1'));
        let command = ["sleep", "1000"].map(str::to_owned);
        let err = node.runtime.exec_sync(&id, &command, Duration::from_millis(200)).await.unwrap_err();
        assert!(matches!(err, Error::Timeout { .. }), "{err}");
        let missing = node.runtime.exec_sync(&id, &["nope".to_owned()], PATIENCE).await.unwrap_err();
        assert_eq!(missing.to_string(), "exec: \"nope\": executable file not found in $PATH");
        let request = ExecRequest { command: vec!["cat".into()], stdin: true, stdout: true, ..ExecRequest::default() };
        let mut session = node.runtime.exec(&id, &request).await.unwrap();
        let mut stdin = session.stdin.take().unwrap();
        stdin.write_all(b"through").await.unwrap();
        drop(stdin);
        let mut text = String::new();
        session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!((text.as_str(), session.exit.await.unwrap().unwrap()), ("through", 0));
    })
    .await;
}

#[tokio::test]
async fn exec_with_a_terminal_has_one_of_the_asked_size() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.sandbox("tty").await;
        let id = node.start(&sandbox, sleeper(&image)).await;
        let command = ["sh", "-c", "tty; read line; stty size; exit 4"].map(str::to_owned).to_vec();
        let request = ExecRequest { command, stdin: true, stdout: true, tty: true, ..ExecRequest::default() };
        let mut session = node.runtime.exec(&id, &request).await.unwrap();
        session.resize.send(TerminalSize { width: 99, height: 33 }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        session.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
        let mut text = String::new();
        session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        assert!(text.contains("/dev/pts/") && text.contains("33 99"), "{text}");
        assert_eq!(session.exit.await.unwrap().unwrap(), 4);
    })
    .await;
}

#[tokio::test]
async fn attach_shows_output_and_takes_input() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.sandbox("attach").await;
        let config = ContainerConfig {
            stdin: true,
            stdin_once: true,
            ..shell(&image, "while read line; do echo got $line; done; exit 6")
        };
        let id = node.start(&sandbox, config).await;
        let mut session = node.runtime.attach(&id).await.unwrap();
        let mut stdin = session.stdin.take().unwrap();
        stdin.write_all(b"one\ntwo\n").await.unwrap();
        drop(stdin);
        let mut text = String::new();
        session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "got one\ngot two\n");
        assert_eq!(session.exit.await.unwrap().unwrap(), 6);
        assert_eq!(node.output(&id).await, text);
    })
    .await;
}

#[tokio::test]
async fn stopping_asks_first_and_then_kills() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.sandbox("stop").await;
        let polite = node.start(&sandbox, sleeper(&image)).await;
        let stubborn = shell(&image, "trap '' TERM; echo up; while :; do sleep 1; done");
        let stubborn = node.start(&sandbox, ContainerConfig { log_path: "stubborn.log".into(), ..stubborn }).await;
        for id in [&polite, &stubborn] {
            while !node.output(id).await.contains("up") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        node.runtime.stop_container(&polite, PATIENCE).await.unwrap();
        assert_eq!(node.wait(&polite).await.code, 3);
        let before = std::time::Instant::now();
        node.runtime.stop_container(&stubborn, Duration::from_millis(300)).await.unwrap();
        assert!(before.elapsed() >= Duration::from_millis(300));
        let exit = node.wait(&stubborn).await;
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
        node.runtime.stop_container(&stubborn, PATIENCE).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_restart_of_the_runtime_leaves_containers_running_and_hears_of_their_ends() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.sandbox("survivor").await;
        let id = node.start(&sandbox, sleeper(&image)).await;
        let ends = node.start(&sandbox, ContainerConfig { log_path: "ends.log".into(), ..sleeper(&image) }).await;
        let done = ContainerConfig { log_path: "done.log".into(), ..shell(&image, "exit 9") };
        let done = node.start(&sandbox, done).await;
        node.wait(&done).await;
        let config = node.config.clone();
        let first = LocalRuntime::open(config.clone()).await.unwrap();
        let before = first.container_status(&id).await.unwrap();
        drop(first);
        let second = LocalRuntime::open(config).await.unwrap();
        assert_eq!(second.container_status(&id).await.unwrap(), before);
        assert!(matches!(before.state, ContainerState::Running { .. }));
        let mut events = second.events();
        second.stop_container(&ends, Duration::ZERO).await.unwrap();
        Node::hear(
            &mut events,
            |event| matches!(event, Event::ContainerExited { container, .. } if *container == ends),
        )
        .await;
        let ContainerState::Exited(exit) = second.container_status(&done).await.unwrap().state else { panic!() };
        assert_eq!(exit.code, 9);
        let command = ["true".to_owned()];
        assert_eq!(second.exec_sync(&id, &command, PATIENCE).await.unwrap().exit_code, 0);
    })
    .await;
}

#[tokio::test]
async fn a_dead_shim_takes_its_containers_along_and_is_an_event() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.sandbox("dying").await;
        let id = node.start(&sandbox, sleeper(&image)).await;
        let ContainerState::Running { pid, .. } = node.status(&id).await.state else { panic!("not running") };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let shim: i32 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
        let mut events = node.runtime.events();
        rustix::process::kill_process(rustix::process::Pid::from_raw(shim).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
        Node::hear(&mut events, |event| matches!(event, Event::SandboxExited { .. })).await;
        assert_eq!(node.wait(&id).await.reason, "ContainerStatusUnknown");
        assert!(!node.runtime.sandboxes().await.unwrap()[0].ready);
    })
    .await;
}

#[tokio::test]
async fn pods_reach_each_other_and_port_forward_reaches_a_pod() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let server = node.runtime.run_sandbox(&node.sandbox_config("server")).await.unwrap();
        let script = "echo hi > /srv/index.html; exec httpd -f -p 8080 -h /srv";
        node.start(&server.id, shell(&image, script)).await;
        let client = node.sandbox("client").await;
        let id = node.start(&client, sleeper(&image)).await;
        let address = server.ips[0];
        let fetch =
            format!("for i in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://{address}:8080/ && break; sleep 0.2; done");
        assert_eq!(node.exec(&id, &fetch).await.1.lines().last(), Some("hi"));
        let (mut read, mut write) = node.runtime.port_forward(&server.id, 8080).await.unwrap();
        write.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut text = String::new();
        read.read_to_string(&mut text).await.unwrap();
        assert!(text.ends_with("hi\n"), "{text}");
        let err = node.runtime.port_forward(&client, 9).await.err().unwrap();
        assert!(err.to_string().contains("onnection refused"), "{err}");
    })
    .await;
}

#[tokio::test]
async fn a_shared_pid_namespace_is_shared_and_ends_with_the_pod() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let options = NamespaceOptions { shared_pid: true, ..NamespaceOptions::default() };
        let sandbox = node.sandbox_with("shared", options).await;
        let first = node.start(&sandbox, sleeper(&image)).await;
        let second = node.start(&sandbox, ContainerConfig { log_path: "two.log".into(), ..sleeper(&image) }).await;
        let (_, processes) = node.exec(&second, "ps").await;
        assert!(processes.matches("trap 'exit 3'").count() >= 2, "{processes}");
        node.runtime.stop_container(&first, PATIENCE).await.unwrap();
        assert_eq!(node.wait(&first).await.code, 3);
        assert!(matches!(node.status(&second).await.state, ContainerState::Running { .. }));
        node.runtime.stop_sandbox(&sandbox).await.unwrap();
        assert_eq!(node.wait(&second).await.code, 137);
    })
    .await;
}

#[tokio::test]
async fn a_container_sees_the_processes_of_its_target_and_ends_with_it() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.sandbox("target").await;
        let target = node.start(&sandbox, sleeper(&image)).await;
        let beside = |target: &str| ContainerConfig {
            process_target: Some(target.to_owned()),
            log_path: "debug.log".into(),
            ..shell(&image, "echo up; sleep 1000")
        };
        let debugger = node.start(&sandbox, beside(&target)).await;
        let (_, processes) = node.exec(&debugger, "ps").await;
        assert!(processes.contains("trap 'exit 3'") && processes.contains("sleep 1000"), "{processes}");
        node.runtime.stop_container(&target, PATIENCE).await.unwrap();
        assert_eq!(node.wait(&target).await.code, 3);
        assert_eq!(node.wait(&debugger).await.code, 137);
        let err = node.runtime.create_container(&sandbox, &beside(&target)).await.unwrap_err();
        assert!(err.to_string().contains("is not running"), "{err}");
    })
    .await;
}

#[tokio::test]
async fn the_host_network_is_the_nodes() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let options = NamespaceOptions { host_network: true, ..NamespaceOptions::default() };
        let sandbox = node.sandbox_with("host", options).await;
        let id = node.start(&sandbox, sleeper(&image)).await;
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(node.exec(&id, "hostname").await.1, host);
        assert!(node.exec(&id, "ip link").await.1.contains(&node.name));
    })
    .await;
}

#[tokio::test]
async fn limits_change_and_use_is_measured_while_it_runs() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.sandbox("stats").await;
        let id = node.start(&sandbox, sleeper(&image)).await;
        node.exec(&id, "head -c 100000 /dev/zero > /srv/file").await;
        let stats = node.runtime.container_stats(&id).await.unwrap();
        assert!(stats.cpu_nanos > 0 && stats.memory_usage > 0, "{stats:?}");
        assert!(node.runtime.layer_usage(&id).await.unwrap() >= 100_000);
        let resources = Resources { memory_limit: 64 << 20, cpu_shares: 512, ..Resources::default() };
        node.runtime.update_sandbox(&sandbox, &resources).await.unwrap();
        node.runtime.update_container(&id, &resources, &Default::default()).await.unwrap();
        let limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null";
        assert_eq!(node.exec(&id, limit).await.1.trim(), (64 << 20).to_string());
    })
    .await;
}

#[tokio::test]
async fn an_image_is_a_volume_that_can_be_read_and_no_more() {
    on_a_node(|node| async move {
        let busybox = node.busybox().await;
        let lower = files(&[("web/index", "old\n", 0o600), ("web/run", "#!/bin/sh\necho ran\n", 0o755)]);
        let upper = files(&[("web/index", "new\n", 0o600)]);
        let mount = |image: &str, path: &str| Mount {
            container_path: path.into(),
            image: Some(image.to_owned()),
            read_only: true,
            ..Mount::default()
        };
        let web = |path: &str| Mount { sub_path: Some("web".into()), ..mount("site:two", path) };
        let script = "cat /one/web/index /two/web/index /web/index; /one/web/run || echo not run; \
            sh /web/run; touch /one/x || echo refused; touch /web/x || echo refused; echo up; sleep 1000";
        let users = Some(IdMap { host: 0x7654_0000, length: 65_536 });
        for users in [None, users] {
            let one = node.import_as("site:one", &[&lower]).await;
            node.import_as("site:two", &[&lower, &upper]).await;
            // Each has a log of its own.
            let name = if users.is_some() { "images-of-others" } else { "images" };
            let options = NamespaceOptions { users, ..NamespaceOptions::default() };
            let sandbox = node.sandbox_with(name, options).await;
            let mounts = vec![mount(&one.id, "/one"), mount("site:two", "/two"), web("/web")];
            let id = node.start(&sandbox, ContainerConfig { mounts, ..shell(&busybox, script) }).await;
            node.until_output(&id, "up").await;
            let output = node.output(&id).await;
            assert!(output.contains("old\nnew\nnew\n") && output.matches("ran\n").count() == 1, "{output}");
            assert!(output.contains("not run") && output.matches("refused").count() == 2, "{output}");
            node.runtime.remove_image(&one.id).await.unwrap();
            assert_eq!(node.exec(&id, "cat /one/web/index").await.1, "old\n", "what is mounted stays");
            let missing = Mount { sub_path: Some("missing".into()), ..mount("site:two", "/m") };
            let config = ContainerConfig { mounts: vec![missing], ..sleeper(&busybox) };
            let id = node.runtime.create_container(&sandbox, &config).await;
            let err = match id {
                Ok(id) => node.runtime.start_container(&id).await.unwrap_err(),
                Err(err) => err,
            };
            assert!(err.to_string().contains("failed to find subPath \"missing\" in the image"), "{err}");
            node.runtime.stop_sandbox(&sandbox).await.unwrap();
            node.runtime.remove_sandbox(&sandbox).await.unwrap();
        }
        let absent = ContainerConfig { mounts: vec![mount("absent:1", "/a")], ..sleeper(&busybox) };
        let sandbox = node.sandbox("absent").await;
        let err = node.runtime.create_container(&sandbox, &absent).await.unwrap_err();
        assert!(matches!(err, Error::NotFound { what: "image", .. }), "{err}");
    })
    .await;
}

#[tokio::test]
async fn a_rotated_log_goes_on_in_a_new_file() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.sandbox("rotate").await;
        let config =
            ContainerConfig { stdin: true, stdin_once: true, ..shell(&image, "echo old; read line; echo new") };
        let id = node.start(&sandbox, config).await;
        while node.output(&id).await != "old\n" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let path = node.status(&id).await.log_path;
        std::fs::rename(&path, path.with_extension("1")).unwrap();
        node.runtime.reopen_log(&id).await.unwrap();
        let mut session = node.runtime.attach(&id).await.unwrap();
        session.stdin.take().unwrap().write_all(b"go\n").await.unwrap();
        node.wait(&id).await;
        assert_eq!(node.output(&id).await, "new\n");
    })
    .await;
}

#[tokio::test]
async fn exec_sync_does_not_wait_for_what_a_command_left_behind() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.sandbox("behind").await;
        let id = node.start(&sandbox, sleeper(&image)).await;
        let begin = std::time::Instant::now();
        assert_eq!(node.exec(&id, "sleep 1000 & echo done").await, (0, "done\n".to_owned()));
        assert!(begin.elapsed() < PATIENCE);
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_or_not_supported_is_refused_and_leaves_nothing() {
    on_a_node(|node| async move {
        let users = Some(IdMap { host: 0, length: 65_536 });
        let options = NamespaceOptions { users, ..NamespaceOptions::default() };
        let config = runtime::SandboxConfig { namespaces: options, ..node.sandbox_config("users") };
        assert!(matches!(node.runtime.run_sandbox(&config).await, Err(Error::Invalid { .. })));
        let mut config = node.sandbox_config("sysctl");
        config.sysctls.insert("net.no.such".into(), "1".into());
        let err = node.runtime.run_sandbox(&config).await.unwrap_err();
        assert!(err.to_string().contains("net.no.such"), "{err}");
        let sandbox = node.sandbox("plain").await;
        let missing = ContainerConfig { image: "no/such".into(), ..ContainerConfig::default() };
        assert!(matches!(node.runtime.create_container(&sandbox, &missing).await, Err(Error::NotFound { .. })));
        node.runtime.stop_sandbox("nobody").await.unwrap();
        node.runtime.remove_container("nobody").await.unwrap();
        assert_eq!(node.runtime.sandboxes().await.unwrap().len(), 1);
        assert_eq!(std::fs::read_dir(node.config.root.join("sandboxes")).unwrap().count(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_local_runtime_passes_the_suite() {
    on_a_node(|node| async move {
        let image = node.busybox().await.id;
        let sandbox = SandboxConfig { cgroup_parent: node.name.clone(), ..node.sandbox_config("suite") };
        testsuite::run(&testsuite::Subject { runtime: &node.runtime, image, sandbox }).await;
    })
    .await;
}

#[tokio::test]
async fn a_host_port_leads_to_the_pod_as_long_as_it_lives() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let host_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mapping =
            PortMapping { protocol: "TCP".into(), container_port: 8080, host_port, host_ip: "127.0.0.1".into() };
        let config = SandboxConfig { port_mappings: vec![mapping], ..node.sandbox_config("ported") };
        let sandbox = node.runtime.run_sandbox(&config).await.unwrap().id;
        let script = "echo hi > /srv/index.html; exec httpd -f -p 8080 -h /srv";
        node.start(&sandbox, shell(&image, script)).await;
        let connected = async {
            loop {
                match tokio::net::TcpStream::connect(("127.0.0.1", host_port)).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let mut stream = tokio::time::timeout(PATIENCE, connected).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.ends_with("hi\n"), "{text}");
        node.runtime.stop_sandbox(&sandbox).await.unwrap();
        assert!(tokio::net::TcpStream::connect(("127.0.0.1", host_port)).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_terminal_container_logs_and_answers_what_is_typed() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.sandbox("terminal").await;
        let script = "tty; ls -l /dev/console; read line; echo typed $line; exit 2";
        let config = ContainerConfig { tty: true, stdin: true, ..shell(&image, script) };
        let id = node.start(&sandbox, config).await;
        let mut session = node.runtime.attach(&id).await.unwrap();
        session.stdin.as_mut().unwrap().write_all(b"hello\n").await.unwrap();
        assert_eq!(session.exit.await.unwrap().unwrap(), 2);
        let output = node.output(&id).await;
        assert!(output.contains("/dev/pts/0") && output.contains("typed hello"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn sysctls_hostname_and_dns_are_the_pods() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let mut config = node.sandbox_config("named");
        config.hostname = "web-0".to_owned();
        config.sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "7".to_owned());
        config.dns = Some(DnsConfig { servers: vec!["10.9.8.7".into()], ..DnsConfig::default() });
        let sandbox = node.runtime.run_sandbox(&config).await.unwrap().id;
        let id = node.start(&sandbox, sleeper(&image)).await;
        let script = "hostname; cat /etc/resolv.conf /proc/sys/net/ipv4/ip_unprivileged_port_start";
        assert_eq!(node.exec(&id, script).await.1, "web-0\nnameserver 10.9.8.7\n7\n");
    })
    .await;
}

#[tokio::test]
async fn a_sandbox_whose_maker_died_halfway_is_known_and_taken_down() {
    on_a_node(|node| async move {
        let first = LocalRuntime::open(node.config.clone()).await.unwrap();
        let sandbox = first.run_sandbox(&node.sandbox_config("half")).await.unwrap().id;
        let file = node.config.root.join("sandboxes").join(&sandbox).join("sandbox.json");
        let mut saved: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        saved["status"]["ready"] = false.into();
        saved["shim_pid"] = 0.into();
        std::fs::write(&file, saved.to_string()).unwrap();
        let next = LocalRuntime::open(node.config.clone()).await.unwrap();
        let mut events = first.events();
        assert!(next.sandboxes().await.unwrap().iter().any(|status| status.id == sandbox && !status.ready));
        next.remove_sandbox(&sandbox).await.unwrap();
        Node::hear(&mut events, |event| matches!(event, Event::SandboxExited { .. })).await;
        assert!(!file.exists());
    })
    .await;
}
