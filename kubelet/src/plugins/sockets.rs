//! The sockets by which plugins register, as they are in the directory now (upstream: pkg/kubelet/pluginmanager/pluginwatcher).
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::files::at;
use crate::rpc;

/// Entries of the directory that are looked at, and folders below each other.
const MOST: usize = 1024;
const DEEPEST: usize = 4;

/// What tells a socket from another one that has its name later: device, inode, and when it was made.
pub(super) type Identity = (u64, u64, i64, i64);

/// Makes the directory, which only the node's root may write to.
pub(super) fn prepare(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory).map_err(at(directory, "create"))?;
    let found = std::fs::symlink_metadata(directory).map_err(at(directory, "look at"))?;
    if !found.is_dir() || !rpc::is_trusted(found.uid()) {
        let why = format!("{} is no directory of root's", directory.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o750)).map_err(at(directory, "chmod"))
}

/// The sockets in the directory and its folders. Links are not followed, and hidden files are somebody's drafts.
pub(super) fn find(directory: &Path) -> BTreeMap<PathBuf, Identity> {
    let mut sockets = BTreeMap::new();
    let (mut folders, mut seen) = (vec![(directory.to_owned(), 0)], 0);
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MOST {
                warn!(directory = %directory.display(), "there is too much in the directory of plugins to look at all of it");
                return sockets;
            }
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
            if found.is_dir() && depth < DEEPEST {
                folders.push((path, depth + 1));
            } else if found.file_type().is_socket() && rpc::is_trusted(found.uid()) {
                sockets.insert(path, (found.dev(), found.ino(), found.ctime(), found.ctime_nsec()));
            }
        }
    }
    sockets
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_sockets_count_however_deep_and_a_new_one_of_the_same_name_is_another() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("plugins_registry");
        prepare(&directory).unwrap();
        assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o750);
        std::fs::create_dir(directory.join("driver")).unwrap();
        let (one, two) = (directory.join("a.sock"), directory.join("driver/b.sock"));
        let _listening = [&one, &two, &directory.join(".hidden")].map(|path| UnixListener::bind(path).unwrap());
        std::fs::write(directory.join("file"), "").unwrap();
        std::os::unix::fs::symlink(&one, directory.join("link")).unwrap();
        let first = find(&directory);
        assert_eq!(first.keys().collect::<Vec<_>>(), [&one, &two]);
        std::fs::remove_file(&one).unwrap();
        let _again = UnixListener::bind(&one).unwrap();
        assert_ne!(find(&directory)[&one], first[&one]);
    }

    #[test]
    fn a_link_in_the_place_of_the_directory_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let (real, link) = (place.path().join("real"), place.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(prepare(&link).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
