//! hostPath volumes: what is on the node already (upstream: pkg/volume/hostpath).
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;
use runtime::FileKind;
use runtime::beneath::{self, Directory, Links};

use super::{Place, Reason};
use crate::files::{at, blocking};

/// The place of such a volume, whose type holds.
pub(super) async fn place(source: &HostPathVolumeSource) -> Result<Place, Reason> {
    let (path, kind) = (PathBuf::from(&source.path), source.type_.clone().unwrap_or_default());
    let checked = path.clone();
    let kind = blocking(move || check(&checked, &kind)).await?;
    Ok(Place { kind, ..Place::at(path) })
}

/// Checks (or, for the `OrCreate` types, makes) what the volume's type promises; returns what must be there when it is
/// mounted, which the runtime checks again on what it mounts.
fn check(path: &Path, kind: &str) -> io::Result<Option<FileKind>> {
    let (wanted, make) = match kind {
        "" => return Ok(None),
        "DirectoryOrCreate" => (FileKind::Directory, true),
        "Directory" => (FileKind::Directory, false),
        "FileOrCreate" => (FileKind::File, true),
        "File" => (FileKind::File, false),
        "Socket" => (FileKind::Socket, false),
        "CharDevice" => (FileKind::CharDevice, false),
        "BlockDevice" => (FileKind::BlockDevice, false),
        other => return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("unknown hostPath type {other:?}"))),
    };
    let found = if make {
        let node = Directory::open(Path::new("/"), Links::Anywhere)?;
        match wanted {
            FileKind::File => node.find_or_make_file(path),
            _ => node.find_or_make(path, 0o755),
        }
        .map_err(at(path, "create"))
    } else {
        beneath::find_on_node(path)
    };
    match found.and_then(beneath::kind) {
        Ok(Some(found)) if found == wanted => Ok(Some(wanted)),
        Err(err) if make => Err(err),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, wanted.mismatch(path))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_paths_are_checked_by_type() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        assert!(check(&file, "File").is_err());
        assert!(check(&file, "FileOrCreate").is_ok());
        assert!(check(&file, "File").is_ok());
        assert!(check(&file, "Directory").is_err());
        assert!(check(&file, "Socket").is_err());
        assert!(check(&directory.path().join("d/e"), "DirectoryOrCreate").is_ok());
        assert!(check(directory.path(), "Color").is_err());
    }
}
