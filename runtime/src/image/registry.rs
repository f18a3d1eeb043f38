//! Pulling from registries: over HTTPS and away from the node, or from those that the operator names, over plain HTTP and
//! wherever they are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;

use super::gate::Gate;
use super::name::normalize;
use super::{Budget, ImageConfig, MAX_DOCUMENT, Store, digest};
use crate::{Error, Image, ImageAuth, PullProgress};

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// A registry that sends nothing for so long is given up.
const READ_PATIENCE: Duration = Duration::from_secs(60);

/// Pulls images, each once at a time.
pub(crate) struct Registry {
    insecure: Vec<String>,
    running: Mutex<BTreeMap<String, Arc<Running>>>,
}

/// A pull, and those that wait for it.
#[derive(Default)]
struct Running {
    turn: tokio::sync::Mutex<()>,
    loaded: AtomicU64,
    /// 0 until the manifest is there.
    total: AtomicU64,
}

impl Registry {
    /// Registries (`host[:port]`; without a port, all of the host) in `insecure` are spoken to without TLS, and may be on the
    /// node itself.
    pub(crate) fn new(insecure: Vec<String>) -> Self {
        Self { insecure, running: Mutex::new(BTreeMap::new()) }
    }

    /// Pulls an image. A second pull of the same image waits for the first and then finds most of it here.
    pub(crate) async fn pull(&self, store: &Arc<Store>, name: &str, auth: Option<&ImageAuth>) -> Result<Image, Error> {
        let failed = |reason: String| Error::Pull { image: name.to_owned(), reason };
        let reference: Reference = name.parse().map_err(|err| failed(format!("{err}")))?;
        let running = {
            let mut running = self.running.lock().expect("no panic under this lock");
            running.retain(|_, pull| Arc::strong_count(pull) > 1);
            running.entry(reference.whole()).or_default().clone()
        };
        let _turn = running.turn.lock().await;
        let way = self.way(&reference).await.map_err(&failed)?;
        let pull = Pull { client: client(&way), reference, auth: registry_auth(auth), store, running: &running };
        match pull.run().await {
            Ok(image) => Ok(image),
            Err(Failure::Registry(err)) => Err(failed(way.refused().unwrap_or_else(|| words(&err)))),
            Err(Failure::Content(reason)) => Err(failed(reason)),
            Err(Failure::Local(err)) => Err(failed(with_cause(&err))),
        }
    }

    /// How far the pull of an image is that runs now.
    pub(crate) fn progress(&self, name: &str) -> Option<PullProgress> {
        let running = self.running.lock().expect("no panic under this lock");
        let pull = running.get(&normalize(name)?).filter(|pull| Arc::strong_count(pull) > 1)?;
        let (loaded, total) = (pull.loaded.load(Ordering::Relaxed), pull.total.load(Ordering::Relaxed));
        (total > 0).then_some(PullProgress { loaded, total })
    }

    async fn way(&self, reference: &Reference) -> Result<Way, String> {
        if self.is_named(reference) {
            return Ok(Way::Named);
        }
        if !has_proxy() {
            return Gate::open(host::is_elsewhere).await.map(Way::Gated).map_err(|err| with_cause(&err));
        }
        let registry = reference.resolve_registry();
        let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        if host == "localhost" || address.is_ok_and(|address| !host::is_elsewhere(address)) {
            return Err(format!("{registry} is the node itself, and not named by --insecure-registry"));
        }
        Ok(Way::Proxied)
    }

    /// Whether the operator trusts the registry, wherever it is.
    fn is_named(&self, reference: &Reference) -> bool {
        let registry = reference.resolve_registry();
        let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
        self.insecure.iter().any(|known| known == registry || known == host)
    }
}

/// How a registry is reached.
enum Way {
    /// Directly, without TLS: the operator said so.
    Named,
    Gated(Gate),
    /// By the proxy that the environment names, which the client finds by itself: it dials, and from elsewhere.
    Proxied,
}

impl Way {
    fn refused(&self) -> Option<String> {
        match self {
            Self::Gated(gate) => gate.refused(),
            Self::Named | Self::Proxied => None,
        }
    }
}

fn has_proxy() -> bool {
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    names.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

fn client(way: &Way) -> Client {
    let proxy = match way {
        Way::Gated(gate) => Some(gate.url()),
        Way::Named | Way::Proxied => None,
    };
    Client::new(ClientConfig {
        protocol: if matches!(way, Way::Named) { ClientProtocol::Http } else { ClientProtocol::Https },
        connect_timeout: Some(CONNECT_PATIENCE),
        read_timeout: Some(READ_PATIENCE),
        user_agent: concat!("coracle/", env!("CARGO_PKG_VERSION")),
        https_proxy: proxy.clone(),
        http_proxy: proxy,
        ..ClientConfig::default()
    })
}

enum Failure {
    Registry(OciDistributionError),
    Content(String),
    Local(Error),
}

impl From<OciDistributionError> for Failure {
    fn from(err: OciDistributionError) -> Self {
        Self::Registry(err)
    }
}

impl From<Error> for Failure {
    fn from(err: Error) -> Self {
        Self::Local(err)
    }
}

struct Pull<'a> {
    client: Client,
    reference: Reference,
    auth: RegistryAuth,
    store: &'a Arc<Store>,
    running: &'a Running,
}

