//! Sub-paths of volumes. What they lead to, containers can change at any moment, so the runtime resolves them when it
//! mounts them, beneath the volume; here their text is judged, and whether they can be mounted at this moment (upstream:
//! pkg/volume/util/subpath).
use std::io;
use std::path::{Component, Path, PathBuf};

use runtime::beneath::{self, Directory, Links};

/// No path of a file is longer (PATH_MAX).
const MAX_LENGTH: usize = 4096;

/// The path below a volume that `sub_path` names, without dots; `None` for the volume itself.
///
/// # Errors
/// When it is not relative, climbs, or is longer than a path can be.
pub(crate) fn parse(sub_path: &str) -> io::Result<Option<PathBuf>> {
    let refuse = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("subPath {sub_path:?} {why}"));
    if sub_path.len() >= MAX_LENGTH || sub_path.contains('\0') {
        return Err(refuse("is no path"));
    }
    let mut path = PathBuf::new();
    for part in Path::new(sub_path).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            _ => return Err(refuse("must be relative and may not contain '..'")),
        }
    }
    Ok(Some(path).filter(|path| !path.as_os_str().is_empty()))
}

/// Makes what is missing of a sub-path, as directories that have the volume's mode: what cannot be mounted is known before
/// there is a container. A volume that is not there is not looked into, as the runtime makes it.
///
/// # Errors
/// When it leads out of the volume, or cannot be made.
pub(crate) fn prepare(volume: &Path, sub_path: &Path) -> io::Result<()> {
    let found = match beneath::find_on_node(volume) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let mode = rustix::fs::fstat(&found)?.st_mode;
    Directory::held(found, Links::Within).find_or_make(sub_path, mode & 0o7777).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_is_missing_is_made_as_the_volume_is_and_nothing_outside_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o2770)).unwrap();
        prepare(&volume, Path::new("a/b")).unwrap();
        assert_eq!(fs::metadata(volume.join("a/b")).unwrap().permissions().mode() & 0o7777, 0o2770);
        symlink("a", volume.join("inside")).unwrap();
        prepare(&volume, Path::new("inside/c")).unwrap();
        assert!(volume.join("a/c").is_dir());
        for outside in ["/etc", "..", "../made"] {
            let link = volume.join("link");
            symlink(outside, &link).unwrap();
            assert!(prepare(&volume, Path::new("link")).is_err(), "{outside}");
            fs::remove_file(link).unwrap();
        }
        assert!(!directory.path().join("made").exists());
        fs::write(volume.join("file"), "").unwrap();
        assert!(prepare(&volume, Path::new("file/x")).is_err());
        prepare(&directory.path().join("none"), Path::new("x")).unwrap();
    }

    #[test]
    fn sub_paths_are_relative_and_never_climb() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(parse(text).unwrap(), expected.map(PathBuf::from));
        check("a/./b//c", Some("a/b/c"));
        check("..a", Some("..a"));
        check(".", None);
        let long = "a/".repeat(MAX_LENGTH);
        for text in ["..", "a/../b", "/etc", "../x", "a\0b", &long] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
