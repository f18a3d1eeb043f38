//! What containers and images try against the node, on a real kernel: needs root, a static busybox and nft; skips loudly
//! without them.
#![allow(clippy::unwrap_used)]

mod node;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use node::{layer_with, on_a_node, shell, sleeper};
use runtime::{ContainerConfig, ContainerState, FileKind, IdMap, Mount, NamespaceOptions, Runtime as _};
use rustix::fs::{CWD, FileType, RenameFlags};

fn mount(source: &Path, target: &str) -> Mount {
    Mount { container_path: target.into(), host_path: source.to_owned(), ..Mount::default() }
}

#[tokio::test]
async fn a_sub_path_that_is_swapped_with_a_link_shows_nothing_of_the_node() {
    const TRIES: u64 = 60;
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.sandbox("race").await;
        let (volume, secret) = (node.path("volume"), node.path("node"));
        for (directory, owner) in [(volume.join("way"), "pod"), (secret.clone(), "node")] {
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("file"), owner).unwrap();
        }
        symlink(&secret, volume.join("link")).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, swapped) = (stop.clone(), volume.clone());
        let swapper = std::thread::spawn(move || {
            let (way, link) = (swapped.join("way"), swapped.join("link"));
            while !stopped.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &way, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let (mut escapes, mut seen) = (0, 0_u64);
        for round in 0..TRIES {
            let mount = Mount { sub_path: Some("way".into()), ..mount(&volume, "/m") };
            let config = ContainerConfig {
                mounts: vec![mount],
                log_path: format!("{round}.log").into(),
                ..shell(&image, "cat /m/file; echo; echo x > /m/written")
            };
            // A refusal is as good as what the pod's own directory has.
            let Ok(id) = node.runtime.create_container(&sandbox, &config).await else { continue };
            node.runtime.start_container(&id).await.unwrap();
            node.wait(&id).await;
            let said = node.output(&id).await;
            seen += u64::from(said.contains("pod"));
            escapes += u64::from(said.contains("node"));
        }
        stop.store(true, Ordering::Relaxed);
        swapper.join().unwrap();
        escapes += u64::from(secret.join("written").exists());
        faults::Attack::new("runtime: subPath of a volume in which a container swaps a directory and a link")
            .tried(TRIES, escapes)
            .figure("mounted the pod's own", seen)
            .record();
        assert!(seen > 0);
    })
    .await;
}

#[tokio::test]
async fn sub_paths_are_made_as_open_as_their_volume_and_files_are_files() {
    on_a_node(|node| async move {
        let volume = node.path("volume");
        std::fs::create_dir(&volume).unwrap();
        std::fs::set_permissions(&volume, std::fs::Permissions::from_mode(0o2777)).unwrap();
        std::fs::write(volume.join("file"), "one file\n").unwrap();
        symlink("made/deep", volume.join("inside")).unwrap();
        let below = |path: &str, target: &str| Mount { sub_path: Some(path.into()), ..mount(&volume, target) };
        let file = Mount { read_only: true, ..below("file", "/etc/one") };
        let mounts = vec![below("made/deep", "/deep"), file, below("inside", "/in")];
        let script = "cat /etc/one; echo x > /etc/one || echo refused; echo y > /deep/new; cat /in/new";
        let (_, output) = node.run(script, |config| config.mounts = mounts).await;
        assert!(output.contains("one file\n") && output.contains("refused") && output.contains("y\n"), "{output}");
        assert_eq!(std::fs::metadata(volume.join("made/deep")).unwrap().mode() & 0o7777, 0o2777);
        let image = node.busybox().await;
        let sandbox = node.sandbox("refused").await;
        symlink("/etc", volume.join("out")).unwrap();
        for (mounts, expected) in [
            (vec![below("out/passwd", "/x")], "failed to prepare subPath \"out/passwd\": it leaves its volume"),
            (vec![Mount { kind: Some(FileKind::File), ..mount(&volume, "/x") }], "hostPath type check failed"),
            (vec![mount(&volume, "/proc/self")], "inside /proc"),
            (vec![mount(&volume, "/proc")], "inside /proc"),
            (vec![mount(&volume, "/x/../proc/sys")], "inside /proc"),
        ] {
            let config = ContainerConfig { mounts, ..shell(&image, "true") };
            let err = node.runtime.create_container(&sandbox, &config).await.unwrap_err().to_string();
            assert!(err.contains(expected), "{err}");
        }
    })
    .await;
}

