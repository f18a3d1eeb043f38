//! Sub-paths of volumes: a file or directory inside one, never outside, whatever symbolic links a pod has put there.
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use super::at;

/// The host path of `sub_path` in the volume at `root`; a missing directory is made, as open as the
/// volume itself.
pub fn resolve(root: &Path, sub_path: &str) -> io::Result<PathBuf> {
    let refuse = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("subPath {sub_path:?} {why}"));
    let real_root = root.canonicalize().map_err(at(root, "resolve"))?;
    let mode = fs::metadata(&real_root).map_err(at(root, "look at"))?.permissions().mode() & 0o777;
    let mut path = real_root.clone();
    for part in Path::new(sub_path).components() {
        let name = match part {
            Component::Normal(name) => name,
            Component::CurDir => continue,
            _ => return Err(refuse("must be relative and may not contain '..'")),
        };
        let next = path.join(name);
        match fs::symlink_metadata(&next) {
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&next).map_err(at(&next, "create"))?;
                fs::set_permissions(&next, fs::Permissions::from_mode(mode)).map_err(at(&next, "chmod"))?;
            }
            Err(err) => return Err(at(&next, "look at")(err)),
        }
        path = next.canonicalize().map_err(at(&next, "resolve"))?;
        if !path.starts_with(&real_root) {
            return Err(refuse("leaves its volume"));
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_paths_are_made_and_never_leave_the_volume() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("volume");
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
        let made = resolve(&root, "a/b").unwrap();
        assert!(made.is_dir() && fs::metadata(&made).unwrap().permissions().mode() & 0o777 == 0o777);
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        assert!(resolve(&root, "out").is_err());
        assert!(resolve(&root, "out/passwd").is_err());
        assert!(resolve(&root, "../x").is_err());
        assert!(resolve(&root, "/etc").is_err());
    }
}
