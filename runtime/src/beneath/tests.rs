use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::RenameFlags;

use super::*;

fn volume() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("volume");
    fs::create_dir(&root).unwrap();
    (directory, root)
}

fn inode(found: &OwnedFd) -> u64 {
    rustix::fs::fstat(found).unwrap().st_ino
}

#[test]
fn links_lead_anywhere_within_and_nowhere_else() {
    let (outer, root) = volume();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(outer.path().join("secret"), "x").unwrap();
    for (name, target) in
        [("in", "a/b"), ("up", "a/../a"), ("abs", "/etc"), ("out", "../secret"), ("far", "a/../../secret")]
    {
        symlink(target, root.join(name)).unwrap();
    }
    let within = Directory::open(&root, Links::Within).unwrap();
    assert_eq!(inode(&within.find(Path::new("in")).unwrap()), fs::metadata(root.join("a/b")).unwrap().ino());
    assert!(within.find(Path::new("up/b")).is_ok());
    for name in ["abs", "out", "far", "../secret", "/etc", "a/../../secret"] {
        let err = within.find_or_make(Path::new(name), 0o755).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(libc::EXDEV), "{name}: {err}");
    }
    let rooted = Directory::open(&root, Links::InRoot).unwrap();
    assert!(rooted.find(Path::new("abs")).is_err(), "there is no /etc in the root");
    assert_eq!(inode(&rooted.find(Path::new("../../a")).unwrap()), fs::metadata(root.join("a")).unwrap().ino());
}

#[test]
fn what_is_missing_is_made_with_the_mode_and_through_no_dangling_link() {
    let (outer, root) = volume();
    symlink("nothing", root.join("dangling")).unwrap();
    symlink(outer.path().join("new"), root.join("trap")).unwrap();
    let within = Directory::open(&root, Links::Within).unwrap();
    let made = within.find_or_make(Path::new("x/y"), 0o2777).unwrap();
    assert_eq!(kind(&made).unwrap(), Some(FileKind::Directory));
    for part in ["x", "x/y"] {
        assert_eq!(fs::metadata(root.join(part)).unwrap().permissions().mode() & 0o7777, 0o2777, "{part}");
    }
    for name in ["dangling/z", "trap/z", "trap", "x/../../z"] {
        assert!(within.find_or_make(Path::new(name), 0o755).is_err(), "{name}");
    }
    assert!(!outer.path().join("new").exists() && !outer.path().join("z").exists());
    within.find_or_make_file(Path::new("p/q/file")).unwrap();
    assert!(fs::metadata(root.join("p/q/file")).unwrap().is_file());
    assert!(within.find_or_make_file(Path::new("dangling")).is_err());
}

#[test]
fn links_to_nothing_in_a_root_lead_where_they_say_within_it() {
    let (outer, root) = volume();
    fs::create_dir(root.join("etc")).unwrap();
    symlink("../run/resolve/stub.conf", root.join("etc/resolv.conf")).unwrap();
    symlink("/../../../run", root.join("var")).unwrap();
    symlink("b", root.join("a")).unwrap();
    symlink("a", root.join("b")).unwrap();
    let rooted = Directory::open(&root, Links::InRoot).unwrap();
    rooted.find_or_make_file(Path::new("/etc/resolv.conf")).unwrap();
    assert!(fs::metadata(root.join("run/resolve/stub.conf")).unwrap().is_file());
    rooted.find_or_make(Path::new("/var/lock/x"), 0o755).unwrap();
    assert!(root.join("run/lock/x").is_dir() && !outer.path().join("run").exists());
    assert!(rooted.find_or_make(Path::new("/a/x"), 0o755).is_err());
}

#[test]
fn a_clean_path_is_absolute_and_without_dots() {
    let check = |path: &str, expected: &str| assert_eq!(clean(Path::new(path)), Path::new(expected));
    check("/a/./b/../c/", "/a/c");
    check("../../proc", "/proc");
    check("", "/");
}

#[test]
fn only_regular_files_of_a_bounded_length_are_read() {
    let (_outer, root) = volume();
    fs::write(root.join("file"), "12345").unwrap();
    rustix::fs::mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    symlink("/dev/zero", root.join("zero")).unwrap();
    let within = Directory::open(&root, Links::Within).unwrap();
    assert_eq!(within.read(Path::new("file"), 5).unwrap(), b"12345");
    assert_eq!(within.read(Path::new("file"), 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    for name in ["pipe", "zero", "."] {
        assert!(within.read(Path::new(name), 5).is_err(), "{name}");
    }
}

/// A container's favourite: `way` is a directory one moment and a link out of the volume the next.
#[test]
fn a_swap_of_a_directory_and_a_link_never_leads_out() {
    const TRIES: u64 = 20_000;
    let (outer, root) = volume();
    fs::create_dir_all(outer.path().join("node/sub")).unwrap();
    fs::write(outer.path().join("node/file"), "of the node").unwrap();
    fs::create_dir_all(root.join("way/sub")).unwrap();
    fs::write(root.join("way/file"), "of the pod").unwrap();
    symlink(outer.path().join("node"), root.join("link")).unwrap();
    let node = fs::metadata(outer.path().join("node/sub")).unwrap().ino();
    let (stop, mut escapes, mut refused) = (AtomicBool::new(false), 0, 0_u64);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let held = Directory::open(&root, Links::Within).unwrap();
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(&held, "way", &held, "link", RenameFlags::EXCHANGE).unwrap();
            }
        });
        let within = Directory::open(&root, Links::Within).unwrap();
        for round in 0..TRIES {
            let fresh = PathBuf::from(format!("way/new{}", round % 64));
            match within.find_or_make(Path::new("way/sub"), 0o777) {
                Ok(found) => escapes += u64::from(inode(&found) == node),
                Err(_) => refused += 1,
            }
            let _ = within.find_or_make(&fresh, 0o777);
            let read = within.read(Path::new("way/file"), 64).unwrap_or_default();
            escapes += u64::from(read == b"of the node");
        }
        stop.store(true, Ordering::Relaxed);
    });
    // Two entries are the test's own.
    escapes += fs::read_dir(outer.path().join("node")).unwrap().count() as u64 - 2;
    faults::Attack::new("runtime: a directory of a volume swapped with a link while it is resolved")
        .tried(3 * TRIES, escapes)
        .figure("refused", refused)
        .record();
    assert!(refused > 0 && refused < TRIES, "the swaps were seen: {refused}");
}