impl Pull<'_> {
    async fn run(&self) -> Result<Image, Failure> {
        let (manifest, _, list_digest) =
            self.client.pull_image_manifest_and_list_digest(&self.reference, &self.auth).await.map(flatten)?;
        let config = self.config(&manifest.config).await?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(Failure::Content("manifest and configuration name different numbers of layers".to_owned()));
        }
        let budget = Arc::new(self.store.budget()?);
        let missing = self.store.missing(&config);
        self.begin(missing.iter().map(|index| manifest.layers[*index].size));
        for index in missing {
            self.layer(&config, index, &manifest.layers[index], &budget).await?;
        }
        let repository = format!("{}/{}", self.reference.registry(), self.reference.repository());
        let tags = if self.reference.digest().is_some() { Vec::new() } else { vec![self.reference.whole()] };
        let (store, id) = (self.store.clone(), manifest.config.digest.clone());
        let digests = vec![format!("{repository}@{list_digest}")];
        let add = move || store.add(store.record(id, config, tags, digests)?);
        Ok(blocking(add).await?)
    }

    fn begin(&self, sizes: impl Iterator<Item = i64>) {
        let total = sizes.fold(0_u64, |sum, size| sum.saturating_add(u64::try_from(size).unwrap_or(0)));
        self.running.loaded.store(0, Ordering::Relaxed);
        self.running.total.store(total, Ordering::Relaxed);
    }

    async fn config(&self, descriptor: &OciDescriptor) -> Result<ImageConfig, Failure> {
        let mut stream = self.client.pull_blob_stream(&self.reference, descriptor).await?;
        let mut text = Vec::new();
        while let Some(chunk) = stream.next().await {
            text.extend_from_slice(&chunk.map_err(|err| Failure::Content(err.to_string()))?);
            if text.len() as u64 > MAX_DOCUMENT {
                return Err(Failure::Content("the image configuration is too long".to_owned()));
            }
        }
        let found = digest(&text);
        if found != descriptor.digest {
            return Err(Failure::Content(format!("configuration {} has digest {found}", descriptor.digest)));
        }
        ImageConfig::parse(&text).map_err(Failure::Content)
    }

    /// Loads a layer into a file, which checks its digest, and unpacks it, which checks that of its content.
    async fn layer(
        &self,
        config: &ImageConfig,
        index: usize,
        descriptor: &OciDescriptor,
        budget: &Arc<Budget>,
    ) -> Result<(), Failure> {
        let path = self.store.partial();
        let loaded = self.load(descriptor, &path, budget).await;
        let (store, config, from, budget) = (self.store.clone(), config.clone(), path, budget.clone());
        let unpack = move || {
            let unpacked = loaded.and_then(|length| {
                let file = File::open(&from).map_err(crate::disk::io_error("open", &from))?;
                store.unpack(&config, index, file, &budget)?;
                budget.give_back(length);
                Ok(())
            });
            crate::disk::remove(&from)?;
            unpacked
        };
        blocking(unpack).await
    }

    /// Loads a layer into a file; returns its length, which is what its descriptor says and not a byte more.
    async fn load(&self, descriptor: &OciDescriptor, path: &Path, budget: &Budget) -> Result<u64, Failure> {
        let wanted = u64::try_from(descriptor.size).unwrap_or(0);
        let local = |err| Failure::Local(crate::disk::io_error("write layer", path)(err));
        budget.take(wanted).map_err(local)?;
        let mut file = File::create(path).map_err(local)?;
        let mut stream = self.client.pull_blob_stream(&self.reference, descriptor).await?;
        let mut length = 0;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|err| Failure::Content(format!("layer {}: {err}", descriptor.digest)))?;
            length += chunk.len() as u64;
            if length > wanted {
                return Err(Failure::Content(format!("layer {} is longer than {wanted} bytes", descriptor.digest)));
            }
            self.running.loaded.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            file = blocking(move || file.write_all(&chunk).map(|()| file)).await.map_err(local)?;
        }
        Ok(length)
    }
}

/// Runs something that waits for the disk where it may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(err) => std::panic::resume_unwind(err.into_panic()),
    }
}

type Resolved = (oci_client::manifest::OciImageManifest, String, Option<String>);

/// The digest that the name stands for is the list's, if there is one.
fn flatten((manifest, digest, list): Resolved) -> (oci_client::manifest::OciImageManifest, String, String) {
    let name = list.unwrap_or_else(|| digest.clone());
    (manifest, digest, name)
}

fn registry_auth(auth: Option<&ImageAuth>) -> RegistryAuth {
    match auth {
        Some(auth) if !auth.registry_token.is_empty() => RegistryAuth::Bearer(auth.registry_token.clone()),
        Some(auth) if !auth.username.is_empty() => RegistryAuth::Basic(auth.username.clone(), auth.password.clone()),
        _ => RegistryAuth::Anonymous,
    }
}

/// What the registry said, without what this client thinks of it.
fn words(err: &OciDistributionError) -> String {
    match err {
        OciDistributionError::RegistryError { envelope, .. } => {
            let said = envelope.errors.iter().map(|one| match one.message.as_str() {
                "" => spelled(&format!("{:?}", one.code)),
                message => message.to_owned(),
            });
            said.collect::<Vec<_>>().join("; ")
        }
        OciDistributionError::ImageManifestNotFoundError(_) => "manifest unknown".to_owned(),
        OciDistributionError::UnauthorizedError { url } => format!("unauthorized: {url}"),
        other => with_cause(other),
    }
}

/// `ManifestUnknown` as registries spell it: `manifest unknown`.
fn spelled(code: &str) -> String {
    let mut text = String::new();
    for letter in code.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

fn with_cause(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        let more = err.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = err.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_named_with_a_port_or_for_all_of_them() {
        let registry = Registry::new(vec!["127.0.0.1:5000".to_owned(), "build.example".to_owned()]);
        let check = |name: &str, named: bool| assert_eq!(registry.is_named(&name.parse().unwrap()), named, "{name}");
        check("127.0.0.1:5000/a", true);
        check("build.example/a", true);
        check("build.example:8080/a", true);
        check("127.0.0.1:5001/a", false);
        check("localhost:5000/a", false);
        check("busybox", false);
    }
}
