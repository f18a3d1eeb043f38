//! The files in which it is written down what drivers have mounted.
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use api::volumes::attachment;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::files::{at, blocking, write_private};

/// The name of such a file, as upstream's.
pub(super) const FILE: &str = "vol_data.json";
/// Where a pod's volumes are, below its directory; and its block devices.
pub(super) const POD_VOLUMES: &str = "volumes/kubernetes.io~csi";
pub(super) const POD_DEVICES: &str = "volumeDevices/kubernetes.io~csi";
/// Where volumes are staged, below the kubelet's directory; and block devices.
pub(super) const STAGED: &str = "plugins/kubernetes.io/csi";
pub(super) const DEVICES: &str = "plugins/kubernetes.io/csi/volumeDevices";

/// No record is longer, in bytes.
const LONGEST: u64 = 64 << 10;

/// A volume of a driver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeId {
    /// The driver.
    #[serde(rename = "driverName")]
    pub(crate) driver: String,
    /// The driver's name for the volume.
    #[serde(rename = "volumeHandle")]
    pub(crate) handle: String,
}

/// A volume as it is, or may be, on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// Which.
    #[serde(flatten)]
    pub(crate) id: VolumeId,
    /// The name of its PersistentVolume, or for a pod's own volume its name in the pod.
    #[serde(rename = "specVolID")]
    pub(crate) name: String,
    /// The name of its VolumeAttachment; empty for a volume that is not attached.
    #[serde(default, rename = "attachmentID")]
    pub(crate) attachment: String,
    /// Whether it is a block device.
    #[serde(default)]
    pub(crate) block: bool,
    /// Its name in the pod.
    #[serde(default)]
    pub(crate) volume: String,
}

impl VolumeId {
    /// The name that the volume has in the status of nodes.
    pub(crate) fn unique_name(&self) -> String {
        attachment::unique_name(&self.driver, &self.handle)
    }
}

/// Writes a record, and the directories above it.
pub(super) async fn write(path: PathBuf, record: &Record) -> io::Result<()> {
    let text = serde_json::to_string(record)?;
    blocking(move || {
        if let Some(parent) = path.parent() {
            make_directories(parent)?;
        }
        write_private(&path, &text).map_err(at(&path, "write"))
    })
    .await
}

/// Makes a directory that only the node's root and its group may look into, and those above it.
pub(crate) fn make_directories(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(at(path, "create"))
}

/// Removes a mount point, which must be empty by now, then the record, and then the directory that held both.
pub(super) async fn clear(record: PathBuf, mount_point: PathBuf) -> io::Result<()> {
    blocking(move || {
        let removed = match fs::symlink_metadata(&mount_point) {
            // Never what is in it: that may be the volume's, if it is still mounted.
            Ok(found) if found.is_dir() => fs::remove_dir(&mount_point),
            Ok(_) => fs::remove_file(&mount_point),
            Err(err) => Err(err),
        };
        absent_is_fine(removed).map_err(at(&mount_point, "remove"))?;
        absent_is_fine(fs::remove_file(&record)).map_err(at(&record, "remove"))?;
        for directory in [mount_point.parent(), record.parent()].into_iter().flatten() {
            // Somebody else's may be in it.
            let _not_empty = fs::remove_dir(directory);
        }
        Ok(())
    })
    .await
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// What is published to pods, with their uids.
pub(super) fn published(root: &Path) -> Vec<(String, Record)> {
    let mut found = Vec::new();
    for (uid, pod) in children(&root.join("pods")) {
        for kind in [POD_VOLUMES, POD_DEVICES] {
            let volumes = children(&pod.join(kind));
            found.extend(volumes.iter().filter_map(|(name, path)| {
                let record: Record = parse(&path.join(FILE))?;
                (record.name == *name).then(|| (uid.clone(), record))
            }));
        }
    }
    found
}

/// What is staged.
pub(super) fn staged(root: &Path) -> Vec<Record> {
    let drivers = children(&root.join(STAGED)).into_iter().filter(|(name, _)| name != "volumeDevices");
    let mounted = drivers.flat_map(|(_, driver)| children(&driver)).map(|(_, path)| path.join(FILE));
    let devices = children(&root.join(DEVICES)).into_iter().map(|(_, path)| path.join("data").join(FILE));
    mounted.chain(devices).filter_map(|path| parse(&path)).collect()
}

fn children(directory: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect()
}

fn parse<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let mut text = String::new();
    match fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text)) {
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return None,
        Err(err) => {
            warn!(path = %path.display(), error = &err as &dyn std::error::Error, "cannot read what was mounted");
            return None;
        }
        Ok(_) => {}
    }
    let read = serde_json::from_str(&text);
    if let Err(err) = &read {
        warn!(path = %path.display(), error = err as &dyn std::error::Error, "cannot read what was mounted");
    }
    read.ok()
}
