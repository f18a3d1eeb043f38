//! What layers become, and what hostile ones try.

use super::metadata::{MAX_ATTRIBUTE, MAX_ATTRIBUTES};
use super::*;

fn layer(tar: impl Read, directory: &Path) -> io::Result<String> {
    super::layer(tar, directory, &Budget::of(directory).unwrap())
}

fn tar_of(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, path, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(if *kind == EntryType::Directory { 0o755 } else { 0o644 });
        let ids = rustix::process::getuid().as_raw();
        header.set_uid(u64::from(ids));
        header.set_gid(u64::from(rustix::process::getgid().as_raw()));
        let name = path.as_bytes();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
        let data: &[u8] = if kind.is_file() { content.as_bytes() } else { b"" };
        if !kind.is_file() && !content.is_empty() {
            let link = content.as_bytes();
            header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link);
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn neither_dots_nor_links_lead_out_of_the_layer() {
    let outside = tempfile::tempdir().unwrap();
    let inside = outside.path().join("layer");
    std::fs::create_dir(&inside).unwrap();
    assert!(layer(tar_of(&[(EntryType::Regular, "../evil", "x")]).as_slice(), &inside).is_err());
    let link = (EntryType::Symlink, "way", "../../..");
    layer(tar_of(&[link, (EntryType::Regular, "way/evil", "x")]).as_slice(), &inside).unwrap();
    assert!(inside.join("evil").exists());
    assert!(!outside.path().join("evil").exists());
}

#[test]
fn gzip_zstd_and_plain_layers_have_one_digest() {
    let plain = tar_of(&[(EntryType::Directory, "d/", ""), (EntryType::Regular, "d/f", "text")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    for tar in [plain.clone(), gzip.finish().unwrap(), zstd] {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(layer(tar.as_slice(), directory.path()).unwrap(), super::super::digest(&plain));
        assert_eq!(std::fs::read_to_string(directory.path().join("d/f")).unwrap(), "text");
    }
}

#[test]
fn a_hard_link_shares_its_file() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir().unwrap();
    let tar = tar_of(&[(EntryType::Regular, "a", "x"), (EntryType::Link, "b", "/a")]);
    layer(tar.as_slice(), directory.path()).unwrap();
    assert_eq!(std::fs::metadata(directory.path().join("b")).unwrap().nlink(), 2);
}

#[test]
fn whiteouts_become_overlayfs_own() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: this test needs root");
        return;
    }
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let tar = tar_of(&[
        (EntryType::Regular, "gone/.wh.file", ""),
        (EntryType::Regular, ".wh.again", ""),
        (EntryType::Directory, "again/", ""),
        (EntryType::Regular, "new/.wh..wh..opq", ""),
    ]);
    layer(tar.as_slice(), directory.path()).unwrap();
    assert_eq!(std::fs::symlink_metadata(directory.path().join("gone/file")).unwrap().rdev(), 0);
    for name in ["again", "new"] {
        let (path, mut value) = (directory.path().join(name), [0; 4]);
        assert_eq!(rustix::fs::getxattr(&path, "trusted.overlay.opaque", &mut value), Ok(1), "{name}");
    }
}

#[test]
fn half_a_tar_is_an_error() {
    let tar = tar_of(&[(EntryType::Regular, "a", "some text")]);
    let directory = tempfile::tempdir().unwrap();
    assert!(layer(&tar[..515], directory.path()).is_err());
}

/// A file of GNU tar's sparse format: so many bytes of text, and then nothing up to `length`.
fn sparse(length: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_uid(u64::from(rustix::process::getuid().as_raw()));
    header.set_gid(u64::from(rustix::process::getgid().as_raw()));
    header.set_size(512);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..6].copy_from_slice(b"sparse");
    let octal = |number: u64| -> [u8; 12] { format!("{number:011o}\0").into_bytes().try_into().unwrap() };
    gnu.realsize = octal(length);
    for (block, (offset, count)) in gnu.sparse.iter_mut().zip([(0, 512), (length, 0)]) {
        (block.offset, block.numbytes) = (octal(offset), octal(count));
    }
    header.set_cksum();
    let mut tar = header.as_bytes().to_vec();
    tar.extend([b'x'; 512]);
    tar.extend([0; 1024]);
    tar
}

/// An entry of any kind with any size, and with as many bytes behind it as are given.
fn raw(kind: EntryType, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.as_gnu_mut().unwrap().name[..3].copy_from_slice(b"raw");
    header.set_size(size);
    header.set_cksum();
    [header.as_bytes().as_slice(), content].concat()
}

