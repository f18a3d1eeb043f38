//! Images from a tar: `docker save`, or an OCI layout.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use serde::Deserialize;

use super::name::normalize;
use super::store::{Record, Store, read_limited};
use super::{Budget, ImageConfig, digest, unpack};
use crate::beneath::{Directory, Links};
use crate::disk::{self, io_error};
use crate::{Error, Image};

/// No archive has more manifests; an index may be in an index.
const MAX_MANIFESTS: usize = 1000;

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
        let imported = self.budget().and_then(|budget| {
            let file = File::open(tar).map_err(io_error("open", tar))?;
            unpack::archive(file, &place, &budget).map_err(io_error("read archive", tar))?;
            let place = Directory::open(&place, Links::Within).map_err(io_error("open", &place))?;
            match place.find(Path::new("manifest.json")) {
                Ok(_) => self.import_saved(&place, &budget),
                Err(_) => self.import_layout(&place, &budget),
            }
        });
        disk::remove(&place)?;
        imported?.into_iter().map(|record| self.add(record)).collect()
    }

    fn import_saved(&self, place: &Directory, budget: &Budget) -> Result<Vec<Record>, Error> {
        let all: Vec<Saved> = parse(place, "manifest.json")?;
        let import = |saved: &Saved| {
            let layers: Vec<&str> = saved.layers.iter().map(String::as_str).collect();
            let tags = saved.repo_tags.iter().flatten().filter_map(|tag| normalize(tag)).collect();
            self.import_one(place, &saved.config, &layers, tags, budget)
        };
        all.iter().map(import).collect()
    }

    fn import_layout(&self, place: &Directory, budget: &Budget) -> Result<Vec<Record>, Error> {
        let index: Index = parse(place, "index.json")?;
        let mut open: Vec<(String, Vec<String>)> = index
            .manifests
            .iter()
            .filter(|one| one.is_for_here())
            .map(|one| (one.digest.clone(), one.tags()))
            .collect();
        let mut records = Vec::new();
        let mut count = 0;
        while let Some((digest, tags)) = open.pop() {
            count += 1;
            if count > MAX_MANIFESTS {
                return Err(Error::Invalid { field: "image archive", reason: "it has too many manifests".to_owned() });
            }
            let manifest: Manifest = parse_blob(place, &digest)?;
            let Some(config) = &manifest.config else {
                let here = manifest.manifests.iter().filter(|one| one.is_for_here());
                open.extend(here.map(|one| (one.digest.clone(), tags.clone())));
                continue;
            };
            let layers = manifest.layers.iter().map(|layer| blob(&layer.digest)).collect::<Result<Vec<_>, _>>()?;
            let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
            let mut record = self.import_one(place, &blob(&config.digest)?, &layers, tags.clone(), budget)?;
            let repository = |tag: &String| tag.rsplit_once(':').map(|(name, _)| format!("{name}@{digest}"));
            record.image.digests = tags.iter().filter_map(repository).collect();
            records.push(record);
        }
        Ok(records)
    }

    fn import_one(
        &self,
        place: &Directory,
        config: &str,
        layers: &[&str],
        tags: Vec<String>,
        budget: &Budget,
    ) -> Result<Record, Error> {
        let invalid = |reason| Error::Invalid { field: "image archive", reason };
        let text = read(place, config)?;
        let parsed = ImageConfig::parse(&text).map_err(invalid)?;
        if parsed.rootfs.diff_ids.len() != layers.len() {
            return Err(invalid(format!("{config} names another number of layers than the manifest")));
        }
        for index in self.missing(&parsed) {
            self.unpack(&parsed, index, member(place, layers[index])?, budget)?;
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
        name.and_then(|name| normalize(name)).into_iter().collect()
    }
}

fn blob(digest: &str) -> Result<String, Error> {
    match digest.split_once(':') {
        Some((algorithm, hex)) => Ok(format!("blobs/{algorithm}/{hex}")),
        None => Err(Error::Invalid { field: "image archive", reason: format!("{digest:?} is not a digest") }),
    }
}

fn parse<T: serde::de::DeserializeOwned>(place: &Directory, name: &str) -> Result<T, Error> {
    decode(&read(place, name)?, name)
}

/// A document that is what its digest says: an image is found by that digest later.
fn parse_blob<T: serde::de::DeserializeOwned>(place: &Directory, wanted: &str) -> Result<T, Error> {
    let bytes = read(place, &blob(wanted)?)?;
    let found = digest(&bytes);
    if found != wanted {
        let reason = format!("manifest {wanted} has digest {found}");
        return Err(Error::Invalid { field: "image archive", reason });
    }
    decode(&bytes, wanted)
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8], name: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes)
        .map_err(|err| Error::Invalid { field: "image archive", reason: format!("{name}: {err}") })
}

fn read(place: &Directory, name: &str) -> Result<Vec<u8>, Error> {
    read_limited(member(place, name)?, Path::new(name))
}

/// A file of the archive: never one outside it, also not through a link.
fn member(place: &Directory, name: &str) -> Result<File, Error> {
    place.open_regular(Path::new(name)).map_err(io_error("open archive member", Path::new(name)))
}