/// An entry without content.
fn special(builder: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType, link: &str, device: (u32, u32)) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o666);
    header.set_size(0);
    header.set_device_major(device.0).unwrap();
    header.set_device_minor(device.1).unwrap();
    if link.is_empty() {
        builder.append_data(&mut header, path, std::io::empty()).unwrap();
    } else {
        builder.append_link(&mut header, path, link).unwrap();
    }
}

#[tokio::test]
async fn links_pipes_and_devices_of_an_image_reach_nothing_of_the_node() {
    on_a_node(|node| async move {
        let outside = node.path("outside");
        std::fs::create_dir(&outside).unwrap();
        let disk = std::fs::read_dir("/dev").unwrap().flatten().map(|entry| entry.metadata().unwrap());
        let disk = disk.filter(|found| FileType::from_raw_mode(found.mode()) == FileType::BlockDevice);
        let disk = disk.map(|found| (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()))).next();
        let layer = layer_with(|builder| {
            let climb = format!("/../../../../../../..{}", outside.display());
            special(builder, "data", tar::EntryType::Symlink, &climb, (0, 0));
            special(builder, "etc/resolv.conf", tar::EntryType::Symlink, "../run/stub.conf", (0, 0));
            special(builder, "etc/group", tar::EntryType::Fifo, "", (0, 0));
            special(builder, "zero", tar::EntryType::Char, "", (1, 5));
            special(builder, "disk", tar::EntryType::Block, "", disk.unwrap_or((7, 0)));
        });
        let image = node.import(&layer).await;
        let volume = node.path("volume");
        std::fs::create_dir(&volume).unwrap();
        std::fs::write(volume.join("file"), "mounted\n").unwrap();
        let sandbox = node.sandbox("image").await;
        let script = "cat /data/sub/file; cat /etc/resolv.conf > /dev/null && echo resolv; \
            head -c 1 /zero > /dev/null && echo opened zero; head -c 1 /disk > /dev/null && echo opened disk; \
            grep ' / overlay' /proc/self/mounts; pwd; true";
        let config = ContainerConfig {
            mounts: vec![mount(&volume, "/data/sub")],
            working_dir: "/data/work".into(),
            ..shell(&image, script)
        };
        let id = node.start(&sandbox, config).await;
        node.wait(&id).await;
        let output = node.output(&id).await;
        assert!(output.contains("mounted\n") && output.contains("resolv\n"), "{output}");
        assert!(output.contains("nodev"), "{output}");
        let opened = output.matches("opened").count() as u64;
        let written = std::fs::read_dir(&outside).unwrap().count() as u64;
        faults::Attack::new("runtime: an image with links out, a pipe for /etc/group and device nodes")
            .tried(5, opened + written)
            .record();
        let root = node.config.root.metadata().unwrap();
        assert_eq!(root.mode() & 0o077, 0, "no other user of the node reaches what images contain");
        let err = ContainerConfig { working_dir: "/proc/self/fd/3".into(), ..shell(&image, "pwd") };
        assert!(node.runtime.create_container(&sandbox, &err).await.is_err());
    })
    .await;
}

const USERS: IdMap = IdMap { host: 0x7654_0000, length: 65_536 };

