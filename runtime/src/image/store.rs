//! The index of images and the directories of their layers (upstream: containerd's image store and snapshotter).
//!
//! `images.json` is written whole and atomically. A layer is a directory named after its chain (itself on top of the
//! layers below), made under another name and renamed when it is complete; so what is there is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::name::normalize;
use super::{Budget, ImageConfig, digest, unpack};
use crate::disk::{self, io_error};
use crate::{Error, Image};

/// An image and all that is needed to run it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) image: Image,
    pub(crate) config: ImageConfig,
    /// Names of directories below [`Store::layers`], lowest first.
    pub(crate) layers: Vec<String>,
}

pub(crate) struct Store {
    root: PathBuf,
    records: Mutex<BTreeMap<String, Arc<Record>>>,
    /// Held while layers come or go.
    unpacking: Mutex<()>,
}

impl Store {
    pub(crate) fn open(root: PathBuf) -> Result<Self, Error> {
        for directory in ["layers", "partial"] {
            let path = root.join(directory);
            std::fs::create_dir_all(&path).map_err(io_error("make", &path))?;
        }
        let records: Vec<Record> = disk::read_json(&root.join("images.json"))?.unwrap_or_default();
        let records = records.into_iter().map(|record| (record.image.id.clone(), Arc::new(record))).collect();
        let store = Self { root, records: Mutex::new(records), unpacking: Mutex::new(()) };
        store.clear_partial()?;
        Ok(store)
    }

    /// Removes what an earlier process did not finish.
    fn clear_partial(&self) -> Result<(), Error> {
        let partial = self.root.join("partial");
        disk::remove(&partial)?;
        std::fs::create_dir(&partial).map_err(io_error("make", &partial))
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// A new place for what is not finished.
    pub(crate) fn partial(&self) -> PathBuf {
        self.root.join("partial").join(disk::random_id())
    }

    /// Finds an image by id (whole or at least 12 digits), tag or digest.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Record>> {
        let records = self.lock();
        if let Some(record) = records.get(name) {
            return Some(record.clone());
        }
        let full = normalize(name);
        let named = |record: &&Arc<Record>| {
            let image = &record.image;
            full.as_ref().is_some_and(|full| image.tags.contains(full) || image.digests.contains(full))
        };
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        let short = hex.len() >= 12 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let by_id = |record: &&Arc<Record>| short && record.image.id["sha256:".len()..].starts_with(hex);
        records.values().find(named).or_else(|| records.values().find(by_id)).cloned()
    }

    pub(crate) fn list(&self) -> Vec<Image> {
        self.lock().values().map(|record| record.image.clone()).collect()
    }

    /// Adds an image, or new names of a known one. A tag moves away from the image that had it.
    pub(crate) fn add(&self, mut record: Record) -> Result<Image, Error> {
        let mut records = self.lock();
        let id = record.image.id.clone();
        if let Some(known) = records.get(&id) {
            merge(&mut record.image.tags, &known.image.tags);
            merge(&mut record.image.digests, &known.image.digests);
        }
        for other in records.values_mut().filter(|other| other.image.id != id) {
            if other.image.tags.iter().any(|tag| record.image.tags.contains(tag)) {
                Arc::make_mut(other).image.tags.retain(|tag| !record.image.tags.contains(tag));
            }
        }
        let image = record.image.clone();
        records.insert(id, Arc::new(record));
        self.save(&records)?;
        Ok(image)
    }

    /// Removes an image, all names of it, and the layers that neither another image nor `used` needs.
    pub(crate) fn remove(&self, name: &str, used: &BTreeSet<String>) -> Result<(), Error> {
        let Some(record) = self.find(name) else { return Ok(()) };
        let _unpacking = self.unpacking.lock().expect("no panic under this lock");
        let needed: BTreeSet<String> = {
            let mut records = self.lock();
            records.remove(&record.image.id);
            self.save(&records)?;
            records.values().flat_map(|record| record.layers.iter().cloned()).collect()
        };
        for layer in record.layers.iter().filter(|layer| !needed.contains(*layer) && !used.contains(*layer)) {
            let path = self.layers().join(layer);
            let away = self.partial();
            std::fs::rename(&path, &away).map_err(io_error("remove", &path))?;
            disk::remove(&away)?;
        }
        Ok(())
    }