/// A plain file behind PAX records.
fn with_records(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions(records.iter().copied()).unwrap();
    let mut tar = builder.into_inner().unwrap();
    tar.truncate(tar.len() - 1024);
    tar.extend(tar_of(&[(EntryType::Regular, "file", "text")]));
    tar
}

#[test]
fn a_sparse_file_stays_one() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir().unwrap();
    let budget = Budget::of(directory.path()).unwrap();
    super::layer(sparse(4 << 30).as_slice(), directory.path(), &budget).unwrap();
    let found = std::fs::metadata(directory.path().join("sparse")).unwrap();
    assert_eq!(found.len(), 4 << 30);
    let on_disk = found.blocks() * 512;
    faults::Attack::new("runtime: a 2 kB sparse layer that would unpack to 4 GiB")
        .tried(1, u64::from(on_disk > 1 << 20 || budget.taken() > 1 << 20))
        .figure("bytes on disk", on_disk)
        .record();
}

#[test]
fn zeros_become_holes_and_content_stays() {
    let directory = tempfile::tempdir().unwrap();
    let mut content = vec![0; 3 * CHUNK + 5];
    content[2 * CHUNK] = 7;
    let padding = vec![0; 512 - content.len() % 512 + 1024];
    let tar = raw(EntryType::Regular, content.len() as u64, &[content.as_slice(), &padding].concat());
    let budget = Budget::of(directory.path()).unwrap();
    match super::layer(tar.as_slice(), directory.path(), &budget) {
        // Only root can give files away, and these are root's.
        Err(err) if !rustix::process::geteuid().is_root() => return eprintln!("SKIP: this test needs root: {err}"),
        unpacked => unpacked.map(|_| ()).unwrap(),
    }
    assert_eq!(std::fs::read(directory.path().join("raw")).unwrap(), content);
    assert_eq!(budget.taken(), ENTRY + CHUNK as u64);
}

#[test]
fn bombs_are_stopped_before_they_go_off() {
    let zeros = vec![0; 4 << 20];
    let zeros_at_the_end = [tar_of(&[]), vec![0; (MAX_TRAILER + (1 << 20)) as usize]].concat();
    let deep = "d/".repeat(MAX_DEPTH + 1);
    let long = "d".repeat(MAX_PATH + 1);
    let attribute = vec![b'x'; MAX_ATTRIBUTE + 1];
    let many: Vec<String> = (0..=MAX_ATTRIBUTES).map(|index| format!("SCHILY.xattr.user.a{index}")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), b"v".as_slice())).collect();
    let bombs = [
        ("a file of 100 GiB", raw(EntryType::Regular, 100 << 30, b"")),
        ("a long name of 4 MiB", raw(EntryType::GNULongName, 4 << 20, &zeros)),
        ("records of 4 MiB", raw(EntryType::XHeader, 4 << 20, &zeros)),
        ("zeros behind the end", zstd::encode_all(zeros_at_the_end.as_slice(), 1).unwrap()),
        ("a deep path", with_records(&[("path", deep.as_bytes())])),
        ("a long path", with_records(&[("path", long.as_bytes())])),
        ("a long attribute", with_records(&[("SCHILY.xattr.user.a", &attribute)])),
        ("many attributes", with_records(&many)),
    ];
    let mut through = 0;
    for (name, tar) in &bombs {
        let directory = tempfile::tempdir().unwrap();
        let result = layer(tar.as_slice(), directory.path());
        let stopped = result.as_ref().is_err_and(|err| err.kind() == io::ErrorKind::QuotaExceeded);
        if !stopped {
            eprintln!("{name}: {result:?}");
        }
        through += u64::from(!stopped);
    }
    faults::Attack::new("runtime: layers that unpack to too much of anything")
        .tried(bombs.len() as u64, through)
        .record();
}

#[test]
fn a_layer_stops_at_the_images_share_of_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let text = "x".repeat(4 << 20);
    let tar = tar_of(&[(EntryType::Regular, "a", &text), (EntryType::Regular, "b", &text)]);
    let err = super::layer(tar.as_slice(), directory.path(), &Budget::fixed(directory.path(), 1 << 20)).unwrap_err();
    assert_eq!(err.kind(), io::ErrorKind::QuotaExceeded, "{err}");
    assert!(crate::tree::usage(directory.path()).unwrap() <= 1 << 20);
}

#[test]
fn sparse_files_of_another_format_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let tar = with_records(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"4294967296")]);
    let err = layer(tar.as_slice(), directory.path()).unwrap_err();
    assert!(err.to_string().contains("not supported"), "{err}");
}
