//! Images from a tar: `docker save`, or an OCI layout.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::store::{Record, Store, parse_config, read_limited};
use super::{digest, registry};
use crate::disk::io_error;
use crate::{Error, Image};

/// An entry of `manifest.json` in a `docker save` archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    /// Set when this is an index in an index.
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

impl Store {
    /// Imports every image of an archive that is for this machine.
    pub(crate) fn import(&self, tar: &Path) -> Result<Vec<Image>, Error> {
        let place = self.partial();
        std::fs::create_dir(&place).map_err(io_error("make", &place))?;
        let imported = extract(tar, &place).map_err(io_error("read archive", tar)).and_then(|()| {
            if place.join("manifest.json").exists() { self.import_saved(&place) } else { self.import_layout(&place) }
        });
        std::fs::remove_dir_all(&place).map_err(io_error("remove", &place))?;
        imported?.into_iter().map(|record| self.add(record)).collect()
    }

    fn import_saved(&self, place: &Path) -> Result<Vec<Record>, Error> {
        let all: Vec<Saved> = parse(place, "manifest.json")?;
        let import = |saved: &Saved| {
            let layers: Vec<&str> = saved.layers.iter().map(String::as_str).collect();
            let tags = saved.repo_tags.iter().flatten().filter_map(|tag| registry::normalize(tag)).collect();
            self.import_one(place, &saved.config, &layers, tags)
        };
        all.iter().map(import).collect()
    }

    fn import_layout(&self, place: &Path) -> Result<Vec<Record>, Error> {
        let index: Index = parse(place, "index.json")?;
        let mut open: Vec<(String, Vec<String>)> = index
            .manifests
            .iter()
            .filter(|one| one.is_for_here())
            .map(|one| (one.digest.clone(), one.tags()))
            .collect();
        let mut records = Vec::new();
        while let Some((digest, tags)) = open.pop() {
            let manifest: Manifest = parse(place, &blob(&digest)?)?;
            let Some(config) = &manifest.config else {
                let here = manifest.manifests.iter().filter(|one| one.is_for_here());
                open.extend(here.map(|one| (one.digest.clone(), tags.clone())));
                continue;
            };
            let layers = manifest.layers.iter().map(|layer| blob(&layer.digest)).collect::<Result<Vec<_>, _>>()?;
            let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
            let mut record = self.import_one(place, &blob(&config.digest)?, &layers, tags.clone())?;
            let repository = |tag: &String| tag.rsplit_once(':').map(|(name, _)| format!("{name}@{digest}"));
            record.image.digests = tags.iter().filter_map(repository).collect();
            records.push(record);
        }
        Ok(records)
    }

    fn import_one(&self, place: &Path, config: &str, layers: &[&str], tags: Vec<String>) -> Result<Record, Error> {
        let invalid = |reason| Error::Invalid { field: "image archive", reason };
        let text = read(place, config)?;
        let parsed = parse_config(&text).map_err(invalid)?;
        if parsed.rootfs.diff_ids.len() != layers.len() {
            return Err(invalid(format!("{config} names another number of layers than the manifest")));
        }
        for index in self.missing(&parsed) {
            let path = member(place, layers[index])?;
            let file = File::open(&path).map_err(io_error("open layer", Path::new(layers[index])))?;
            self.unpack(&parsed, index, file)?;
        }
        self.record(digest(&text), parsed, tags, Vec::new())
    }
}

impl Descriptor {
    fn is_for_here(&self) -> bool {
        let machine = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        self.platform.as_ref().is_none_or(|platform| platform.os == "linux" && platform.architecture == machine)
    }

    /// Names that builders write into an index.
    fn tags(&self) -> Vec<String> {
        let keys = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
        let name = keys.iter().find_map(|key| self.annotations.get(*key));
        name.and_then(|name| registry::normalize(name)).into_iter().collect()
    }
}

/// Writes an archive's plain files and links into `place`, and nothing outside it.
fn extract(tar: &Path, place: &Path) -> io::Result<()> {
    for entry in tar::Archive::new(File::open(tar)?).entries()? {
        // This refuses paths that lead out.
        entry?.unpack_in(place)?;
    }
    Ok(())
}

fn blob(digest: &str) -> Result<String, Error> {
    match digest.split_once(':') {
        Some((algorithm, hex)) => Ok(format!("blobs/{algorithm}/{hex}")),
        None => Err(Error::Invalid { field: "image archive", reason: format!("{digest:?} is not a digest") }),
    }
}

fn parse<T: serde::de::DeserializeOwned>(place: &Path, name: &str) -> Result<T, Error> {
    serde_json::from_slice(&read(place, name)?)
        .map_err(|err| Error::Invalid { field: "image archive", reason: format!("{name}: {err}") })
}

fn read(place: &Path, name: &str) -> Result<Vec<u8>, Error> {
    let file = File::open(member(place, name)?).map_err(io_error("open archive member", Path::new(name)))?;
    read_limited(file, Path::new(name))
}

/// A file of the archive: never one outside it, also not through a link.
fn member(place: &Path, name: &str) -> Result<PathBuf, Error> {
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let path = place.join(name);
    let real = path.canonicalize().map_err(io_error("find archive member", Path::new(name)))?;
    let root = place.canonicalize().map_err(io_error("find", place))?;
    if plain && real.starts_with(root) {
        return Ok(real);
    }
    Err(Error::Invalid { field: "image archive", reason: format!("{name:?} is not inside the archive") })
}