#[tokio::test]
async fn a_pod_with_users_of_its_own_is_root_inside_and_nobody_outside() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let options = NamespaceOptions { users: Some(USERS), ..NamespaceOptions::default() };
        let mut config = runtime::SandboxConfig { namespaces: options, ..node.sandbox_config("users") };
        config.sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
        config.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "7".into());
        let sandbox = node.runtime.run_sandbox(&config).await.unwrap().id;
        let volume = node.path("volume");
        std::fs::create_dir(&volume).unwrap();
        for (name, owner) in [("mine", 0), ("web", 101), ("others", USERS.host + 65_536)] {
            std::fs::write(volume.join(name), name).unwrap();
            std::os::unix::fs::chown(volume.join(name), Some(owner), Some(owner)).unwrap();
            std::fs::set_permissions(volume.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mounts =
            vec![mount(&volume, "/data"), Mount { sub_path: Some("new/sub".into()), ..mount(&volume, "/sub") }];
        let mut config = ContainerConfig { mounts, ..sleeper(&image) };
        config.security.add_capabilities = vec!["SYS_ADMIN".into()];
        let id = node.start(&sandbox, config).await;
        let ContainerState::Running { pid, .. } = node.status(&id).await.state else { panic!("not running") };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let host = USERS.host.to_string();
        assert!(status.contains(&format!("Uid:\t{host}\t{host}\t{host}\t{host}")), "{status}");
        let exec = async |script: &str| node.exec(&id, script).await.1;
        assert_eq!(exec("id -u; cat /data/mine /etc/secret").await, "0\nminefrom the image\n");
        let listed = exec("busybox stat -c '%u %g %n' /data/* /etc/secret /dev/null /dev/shm /etc/hostname /srv").await;
        for line in ["0 0 /data/mine", "101 101 /data/web", "65534 65534 /data/others", "0 0 /dev/null", "0 0 /srv"] {
            assert!(listed.lines().any(|found| found == line), "{line} in {listed}");
        }
        assert!(exec("cat /data/others").await.contains("denied"));
        exec("echo x > /data/made; echo x > /sub/made; echo x > /made; busybox chown 101:102 /made").await;
        for made in ["made", "new/sub/made"] {
            assert_eq!(std::fs::metadata(volume.join(made)).unwrap().uid(), 0, "{made}");
        }
        let upper = node.config.root.join("sandboxes").join(&sandbox).join("containers").join(&id).join("upper/made");
        assert_eq!((upper.metadata().unwrap().uid(), upper.metadata().unwrap().gid()), (101, 102));
        assert_eq!(exec("cat /proc/sys/net/ipv4/ip_unprivileged_port_start; echo > /dev/stdout").await, "7\n\n");
        // Root inside has its mounts, and none of what the node made.
        let tries = [
            "mount -t tmpfs x /mnt && touch /mnt/x && echo mounted",
            "busybox umount /proc/kcore && echo uncovered",
            "busybox mount -o remount,rw /proc/sys && echo uncovered",
            "busybox mknod /dev/disk b 7 0 && echo node",
            "echo 1 > /proc/sys/kernel/panic && echo sysctl",
        ];
        let mut through = 0;
        exec("busybox mkdir -p /mnt").await;
        for (index, script) in tries.iter().enumerate() {
            let said = exec(script).await;
            if index == 0 {
                assert!(said.contains("mounted\n"), "{script}: {said}");
            } else {
                let word = script.rsplit(' ').next().unwrap();
                through += u64::from(said.lines().any(|line| line == word));
            }
        }
        faults::Attack::new("runtime: root of a user namespace against what the node has mounted and owns")
            .tried(tries.len() as u64 - 1, through)
            .record();
        let mut web = ContainerConfig { log_path: "web.log".into(), ..shell(&image, "id -u; echo out > /dev/stdout") };
        web.security.user = Some(101);
        let web = node.start(&sandbox, web).await;
        node.wait(&web).await;
        assert_eq!(node.output(&web).await, "101\nout\n");
        let mut strange = shell(&image, "id");
        strange.security.user = Some(65_536);
        let err = node.runtime.create_container(&sandbox, &strange).await.unwrap_err();
        assert!(err.to_string().contains("outside the pod's user namespace"), "{err}");
        strange.security = runtime::Security { privileged: true, ..runtime::Security::default() };
        let err = node.runtime.create_container(&sandbox, &strange).await.unwrap_err();
        assert!(matches!(err, runtime::Error::Unsupported { .. }), "{err}");
    })
    .await;
}