    /// What an image that arrives now may take.
    pub(crate) fn budget(&self) -> Result<Budget, Error> {
        Budget::of(&self.root).map_err(io_error("make room for an image in", &self.root))
    }

    /// Which layers of a configuration are not here yet, lowest first, by index.
    pub(crate) fn missing(&self, config: &ImageConfig) -> Vec<usize> {
        let chain = chain(&config.rootfs.diff_ids);
        (0..chain.len()).filter(|&index| !self.layers().join(&chain[index]).exists()).collect()
    }

    /// Unpacks layer `index` of a configuration from its tar, compressed or not, and checks it.
    pub(crate) fn unpack(
        &self,
        config: &ImageConfig,
        index: usize,
        tar: impl Read,
        budget: &Budget,
    ) -> Result<(), Error> {
        let (names, wanted) = (chain(&config.rootfs.diff_ids), &config.rootfs.diff_ids[index]);
        let place = self.layers().join(&names[index]);
        let partial = self.partial();
        std::fs::create_dir(&partial).map_err(io_error("make", &partial))?;
        let unpacked = unpack::layer(tar, &partial, budget)
            .and_then(|found| if found == *wanted { Ok(()) } else { Err(unpack::mismatch(wanted, &found)) });
        let _unpacking = self.unpacking.lock().expect("no panic under this lock");
        let finished = unpacked.and_then(|()| if place.exists() { Ok(()) } else { std::fs::rename(&partial, &place) });
        disk::remove(&partial)?;
        finished.map_err(io_error("unpack layer", &place))
    }

    /// Makes the record of an image whose layers are all here.
    pub(crate) fn record(
        &self,
        id: String,
        config: ImageConfig,
        tags: Vec<String>,
        digests: Vec<String>,
    ) -> Result<Record, Error> {
        let layers = chain(&config.rootfs.diff_ids);
        let mut size = 0;
        for layer in &layers {
            size += disk::usage(&self.layers().join(layer))?;
        }
        let user = config.config.user.clone();
        Ok(Record { image: Image { id, tags, digests, size, user }, config, layers })
    }

    fn save(&self, records: &BTreeMap<String, Arc<Record>>) -> Result<(), Error> {
        let all: Vec<&Record> = records.values().map(Arc::as_ref).collect();
        disk::write_json(&self.root.join("images.json"), &all)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Record>>> {
        self.records.lock().expect("no panic under this lock")
    }
}

/// Directory names of layers: a prefix of the digest of the chain, short enough for 100 of them in one mount option.
fn chain(diff_ids: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    let mut parent = String::new();
    for id in diff_ids {
        parent = if parent.is_empty() { id.clone() } else { digest(format!("{parent} {id}").as_bytes()) };
        let hex = &parent["sha256:".len()..];
        names.push(hex[..32].to_owned());
    }
    names
}

fn merge(into: &mut Vec<String>, from: &[String]) {
    for name in from {
        if !into.contains(name) {
            into.push(name.clone());
        }
    }
}

/// Reads a small document to its end.
pub(crate) fn read_limited(reader: impl Read, path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut limited = reader.take(super::MAX_DOCUMENT + 1);
    limited.read_to_end(&mut bytes).map_err(io_error("read", path))?;
    if bytes.len() as u64 > super::MAX_DOCUMENT {
        return Err(Error::Invalid { field: "image", reason: format!("{} is too long", path.display()) });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layers_name_depends_on_what_is_below_it() {
        let ids = ["1", "2"].map(|digit| format!("sha256:{}", digit.repeat(64)));
        let both = chain(&ids);
        assert_eq!(both[0], chain(&ids[..1])[0]);
        assert_ne!(both[1], chain(&ids[1..])[0]);
    }

    #[test]
    fn a_tag_moves_to_the_image_that_has_it_last() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().to_owned()).unwrap();
        let tag = "docker.io/library/a:latest".to_owned();
        for digit in ["1", "2"] {
            let id = format!("sha256:{}", digit.repeat(64));
            let record = store.record(id, ImageConfig::default(), vec![tag.clone()], Vec::new()).unwrap();
            store.add(record).unwrap();
        }
        let again = Store::open(directory.path().to_owned()).unwrap();
        assert!(again.find("a").unwrap().image.id.starts_with("sha256:22"));
        assert_eq!(again.list().iter().filter(|image| image.tags.is_empty()).count(), 1);
    }
}
